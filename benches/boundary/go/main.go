// Reads held content over and over: stream URL TIMES. Prints the processor seconds of the reading.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"syscall"

	dragonfly "dragonfly/bindings/go"
)

func seconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		log.Fatal(err)
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

func run(ctx context.Context, url string, times int) error {
	node, err := dragonfly.StartNode(ctx, dragonfly.NodeOptions{})
	if err != nil {
		return err
	}
	defer node.Close()
	peer, err := node.StartPeer(ctx)
	if err != nil {
		return err
	}
	defer peer.Close()
	if _, err := peer.Fetch(ctx, dragonfly.Request{URL: url}); err != nil {
		return err
	}
	reader, err := peer.Open(ctx, dragonfly.Request{URL: url})
	if err != nil {
		return err
	}
	defer reader.Close()
	buffer := make([]byte, 1<<20)
	before := seconds()
	for range times {
		if _, err := reader.Seek(0, io.SeekStart); err != nil {
			return err
		}
		for err = nil; err == nil; {
			_, err = reader.Read(buffer)
		}
		if err != io.EOF {
			return err
		}
	}
	fmt.Printf("%.3f\n", seconds()-before)
	return nil
}

func main() {
	times, err := strconv.Atoi(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	if err := run(context.Background(), os.Args[1], times); err != nil {
		log.Fatal(err)
	}
}

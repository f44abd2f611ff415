// Reads a part of a remote file: lazy URL OFFSET LENGTH writes it to standard output.
package main

import (
	"context"
	"io"
	"log"
	"os"
	"strconv"

	dragonfly "dragonfly/bindings/go"
)

func run(ctx context.Context, url string, offset, length int64) error {
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
	reader, err := peer.Open(ctx, dragonfly.Request{URL: url})
	if err != nil {
		return err
	}
	defer reader.Close()
	if _, err := reader.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	_, err = io.Copy(os.Stdout, io.LimitReader(reader, length))
	return err
}

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: lazy URL OFFSET LENGTH")
	}
	offset, err := strconv.ParseInt(os.Args[2], 10, 64)
	if err != nil {
		log.Fatal(err)
	}
	length, err := strconv.ParseInt(os.Args[3], 10, 64)
	if err != nil {
		log.Fatal(err)
	}
	if err := run(context.Background(), os.Args[1], offset, length); err != nil {
		log.Fatal(err)
	}
}

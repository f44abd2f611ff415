// A scheduler and a seed inside your own service: prints the token that others join with, and ends with standard input.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"

	dragonfly "dragonfly/bindings/go"
)

func run(ctx context.Context) error {
	node, err := dragonfly.StartNode(ctx, dragonfly.NodeOptions{
		Listen:               []string{"/ip4/127.0.0.1/tcp/0"},
		AllowLoopbackOrigins: true,
	})
	if err != nil {
		return err
	}
	defer node.Close()
	scheduler, err := node.StartScheduler(ctx)
	if err != nil {
		return err
	}
	defer scheduler.Close()
	seed, err := node.StartSeed(ctx)
	if err != nil {
		return err
	}
	defer seed.Close()
	token, err := node.Token(dragonfly.TokenOptions{})
	if err != nil {
		return err
	}
	fmt.Println(token)
	// Here your service does its work.
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	snapshot, err := scheduler.Snapshot(ctx)
	fmt.Fprintf(os.Stderr, "%d bytes of snapshot\n", len(snapshot))
	return err
}

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

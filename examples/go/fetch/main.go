// The shortest program that embeds a peer: fetch URL OUTPUT.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	dragonfly "dragonfly/bindings/go"
)

func run(ctx context.Context) error {
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
	receipt, err := peer.Fetch(ctx, dragonfly.Request{URL: os.Args[1], Output: os.Args[2]})
	if err != nil {
		return err
	}
	fmt.Printf("%d bytes, %s\n", receipt.Length, receipt.BLAKE3)
	return nil
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: fetch URL OUTPUT")
	}
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

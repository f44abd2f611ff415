// A peer inside an HTTP server: share TOKEN URL serves the content of URL, downloads it when it is first asked for, and
// shares it with the other members of the network. Prints where it listens, and ends with standard input.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	dragonfly "dragonfly/bindings/go"
)

func run(ctx context.Context, token, url string) error {
	node, err := dragonfly.StartNode(ctx, dragonfly.NodeOptions{
		Listen: []string{"/ip4/127.0.0.1/tcp/0"},
		Token:  token,
	})
	if err != nil {
		return err
	}
	defer node.Close()
	peer, err := node.StartPeer(ctx)
	if err != nil {
		return err
	}
	defer peer.Close()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reader, err := peer.Open(r.Context(), dragonfly.Request{URL: url})
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer reader.Close()
		// A reader seeks, so ranges work, too.
		http.ServeContent(w, r, "content.bin", time.Time{}, reader)
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	go server.Serve(listener)
	defer server.Close()
	fmt.Printf("http://%s/\n", listener.Addr())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: share TOKEN URL")
	}
	if err := run(context.Background(), os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

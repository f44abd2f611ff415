// Package dragonfly moves files from an origin to many machines, so that each byte leaves the origin once and the
// machines pass the rest among themselves.
//
//	node, err := dragonfly.StartNode(ctx, dragonfly.NodeOptions{})
//	peer, err := node.StartPeer(ctx)
//	receipt, err := peer.Fetch(ctx, dragonfly.Request{URL: "https://example.org/model.bin", Output: "model.bin"})
//
// A Node is a host as a member of a network; Peer, Seed and Scheduler are engines on it. Contexts cancel; a Reader is an
// io.ReadSeekCloser; errors are told apart with errors.Is and errors.As (see Kind). Everything that has a Close must be
// closed; Close can be called twice, and from any goroutine.
//
// It is built with cgo against libdragonfly, found by pkg-config: the shared library, or with the build tag
// dragonfly_static the static one.
package dragonfly

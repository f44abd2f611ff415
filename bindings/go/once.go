package dragonfly

import "context"

// Fetch downloads with a node and a peer that live for this call. The end of ctx withdraws from it; the return waits for
// both to end in order. They serve others while it lasts only: programs that fetch more than once start a node and a
// peer of their own.
func Fetch(ctx context.Context, options NodeOptions, request Request) (Receipt, error) {
	node, err := StartNode(ctx, options)
	if err != nil {
		return Receipt{}, err
	}
	defer node.Close()
	peer, err := node.StartPeer(ctx)
	if err != nil {
		return Receipt{}, err
	}
	defer peer.Close()
	return peer.Fetch(ctx, request)
}

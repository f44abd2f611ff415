package dragonfly

// #include <dragonfly.h>
import "C"

import "context"

// Seed is the Seed engine of a node: a peer that is expected to go to the origin, and that is preheated.
type Seed struct {
	handle *C.dragonfly_seed
	node   *Node
	closer *closer
}

// StartSeed starts the seed of a node; before its peer, where it is to be both.
func (n *Node) StartSeed(ctx context.Context) (*Seed, error) {
	var handle *C.dragonfly_seed
	err := block(ctx, func(cancel *C.dragonfly_cancel, failure **C.dragonfly_error) C.dragonfly_status {
		return C.dragonfly_seed_start(n.handle, forever, cancel, &handle, failure)
	})
	if err != nil {
		return nil, err
	}
	seed := &Seed{handle: handle, node: n}
	stop := func() { C.dragonfly_seed_shutdown(handle, forever, nil, nil) }
	seed.closer = own(seed, "seed", stop, func() { C.dragonfly_seed_free(handle) })
	return seed, nil
}

// Preheat fetches content before anyone asks for it, and waits for it.
func (s *Seed) Preheat(ctx context.Context, request Request) (Receipt, error) {
	var memory arena
	defer memory.free()
	var handle *C.dragonfly_download
	var failure *C.dragonfly_error
	status := C.dragonfly_seed_preheat(s.handle, request.give(&memory), &handle, &failure)
	if err := take(ctx, status, failure); err != nil {
		return Receipt{}, err
	}
	download, err := newDownload(handle, s, request.Progress)
	if err != nil {
		return Receipt{}, err
	}
	return download.finish(ctx)
}

// Peer is the peer that it is; closing it stops both.
func (s *Seed) Peer() (*Peer, error) {
	var handle *C.dragonfly_peer
	var failure *C.dragonfly_error
	if err := take(context.Background(), C.dragonfly_seed_peer(s.handle, &handle, &failure), failure); err != nil {
		return nil, err
	}
	return newPeer(handle, s), nil
}

// Close stops the engine.
func (s *Seed) Close() error {
	s.closer.close()
	return nil
}

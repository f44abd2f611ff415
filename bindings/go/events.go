package dragonfly

// #include <dragonfly.h>
import "C"

import (
	"context"
	"runtime"
	"unsafe"
)

// NodeEventType is what happened to a node.
type NodeEventType int32

const (
	// PeerUp: the first connection to a member is up.
	PeerUp NodeEventType = C.DRAGONFLY_NODE_EVENT_PEER_UP
	// PeerDown: the last connection to a member is gone.
	PeerDown NodeEventType = C.DRAGONFLY_NODE_EVENT_PEER_DOWN
)

// NodeEvent is what happened to a node.
type NodeEvent struct {
	// Type is what happened; there may be more than this package names.
	Type NodeEventType
	// PeerID is the member that it is about.
	PeerID string
}

// Events gives members that come and go from now on, until ctx ends or the node is gone: then the channel is closed.
// Bounded and lossy: who lags far behind misses events, and should look at Peers. Whoever stops reading must end ctx.
func (n *Node) Events(ctx context.Context) (<-chan NodeEvent, error) {
	defer runtime.KeepAlive(n)
	cancel, err := newCanceller(ctx)
	if err != nil {
		return nil, err
	}
	var handle *C.dragonfly_node_events
	var failure *C.dragonfly_error
	if err := take(ctx, C.dragonfly_node_events_open(n.handle, &handle, &failure), failure); err != nil {
		cancel.free()
		return nil, err
	}
	events := make(chan NodeEvent)
	go func() {
		defer close(events)
		defer cancel.free()
		defer C.dragonfly_node_events_free(handle)
		for {
			var event C.dragonfly_node_event
			event.size = C.size_t(unsafe.Sizeof(event))
			status := C.dragonfly_node_events_next(handle, forever, cancel.handle, &event, nil)
			if status != C.DRAGONFLY_OK || event._type == C.DRAGONFLY_NODE_EVENT_END {
				return
			}
			select {
			case events <- NodeEvent{Type: NodeEventType(event._type), PeerID: C.GoString(&event.peer[0])}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return events, nil
}

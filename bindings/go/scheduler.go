package dragonfly

// #include <dragonfly.h>
import "C"

import (
	"context"
	"runtime"
)

// Scheduler is the Scheduler engine of a node: it pairs the members that want a task and leases the origin to them.
type Scheduler struct {
	handle *C.dragonfly_scheduler
	node   *Node
	closer *closer
}

// StartScheduler starts the scheduler of a node.
func (n *Node) StartScheduler(ctx context.Context) (*Scheduler, error) {
	var handle *C.dragonfly_scheduler
	err := block(ctx, func(cancel *C.dragonfly_cancel, failure **C.dragonfly_error) C.dragonfly_status {
		return C.dragonfly_scheduler_start(n.handle, forever, cancel, &handle, failure)
	})
	if err != nil {
		return nil, err
	}
	scheduler := &Scheduler{handle: handle, node: n}
	stop := func() { C.dragonfly_scheduler_shutdown(handle, forever, nil, nil) }
	scheduler.closer = own(scheduler, "scheduler", stop, func() { C.dragonfly_scheduler_free(handle) })
	return scheduler, nil
}

// Snapshot is what it knows now, as JSON: an object with "hosts" and "tasks".
func (s *Scheduler) Snapshot(ctx context.Context) ([]byte, error) {
	defer runtime.KeepAlive(s)
	var made *C.dragonfly_text
	err := block(ctx, func(cancel *C.dragonfly_cancel, failure **C.dragonfly_error) C.dragonfly_status {
		return C.dragonfly_scheduler_snapshot(s.handle, forever, cancel, &made, failure)
	})
	if err != nil {
		return nil, err
	}
	return []byte(text(made)), nil
}

// Close ends its sessions and stops. Members go on with what they have.
func (s *Scheduler) Close() error {
	s.closer.close()
	return nil
}

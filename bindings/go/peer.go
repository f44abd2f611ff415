package dragonfly

// #include <dragonfly.h>
// #include <stdlib.h>
import "C"

import (
	"context"
	"iter"
	"os"
	"runtime"
	"unsafe"
)

// page is how many tasks are asked for at a time when they are listed.
const page = 100

// Peer is the Peer engine of a node: it downloads, stores, and serves what it holds to its neighbours. It may be used by
// several goroutines.
type Peer struct {
	handle *C.dragonfly_peer
	// The Node or Seed that it is of.
	parent any
	closer *closer
}

// TaskInfo is a task as the store holds it.
type TaskInfo struct {
	// Task is the task, Generation the version of its content, Label its URL without anything secret.
	Task, Generation, Label string
	// Length and BytesHeld are in bytes.
	Length, BytesHeld uint64
	// Neighbours is how many hosts its pieces are exchanged with now.
	Neighbours uint32
	// Complete: every piece is held. Pinned: it is kept whatever the quota says.
	Complete, Pinned bool
}

func newPeer(handle *C.dragonfly_peer, parent any) *Peer {
	peer := &Peer{handle: handle, parent: parent}
	stop := func() { C.dragonfly_peer_shutdown(handle, forever, nil, nil) }
	peer.closer = own(peer, "peer", stop, func() { C.dragonfly_peer_free(handle) })
	return peer
}

// StartPeer starts the peer of a node. A node has one: starting it again gives another handle of it.
func (n *Node) StartPeer(ctx context.Context) (*Peer, error) {
	var handle *C.dragonfly_peer
	err := block(ctx, func(cancel *C.dragonfly_cancel, failure **C.dragonfly_error) C.dragonfly_status {
		return C.dragonfly_peer_start(n.handle, forever, cancel, &handle, failure)
	})
	if err != nil {
		return nil, err
	}
	return newPeer(handle, n), nil
}

// Start starts a download: into the store and, if the request names one, to an output.
func (p *Peer) Start(request Request) (*Download, error) {
	var memory arena
	defer memory.free()
	var handle *C.dragonfly_download
	var failure *C.dragonfly_error
	status := C.dragonfly_peer_fetch(p.handle, request.give(&memory), &handle, &failure)
	if err := take(context.Background(), status, failure); err != nil {
		return nil, err
	}
	return newDownload(handle, p, request.Progress)
}

// Fetch downloads, and waits for it. The end of ctx withdraws from it.
func (p *Peer) Fetch(ctx context.Context, request Request) (Receipt, error) {
	download, err := p.Start(request)
	if err != nil {
		return Receipt{}, err
	}
	return download.finish(ctx)
}

// FetchToFile downloads and writes the bytes to a file, in order, from where the file is, as they are proven. Only the
// end says that the whole has the digest of the request.
func (p *Peer) FetchToFile(ctx context.Context, request Request, file *os.File) (Receipt, error) {
	var memory arena
	defer memory.free()
	var handle *C.dragonfly_download
	var failure *C.dragonfly_error
	status := C.dragonfly_peer_fetch_to_fd(p.handle, request.give(&memory), C.int(file.Fd()), &handle, &failure)
	if err := take(ctx, status, failure); err != nil {
		return Receipt{}, err
	}
	download, err := newDownload(handle, p, request.Progress)
	if err != nil {
		return Receipt{}, err
	}
	return download.finish(ctx)
}

// Open opens content as a stream of proven bytes, before it is complete. The end of ctx ends reads, too.
func (p *Peer) Open(ctx context.Context, request Request) (*Reader, error) {
	var memory arena
	defer memory.free()
	given := request.give(&memory)
	cancel, err := newCanceller(ctx)
	if err != nil {
		return nil, err
	}
	var handle *C.dragonfly_reader
	var failure *C.dragonfly_error
	status := C.dragonfly_peer_open(p.handle, given, forever, cancel.handle, &handle, &failure)
	if err := take(ctx, status, failure); err != nil {
		cancel.free()
		return nil, err
	}
	return newReader(ctx, handle, p, cancel), nil
}

// TaskID is the id of the task that a request names.
func (p *Peer) TaskID(request Request) (string, error) {
	defer runtime.KeepAlive(p)
	var memory arena
	defer memory.free()
	var made *C.dragonfly_text
	var failure *C.dragonfly_error
	status := C.dragonfly_peer_task_id(p.handle, request.give(&memory), &made, &failure)
	if err := take(context.Background(), status, failure); err != nil {
		return "", err
	}
	return text(made), nil
}

// Stat is what the store holds of a task, the newest version first.
func (p *Peer) Stat(ctx context.Context, task string) ([]TaskInfo, error) {
	defer runtime.KeepAlive(p)
	named := C.CString(task)
	defer C.free(unsafe.Pointer(named))
	return list(ctx, func(cancel *C.dragonfly_cancel, found **C.dragonfly_tasks, failure **C.dragonfly_error) C.dragonfly_status {
		return C.dragonfly_peer_stat(p.handle, named, forever, cancel, found, failure)
	})
}

// Tasks is what the store holds, in the order of ids. It stops at the first error.
func (p *Peer) Tasks(ctx context.Context) iter.Seq2[TaskInfo, error] {
	return func(yield func(TaskInfo, error) bool) {
		defer runtime.KeepAlive(p)
		var last TaskInfo
		for {
			var memory arena
			task, generation := memory.text(last.Task), memory.text(last.Generation)
			some, err := list(ctx, func(cancel *C.dragonfly_cancel, found **C.dragonfly_tasks, failure **C.dragonfly_error) C.dragonfly_status {
				return C.dragonfly_peer_list(p.handle, task, generation, page, forever, cancel, found, failure)
			})
			memory.free()
			if err != nil {
				yield(TaskInfo{}, err)
				return
			}
			if len(some) == 0 {
				return
			}
			for _, last = range some {
				if !yield(last, nil) {
					return
				}
			}
		}
	}
}

// Remove removes a task from the store, pinned or not; how many bytes that freed.
func (p *Peer) Remove(ctx context.Context, task string) (uint64, error) {
	defer runtime.KeepAlive(p)
	named := C.CString(task)
	defer C.free(unsafe.Pointer(named))
	var freed C.uint64_t
	err := block(ctx, func(cancel *C.dragonfly_cancel, failure **C.dragonfly_error) C.dragonfly_status {
		return C.dragonfly_peer_remove(p.handle, named, forever, cancel, &freed, failure)
	})
	return uint64(freed), err
}

// Pin keeps a task whatever the quota says, or no longer.
func (p *Peer) Pin(ctx context.Context, task string, pinned bool) error {
	defer runtime.KeepAlive(p)
	named := C.CString(task)
	defer C.free(unsafe.Pointer(named))
	return block(ctx, func(cancel *C.dragonfly_cancel, failure **C.dragonfly_error) C.dragonfly_status {
		return C.dragonfly_peer_pin(p.handle, named, C.bool(pinned), forever, cancel, failure)
	})
}

// Close stops the engine: downloads end with Cancelled, what is held is made durable.
func (p *Peer) Close() error {
	p.closer.close()
	return nil
}

func list(ctx context.Context, call func(*C.dragonfly_cancel, **C.dragonfly_tasks, **C.dragonfly_error) C.dragonfly_status) ([]TaskInfo, error) {
	var found *C.dragonfly_tasks
	err := block(ctx, func(cancel *C.dragonfly_cancel, failure **C.dragonfly_error) C.dragonfly_status {
		return call(cancel, &found, failure)
	})
	if err != nil {
		return nil, err
	}
	defer C.dragonfly_tasks_free(found)
	var tasks []TaskInfo
	for i := range int(C.dragonfly_tasks_length(found)) {
		var info C.dragonfly_task_info
		info.size = C.size_t(unsafe.Sizeof(info))
		var failure *C.dragonfly_error
		if err := take(ctx, C.dragonfly_tasks_get(found, C.size_t(i), &info, &failure), failure); err != nil {
			return nil, err
		}
		tasks = append(tasks, TaskInfo{
			Task:       C.GoString(&info.task[0]),
			Generation: C.GoString(&info.generation[0]),
			Label:      C.GoString(info.label),
			Length:     uint64(info.length),
			BytesHeld:  uint64(info.bytes_held),
			Neighbours: uint32(info.neighbours),
			Complete:   bool(info.complete),
			Pinned:     bool(info.pinned),
		})
	}
	return tasks, nil
}

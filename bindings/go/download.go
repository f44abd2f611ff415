package dragonfly

// #include <dragonfly.h>
//
// extern void dragonflyGoEvent(uintptr_t ctx, dragonfly_event *event);
// extern void dragonflyGoDone(uintptr_t ctx, dragonfly_receipt *receipt, dragonfly_error *error);
// extern void dragonflyGoDrop(uintptr_t ctx);
//
// static void on_event(void *ctx, const dragonfly_event *event) {
//     dragonflyGoEvent((uintptr_t)ctx, (dragonfly_event *)event);
// }
// static void on_done(void *ctx, const dragonfly_receipt *receipt, const dragonfly_error *error) {
//     dragonflyGoDone((uintptr_t)ctx, (dragonfly_receipt *)receipt, (dragonfly_error *)error);
// }
// static void on_drop(void *ctx) { dragonflyGoDrop((uintptr_t)ctx); }
//
// static dragonfly_status watch(dragonfly_download *download, uintptr_t ctx, bool events, dragonfly_error **error) {
//     dragonfly_watch watch = {0};
//     watch.size = sizeof watch;
//     watch.on_event = events ? on_event : NULL;
//     watch.on_done = on_done;
//     watch.drop = on_drop;
//     watch.ctx = (void *)ctx;
//     return dragonfly_download_watch(download, &watch, error);
// }
import "C"

import (
	"context"
	"runtime"
	"runtime/cgo"
)

// EventType is what kind of progress it is.
type EventType int32

// The kinds of progress.
const (
	// Described: the length is known (again, should the origin's content have changed).
	Described EventType = C.DRAGONFLY_EVENT_DESCRIBED
	// Progressed: more bytes are held.
	Progressed EventType = C.DRAGONFLY_EVENT_PROGRESS
	// Complete: every byte is held; digest and output remain.
	Complete EventType = C.DRAGONFLY_EVENT_COMPLETE
)

// Event is progress of a download.
type Event struct {
	// Type is what kind of progress it is.
	Type EventType
	// Bytes are held and proven, of Length in all.
	Bytes, Length uint64
	// FromOrigin and FromPeers are where this host took them from.
	FromOrigin, FromPeers uint64
	// Neighbours is how many hosts pieces are exchanged with.
	Neighbours uint32
}

// outcome is how a download ended.
type outcome struct {
	done     chan struct{}
	receipt  Receipt
	err      *Error
	progress func(Event)
	end      func()
}

//export dragonflyGoEvent
func dragonflyGoEvent(ctx C.uintptr_t, event *C.dragonfly_event) {
	ended, ok := cgo.Handle(ctx).Value().(*outcome)
	if !ok {
		return
	}
	ended.progress(Event{
		Type:       EventType(event._type),
		Bytes:      uint64(event.bytes),
		Length:     uint64(event.length),
		FromOrigin: uint64(event.from_origin),
		FromPeers:  uint64(event.from_peers),
		Neighbours: uint32(event.neighbours),
	})
}

//export dragonflyGoDone
func dragonflyGoDone(ctx C.uintptr_t, receipt *C.dragonfly_receipt, failure *C.dragonfly_error) {
	ended, ok := cgo.Handle(ctx).Value().(*outcome)
	if !ok {
		return
	}
	if receipt != nil {
		ended.receipt = receiptOf(receipt)
	} else {
		ended.err = borrowed(C.dragonfly_error_kind(failure), failure)
	}
	close(ended.done)
	if ended.end != nil {
		ended.end()
	}
}

//export dragonflyGoDrop
func dragonflyGoDrop(ctx C.uintptr_t) { letGo(cgo.Handle(ctx)) }

// Download is a download under way. It runs whether or not anyone waits. It may be used by several goroutines.
type Download struct {
	handle *C.dragonfly_download
	// The Peer or Seed that it is of.
	parent  any
	outcome *outcome
	closer  *closer
}

// newDownload watches a download; no thread of the system waits for it.
func newDownload(handle *C.dragonfly_download, parent any, progress func(Event)) (*Download, error) {
	ended := &outcome{done: make(chan struct{}), progress: progress}
	if err := watch(handle, ended); err != nil {
		C.dragonfly_download_free(handle)
		return nil, err
	}
	download := &Download{handle: handle, parent: parent, outcome: ended}
	download.closer = own(download, "download", nil, func() { C.dragonfly_download_free(handle) })
	return download, nil
}

// watch has the library tell of a download.
func watch(handle *C.dragonfly_download, ended *outcome) error {
	ctx := hold(ended)
	var failure *C.dragonfly_error
	status := C.watch(handle, C.uintptr_t(ctx), C.bool(ended.progress != nil), &failure)
	err := take(context.Background(), status, failure)
	if err != nil {
		letGo(ctx)
	}
	return err
}

// progressRoom is how many events wait for a slow reader: it is to see the newest, not all.
const progressRoom = 16

// Progress gives progress from now on, on a channel that is closed when the download has ended. Lossy: for a reader that
// lags behind, the oldest events make room. Nothing waits for the reader, which may stop at any time.
func (d *Download) Progress() (<-chan Event, error) {
	defer runtime.KeepAlive(d)
	events := make(chan Event, progressRoom)
	// One call at a time: nobody else sends.
	tell := func(event Event) {
		for {
			select {
			case events <- event:
				return
			default:
			}
			select {
			case <-events:
			default:
			}
		}
	}
	end := func() { close(events) }
	if err := watch(d.handle, &outcome{done: make(chan struct{}), progress: tell, end: end}); err != nil {
		return nil, err
	}
	return events, nil
}

// Done is closed when the download has ended.
func (d *Download) Done() <-chan struct{} { return d.outcome.done }

// Wait waits until the download or ctx has ended. The end of ctx withdraws nothing.
func (d *Download) Wait(ctx context.Context) (Receipt, error) {
	select {
	case <-d.outcome.done:
	case <-ctx.Done():
		return Receipt{}, &Error{Kind: Cancelled, Message: "the caller stopped waiting", cause: context.Cause(ctx)}
	}
	if d.outcome.err != nil {
		copied := *d.outcome.err
		return Receipt{}, &copied
	}
	return d.outcome.receipt, nil
}

// Cancel withdraws this caller's interest; others who fetch the same content go on.
func (d *Download) Cancel() {
	C.dragonfly_download_cancel(d.handle, nil)
	runtime.KeepAlive(d)
}

// Close detaches from the download, which goes on.
func (d *Download) Close() error {
	d.closer.close()
	return nil
}

// finish waits for a download and withdraws from it if ctx ends first.
func (d *Download) finish(ctx context.Context) (Receipt, error) {
	defer d.Close()
	select {
	case <-d.outcome.done:
	case <-ctx.Done():
		d.Cancel()
		<-d.outcome.done
	}
	receipt, err := d.Wait(context.Background())
	if failed, ok := err.(*Error); ok && failed.Kind == Cancelled && ctx.Err() != nil {
		failed.cause = context.Cause(ctx)
	}
	return receipt, err
}

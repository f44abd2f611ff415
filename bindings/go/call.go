package dragonfly

// #include <dragonfly.h>
// #include <stdlib.h>
import "C"

import (
	"context"
	"unsafe"
)

// forever is the time-out of calls that the context bounds.
const forever C.int64_t = -1

// canceller is the library's side of a context.
type canceller struct {
	handle *C.dragonfly_cancel
	stop   func() bool
}

// newCanceller fires when ctx ends. It must be freed.
func newCanceller(ctx context.Context) (canceller, error) {
	if ctx.Done() == nil {
		return canceller{stop: func() bool { return true }}, nil
	}
	if ctx.Err() != nil {
		return canceller{}, &Error{Kind: Cancelled, Message: "the context had ended", cause: context.Cause(ctx)}
	}
	var handle *C.dragonfly_cancel
	var failure *C.dragonfly_error
	if err := take(ctx, C.dragonfly_cancel_new(&handle, &failure), failure); err != nil {
		return canceller{}, err
	}
	// A handle that was freed meanwhile is found out by the library.
	stop := context.AfterFunc(ctx, func() { C.dragonfly_cancel_fire(handle, nil) })
	return canceller{handle, stop}, nil
}

func (c canceller) free() {
	c.stop()
	C.dragonfly_cancel_free(c.handle)
}

// block makes a call that blocks until it is done or ctx ends.
func block(ctx context.Context, call func(cancel *C.dragonfly_cancel, failure **C.dragonfly_error) C.dragonfly_status) error {
	cancel, err := newCanceller(ctx)
	if err != nil {
		return err
	}
	defer cancel.free()
	var failure *C.dragonfly_error
	return take(ctx, call(cancel.handle, &failure), failure)
}

// text takes text of the library's, and frees it.
func text(given *C.dragonfly_text) string {
	defer C.dragonfly_text_free(given)
	return C.GoStringN(C.dragonfly_text_get(given), C.int(C.dragonfly_text_length(given)))
}

// arena holds arguments in memory of C's until a call is over.
type arena struct{ blocks []unsafe.Pointer }

func (a *arena) free() {
	for _, block := range a.blocks {
		C.free(block)
	}
}

func (a *arena) alloc(size uintptr) unsafe.Pointer {
	block := C.calloc(1, C.size_t(size))
	a.blocks = append(a.blocks, block)
	return block
}

// text is NULL for the empty string: what is not set.
func (a *arena) text(given string) *C.char {
	if given == "" {
		return nil
	}
	made := C.CString(given)
	a.blocks = append(a.blocks, unsafe.Pointer(made))
	return made
}

// texts is a list; each item is there even if it is empty.
func (a *arena) texts(given []string) (**C.char, C.size_t) {
	if len(given) == 0 {
		return nil, 0
	}
	list := (**C.char)(a.alloc(uintptr(len(given)) * unsafe.Sizeof((*C.char)(nil))))
	for i, item := range unsafe.Slice(list, len(given)) {
		_ = item
		made := C.CString(given[i])
		a.blocks = append(a.blocks, unsafe.Pointer(made))
		unsafe.Slice(list, len(given))[i] = made
	}
	return list, C.size_t(len(given))
}

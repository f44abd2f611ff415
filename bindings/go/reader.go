package dragonfly

// #include <dragonfly.h>
import "C"

import (
	"context"
	"io"
	"runtime"
	"unsafe"
)

// Reader is proven bytes of one piece of content, from any place, before the whole is complete. Several goroutines take
// turns; Close ends what the others wait for.
type Reader struct {
	ctx    context.Context
	handle *C.dragonfly_reader
	peer   *Peer
	cancel canceller
	length int64
	closer *closer
}

var _ io.ReadSeekCloser = (*Reader)(nil)

func newReader(ctx context.Context, handle *C.dragonfly_reader, peer *Peer, cancel canceller) *Reader {
	length := int64(C.dragonfly_reader_length(handle))
	reader := &Reader{ctx: ctx, handle: handle, peer: peer, cancel: cancel, length: length}
	stop := func() { C.dragonfly_reader_close(handle, nil) }
	reader.closer = own(reader, "reader", stop, func() {
		C.dragonfly_reader_free(handle)
		cancel.free()
	})
	return reader
}

// Length is the content's length in bytes.
func (r *Reader) Length() int64 { return r.length }

// Read reads from where the reader is, and waits for the pieces that it needs, which are fetched first.
func (r *Reader) Read(bytes []byte) (int, error) {
	defer runtime.KeepAlive(r)
	if len(bytes) == 0 {
		return 0, nil
	}
	var read C.size_t
	var failure *C.dragonfly_error
	status := C.dragonfly_reader_read(r.handle, (*C.uint8_t)(unsafe.Pointer(&bytes[0])), C.size_t(len(bytes)), forever,
		r.cancel.handle, &read, &failure)
	if err := take(r.ctx, status, failure); err != nil {
		return 0, err
	}
	if read == 0 {
		return 0, io.EOF
	}
	return int(read), nil
}

// Seek moves the reader. Beyond the end is allowed: reads there give io.EOF.
func (r *Reader) Seek(offset int64, whence int) (int64, error) {
	defer runtime.KeepAlive(r)
	var position C.uint64_t
	var failure *C.dragonfly_error
	status := C.dragonfly_reader_seek(r.handle, C.int64_t(offset), C.int32_t(whence), &position, &failure)
	return int64(position), take(r.ctx, status, failure)
}

// Receipt waits until every piece is held and the whole was checked.
func (r *Reader) Receipt(ctx context.Context) (Receipt, error) {
	defer runtime.KeepAlive(r)
	var receipt C.dragonfly_receipt
	receipt.size = C.size_t(unsafe.Sizeof(receipt))
	err := block(ctx, func(cancel *C.dragonfly_cancel, failure **C.dragonfly_error) C.dragonfly_status {
		return C.dragonfly_reader_receipt(r.handle, forever, cancel, &receipt, failure)
	})
	if err != nil {
		return Receipt{}, err
	}
	return receiptOf(&receipt), nil
}

// Close withdraws the reader's interest in the content.
func (r *Reader) Close() error {
	r.closer.close()
	return nil
}

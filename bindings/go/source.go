package dragonfly

// #include <dragonfly.h>
//
// extern dragonfly_status dragonflyGoOpen(uintptr_t ctx, dragonfly_source_request *request,
//                                         dragonfly_source_content *content, dragonfly_source_failure *failure);
// extern dragonfly_status dragonflyGoRead(uintptr_t body, uint8_t *buffer, size_t room, size_t *read,
//                                         dragonfly_source_failure *failure);
// extern void dragonflyGoClose(uintptr_t body);
// extern void dragonflyGoSourceDrop(uintptr_t ctx);
//
// static dragonfly_status source_open(void *ctx, const dragonfly_source_request *request,
//                                     dragonfly_source_content *content, dragonfly_source_failure *failure) {
//     return dragonflyGoOpen((uintptr_t)ctx, (dragonfly_source_request *)request, content, failure);
// }
// static dragonfly_status source_read(void *ctx, void *body, uint8_t *buffer, size_t room, size_t *read,
//                                     dragonfly_source_failure *failure) {
//     (void)ctx;
//     return dragonflyGoRead((uintptr_t)body, buffer, room, read, failure);
// }
// static void source_close(void *ctx, void *body) {
//     (void)ctx;
//     dragonflyGoClose((uintptr_t)body);
// }
// static void source_drop(void *ctx) { dragonflyGoSourceDrop((uintptr_t)ctx); }
//
// static void source_calls(dragonfly_source *source, uintptr_t ctx) {
//     source->size = sizeof *source;
//     source->open = source_open;
//     source->read = source_read;
//     source->close = source_close;
//     source->drop = source_drop;
//     source->ctx = (void *)ctx;
// }
// static void content_body(dragonfly_source_content *content, uintptr_t body) { content->body = (void *)body; }
import "C"

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net"
	"os"
	"runtime/cgo"
	"time"
	"unsafe"
)

// Source is an origin of the program's own, for one URL scheme: see NodeOptions.Sources. It is called from several
// goroutines at once. A call under way cannot be withdrawn from: what waits in it must have a bound of its own.
type Source interface {
	// Open asks the origin for content. An error is told apart by the Kind that it wraps, or by the errors of the
	// standard library that mean the same; those that are temporary (an Error that says so, a net.Error) are tried again.
	Open(request SourceRequest) (*SourceContent, error)
}

// SourceFunc is a function that is a Source.
type SourceFunc func(request SourceRequest) (*SourceContent, error)

// Open calls the function.
func (f SourceFunc) Open(request SourceRequest) (*SourceContent, error) { return f(request) }

// SourceEnd is the End of a SourceRequest for all that there is.
const SourceEnd uint64 = math.MaxUint64

// SourceRequest is what a Source is asked for.
type SourceRequest struct {
	// URL is the whole URL, credentials and all.
	URL string
	// Start is the first byte that is wanted, End the one behind the last, or SourceEnd.
	Start, End uint64
	// Header are the headers of the Request.
	Header [][2]string
}

// SourceContent is what a Source answers.
type SourceContent struct {
	// Body is the bytes, from Offset on. It is read by one goroutine at a time, and closed.
	Body io.ReadCloser
	// Length is that of the whole, in bytes; nil: not known.
	Length *uint64
	// Offset is that of the body's first byte in the whole: the request's Start, or 0 if the origin has no ranges.
	Offset uint64
	// Version tells this version from all others, at most 512 bytes; empty: a download that breaks off begins anew.
	Version string
	// Ranges says whether the origin serves ranges.
	Ranges bool
	// Fresh is how long the answer stays current; nil: the origin does not say.
	Fresh *time.Duration
}

// body is what is read, with the error that came with its last bytes.
type body struct {
	io.ReadCloser
	err error
}

// register makes the library's side of a source. The handle is the library's once a node has started with it.
func registerSource(memory *arena, scheme string, source Source) (*C.dragonfly_source, cgo.Handle) {
	given := (*C.dragonfly_source)(memory.alloc(unsafe.Sizeof(C.dragonfly_source{})))
	handle := hold(source)
	C.source_calls(given, C.uintptr_t(handle))
	given.scheme = memory.text(scheme)
	return given, handle
}

//export dragonflyGoOpen
func dragonflyGoOpen(ctx C.uintptr_t, request *C.dragonfly_source_request, content *C.dragonfly_source_content,
	failure *C.dragonfly_source_failure) C.dragonfly_status {
	source, ok := cgo.Handle(ctx).Value().(Source)
	if !ok {
		return C.DRAGONFLY_INTERNAL
	}
	asked := SourceRequest{URL: C.GoString(request.url), Start: uint64(request.range_start), End: uint64(request.range_end)}
	texts := unsafe.Slice(request.headers, int(request.headers_length))
	for i := 0; i+1 < len(texts); i += 2 {
		asked.Header = append(asked.Header, [2]string{C.GoString(texts[i]), C.GoString(texts[i+1])})
	}
	opened, err := source.Open(asked)
	if err == nil && (opened == nil || opened.Body == nil) {
		err = errors.New("the source has no body")
	}
	if err == nil && len(opened.Version) >= len(content.version) {
		opened.Body.Close()
		err = fmt.Errorf("the version has %d bytes, which is too long", len(opened.Version))
	}
	if err != nil {
		return told(err, failure)
	}
	if opened.Length != nil {
		content.has_length, content.length = true, C.uint64_t(*opened.Length)
	}
	if opened.Fresh != nil {
		content.has_fresh, content.fresh_ms = true, C.uint64_t(max(opened.Fresh.Milliseconds(), 0))
	}
	content.offset = C.uint64_t(opened.Offset)
	content.ranges = C.bool(opened.Ranges)
	write(content.version[:], opened.Version)
	C.content_body(content, C.uintptr_t(hold(&body{ReadCloser: opened.Body})))
	return C.DRAGONFLY_OK
}

//export dragonflyGoRead
func dragonflyGoRead(handle C.uintptr_t, buffer *C.uint8_t, room C.size_t, read *C.size_t,
	failure *C.dragonfly_source_failure) C.dragonfly_status {
	from, ok := cgo.Handle(handle).Value().(*body)
	if !ok {
		return C.DRAGONFLY_INTERNAL
	}
	place := unsafe.Slice((*byte)(unsafe.Pointer(buffer)), int(room))
	count := 0
	for count == 0 && from.err == nil {
		count, from.err = from.Read(place)
	}
	if count == 0 && from.err != io.EOF {
		return told(from.err, failure)
	}
	*read = C.size_t(count)
	return C.DRAGONFLY_OK
}

//export dragonflyGoClose
func dragonflyGoClose(handle C.uintptr_t) {
	if from, ok := cgo.Handle(handle).Value().(*body); ok {
		from.Close()
	}
	letGo(cgo.Handle(handle))
}

//export dragonflyGoSourceDrop
func dragonflyGoSourceDrop(ctx C.uintptr_t) { letGo(cgo.Handle(ctx)) }

// told turns an error of the program's into one of the library's.
func told(err error, failure *C.dragonfly_source_failure) C.dragonfly_status {
	var own *Error
	var kind Kind
	var network net.Error
	temporary := false
	switch {
	case errors.As(err, &own):
		kind, temporary = own.Kind, own.IsTemporary
	case errors.As(err, &kind):
	case errors.Is(err, fs.ErrNotExist):
		kind = NotFound
	case errors.Is(err, fs.ErrPermission):
		kind = Forbidden
	case errors.Is(err, os.ErrDeadlineExceeded):
		kind, temporary = Timeout, true
	case errors.As(err, &network):
		kind, temporary = Network, true
	default:
		kind = Origin
	}
	failure.temporary = C.bool(temporary)
	write(failure.message[:], err.Error())
	return C.dragonfly_status(kind)
}

// write writes text into a room of C's, as much of it as fits.
func write(room []C.char, text string) {
	for i := range min(len(text), len(room)-1) {
		room[i] = C.char(text[i])
	}
}

package dragonfly

// #include <dragonfly.h>
import "C"

import (
	"time"
	"unsafe"
)

// Request is one piece of content to fetch. Every field but URL has a default.
type Request struct {
	// URL is where it comes from.
	URL string
	// Output is the path that it appears under, once complete and verified; empty: it stays in the store only.
	Output string
	// Overwrite: an existing output may be replaced.
	Overwrite bool
	// Digest is the one that the whole must have, such as "sha256:...".
	Digest string
	// Header are headers for the origin: name and value.
	Header [][2]string
	// Tag keeps content apart that has one URL.
	Tag string
	// Application is the one that asks.
	Application string
	// FilteredQueryParams do not change the content; nil: the default list.
	FilteredQueryParams []string
	// Priority is how urgent it is, 0 (most) to 7; nil: 4.
	Priority *uint8
	// Timeout is the longest time that the whole may take; 0: no bound but that of progress and of the context.
	Timeout time.Duration
	// NoBackToSource: this host must not go to the origin itself.
	NoBackToSource bool
	// CAPEM are certificate authorities to trust beside the system's.
	CAPEM string
	// Insecure accepts any TLS certificate of the origin. The content is then kept to this host.
	Insecure bool
	// AgeMax is how long ago the origin may have confirmed the content; nil: 10 s, or longer where the origin said so.
	AgeMax *time.Duration
	// StaleOK accepts content of any age, also while the origin cannot be reached.
	StaleOK bool
	// Progress, if set, is called from a goroutine of the library's: one call at a time, lossy, never after the end.
	Progress func(Event)
}

func (r Request) give(memory *arena) *C.dragonfly_request {
	given := (*C.dragonfly_request)(memory.alloc(unsafe.Sizeof(C.dragonfly_request{})))
	given.size = C.size_t(unsafe.Sizeof(*given))
	given.url = memory.text(r.URL)
	given.output = memory.text(r.Output)
	given.overwrite = C.bool(r.Overwrite)
	given.digest = memory.text(r.Digest)
	var headers []string
	for _, header := range r.Header {
		headers = append(headers, header[0], header[1])
	}
	given.headers, given.headers_length = memory.texts(headers)
	given.tag = memory.text(r.Tag)
	given.application = memory.text(r.Application)
	if r.FilteredQueryParams != nil {
		given.filtered_query_params, given.filtered_query_params_length = memory.texts(r.FilteredQueryParams)
		if given.filtered_query_params == nil {
			given.filtered_query_params = (**C.char)(memory.alloc(unsafe.Sizeof((*C.char)(nil))))
		}
	}
	if r.Priority != nil {
		given.has_priority, given.priority = true, C.uint8_t(*r.Priority)
	}
	if r.Timeout > 0 {
		given.timeout_ms = C.uint64_t(max(r.Timeout.Milliseconds(), 1))
	}
	given.no_back_to_source = C.bool(r.NoBackToSource)
	given.ca_pem = memory.text(r.CAPEM)
	given.insecure = C.bool(r.Insecure)
	if r.AgeMax != nil {
		given.has_age_max, given.age_max_ms = true, C.uint64_t(max(r.AgeMax.Milliseconds(), 0))
	}
	given.stale_ok = C.bool(r.StaleOK)
	return given
}

// Receipt is the outcome of a finished download.
type Receipt struct {
	// Task is the task, Generation the version of its content, BLAKE3 the digest of the whole.
	Task, Generation, BLAKE3 string
	// Length is in bytes.
	Length uint64
	// BytesFromOrigin, BytesFromPeers and BytesHeld are where they came from; held were in the store already.
	BytesFromOrigin, BytesFromPeers, BytesHeld uint64
	// Elapsed is from the call to the end.
	Elapsed time.Duration
	// Verified: beyond the signatures of those who fetched the pieces, somebody vouches for the whole.
	Verified bool
}

func receiptOf(given *C.dragonfly_receipt) Receipt {
	return Receipt{
		Task:            C.GoString(&given.task[0]),
		Generation:      C.GoString(&given.generation[0]),
		BLAKE3:          C.GoString(&given.blake3[0]),
		Length:          uint64(given.length),
		BytesFromOrigin: uint64(given.bytes_from_origin),
		BytesFromPeers:  uint64(given.bytes_from_peers),
		BytesHeld:       uint64(given.bytes_held),
		Elapsed:         time.Duration(given.elapsed_us) * time.Microsecond,
		Verified:        bool(given.verified),
	}
}

package dragonfly

// #include <dragonfly.h>
import "C"

import (
	"context"
	"io/fs"
	"os"
)

// Kind is what went wrong, the same in every language. A Kind is itself an error, so that errors.Is(err, NotFound)
// tells them apart.
type Kind int32

// The kinds of error.
const (
	// Cancelled: the caller withdrew, or the engine shut down first.
	Cancelled Kind = C.DRAGONFLY_CANCELLED
	// Config: the configuration or the environment does not allow it.
	Config Kind = C.DRAGONFLY_CONFIG
	// DigestMismatch: the content does not have the digest that the caller gave.
	DigestMismatch Kind = C.DRAGONFLY_DIGEST_MISMATCH
	// Exists: the output exists and was not to be overwritten. Also fs.ErrExist.
	Exists Kind = C.DRAGONFLY_EXISTS
	// Forbidden: the origin, or a rule of this node, refuses. Also fs.ErrPermission.
	Forbidden Kind = C.DRAGONFLY_FORBIDDEN
	// Full: no space on disk, in the quota or in the memory budget.
	Full Kind = C.DRAGONFLY_FULL
	// InvalidInput: an argument is malformed, or what it names was closed.
	InvalidInput Kind = C.DRAGONFLY_INVALID_INPUT
	// IO: the local file system failed.
	IO Kind = C.DRAGONFLY_IO
	// Network: peers or the scheduler could not be reached.
	Network Kind = C.DRAGONFLY_NETWORK
	// NotFound: the origin has no such content, or the task is not held. Also fs.ErrNotExist.
	NotFound Kind = C.DRAGONFLY_NOT_FOUND
	// Origin: the origin failed in another way.
	Origin Kind = C.DRAGONFLY_ORIGIN
	// Timeout: not within the time. Also os.ErrDeadlineExceeded.
	Timeout Kind = C.DRAGONFLY_TIMEOUT
	// Internal: a bug or a broken invariant; please report it.
	Internal Kind = C.DRAGONFLY_INTERNAL
)

// String is the name of the kind, such as "not_found".
func (k Kind) String() string { return C.GoString(C.dragonfly_kind_name(C.dragonfly_status(k))) }

// Error is the name of the kind.
func (k Kind) Error() string { return k.String() }

// Error is an error of the library.
type Error struct {
	// Kind is what went wrong.
	Kind Kind
	// IsTemporary says whether the same call may succeed later.
	IsTemporary bool
	// Message is what was being done, to what, and every cause.
	Message string
	cause   error
}

func (e *Error) Error() string { return e.Kind.String() + ": " + e.Message }

// Unwrap gives the error of the context, where its end was the reason.
func (e *Error) Unwrap() error { return e.cause }

// Temporary says whether the same call may succeed later.
func (e *Error) Temporary() bool { return e.IsTemporary }

// Timeout says whether it took too long, as net.Error does.
func (e *Error) Timeout() bool { return e.Kind == Timeout }

// Is makes errors.Is work with kinds and with the errors of the standard library that mean the same.
func (e *Error) Is(target error) bool {
	switch target {
	case fs.ErrExist:
		return e.Kind == Exists
	case fs.ErrNotExist:
		return e.Kind == NotFound
	case fs.ErrPermission:
		return e.Kind == Forbidden
	case os.ErrDeadlineExceeded:
		return e.Kind == Timeout
	}
	kind, ok := target.(Kind)
	return ok && kind == e.Kind
}

// take turns a status and the error that came with it into an error, and frees the latter. ctx is the context of the
// call, whose end explains a cancellation.
func take(ctx context.Context, status C.dragonfly_status, failure *C.dragonfly_error) error {
	if status == C.DRAGONFLY_OK {
		return nil
	}
	defer C.dragonfly_error_free(failure)
	err := borrowed(status, failure)
	if err.Kind == Cancelled && ctx.Err() != nil {
		err.cause = context.Cause(ctx)
	}
	return err
}

// borrowed is an error that stays the library's.
func borrowed(status C.dragonfly_status, failure *C.dragonfly_error) *Error {
	return &Error{
		Kind:        Kind(status),
		IsTemporary: bool(C.dragonfly_error_is_temporary(failure)),
		Message:     C.GoString(C.dragonfly_error_message(failure)),
	}
}

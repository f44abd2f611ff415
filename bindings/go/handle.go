package dragonfly

// #include <dragonfly.h>
import "C"

import (
	"fmt"
	"os"
	"runtime"
	"runtime/cgo"
	"sync"
	"sync/atomic"
)

// leaks counts what was collected without having been closed.
var leaks atomic.Int64

// warn, if set to a non-empty value, has the library say on standard error what was not closed.
var warn = os.Getenv("DRAGONFLY_WARN_LEAKS")

// Leaks is how many things of this package were collected by the garbage collector without having been closed. Tests
// check that it stays 0. They are freed all the same.
func Leaks() int64 { return leaks.Load() }

// LiveHandles is how many handles of the library are live in this process. Tests check that it comes back to what it was.
func LiveHandles() int { return int(C.dragonfly_live_handles()) }

// held counts the values of Go's that the library refers to.
var held atomic.Int64

// hold gives the library something of Go's to refer to, until letGo.
func hold(value any) cgo.Handle {
	held.Add(1)
	return cgo.NewHandle(value)
}

func letGo(handle cgo.Handle) {
	handle.Delete()
	held.Add(-1)
}

// closer ends something once.
//
// Close stops what is behind a handle and frees the handle. The garbage collector only frees it: whatever else refers to
// what is behind it (another handle of the same engine, a download that goes on) is to find it as it was, and the library
// stops an engine with the last of them.
type closer struct {
	once    sync.Once
	stop    func()
	free    func()
	cleanup runtime.Cleanup
}

// own makes a closer whose handle is also freed when owner is collected. Neither stop (which may be nil) nor free may
// refer to owner.
//
// What is started on something refers to that: the owner of a handle is not collected, nor said to have been forgotten,
// while there is something that works through it. While a method is in a call with the handle of its receiver,
// runtime.KeepAlive keeps the receiver.
func own[T any](owner *T, what string, stop, free func()) *closer {
	made := &closer{stop: stop, free: free}
	made.cleanup = runtime.AddCleanup(owner, func(made *closer) {
		made.once.Do(func() {
			leaks.Add(1)
			if warn != "" {
				fmt.Fprintf(os.Stderr, "dragonfly: a %s was not closed\n", what)
			}
			// The last handle of a node waits for threads, and a cleanup must not hold up others.
			go made.free()
		})
	}, made)
	return made
}

func (c *closer) close() {
	c.once.Do(func() {
		c.cleanup.Stop()
		if c.stop != nil {
			c.stop()
		}
		c.free()
	})
}

package dragonfly

// #include <dragonfly.h>
import "C"

import (
	"fmt"
	"os"
	"runtime"
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

// closer frees something once.
type closer struct {
	once    sync.Once
	free    func()
	cleanup runtime.Cleanup
}

// own makes a closer that also runs when owner is collected. free must not refer to owner.
func own[T any](owner *T, what string, free func()) *closer {
	made := &closer{free: free}
	made.cleanup = runtime.AddCleanup(owner, func(made *closer) {
		made.once.Do(func() {
			leaks.Add(1)
			if warn != "" {
				fmt.Fprintf(os.Stderr, "dragonfly: a %s was not closed\n", what)
			}
			made.free()
		})
	}, made)
	return made
}

func (c *closer) close() {
	c.once.Do(func() {
		c.cleanup.Stop()
		c.free()
	})
}

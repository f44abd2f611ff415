package dragonfly

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

// world is what the tests run against: suite-server, the same for every language.
type world struct{ origin, token, tokenAll string }

var scene world

func TestMain(m *testing.M) {
	os.Exit(func() int {
		command := exec.Command("cargo", "run", "-q", "-p", "dragonfly-suite", "--bin", "suite-server")
		if named := os.Getenv("DRAGONFLY_SUITE_SERVER"); named != "" {
			command = exec.Command(named)
		}
		command.Stderr = os.Stderr
		input, err := command.StdinPipe()
		if err != nil {
			panic(err)
		}
		output, err := command.StdoutPipe()
		if err != nil {
			panic(err)
		}
		if err := command.Start(); err != nil {
			panic(err)
		}
		lines := bufio.NewScanner(output)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() && lines.Text() != "ready" {
			key, value, _ := strings.Cut(lines.Text(), " ")
			switch key {
			case "origin":
				scene.origin = value
			case "token":
				scene.token = value
			case "token_all":
				scene.tokenAll = value
			}
		}
		code := m.Run()
		input.Close()
		for lines.Scan() {
		}
		if err := command.Wait(); err != nil {
			fmt.Fprintln(os.Stderr, "suite-server:", err)
			return 1
		}
		return code
	}())
}

// clean checks at the end of a test that nothing of it is left: no handle, nothing that the library refers to, no
// goroutine, nothing that was collected without having been closed.
func clean(t *testing.T) {
	t.Helper()
	handles, values, goroutines, leaked := LiveHandles(), held.Load(), runtime.NumGoroutine(), Leaks()
	t.Cleanup(func() {
		runtime.GC()
		// What was cancelled comes to its end on threads of the library's.
		eventually(func() bool {
			return LiveHandles() == handles && held.Load() == values && runtime.NumGoroutine() <= goroutines
		})
		if now := LiveHandles(); now != handles {
			t.Errorf("%d handles are left", now-handles)
		}
		if now := held.Load(); now != values {
			t.Errorf("the library refers to %d values", now-values)
		}
		if now := runtime.NumGoroutine(); now > goroutines {
			t.Errorf("%d goroutines are left", now-goroutines)
		}
		if now := Leaks(); now != leaked {
			t.Errorf("%d things were not closed", now-leaked)
		}
	})
}

// eventually waits for something to hold, which it does unless there is a defect.
func eventually(holds func() bool) bool {
	for deadline := time.Now().Add(30 * time.Second); !holds(); {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(time.Millisecond)
	}
	return true
}

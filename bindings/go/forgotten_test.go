package dragonfly

import (
	"context"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

// collect has the garbage collector find what nobody refers to, and waits until it was cleaned up.
func collect(t *testing.T) {
	t.Helper()
	// Clean-ups of one cycle run in any order: what a second cycle finds is cleaned up after what the first did.
	for range 2 {
		done := make(chan struct{})
		runtime.AddCleanup(new([16]byte), func(done chan struct{}) { close(done) }, done)
		found := func() bool {
			runtime.GC()
			select {
			case <-done:
				return true
			default:
				return false
			}
		}
		if !eventually(found) {
			t.Fatal("the garbage collector does not collect")
		}
	}
}

// forgets expects that so many things are told to have been forgotten, and no more.
func forgets(t *testing.T, count int64, work func()) {
	t.Helper()
	before := Leaks()
	work()
	eventually(func() bool {
		runtime.GC()
		return Leaks() >= before+count
	})
	collect(t)
	if told := Leaks() - before; told != count {
		t.Errorf("%d things were forgotten, want %d", told, count)
	}
	leaks.Add(-count)
}

// What was forgotten is freed, and told.
func TestWhatIsForgottenIsTold(t *testing.T) {
	clean(t)
	forgets(t, 1, func() {
		if _, err := StartNode(context.Background(), NodeOptions{}); err != nil {
			t.Fatal(err)
		}
	})
}

// With DRAGONFLY_WARN_LEAKS, which is read when a program starts, it is told on standard error.
func TestTheWarningIsSeen(t *testing.T) {
	child := exec.Command(os.Args[0], "-test.run=^TestWhatIsForgottenIsTold$")
	child.Env = append(os.Environ(), "DRAGONFLY_WARN_LEAKS=1")
	said, err := child.CombinedOutput()
	if err != nil || strings.Count(string(said), "dragonfly: a node was not closed\n") != 1 {
		t.Fatalf("%v: %s", err, said)
	}
}

func TestAPeerKeepsItsNode(t *testing.T) {
	clean(t)
	ctx := context.Background()
	peer := func() *Peer {
		_, peer, err := startPeer(ctx, NodeOptions{Listen: listen, Token: scene.token})
		if err != nil {
			t.Fatal(err)
		}
		return peer
	}()
	forgets(t, 0, func() { collect(t) })
	receipt, err := peer.Fetch(ctx, Request{URL: scene.origin + "/kept"})
	if err != nil {
		t.Fatal(err)
	}
	node := peer.parent.(*Node)
	members, err := node.Peers()
	if err != nil || len(members) == 0 {
		t.Error("the node is not connected any more:", members, receipt, err)
	}
	peer.Close()
	node.Close()
}

func TestAReaderKeepsItsPeer(t *testing.T) {
	clean(t)
	ctx := context.Background()
	reader := func() *Reader {
		_, peer, err := startPeer(ctx, NodeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		reader, err := peer.Open(ctx, Request{URL: scene.origin + "/slow"})
		if err != nil {
			t.Fatal(err)
		}
		return reader
	}()
	forgets(t, 0, func() { collect(t) })
	length, err := io.Copy(io.Discard, reader)
	if err != nil || length != reader.Length() {
		t.Error(length, err)
	}
	peer := reader.peer
	reader.Close()
	peer.Close()
	peer.parent.(*Node).Close()
}

// Another handle of an engine is freed, which stops nothing.
func TestASecondHandleIsForgotten(t *testing.T) {
	clean(t)
	ctx := context.Background()
	node, err := StartNode(ctx, NodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	seed, err := node.StartSeed(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer seed.Close()
	peer, err := seed.Peer()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	forgets(t, 2, func() {
		if _, err := seed.Peer(); err != nil {
			t.Fatal(err)
		}
		if _, err := node.StartPeer(ctx); err != nil {
			t.Fatal(err)
		}
	})
	if _, err := peer.Fetch(ctx, Request{URL: scene.origin + "/kept"}); err != nil {
		t.Error("the engine was stopped:", err)
	}
}

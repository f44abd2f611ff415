package dragonfly

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func start(t *testing.T) (*Node, *Peer) {
	t.Helper()
	node, peer, err := startPeer(context.Background(), NodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		peer.Close()
		node.Close()
	})
	return node, peer
}

func TestErrorsAreThoseOfTheStandardLibrary(t *testing.T) {
	clean(t)
	_, peer := start(t)
	ctx := context.Background()
	_, err := peer.Fetch(ctx, Request{URL: scene.origin + "/missing"})
	if !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, NotFound) || errors.Is(err, Timeout) || errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	_, err = peer.Fetch(ctx, Request{URL: scene.origin + "/stalled", Timeout: 50 * time.Millisecond})
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err = peer.Fetch(ctx, Request{URL: scene.origin + "/stalled"})
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, Cancelled) {
		t.Fatal(err)
	}
	_, err = StartNode(ctx, NodeOptions{})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal("a context that has ended starts nothing:", err)
	}
}

func TestCloseIsIdempotentAndEndsReads(t *testing.T) {
	clean(t)
	node, peer := start(t)
	reader, err := peer.Open(context.Background(), Request{URL: scene.origin + "/stalled"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Seek(-1, io.SeekEnd); err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	for range 4 {
		readers.Add(1)
		go func() {
			defer readers.Done()
			if _, err := reader.Read(make([]byte, 1)); !errors.Is(err, Cancelled) && !errors.Is(err, InvalidInput) {
				t.Errorf("a closed reader read: %v", err)
			}
		}()
	}
	var closers sync.WaitGroup
	for range 4 {
		closers.Add(1)
		go func() {
			defer closers.Done()
			reader.Close()
		}()
	}
	closers.Wait()
	readers.Wait()
	if _, err := reader.Read(make([]byte, 1)); !errors.Is(err, InvalidInput) {
		t.Fatal("use after close:", err)
	}
	for range 2 {
		peer.Close()
		node.Close()
	}
	if _, err := node.Metrics(); !errors.Is(err, InvalidInput) {
		t.Fatal("use after close:", err)
	}
	if _, err := peer.Start(Request{URL: scene.origin + "/small"}); !errors.Is(err, InvalidInput) {
		t.Fatal("use after close:", err)
	}
}

func TestFetchOnce(t *testing.T) {
	clean(t)
	output := filepath.Join(t.TempDir(), "output")
	options := NodeOptions{AllowLoopbackOrigins: true}
	receipt, err := Fetch(context.Background(), options, Request{URL: scene.origin + "/piece", Output: output})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(output); err != nil || info.Size() != int64(receipt.Length) {
		t.Fatal(info, err)
	}
	if _, err := Fetch(context.Background(), options, Request{URL: scene.origin + "/missing"}); !errors.Is(err, NotFound) {
		t.Fatal(err)
	}
	if _, err := Fetch(context.Background(), NodeOptions{Token: "nonsense"}, Request{URL: scene.origin + "/piece"}); !errors.Is(err, InvalidInput) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := Fetch(ctx, options, Request{URL: scene.origin + "/stalled"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

func TestFetchToFile(t *testing.T) {
	clean(t)
	_, peer := start(t)
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	receipt, err := peer.FetchToFile(context.Background(), Request{URL: scene.origin + "/piece"}, file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := file.Stat(); err != nil || info.Size() != int64(receipt.Length) {
		t.Fatal(info, err)
	}
}

func TestADownloadOutlivesItsHandle(t *testing.T) {
	clean(t)
	_, peer := start(t)
	download, err := peer.Start(Request{URL: scene.origin + "/slow"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := download.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	download.Close()
	if receipt, err := download.Wait(context.Background()); err != nil || receipt.Length != 4<<20 {
		t.Fatal(receipt, err)
	}
}

func TestCancelWithdraws(t *testing.T) {
	clean(t)
	_, peer := start(t)
	download, err := peer.Start(Request{URL: scene.origin + "/stalled"})
	if err != nil {
		t.Fatal(err)
	}
	defer download.Close()
	download.Cancel()
	if _, err := download.Wait(context.Background()); !errors.Is(err, Cancelled) {
		t.Fatal(err)
	}
}

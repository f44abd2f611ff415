package dragonfly

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// identityOf is the identity whose bytes are all the same.
func identityOf(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func (r *runner) identity(ctx context.Context, c row) error {
	number, _ := strconv.Atoi(c.keys["byte"])
	node, err := StartNode(ctx, NodeOptions{Identity: identityOf(byte(number))})
	if err != nil {
		return err
	}
	defer node.Close()
	id, err := node.PeerID()
	return errors.Join(err, expect(id == c.keys["peer"], "it is %s", id))
}

// ownSource is the origin that bindings/suite/README.md describes.
type ownSource struct {
	length         uint64
	opened, closed atomic.Int64
}

type ownBody struct {
	io.Reader
	closed *atomic.Int64
}

func (b *ownBody) Close() error {
	b.closed.Add(1)
	return nil
}

func (s *ownSource) Open(request SourceRequest) (*SourceContent, error) {
	asked, err := url.Parse(request.URL)
	if err != nil {
		return nil, err
	}
	opened := s.opened.Add(1)
	switch asked.Path {
	case "/missing":
		return nil, os.ErrNotExist
	case "/refused":
		return nil, fmt.Errorf("as the test wants it: %w", Forbidden)
	case "/flaky":
		if opened%2 == 1 {
			return nil, &Error{Kind: Network, IsTemporary: true, Message: "not this time"}
		}
	}
	content := make([]byte, s.length-request.Start)
	for i := range content {
		content[i] = byte((request.Start + uint64(i)) % 251)
	}
	body := &ownBody{bytes.NewReader(content), &s.closed}
	return &SourceContent{Body: body, Length: &s.length, Offset: request.Start, Version: "1", Ranges: true}, nil
}

func (r *runner) source(ctx context.Context, c row, output string) error {
	length, _ := strconv.ParseUint(c.keys["length"], 10, 64)
	own := &ownSource{length: length}
	outcome := func() error {
		node, peer, err := startPeer(ctx, NodeOptions{Sources: map[string]Source{"suite": own}})
		if err != nil {
			return err
		}
		defer node.Close()
		defer peer.Close()
		receipt, err := r.fetch(ctx, c, peer, output)
		if err != nil {
			return err
		}
		return errors.Join(expect(receipt.Length == length, "%+v", receipt), r.stream(ctx, c, peer, 10_000))
	}()
	return errors.Join(outcome, expect(own.opened.Load() > 0, "it was not asked"))
}

func (r *runner) policy(ctx context.Context, c row, output string) error {
	stranger, err := StartNode(ctx, NodeOptions{Identity: identityOf(2)})
	if err != nil {
		return err
	}
	refused, err := stranger.PeerID()
	if err = errors.Join(err, stranger.Close()); err != nil {
		return err
	}
	var lock sync.Mutex
	served, notFetched := map[string]bool{}, 0
	policy := &Policy{
		AdmitPeer: func(member Member) bool {
			return strings.Contains(member.Roles, "peer") && member.PeerID != refused
		},
		AdmitRequest: func(request PeerRequest) bool {
			lock.Lock()
			defer lock.Unlock()
			if request.Type == FetchFromOrigin && strings.Contains(request.Label, c.keys["unfetched"]) {
				notFetched++
				return false
			}
			served[request.PeerID] = request.Type == Serve && strings.Contains(request.Label, c.keys["path"])
			return true
		},
	}
	first, token, closeFirst, err := found(ctx, policy)
	if err != nil {
		return err
	}
	defer closeFirst()
	err = with(ctx, NodeOptions{Listen: listen, Token: token}, func(node *Node, peer *Peer) error {
		receipt, err := r.fetch(ctx, c, peer, output)
		if err != nil {
			return err
		}
		own, err := peer.Fetch(ctx, Request{URL: scene.origin + c.keys["unfetched"]})
		if err != nil {
			return err
		}
		id, err := node.PeerID()
		lock.Lock()
		defer lock.Unlock()
		return errors.Join(err, expect(receipt.BytesFromPeers == receipt.Length, "%+v", receipt),
			expect(own.BytesFromOrigin == own.Length, "%+v", own), expect(notFetched > 0, "it was not asked to fetch"),
			expect(served[id], "it was not asked about %s: %v", id, served))
	})
	if err != nil {
		return err
	}
	return with(ctx, NodeOptions{Listen: listen, Token: token, Identity: identityOf(2)}, func(_ *Node, peer *Peer) error {
		receipt, err := peer.Fetch(ctx, Request{URL: scene.origin + c.keys["refused"]})
		if err != nil {
			return err
		}
		peers, err := first.Peers()
		return errors.Join(err, expect(receipt.BytesFromOrigin == receipt.Length, "%+v", receipt),
			expect(!strings.Contains(strings.Join(peers, " "), refused), "it is connected"))
	})
}

// with does something with a node and its peer.
func with(ctx context.Context, options NodeOptions, work func(*Node, *Peer) error) error {
	node, peer, err := startPeer(ctx, options)
	if err != nil {
		return err
	}
	defer node.Close()
	defer peer.Close()
	return work(node, peer)
}

// found starts the first node of a network, with scheduler and seed.
func found(ctx context.Context, policy *Policy) (first *Node, token string, end func(), err error) {
	first, err = StartNode(ctx, NodeOptions{Listen: listen, AllowLoopbackOrigins: true, Policy: policy})
	if err != nil {
		return nil, "", nil, err
	}
	scheduler, failed := first.StartScheduler(ctx)
	if failed != nil {
		first.Close()
		return nil, "", nil, failed
	}
	seed, failed := first.StartSeed(ctx)
	if failed != nil {
		scheduler.Close()
		first.Close()
		return nil, "", nil, failed
	}
	end = func() {
		seed.Close()
		scheduler.Close()
		first.Close()
	}
	token, err = first.Token(TokenOptions{})
	if err != nil {
		end()
		return nil, "", nil, err
	}
	return first, token, end, nil
}

func (r *runner) events(ctx context.Context, c row) error {
	first, token, end, err := found(ctx, nil)
	if err != nil {
		return err
	}
	var once sync.Once
	defer once.Do(end)
	events, err := first.Events(ctx)
	if err != nil {
		return err
	}
	var id string
	err = with(ctx, NodeOptions{Listen: listen, Token: token}, func(node *Node, peer *Peer) error {
		if _, err := peer.Fetch(ctx, r.request(c)); err != nil {
			return err
		}
		if id, err = node.PeerID(); err != nil {
			return err
		}
		event := <-events
		return expect(event == NodeEvent{PeerUp, id}, "%+v", event)
	})
	if err != nil {
		return err
	}
	event := <-events
	once.Do(end)
	_, open := <-events
	return errors.Join(expect(event == NodeEvent{PeerDown, id}, "%+v", event), expect(!open, "a node that is gone has an event"))
}

func (r *runner) log(ctx context.Context, c row) error {
	var heard atomic.Int64
	err := SetLog(LevelTrace, func(record LogRecord) {
		if strings.HasPrefix(record.Target, "dragonfly") && record.Message != "" && record.Level >= LevelTrace {
			heard.Add(1)
		}
	})
	if err != nil {
		return err
	}
	err = with(ctx, NodeOptions{}, func(_ *Node, peer *Peer) error {
		_, err := peer.Fetch(ctx, r.request(c))
		return err
	})
	return errors.Join(err, SetLog(slog.LevelInfo, nil), expect(heard.Load() > 0, "nothing was heard"))
}

// A source is closed as often as it was opened, and let go with its node, or when that could not be started (which clean
// sees).
func TestSourcesAreClosedAndLetGo(t *testing.T) {
	clean(t)
	ctx := context.Background()
	own := &ownSource{length: 1000}
	sources := map[string]Source{"suite": own}
	err := with(ctx, NodeOptions{Sources: sources}, func(_ *Node, peer *Peer) error {
		_, err := peer.Fetch(ctx, Request{URL: "suite://any/content"})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// The node is gone, and with it whatever read; the last threads of it may just be letting go.
	settled := func() bool { return own.closed.Load() == own.opened.Load() }
	if !eventually(settled) || own.opened.Load() == 0 {
		t.Fatal(own.opened.Load(), own.closed.Load())
	}
	for _, options := range []NodeOptions{
		{Sources: sources, Token: "nonsense"},
		{Sources: map[string]Source{"Not A Scheme": own}},
		{Sources: sources, Identity: []byte("too short")},
	} {
		if node, err := StartNode(ctx, options); !errors.Is(err, InvalidInput) {
			t.Fatal(node, err)
		}
	}
	// What a source says of its errors is what the caller gets.
	failing := SourceFunc(func(SourceRequest) (*SourceContent, error) { return nil, errors.New("in its own words") })
	err = with(ctx, NodeOptions{Sources: map[string]Source{"own": failing}}, func(_ *Node, peer *Peer) error {
		_, err := peer.Fetch(ctx, Request{URL: "own://a/b"})
		return err
	})
	if !errors.Is(err, Origin) || !strings.Contains(err.Error(), "in its own words") {
		t.Fatal(err)
	}
}

func TestProgressByChannel(t *testing.T) {
	clean(t)
	ctx := context.Background()
	_, peer := start(t)
	download, err := peer.Start(Request{URL: scene.origin + "/slow"})
	if err != nil {
		t.Fatal(err)
	}
	defer download.Close()
	forgotten, err := download.Progress()
	if err != nil {
		t.Fatal(err)
	}
	events, err := download.Progress()
	if err != nil {
		t.Fatal(err)
	}
	var last uint64
	for event := range events {
		if event.Type == Progressed && event.Bytes < last {
			t.Fatalf("%+v after %d", event, last)
		}
		last = max(last, event.Bytes)
	}
	receipt, err := download.Wait(ctx)
	if err != nil || last == 0 || last > receipt.Length {
		t.Fatal(last, receipt, err)
	}
	// Nobody has to read.
	if len(forgotten) == 0 {
		t.Fatal("a channel that was not read has nothing in it")
	}
	download.Close()
	if _, err := download.Progress(); !errors.Is(err, InvalidInput) {
		t.Fatal("use after close:", err)
	}
}

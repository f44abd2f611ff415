package dragonfly

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

var listen = []string{"/ip4/127.0.0.1/tcp/0"}

// row is a line of the table.
type row struct {
	name, operation string
	keys            map[string]string
}

func rows(t *testing.T) []row {
	text, err := os.ReadFile("../suite/cases.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []row
	for _, line := range strings.Split(string(text), "\n") {
		words := strings.Fields(line)
		if len(words) < 3 || words[0] != "case" {
			continue
		}
		made := row{words[1], words[2], map[string]string{}}
		for _, word := range words[3:] {
			key, value, _ := strings.Cut(word, "=")
			made.keys[key] = value
		}
		all = append(all, made)
	}
	return all
}

type runner struct {
	dir  string
	node *Node
	peer *Peer
}

func startPeer(ctx context.Context, options NodeOptions) (*Node, *Peer, error) {
	node, err := StartNode(ctx, options)
	if err != nil {
		return nil, nil, err
	}
	peer, err := node.StartPeer(ctx)
	if err != nil {
		node.Close()
		return nil, nil, err
	}
	return node, peer, nil
}

func (r *runner) request(c row) Request {
	url := c.keys["url"]
	if url == "" {
		url = scene.origin + c.keys["path"]
	}
	request := Request{URL: url, Digest: c.keys["digest"]}
	if bound := c.keys["timeout_ms"]; bound != "" {
		ms, _ := strconv.Atoi(bound)
		request.Timeout = time.Duration(ms) * time.Millisecond
	}
	return request
}

func expect(holds bool, format string, arguments ...any) error {
	if holds {
		return nil
	}
	return fmt.Errorf(format, arguments...)
}

func whole(receipt Receipt) error {
	sum := receipt.BytesFromOrigin + receipt.BytesFromPeers + receipt.BytesHeld
	return expect(sum == receipt.Length, "the parts are not the whole: %+v", receipt)
}

func checksum(c row, content []byte) error {
	return expect(fmt.Sprintf("%08x", crc32.ChecksumIEEE(content)) == c.keys["crc"], "other bytes: %d of them", len(content))
}

func (r *runner) fetch(ctx context.Context, c row, peer *Peer, output string) (Receipt, error) {
	request := r.request(c)
	request.Output = output
	receipt, err := peer.Fetch(ctx, request)
	if err != nil {
		return receipt, err
	}
	content, err := os.ReadFile(output)
	return receipt, errors.Join(err, whole(receipt), checksum(c, content))
}

func (r *runner) run(ctx context.Context, c row) error {
	output := filepath.Join(r.dir, c.keys["dir"], c.name)
	switch c.operation {
	case "fetch":
		if c.keys["exists"] != "" {
			if err := os.WriteFile(output, []byte("in the way"), 0o600); err != nil {
				return err
			}
		}
		_, err := r.fetch(ctx, c, r.peer, output)
		return err
	case "stream":
		chunk, _ := strconv.Atoi(c.keys["chunk"])
		return r.stream(ctx, c, r.peer, chunk)
	case "descriptor":
		return r.descriptor(ctx, c, output)
	case "seek":
		return r.seek(ctx, c)
	case "two":
		return r.two(ctx, c, output)
	case "many":
		return r.many(ctx, c)
	case "progress":
		return r.progress(ctx, c)
	case "cancel":
		return r.cancel(ctx, c)
	case "cancel_read":
		return r.cancelRead(ctx, c)
	case "store":
		return r.store(ctx, c)
	case "preheat":
		return r.preheat(ctx, c)
	case "own":
		return r.own(ctx, c, output)
	case "identity":
		return r.identity(ctx, c)
	case "source":
		return r.source(ctx, c, output)
	case "policy":
		return r.policy(ctx, c, output)
	case "events":
		return r.events(ctx, c)
	case "log":
		return r.log(ctx, c)
	case "metrics":
		metrics, err := r.node.Metrics()
		return errors.Join(err, expect(strings.Contains(metrics, c.keys["contains"]), "not in:\n%s", metrics))
	case "node":
		options := NodeOptions{Token: c.keys["token"]}
		if address := c.keys["listen"]; address != "" {
			options.Listen = []string{address}
		}
		if c.keys["same_dir"] != "" {
			options.DataDir = filepath.Join(r.dir, "node")
		}
		node, err := StartNode(ctx, options)
		if err != nil {
			return err
		}
		defer node.Close()
		if c.keys["listeners"] == "" {
			return nil
		}
		peer, err := node.PeerID()
		if err != nil {
			return err
		}
		listeners, err := node.Listeners()
		named := strings.HasSuffix(strings.Join(listeners, "\n"), "/p2p/"+peer)
		right := strconv.Itoa(len(listeners)) == c.keys["listeners"] && named
		return errors.Join(err, expect(right, "it listens at %v", listeners))
	case "full", "stopped":
		memory, _ := strconv.ParseUint(c.keys["memory"], 10, 64)
		node, peer, err := startPeer(ctx, NodeOptions{MemoryBytes: memory})
		if err != nil {
			return err
		}
		defer node.Close()
		defer peer.Close()
		if c.operation == "stopped" {
			other, err := node.StartPeer(ctx)
			if err != nil {
				return err
			}
			other.Close() // Both are handles of the node's one engine.
		}
		_, err = peer.Fetch(ctx, r.request(c))
		return err
	}
	return fmt.Errorf("nobody knows the operation %s", c.operation)
}

func (r *runner) stream(ctx context.Context, c row, peer *Peer, chunk int) error {
	reader, err := peer.Open(ctx, r.request(c))
	if err != nil {
		return err
	}
	defer reader.Close()
	var content bytes.Buffer
	if _, err := io.CopyBuffer(struct{ io.Writer }{&content}, struct{ io.Reader }{reader}, make([]byte, chunk)); err != nil {
		return err
	}
	receipt, err := reader.Receipt(ctx)
	if err != nil {
		return err
	}
	return errors.Join(whole(receipt), expect(int64(content.Len()) == reader.Length(), "length"), checksum(c, content.Bytes()))
}

// descriptor writes to a file that was written to before.
func (r *runner) descriptor(ctx context.Context, c row, output string) error {
	before := []byte("before")
	file, err := os.Create(output)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Write(before); err != nil {
		return err
	}
	receipt, err := r.peer.FetchToFile(ctx, r.request(c), file)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(output)
	content, found := bytes.CutPrefix(content, before)
	return errors.Join(err, whole(receipt), expect(found, "it is not behind what was there"), checksum(c, content))
}

func (r *runner) seek(ctx context.Context, c row) error {
	reader, err := r.peer.Open(ctx, r.request(c))
	if err != nil {
		return err
	}
	defer reader.Close()
	for _, read := range strings.Split(c.keys["reads"], ",") {
		var offset, count int64
		var sum uint32
		if _, err := fmt.Sscanf(read, "%d+%d:%x", &offset, &count, &sum); err != nil {
			return err
		}
		if at, err := reader.Seek(offset, io.SeekStart); err != nil || at != offset {
			return fmt.Errorf("seek to %d: %d, %w", offset, at, err)
		}
		content := make([]byte, count)
		if _, err := io.ReadFull(reader, content); err != nil {
			return err
		}
		if err := expect(crc32.ChecksumIEEE(content) == sum, "other bytes at %s", read); err != nil {
			return err
		}
	}
	at, err := reader.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	_, end := reader.Read(make([]byte, 8))
	return errors.Join(expect(at == reader.Length(), "the end is at %d", at), expect(end == io.EOF, "at the end: %v", end))
}

func (r *runner) two(ctx context.Context, c row, output string) error {
	failures := make(chan error, 2)
	ids := make(chan string, 2)
	for i := range 2 {
		go func() {
			node, peer, err := startPeer(ctx, NodeOptions{Listen: listen, Token: scene.token})
			if err != nil {
				failures <- err
				return
			}
			defer node.Close()
			defer peer.Close()
			id, err := node.PeerID()
			ids <- id
			_, failed := r.fetch(ctx, c, peer, fmt.Sprint(output, ".", i))
			failures <- errors.Join(err, failed)
		}()
	}
	if err := errors.Join(<-failures, <-failures); err != nil {
		return err
	}
	return expect(<-ids != <-ids, "two nodes have one name")
}

func (r *runner) many(ctx context.Context, c row) error {
	count, _ := strconv.Atoi(c.keys["count"])
	failures := make(chan error, count)
	for i := range count {
		go func() {
			request := r.request(c)
			request.URL += strconv.Itoa(i)
			receipt, err := r.peer.Fetch(ctx, request)
			if err == nil {
				err = errors.Join(whole(receipt), expect(receipt.Length == 600, "%d bytes", receipt.Length))
			}
			failures <- err
		}()
	}
	var all error
	for range count {
		if err := <-failures; err != nil {
			all = err
		}
	}
	return all
}

func (r *runner) progress(ctx context.Context, c row) error {
	request := r.request(c)
	var last uint64
	var wrong error
	request.Progress = func(event Event) {
		if event.Type != Progressed {
			return
		}
		if event.Bytes < last || event.Bytes > event.Length {
			wrong = fmt.Errorf("%+v after %d", event, last)
		}
		last = event.Bytes
	}
	receipt, err := r.peer.Fetch(ctx, request)
	if err != nil {
		return err
	}
	return errors.Join(wrong, expect(last > 0 && last <= receipt.Length, "the last progress was at %d", last))
}

func (r *runner) cancel(ctx context.Context, c row) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	request := r.request(c)
	request.Progress = func(event Event) {
		if event.Bytes > 0 {
			cancel()
		}
	}
	_, err := r.peer.Fetch(ctx, request)
	return errors.Join(err, expect(errors.Is(err, context.Canceled), "not the context's error: %v", err))
}

func (r *runner) cancelRead(ctx context.Context, c row) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reader, err := r.peer.Open(ctx, r.request(c))
	if err != nil {
		return err
	}
	defer reader.Close()
	if _, err := reader.Seek(-1, io.SeekEnd); err != nil {
		return err
	}
	go cancel()
	_, err = reader.Read(make([]byte, 1))
	return errors.Join(err, expect(errors.Is(err, context.Canceled), "not the context's error: %v", err))
}

func (r *runner) store(ctx context.Context, c row) error {
	receipt, err := r.peer.Fetch(ctx, r.request(c))
	if err != nil {
		return err
	}
	task, err := r.peer.TaskID(r.request(c))
	if err != nil || task != receipt.Task {
		return fmt.Errorf("task %s, not %s: %w", task, receipt.Task, err)
	}
	held, err := r.peer.Stat(ctx, task)
	if err != nil || len(held) != 1 || !held[0].Complete || held[0].Length != receipt.Length || held[0].Pinned {
		return fmt.Errorf("stat: %+v %w", held, err)
	}
	listed := false
	for info, err := range r.peer.Tasks(ctx) {
		if err != nil {
			return err
		}
		listed = listed || info.Task == task
	}
	if err := errors.Join(expect(listed, "not listed"), r.peer.Pin(ctx, task, true)); err != nil {
		return err
	}
	if held, err = r.peer.Stat(ctx, task); err != nil || !held[0].Pinned {
		return fmt.Errorf("pinned: %+v %w", held, err)
	}
	freed, err := r.peer.Remove(ctx, task)
	if err != nil || freed < receipt.Length {
		return fmt.Errorf("freed %d: %w", freed, err)
	}
	held, err = r.peer.Stat(ctx, task)
	gone := r.peer.Pin(ctx, task, true)
	return errors.Join(err, expect(len(held) == 0, "still held: %+v", held), expect(errors.Is(gone, NotFound), "%v", gone))
}

func (r *runner) preheat(ctx context.Context, c row) error {
	node, err := StartNode(ctx, NodeOptions{Listen: listen, Token: scene.tokenAll, AllowLoopbackOrigins: true})
	if err != nil {
		return err
	}
	defer node.Close()
	seed, err := node.StartSeed(ctx)
	if err != nil {
		return err
	}
	defer seed.Close()
	receipt, err := seed.Preheat(ctx, r.request(c))
	if err != nil {
		return err
	}
	peer, err := seed.Peer()
	if err != nil {
		return err
	}
	defer peer.Close()
	held, err := peer.Stat(ctx, receipt.Task)
	good := receipt.Length == 70000 && len(held) == 1 && held[0].Complete
	return errors.Join(err, whole(receipt), expect(good, "%+v %+v", receipt, held))
}

func (r *runner) own(ctx context.Context, c row, output string) error {
	first, err := StartNode(ctx, NodeOptions{Listen: listen, AllowLoopbackOrigins: true})
	if err != nil {
		return err
	}
	defer first.Close()
	scheduler, err := first.StartScheduler(ctx)
	if err != nil {
		return err
	}
	defer scheduler.Close()
	seed, err := first.StartSeed(ctx)
	if err != nil {
		return err
	}
	defer seed.Close()
	token, err := first.Token(TokenOptions{})
	if err != nil {
		return err
	}
	return with(ctx, NodeOptions{Listen: listen, Token: token}, func(_ *Node, peer *Peer) error {
		receipt, err := r.fetch(ctx, c, peer, output)
		if err != nil {
			return err
		}
		snapshot, err := scheduler.Snapshot(ctx)
		return errors.Join(err, expect(bytes.Contains(snapshot, []byte(`"hosts":[{`)), "%s", snapshot),
			expect(receipt.BytesFromPeers == receipt.Length, "%+v", receipt))
	})
}

// TestSuite is the behaviour suite in Go.
func TestSuite(t *testing.T) {
	clean(t)
	ctx := context.Background()
	dir := t.TempDir()
	node, peer, err := startPeer(ctx, NodeOptions{DataDir: filepath.Join(dir, "node"), Listen: listen, Token: scene.token})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	defer peer.Close()
	runner := &runner{dir, node, peer}
	for _, c := range rows(t) {
		t.Run(c.name, func(t *testing.T) {
			err := runner.run(ctx, c)
			if c.keys["error"] == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var failure *Error
			if !errors.As(err, &failure) {
				t.Fatalf("expected %s, got %v", c.keys["error"], err)
			}
			if failure.Kind.String() != c.keys["error"] || failure.Temporary() != (c.keys["temporary"] == "yes") {
				t.Fatalf("expected %s, got %v (temporary: %v)", c.keys["error"], failure, failure.Temporary())
			}
			if !errors.Is(err, failure.Kind) {
				t.Fatalf("errors.Is does not know %v", err)
			}
		})
	}
}

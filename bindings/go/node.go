package dragonfly

// #include <dragonfly.h>
import "C"

import (
	"context"
	"runtime"
	"runtime/cgo"
	"strings"
	"time"
	"unsafe"
)

// NodeOptions is how a node is configured. The zero value is a node in memory that does not listen.
type NodeOptions struct {
	// DataDir is where identity, membership and content are kept; empty: in memory.
	DataDir string
	// MemoryBytes is how much content a node without a directory may hold; 0: 256 MiB.
	MemoryBytes uint64
	// QuotaBytes is how much content the directory may hold; 0: no bound but the disk's.
	QuotaBytes uint64
	// Listen are addresses such as /ip4/0.0.0.0/tcp/0.
	Listen []string
	// Token is that of the network to join; empty: the directory's, or a network of its own.
	Token string
	// Schedulers are addresses that end in /p2p/PEER; empty: those of the token.
	Schedulers []string
	// Bootstrap are members to turn to where there is no scheduler; empty: those of the token.
	Bootstrap []string
	// UploadSlots is how many neighbours are served at a time; 0: 8.
	UploadSlots uint16
	// NoUploads never sends a piece to others.
	NoUploads bool
	// AllowLoopbackOrigins lets fetches that no local caller asked for reach origins on loopback.
	AllowLoopbackOrigins bool
	// TrustSeedsOnly: in a network that this node founds, only seeds may say what an origin said.
	TrustSeedsOnly bool
	// Identity is who the node is: the 32 bytes of an Ed25519 secret key, from a good random source; nil: the identity in
	// the directory, made where there is none. Two live nodes of one identity cannot both be reached.
	Identity []byte
	// Sources are origins of the program's own, by URL scheme in lower case, or in place of the library's.
	Sources map[string]Source
	// Policy is the program's rules about other members; nil: none.
	Policy *Policy
	// Site is where the node is, such as a region or a data centre: 1 to 64 letters, digits, '-', '_' and '.'; empty: none.
	// Hosts of one site get content from each other, and few of them from another site.
	Site string
}

// TokenOptions is what a token is to allow. The zero value is a plain peer's, for ever.
type TokenOptions struct {
	// Roles is such as "peer,seed,scheduler"; empty: "peer".
	Roles string
	// NotAfter is when it ends; zero: never.
	NotAfter time.Time
	// Addresses is where its bearers find the network; empty: this node's own.
	Addresses []string
}

// Node is a host as a member of its network. It may be used by several goroutines.
type Node struct {
	handle *C.dragonfly_node
	closer *closer
}

// StartNode starts a node: takes the directory, loads or makes its identity, joins or founds a network, listens.
func StartNode(ctx context.Context, options NodeOptions) (*Node, error) {
	var memory arena
	defer memory.free()
	given := (*C.dragonfly_node_options)(memory.alloc(unsafe.Sizeof(C.dragonfly_node_options{})))
	given.size = C.size_t(unsafe.Sizeof(*given))
	given.data_dir = memory.text(options.DataDir)
	given.memory_bytes = C.uint64_t(options.MemoryBytes)
	given.quota_bytes = C.uint64_t(options.QuotaBytes)
	given.listen, given.listen_length = memory.texts(options.Listen)
	given.token = memory.text(options.Token)
	given.schedulers, given.schedulers_length = memory.texts(options.Schedulers)
	given.bootstrap, given.bootstrap_length = memory.texts(options.Bootstrap)
	given.upload_slots = C.uint16_t(options.UploadSlots)
	given.no_uploads = C.bool(options.NoUploads)
	given.site = memory.text(options.Site)
	given.allow_loopback_origins = C.bool(options.AllowLoopbackOrigins)
	given.trust_seeds_only = C.bool(options.TrustSeedsOnly)
	if options.Identity != nil {
		if len(options.Identity) != C.DRAGONFLY_IDENTITY_LENGTH {
			return nil, &Error{Kind: InvalidInput, Message: "an identity has 32 bytes"}
		}
		identity := memory.alloc(C.DRAGONFLY_IDENTITY_LENGTH)
		copy(unsafe.Slice((*byte)(identity), len(options.Identity)), options.Identity)
		given.identity = (*C.uint8_t)(identity)
	}
	var handles []cgo.Handle
	if len(options.Sources) > 0 {
		list := (**C.dragonfly_source)(memory.alloc(uintptr(len(options.Sources)) * unsafe.Sizeof((*C.dragonfly_source)(nil))))
		places := unsafe.Slice(list, len(options.Sources))
		for scheme, source := range options.Sources {
			registered, handle := registerSource(&memory, scheme, source)
			places[len(handles)] = registered
			handles = append(handles, handle)
		}
		given.sources, given.sources_length = list, C.size_t(len(handles))
	}
	if options.Policy != nil {
		registered, handle := registerPolicy(&memory, options.Policy)
		given.policy = registered
		handles = append(handles, handle)
	}
	var handle *C.dragonfly_node
	err := block(ctx, func(cancel *C.dragonfly_cancel, failure **C.dragonfly_error) C.dragonfly_status {
		return C.dragonfly_node_start(given, forever, cancel, &handle, failure)
	})
	if err != nil {
		// The library has taken none of them.
		for _, handle := range handles {
			letGo(handle)
		}
		return nil, err
	}
	node := &Node{handle: handle}
	stop := func() { C.dragonfly_node_shutdown(handle, forever, nil, nil) }
	node.closer = own(node, "node", stop, func() { C.dragonfly_node_free(handle) })
	return node, nil
}

func (n *Node) ask(call func(*C.dragonfly_node, **C.dragonfly_text, **C.dragonfly_error) C.dragonfly_status) (string, error) {
	defer runtime.KeepAlive(n)
	var made *C.dragonfly_text
	var failure *C.dragonfly_error
	if err := take(context.Background(), call(n.handle, &made, &failure), failure); err != nil {
		return "", err
	}
	return text(made), nil
}

func lines(given string, err error) ([]string, error) {
	if err != nil || given == "" {
		return nil, err
	}
	return strings.Split(given, "\n"), nil
}

// PeerID is who this host is.
func (n *Node) PeerID() (string, error) {
	return n.ask(func(node *C.dragonfly_node, made **C.dragonfly_text, failure **C.dragonfly_error) C.dragonfly_status {
		return C.dragonfly_node_peer_id(node, made, failure)
	})
}

// Listeners is where it listens: addresses that another node can dial.
func (n *Node) Listeners() ([]string, error) {
	return lines(n.ask(func(node *C.dragonfly_node, made **C.dragonfly_text, failure **C.dragonfly_error) C.dragonfly_status {
		return C.dragonfly_node_listeners(node, made, failure)
	}))
}

// Peers are the members that are connected now.
func (n *Node) Peers() ([]string, error) {
	return lines(n.ask(func(node *C.dragonfly_node, made **C.dragonfly_text, failure **C.dragonfly_error) C.dragonfly_status {
		return C.dragonfly_node_peers(node, made, failure)
	}))
}

// Metrics are its metrics in the Prometheus text format.
func (n *Node) Metrics() (string, error) {
	return n.ask(func(node *C.dragonfly_node, made **C.dragonfly_text, failure **C.dragonfly_error) C.dragonfly_status {
		return C.dragonfly_node_metrics(node, made, failure)
	})
}

// Token is a token with which others join this node's network. It is a secret: whoever has it can join.
func (n *Node) Token(options TokenOptions) (string, error) {
	var memory arena
	defer memory.free()
	given := (*C.dragonfly_token_options)(memory.alloc(unsafe.Sizeof(C.dragonfly_token_options{})))
	given.size = C.size_t(unsafe.Sizeof(*given))
	given.roles = memory.text(options.Roles)
	if !options.NotAfter.IsZero() {
		given.not_after = C.uint64_t(max(options.NotAfter.Unix(), 1))
	}
	given.addresses, given.addresses_length = memory.texts(options.Addresses)
	return n.ask(func(node *C.dragonfly_node, made **C.dragonfly_text, failure **C.dragonfly_error) C.dragonfly_status {
		return C.dragonfly_node_token(node, given, made, failure)
	})
}

// Close closes listeners and connections and makes the store durable. Close the engines on it first.
func (n *Node) Close() error {
	n.closer.close()
	return nil
}

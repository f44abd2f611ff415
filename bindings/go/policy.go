package dragonfly

// #include <dragonfly.h>
//
// extern bool dragonflyGoAdmitPeer(uintptr_t ctx, dragonfly_member *member);
// extern bool dragonflyGoAdmitRequest(uintptr_t ctx, dragonfly_peer_request *request);
// extern void dragonflyGoPolicyDrop(uintptr_t ctx);
//
// static bool policy_peer(void *ctx, const dragonfly_member *member) {
//     return dragonflyGoAdmitPeer((uintptr_t)ctx, (dragonfly_member *)member);
// }
// static bool policy_request(void *ctx, const dragonfly_peer_request *request) {
//     return dragonflyGoAdmitRequest((uintptr_t)ctx, (dragonfly_peer_request *)request);
// }
// static void policy_drop(void *ctx) { dragonflyGoPolicyDrop((uintptr_t)ctx); }
//
// static void policy_calls(dragonfly_policy *policy, uintptr_t ctx, bool peer, bool request) {
//     policy->size = sizeof *policy;
//     policy->admit_peer = peer ? policy_peer : NULL;
//     policy->admit_request = request ? policy_request : NULL;
//     policy->drop = policy_drop;
//     policy->ctx = (void *)ctx;
// }
import "C"

import (
	"runtime/cgo"
	"time"
	"unsafe"
)

// Policy is the program's own rules about other members. They come after the network's: who is no member is refused
// before anything here is asked. The functions are called from several goroutines at once and must not block: the
// network waits for them.
type Policy struct {
	// AdmitPeer says whether a member may be connected to this host, whoever dialled; nil: every member may.
	AdmitPeer func(Member) bool
	// AdmitRequest says whether this host does what another member asks for; nil: it always does.
	AdmitRequest func(PeerRequest) bool
}

// Member is another member.
type Member struct {
	// PeerID is who it is, Roles what it may be, such as "peer,seed", Tenant the account that it belongs to.
	PeerID, Roles, Tenant string
	// NotAfter is when its credential ends; zero: never.
	NotAfter time.Time
}

// PeerRequestType is what another member asks for.
type PeerRequestType int32

const (
	// Serve: to be sent pieces of a task that this host holds.
	Serve PeerRequestType = C.DRAGONFLY_REQUEST_SERVE
	// FetchFromOrigin: to fetch a task from its origin, as a seed does when a scheduler says so.
	FetchFromOrigin PeerRequestType = C.DRAGONFLY_REQUEST_FETCH
)

// PeerRequest is what another member asks of this host.
type PeerRequest struct {
	// Type is what it asks for; there may be more than this package names.
	Type PeerRequestType
	// PeerID is who asks; empty where that is a scheduler. Task is the task, Label its URL without anything secret.
	PeerID, Task, Label string
}

// registerPolicy makes the library's side of a policy. The handle is the library's once a node has started with it.
func registerPolicy(memory *arena, policy *Policy) (*C.dragonfly_policy, cgo.Handle) {
	given := (*C.dragonfly_policy)(memory.alloc(unsafe.Sizeof(C.dragonfly_policy{})))
	handle := hold(policy)
	C.policy_calls(given, C.uintptr_t(handle), policy.AdmitPeer != nil, policy.AdmitRequest != nil)
	return given, handle
}

//export dragonflyGoAdmitPeer
func dragonflyGoAdmitPeer(ctx C.uintptr_t, member *C.dragonfly_member) C.bool {
	policy, ok := cgo.Handle(ctx).Value().(*Policy)
	if !ok {
		return false
	}
	shown := Member{
		PeerID: C.GoString(&member.peer[0]),
		Roles:  C.GoString(member.roles),
		Tenant: C.GoString(member.tenant),
	}
	if member.not_after > 0 {
		shown.NotAfter = time.Unix(int64(member.not_after), 0)
	}
	return C.bool(policy.AdmitPeer(shown))
}

//export dragonflyGoAdmitRequest
func dragonflyGoAdmitRequest(ctx C.uintptr_t, request *C.dragonfly_peer_request) C.bool {
	policy, ok := cgo.Handle(ctx).Value().(*Policy)
	if !ok {
		return false
	}
	return C.bool(policy.AdmitRequest(PeerRequest{
		Type:   PeerRequestType(request._type),
		PeerID: C.GoString(&request.peer[0]),
		Task:   C.GoString(&request.task[0]),
		Label:  C.GoString(request.label),
	}))
}

//export dragonflyGoPolicyDrop
func dragonflyGoPolicyDrop(ctx C.uintptr_t) { letGo(cgo.Handle(ctx)) }

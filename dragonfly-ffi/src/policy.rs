//! What the program decides about other members.

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use dragonfly_core::{Claims, PeerId, PeerRequest, Policy, Result};

use crate::args::{self, sized};
use crate::context::{Context, dragonfly_drop_fn};
use crate::error::c_text;
use crate::receipt::{DRAGONFLY_ID_ROOM, room};

/// The room for a peer id as text, with its NUL.
pub const DRAGONFLY_PEER_ROOM: usize = 64;

/// Another member. It lives for the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dragonfly_member {
    /// `sizeof(dragonfly_member)`, as the library knows it.
    pub size: usize,
    /// Its peer id.
    pub peer: [c_char; DRAGONFLY_PEER_ROOM],
    /// What its credential allows, such as "peer,seed".
    pub roles: *const c_char,
    /// The account that it belongs to.
    pub tenant: *const c_char,
    /// When its credential ends, in seconds since 1970; 0: never.
    pub not_after: u64,
}

/// What another member asks for.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dragonfly_peer_request_type {
    /// To be sent pieces of a task that this host holds. Asked for every request, which is for one or a few pieces.
    DRAGONFLY_REQUEST_SERVE = 1,
    /// To fetch a task from its origin, as a seed does when a scheduler says so.
    DRAGONFLY_REQUEST_FETCH = 2,
}

/// What another member asks of this host. It lives for the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dragonfly_peer_request {
    /// `sizeof(dragonfly_peer_request)`, as the library knows it.
    pub size: usize,
    /// A `dragonfly_peer_request_type`; programs must expect ones that this header does not name.
    pub r#type: i32,
    /// Who asks; "" where that is a scheduler.
    pub peer: [c_char; DRAGONFLY_PEER_ROOM],
    /// For which task.
    pub task: [c_char; DRAGONFLY_ID_ROOM],
    /// Its URL without anything secret.
    pub label: *const c_char,
}

/// Whether a member may be connected to this host, whoever dialled. Asked once per connection.
pub type dragonfly_admit_peer_fn =
    Option<unsafe extern "C" fn(ctx: *mut c_void, member: *const dragonfly_member) -> bool>;

/// Whether this host does what another member asks for.
pub type dragonfly_admit_request_fn =
    Option<unsafe extern "C" fn(ctx: *mut c_void, request: *const dragonfly_peer_request) -> bool>;

/// The program's own rules about other members. They come after the network's: who is no member is refused before
/// anything here is asked. The callbacks are called from several threads of the library's at once, and must not block:
/// the network waits for them. They call functions that do not block only, and must not throw or jump out.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dragonfly_policy {
    /// `sizeof(dragonfly_policy)`.
    pub size: usize,
    /// Or NULL: every member may.
    pub admit_peer: dragonfly_admit_peer_fn,
    /// Or NULL: it always does.
    pub admit_request: dragonfly_admit_request_fn,
    /// Handed to each.
    pub ctx: *mut c_void,
    /// Called when `ctx` is used no more, or NULL.
    pub drop: dragonfly_drop_fn,
}

sized! {
    dragonfly_member, "member";
    dragonfly_peer_request, "peer request";
    dragonfly_policy, "policy";
}

/// Reads a policy, and what registers it.
///
/// # Safety
/// As [`args::read_sized`].
pub(crate) unsafe fn read(given: *const dragonfly_policy) -> Result<(Arc<dyn Policy>, Arc<Context>)> {
    // SAFETY: the caller's promise.
    let given = unsafe { args::read_sized(given) }?;
    let context = Arc::new(Context::new(given.ctx, given.drop));
    let (admit_peer, admit_request) = (given.admit_peer, given.admit_request);
    Ok((Arc::new(Rules { admit_peer, admit_request, context: Arc::clone(&context) }), context))
}

struct Rules {
    admit_peer: dragonfly_admit_peer_fn,
    admit_request: dragonfly_admit_request_fn,
    context: Arc<Context>,
}

impl Policy for Rules {
    fn admit_peer(&self, peer: PeerId, claims: &Claims) -> bool {
        let Some(admit) = self.admit_peer else { return true };
        let (roles, tenant) = (c_text(&claims.roles.to_string()), c_text(&claims.tenant));
        let mut member = args::zeroed::<dragonfly_member>();
        member.peer = room(&peer.to_string());
        member.roles = roles.as_ptr();
        member.tenant = tenant.as_ptr();
        member.not_after = claims.not_after.unwrap_or(0);
        // SAFETY: as the program registered it; everything lives for the call.
        self.context.call(|ctx| unsafe { admit(ctx, &raw const member) }).unwrap_or(false)
    }

    fn admit_request(&self, request: &PeerRequest<'_>) -> bool {
        use dragonfly_peer_request_type as Type;
        let Some(admit) = self.admit_request else { return true };
        let mut asked = args::zeroed::<dragonfly_peer_request>();
        let label = match request {
            PeerRequest::Serve { peer, task, label } => {
                asked.r#type = Type::DRAGONFLY_REQUEST_SERVE as i32;
                asked.peer = room(&peer.to_string());
                asked.task = room(&task.to_string());
                c_text(label)
            }
            PeerRequest::Fetch { task, label } => {
                asked.r#type = Type::DRAGONFLY_REQUEST_FETCH as i32;
                asked.task = room(&task.to_string());
                c_text(label)
            }
            // One that this version of the ABI has no words for, so that the program could not have an opinion.
            _ => return true,
        };
        asked.label = label.as_ptr();
        // SAFETY: as the program registered it; everything lives for the call.
        self.context.call(|ctx| unsafe { admit(ctx, &raw const asked) }).unwrap_or(false)
    }
}

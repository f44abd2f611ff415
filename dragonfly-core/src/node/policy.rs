//! What an embedder decides beyond credentials: whom to talk to, and what to do for them.

use std::sync::Arc;

use crate::task::TaskId;
use crate::trust::Claims;
use crate::wire::PeerId;

/// An embedder's own rules about other members. They come after the network's: who is no member is refused before
/// anything here is asked.
///
/// Calls come from many tasks at once and must not block. The other side is told of a refusal as if this host had
/// gone, or did not hold the piece: refusals look alike. Who is refused looks elsewhere; where this host is the only
/// one that has the content, that may take as long as a download waits for progress.
pub trait Policy: Send + Sync + 'static {
    /// Whether a member may be connected to this host, whoever dialled (default: yes). It is asked once per
    /// connection.
    fn admit_peer(&self, peer: PeerId, claims: &Claims) -> bool {
        let _ = (peer, claims);
        true
    }

    /// Whether this host does what another member asks for (default: yes).
    fn admit_request(&self, request: &PeerRequest<'_>) -> bool {
        let _ = request;
        true
    }
}

/// What another member asks of this host.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PeerRequest<'a> {
    /// To be sent pieces of a task that this host holds. Asked for every request, which is for one or a few pieces.
    Serve {
        /// Who asks.
        peer: PeerId,
        /// For which task.
        task: TaskId,
        /// The task's URL without anything secret.
        label: &'a str,
    },
    /// To fetch a task from its origin, as a seed does when a scheduler says so.
    Fetch {
        /// Which task.
        task: TaskId,
        /// The task's URL without anything secret.
        label: &'a str,
    },
}

/// The policy of a node: its embedder's, or none.
#[derive(Clone, Default)]
pub(crate) struct Rules(pub(super) Option<Arc<dyn Policy>>);

impl Rules {
    pub(crate) fn admit_peer(&self, peer: PeerId, claims: &Claims) -> bool {
        self.0.as_ref().is_none_or(|policy| policy.admit_peer(peer, claims))
    }

    pub(crate) fn admit_request(&self, request: &PeerRequest<'_>) -> bool {
        self.0.as_ref().is_none_or(|policy| policy.admit_request(request))
    }
}

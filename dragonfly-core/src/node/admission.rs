//! Membership as the network host asks for it.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::{Rules, now_unix};
use crate::net::{Admission, Admitted, Duplex, Host, Refused};
use crate::trust::{self, Claims, Membership, Side};
use crate::wire::PeerId;

/// Lets members of one network in.
pub(super) struct Members {
    pub(super) membership: Arc<Membership>,
    pub(super) rules: Rules,
}

/// What a connected member has proven.
struct Proven {
    claims: Claims,
    credential: Vec<u8>,
}

impl Admission for Members {
    fn admit<'a>(
        &'a self,
        mut io: &'a mut dyn Duplex,
        dialer: bool,
        local: PeerId,
        remote: PeerId,
        binding: &'a [u8],
    ) -> BoxFuture<'a, Result<Admitted, Refused>> {
        async move {
            let side = if dialer { Side::Dialer } else { Side::Listener };
            let admitted = trust::admit_bound(&mut io, &self.membership, side, local, remote, now_unix(), binding)
                .await
                .map_err(|e| Refused::new(e.to_string()))?;
            if !self.rules.admit_peer(remote, &admitted.claims) {
                return Err(Refused::new("the embedder's policy refuses this member"));
            }
            let not_after = admitted.claims.not_after;
            let proven = Proven { claims: admitted.claims, credential: admitted.credential };
            Ok(Admitted { claims: Arc::new(proven), not_after })
        }
        .boxed()
    }
}

/// The claims and the encoded credential of a connected peer.
pub(super) fn of(host: &Host, peer: PeerId) -> Option<(Claims, Vec<u8>)> {
    let proven = host.claims(peer)?.downcast::<Proven>().ok()?;
    Some((proven.claims.clone(), proven.credential.clone()))
}

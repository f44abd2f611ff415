//! Credentials whose signatures hold: of each host they are checked once, and not with each task that it has a hand in.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::credential::{Claims, Credential, CredentialError};
use super::revocation::Revocations;
use crate::wire::PeerId;

/// Checked credentials remembered: some hundred kilobytes. Hosts that a host hears of lately are fewer.
pub(crate) const CHECKED_MAX: usize = 1024;

/// Of one network. Signatures are all that is remembered; expiry and revocation are looked at each time.
#[derive(Debug, Default)]
pub(super) struct Checked(Mutex<Remembered>);

/// Those used since the older half was last let go of, and that half.
#[derive(Debug, Default)]
struct Remembered {
    young: Known,
    old: Known,
}

/// By the hash of the credential, and whose it is.
type Known = BTreeMap<([u8; 32], PeerId), Arc<Claims>>;

impl Checked {
    /// [`Credential::check`], without the signatures of what was checked before.
    ///
    /// # Errors
    /// The rule that it fails.
    pub(super) fn check(
        &self,
        credential: &[u8],
        (network, peer): (&[u8; 32], PeerId),
        now_unix: u64,
        revocations: &Revocations,
    ) -> Result<Claims, CredentialError> {
        let key = (*blake3::hash(credential).as_bytes(), peer);
        if let Some(claims) = self.find(&key) {
            claims.hold(peer, now_unix, revocations)?;
            return Ok(Claims::clone(&claims));
        }
        let claims = Credential::decode(credential)?.check(network, peer, now_unix, revocations)?;
        self.keep(key, Arc::new(claims.clone()));
        Ok(claims)
    }

    fn find(&self, key: &([u8; 32], PeerId)) -> Option<Arc<Claims>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(claims) = known.young.get(key) {
            return Some(Arc::clone(claims));
        }
        let claims = known.old.remove(key)?;
        known.keep(*key, Arc::clone(&claims));
        Some(claims)
    }

    fn keep(&self, key: ([u8; 32], PeerId), claims: Arc<Claims>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keep(key, claims);
    }
}

impl Remembered {
    fn keep(&mut self, key: ([u8; 32], PeerId), claims: Arc<Claims>) {
        if self.young.len() >= CHECKED_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, claims);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::trust::{Identity, Membership, OriginTrust, Roles};

    const NOW: u64 = 1_800_000_000;

    fn member(founder: &Membership, not_after: Option<u64>) -> (PeerId, Vec<u8>) {
        let identity = Identity::generate();
        let token = founder.token(Roles::PEER, not_after, vec![]).unwrap();
        (identity.peer_id(), Membership::join(&identity, &token).credential_bytes().to_vec())
    }

    #[test]
    fn what_was_checked_before_still_expires_and_is_another_s() {
        let founder = Membership::found(&Identity::generate(), OriginTrust::Members);
        let (checked, nobody) = (Checked::default(), Revocations::default());
        let (peer, credential) = member(&founder, Some(NOW + 1));
        let check = |peer, now| checked.check(&credential, (founder.network_id(), peer), now, &nobody);
        for _ in 0..2 {
            assert_eq!(check(peer, NOW).unwrap().not_after, Some(NOW + 1));
        }
        assert_eq!(check(peer, NOW + 1), Err(CredentialError::Expired));
        let other = Identity::generate().peer_id();
        assert_eq!(check(other, NOW), Err(CredentialError::OtherHolder));
    }

    #[test]
    fn who_is_revoked_meanwhile_is_refused() {
        let mut founder = Membership::found(&Identity::generate(), OriginTrust::Members);
        let checked = Checked::default();
        let (peer, credential) = member(&founder, None);
        let network = *founder.network_id();
        checked.check(&credential, (&network, peer), NOW, founder.revocations()).unwrap();
        founder.revoke(&[], &[peer]).unwrap();
        let now = checked.check(&credential, (&network, peer), NOW, founder.revocations());
        assert_eq!(now, Err(CredentialError::Revoked));
    }

    #[test]
    fn so_many_are_remembered_and_those_in_use_longest() {
        let founder = Membership::found(&Identity::generate(), OriginTrust::Members);
        let claims = Arc::new(founder.claims().clone());
        let checked = Checked::default();
        let key = |number: usize| {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&number.to_be_bytes());
            (hash, founder.peer_id())
        };
        for number in 0..4 * CHECKED_MAX {
            checked.keep(key(number), Arc::clone(&claims));
            assert!(checked.find(&key(0)).is_some(), "in use, after {number}");
            let known = checked.0.lock().unwrap();
            assert!(known.young.len() + known.old.len() <= CHECKED_MAX);
        }
        assert!(checked.find(&key(CHECKED_MAX)).is_none());
    }
}

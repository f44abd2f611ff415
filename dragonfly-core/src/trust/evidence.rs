//! Which piece values one may believe, and what shows it to the next host.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::checked::Checked;
use super::contradicted::CONTRADICTED_MAX;
use super::credential::{Claims, CredentialError, Roles};
use super::membership::{Membership, may_attest};
use super::network::OriginTrust;
use super::revocation::Revocations;
use super::statement::{self, StatementError};
use crate::task::{Digest, Generation, Layout, PIECES_MAX, PieceHash, PieceIndex, TaskId};
use crate::wire::PeerId;
use crate::wire::statement::{Attestation, Evidence, Grant, GrantBundle, Seal, SealBundle, Signed};

/// Grants kept per task: 65 536 pieces in leases of 16. Later ones are refused.
pub const GRANTS_MAX: usize = 4096;

/// Attestations kept per task: one per piece, at worst, since one under which no piece is kept goes.
pub const ATTESTATIONS_MAX: usize = PIECES_MAX as usize;

/// Statements of voided signers that are known by their bytes, per task.
const VOID_MAX: usize = 1 << 17;

/// Whose grants count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coordinators {
    /// Those of any member of the tenant, and of schedulers: there may be no scheduler, and each elects by its view.
    AnyMember,
    /// Those of schedulers.
    Schedulers,
}

/// Which rule an item fails. Nothing is learnt from it, and it is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// The signer has contradicted itself before.
    #[error("its signer has contradicted itself")]
    Contradicted,
    /// A credential fails a rule.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The task has as many grants as are kept, and something is known under each.
    #[error("too many grants for one task")]
    Full,
    /// The grantor may not grant.
    #[error("the grantor is no coordinator")]
    Grantor,
    /// The holder may not say what an origin said.
    #[error("the network does not trust the holder with an origin")]
    Holder,
    /// Length or piece length differ.
    #[error("it is of another length or piece length")]
    Layout,
    /// It is of another generation of the task.
    #[error("it is of another generation")]
    OtherGeneration,
    /// It is of another network.
    #[error("it is of another network")]
    OtherNetwork,
    /// The signer is not the one that the grant names.
    #[error("it is not signed by the grant's holder")]
    OtherSigner,
    /// It is of another task.
    #[error("it is of another task")]
    OtherTask,
    /// It, or the holder, is of another tenant.
    #[error("it is of another tenant")]
    OtherTenant,
    /// The range is empty, or passes the end of the task or of its grant.
    #[error("its pieces are not within its range")]
    Range,
    /// There is a seal with another root or length already.
    #[error("it contradicts the seal that is known")]
    Sealed,
    /// The signer may not seal.
    #[error("the sealer is neither scheduler nor seed")]
    Sealer,
    /// It is no statement.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The grant was not shown before.
    #[error("its grant is not known")]
    UnknownGrant,
}

/// Two attestations by one host that give one piece different values: with their grants, proof for anyone in the
/// network that the signer lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Who signed both.
    pub signer: PeerId,
    /// A piece on which they differ.
    pub piece: PieceIndex,
    /// The one seen first.
    pub first: Signed,
    /// The one seen later.
    pub second: Signed,
    /// The grants that they refer to, in this order; both are of this task and generation.
    pub grants: [GrantBundle; 2],
}

/// What an accepted item says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Two attestations contradict each other. Nothing more is believed of the signer.
    Conflict(Box<Conflict>),
    /// A grant.
    Granted {
        /// Who may fetch.
        holder: PeerId,
        /// Which pieces.
        pieces: Range<PieceIndex>,
    },
    /// This very statement is kept already, or void: its signature was not checked again.
    Known,
    /// A seal.
    Sealed {
        /// The BLAKE3 hash of the content.
        root: [u8; 32],
        /// Who sealed it.
        signer: PeerId,
        /// Digests of the whole that the sealer computed.
        digests: Vec<Digest>,
    },
    /// It holds, and says nothing that was not known: values that others attested, or of an older epoch than those known.
    Stale,
    /// Values that were not known, or that take the place of another holder's of a lower epoch.
    Values {
        /// Whose word they are.
        signer: PeerId,
        /// The values, by piece, in order.
        values: Vec<(PieceIndex, PieceHash)>,
        /// The grant, if these are the first values that are learnt under it: only then is it worth keeping.
        grant: Option<Box<GrantBundle>>,
        /// Whether a piece has a value now that had none. Else they took the place of others', which two can do to each other without end.
        first: bool,
    },
}

/// Checks and keeps the evidence on one generation of one task.
///
/// Grants must be shown before attestations that refer to them. An attestation's `batch` and `previous` are not
/// needed to accept it: a host that is sent evidence for some pieces gets the attestations that cover these, not
/// those before them. They let whoever has seen all of a holder's batches show that it signed two histories.
///
/// One attestation is kept per piece: that under the highest epoch, and of these the first. A signer is caught
/// contradicting itself against what is kept.
#[derive(Debug)]
pub struct EvidenceVerifier {
    own: PeerId,
    network: [u8; 32],
    tenant: String,
    origin_trust: OriginTrust,
    revocations: Arc<Revocations>,
    coordinators: Coordinators,
    task: TaskId,
    generation: Generation,
    layout: Layout,
    checked: Arc<Checked>,
    grants: BTreeMap<[u8; 32], Granted>,
    next_grant: u64,
    attestations: BTreeMap<u64, Attested>,
    /// Which of them has signed bytes of this hash.
    by_hash: BTreeMap<[u8; 32], u64>,
    next_attestation: u64,
    pieces: BTreeMap<PieceIndex, Kept>,
    contradicted: BTreeSet<PeerId>,
    /// Hashes of what the contradicted had signed: neighbours that do not know of it go on showing it.
    void: BTreeSet<[u8; 32]>,
    seal: Option<(Seal, PeerId, SealBundle)>,
}

#[derive(Debug)]
struct Granted {
    bundle: GrantBundle,
    /// Grantor and holder, kept because either may be revoked later.
    parties: [(PeerId, Claims); 2],
    pieces: Range<PieceIndex>,
    epoch: u64,
    /// Its place among grants, so that they are shown in the order in which they came.
    order: u64,
    /// Whether values were learnt under it.
    used: bool,
}

#[derive(Debug)]
struct Attested {
    signed: Signed,
    /// Of its signed bytes.
    hash: [u8; 32],
    grant: [u8; 32],
    signer: PeerId,
    epoch: u64,
    /// How many pieces it has values of.
    pieces: u32,
    /// Pieces for which it is the one that is kept.
    live: u32,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    attestation: u64,
    value: PieceHash,
}

impl EvidenceVerifier {
    /// A verifier that knows nothing yet.
    pub fn new(
        membership: &Membership,
        task: TaskId,
        generation: Generation,
        layout: Layout,
        coordinators: Coordinators,
    ) -> Self {
        Self {
            own: membership.peer_id(),
            network: *membership.network_id(),
            tenant: membership.claims().tenant.clone(),
            origin_trust: membership.origin_trust(),
            revocations: Arc::clone(membership.revocations()),
            coordinators,
            task,
            generation,
            layout,
            checked: Arc::clone(membership.checked()),
            grants: BTreeMap::new(),
            next_grant: 0,
            attestations: BTreeMap::new(),
            by_hash: BTreeMap::new(),
            next_attestation: 0,
            pieces: BTreeMap::new(),
            contradicted: BTreeSet::new(),
            void: BTreeSet::new(),
            seal: None,
        }
    }

    /// Takes one item, from whomever. `now_unix` is in seconds since 1970.
    ///
    /// # Errors
    /// The rule that it fails; whoever sent it is to blame for [`EvidenceError::Statement`] only, since views of
    /// revocations, generations and schedulers may differ for a while.
    pub fn accept(&mut self, item: &Evidence, now_unix: u64) -> Result<Outcome, EvidenceError> {
        match item {
            Evidence::Attestation(signed) => self.accept_attestation(signed),
            Evidence::Grant(bundle) => self.accept_grant(bundle, now_unix),
            Evidence::Seal(bundle) => self.accept_seal(bundle, now_unix),
        }
    }

    /// Nothing is believed of these signers, nor of what they said before: pieces for which their word was kept have no value
    /// until somebody else's is accepted. Of more than 1024 of them some are believed again.
    pub fn void(&mut self, signers: &BTreeSet<PeerId>) {
        self.contradicted.extend(signers);
        while self.contradicted.len() > CONTRADICTED_MAX {
            self.contradicted.pop_first();
        }
        let attestations = &self.attestations;
        let theirs =
            |kept: &Kept| attestations.get(&kept.attestation).is_some_and(|said| signers.contains(&said.signer));
        self.pieces.retain(|_, kept| !theirs(kept));
        let mut void = std::mem::take(&mut self.void);
        self.attestations.retain(|_, said| {
            let stays = !signers.contains(&said.signer);
            if !stays {
                void.insert(said.hash);
            }
            stays
        });
        self.grants.retain(|hash, granted| {
            let stays = !signers.contains(&granted.parties[1].0);
            if !stays {
                void.insert(*hash);
            }
            stays
        });
        while void.len() > VOID_MAX {
            void.pop_first();
        }
        self.void = void;
        let attestations = &self.attestations;
        self.by_hash.retain(|_, id| attestations.contains_key(id));
    }

    /// From now on checks against this list. Values that were accepted stay; under a grant whose holder or grantor
    /// is revoked no more are.
    pub fn set_revocations(&mut self, revocations: Arc<Revocations>) {
        self.revocations = revocations;
    }

    fn accept_grant(&mut self, bundle: &GrantBundle, now_unix: u64) -> Result<Outcome, EvidenceError> {
        let hash = statement::hash_of(&bundle.grant);
        if self.grants.contains_key(&hash) || self.void.contains(&hash) {
            return Ok(Outcome::Known);
        }
        let (grant, grantor) = statement::open_grant(&bundle.grant)?;
        self.check_scope(&grant.network, grant.task, grant.generation, grant.length, grant.piece_length)?;
        self.check_grant(&grant)?;
        let claims = self.claims(&bundle.grantor, grantor, now_unix)?;
        let elected = self.coordinators == Coordinators::AnyMember && claims.tenant == self.tenant;
        if !claims.roles.contains(Roles::SCHEDULER) && !elected {
            return Err(EvidenceError::Grantor);
        }
        let parties = [(grantor, claims), (grant.holder, self.claims(&bundle.holder, grant.holder, now_unix)?)];
        let claims = &parties[1].1;
        if claims.tenant != self.tenant {
            return Err(EvidenceError::OtherTenant);
        }
        if !may_attest(self.origin_trust, claims) {
            return Err(EvidenceError::Holder);
        }
        if self.contradicted.contains(&grant.holder) {
            return Err(EvidenceError::Contradicted);
        }
        if self.grants.len() >= GRANTS_MAX && !self.make_room() {
            return Err(EvidenceError::Full);
        }
        let (holder, pieces, epoch, order) = (grant.holder, grant.first..grant.end, grant.epoch, self.next_grant);
        self.next_grant += 1;
        let granted = Granted { bundle: bundle.clone(), parties, pieces: pieces.clone(), epoch, order, used: false };
        self.grants.insert(hash, granted);
        Ok(Outcome::Granted { holder, pieces })
    }

    /// Lets go of the older half of those grants of one holder that nothing is known under: of the holder that has most of
    /// them. Where any member may grant it costs nothing to make many, and it is not others' that go for them.
    fn make_room(&mut self) -> bool {
        let needed: BTreeSet<&[u8; 32]> = self.attestations.values().map(|attested| &attested.grant).collect();
        let mut idle: BTreeMap<PeerId, Vec<(u64, [u8; 32])>> = BTreeMap::new();
        for (hash, granted) in &self.grants {
            if !needed.contains(hash) {
                idle.entry(granted.parties[1].0).or_default().push((granted.order, *hash));
            }
        }
        let Some(mut most) = idle.into_values().max_by_key(Vec::len) else { return false };
        most.sort_unstable();
        most.truncate(most.len().div_ceil(2));
        most.iter().for_each(|(_, hash)| drop(self.grants.remove(hash)));
        true
    }

    fn check_grant(&self, grant: &Grant) -> Result<(), EvidenceError> {
        if grant.tenant != self.tenant {
            return Err(EvidenceError::OtherTenant);
        }
        if grant.first >= grant.end || grant.end > self.layout.pieces() {
            return Err(EvidenceError::Range);
        }
        Ok(())
    }

    fn check_scope(
        &self,
        network: &[u8; 32],
        task: TaskId,
        generation: Generation,
        length: u64,
        piece_length: u64,
    ) -> Result<(), EvidenceError> {
        if *network != self.network {
            return Err(EvidenceError::OtherNetwork);
        }
        if task != self.task {
            return Err(EvidenceError::OtherTask);
        }
        if generation != self.generation {
            return Err(EvidenceError::OtherGeneration);
        }
        if (length, piece_length) != (self.layout.length(), self.layout.piece_length()) {
            return Err(EvidenceError::Layout);
        }
        Ok(())
    }

    fn claims(&self, credential: &[u8], peer: PeerId, now_unix: u64) -> Result<Claims, EvidenceError> {
        Ok(self.checked.check(credential, (&self.network, peer), now_unix, &self.revocations)?)
    }

    fn accept_attestation(&mut self, signed: &Signed) -> Result<Outcome, EvidenceError> {
        // It comes once from each neighbour. What was superseded in part may be news again.
        let hash = statement::hash_of(signed);
        let kept = self.by_hash.get(&hash).and_then(|id| self.attestations.get(id));
        if kept.is_some_and(|kept| kept.live == kept.pieces) || self.void.contains(&hash) {
            return Ok(Outcome::Known);
        }
        let (attestation, signer) = statement::open_attestation(signed)?;
        let granted = self.grants.get(&attestation.grant).ok_or(EvidenceError::UnknownGrant)?;
        if granted.parties[1].0 != signer {
            return Err(EvidenceError::OtherSigner);
        }
        if granted.parties.iter().any(|(peer, claims)| self.revocations.revokes(*peer, claims)) {
            return Err(CredentialError::Revoked.into());
        }
        let count = attestation.values().len() as u32;
        let end = attestation.first.checked_add(count).ok_or(EvidenceError::Range)?;
        if attestation.first < granted.pieces.start || end > granted.pieces.end {
            return Err(EvidenceError::Range);
        }
        if self.contradicted.contains(&signer) {
            return Err(EvidenceError::Contradicted);
        }
        let epoch = granted.epoch;
        if let Some(conflict) = self.conflict(signed, &attestation, signer) {
            self.contradicted.insert(signer);
            return Ok(Outcome::Conflict(Box::new(conflict)));
        }
        let values = self.news(&attestation, epoch);
        if values.is_empty() {
            return Ok(Outcome::Stale);
        }
        let granted = self.grants.get_mut(&attestation.grant).filter(|granted| !granted.used);
        let grant = granted.map(|granted| {
            granted.used = true;
            Box::new(granted.bundle.clone())
        });
        let first = values.iter().any(|(piece, _)| !self.pieces.contains_key(piece));
        let attested =
            Attested { signed: signed.clone(), hash, grant: attestation.grant, signer, epoch, pieces: count, live: 0 };
        self.keep(attested, &values);
        Ok(Outcome::Values { signer, values, grant, first })
    }

    /// The pieces of an attestation with their values.
    fn entries(attestation: &Attestation) -> impl Iterator<Item = (PieceIndex, PieceHash)> + '_ {
        (attestation.first..).zip(attestation.values())
    }

    /// What the signer said otherwise before. Of this host's own words the last counts: an origin that changes what it sends
    /// under one entity tag can bring an honest host to two.
    fn conflict(&self, signed: &Signed, attestation: &Attestation, signer: PeerId) -> Option<Conflict> {
        if signer == self.own {
            return None;
        }
        Self::entries(attestation).find_map(|(piece, value)| {
            let kept = self.pieces.get(&piece).filter(|kept| kept.value != value)?;
            let before = self.attestations.get(&kept.attestation).filter(|before| before.signer == signer)?;
            let grants = [&before.grant, &attestation.grant].map(|hash| self.grants.get(hash));
            let [Some(first), Some(second)] = grants else { return None };
            let grants = [first.bundle.clone(), second.bundle.clone()];
            Some(Conflict { signer, piece, first: before.signed.clone(), second: signed.clone(), grants })
        })
    }

    /// The entries that are not known, or that differ from those of a lower epoch.
    fn news(&self, attestation: &Attestation, epoch: u64) -> Vec<(PieceIndex, PieceHash)> {
        let is_news = |(piece, value): &(PieceIndex, PieceHash)| {
            self.pieces.get(piece).is_none_or(|kept| {
                let before = self.attestations.get(&kept.attestation);
                kept.value != *value && before.is_none_or(|before| before.epoch < epoch)
            })
        };
        Self::entries(attestation).filter(is_news).collect()
    }

    fn keep(&mut self, mut attested: Attested, values: &[(PieceIndex, PieceHash)]) {
        let attestation = self.next_attestation;
        self.next_attestation += 1;
        attested.live = values.len() as u32;
        self.by_hash.insert(attested.hash, attestation);
        self.attestations.insert(attestation, attested);
        for &(piece, value) in values {
            let Some(before) = self.pieces.insert(piece, Kept { attestation, value }) else { continue };
            let Some(stale) = self.attestations.get_mut(&before.attestation) else { continue };
            stale.live -= 1;
            if stale.live == 0 {
                self.forget(before.attestation);
            }
        }
    }

    fn forget(&mut self, attestation: u64) {
        let Some(gone) = self.attestations.remove(&attestation) else { return };
        // The same bytes may be kept for other pieces under another number.
        if self.by_hash.get(&gone.hash) == Some(&attestation) {
            self.by_hash.remove(&gone.hash);
        }
    }

    fn accept_seal(&mut self, bundle: &SealBundle, now_unix: u64) -> Result<Outcome, EvidenceError> {
        if self.seal.as_ref().is_some_and(|(.., known)| known == bundle) {
            return Ok(Outcome::Known);
        }
        let (seal, signer) = statement::open_seal(&bundle.seal)?;
        self.check_scope(&seal.network, seal.task, seal.generation, seal.length, seal.piece_length)?;
        let claims = self.claims(&bundle.signer, signer, now_unix)?;
        let seed = claims.roles.contains(Roles::SEED) && claims.tenant == self.tenant;
        if !claims.roles.contains(Roles::SCHEDULER) && !seed {
            return Err(EvidenceError::Sealer);
        }
        match &self.seal {
            Some((known, ..)) if known.root != seal.root => Err(EvidenceError::Sealed),
            Some(_) => Ok(Outcome::Stale),
            None => {
                let (root, digests) = (seal.root, seal.digests.clone());
                self.seal = Some((seal, signer, bundle.clone()));
                Ok(Outcome::Sealed { root, signer, digests })
            }
        }
    }

    /// What shows the values of these pieces to the next host, in the order in which it must be shown: the grants,
    /// then the attestations, each once. Pieces that nothing was attested for add nothing.
    pub fn evidence_for(&self, pieces: impl IntoIterator<Item = PieceIndex>) -> Vec<Evidence> {
        let kept = pieces.into_iter().filter_map(|piece| self.pieces.get(&piece));
        let ids: BTreeSet<u64> = kept.map(|kept| kept.attestation).collect();
        let attested: Vec<_> = ids.iter().filter_map(|id| self.attestations.get(id)).collect();
        let grants = attested.iter().filter_map(|attested| self.grants.get(&attested.grant));
        let grants: BTreeMap<u64, &GrantBundle> = grants.map(|grant| (grant.order, &grant.bundle)).collect();
        let grants = grants.into_values().map(|bundle| Evidence::Grant(bundle.clone()));
        grants.chain(attested.iter().map(|attested| Evidence::Attestation(attested.signed.clone()))).collect()
    }

    /// Whose word the value of this piece is, and the value, if there is one.
    pub fn value(&self, piece: PieceIndex) -> Option<(PeerId, PieceHash)> {
        let kept = self.pieces.get(&piece)?;
        let attested = self.attestations.get(&kept.attestation)?;
        Some((attested.signer, kept.value))
    }

    /// The BLAKE3 hash of the content that the seal says.
    pub fn sealed_root(&self) -> Option<[u8; 32]> {
        self.seal.as_ref().map(|(seal, ..)| seal.root)
    }

    /// Who says so.
    pub fn sealer(&self) -> Option<PeerId> {
        self.seal.as_ref().map(|(_, signer, _)| *signer)
    }

    /// The seal with its signer's credential, to be passed on.
    pub fn seal(&self) -> Option<&SealBundle> {
        self.seal.as_ref().map(|(.., bundle)| bundle)
    }
}

#[cfg(test)]
mod tests;

//! One generation of a task on this host, as everything in the engine shares it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::Span;

use super::arrivals::Arrivals;
use super::trace;
use crate::net::Private;
use crate::node::{Node, Throttles, now_unix};
use crate::source::Retries;
use crate::store::{Entry, StoreError, UseGuard};
use crate::swarm::TaskKey;
use crate::task::{Class, Digest, Generation, HaveMap, Layout, PieceHash, PieceIndex, TaskId, root_of};
use crate::trust::EvidenceVerifier;
use crate::wire::PeerId;
use crate::wire::codec;
use crate::wire::statement::Evidence;
use crate::{Error, ErrorKind};

/// What was read once, and found to have a digest, is not read for that again for so long: a disk may damage it meanwhile.
pub(super) const DIGEST_AGE_MAX: Duration = Duration::from_secs(600);

/// What keeps content from going on whose pieces are not written.
const SLOW_DISK: &str = "the disk of this host does not take what has come";

/// How far a generation is.
#[derive(Clone, Debug)]
pub(crate) enum State {
    /// Pieces are missing; the number counts every change of what is held.
    Running(u64),
    /// Every piece is held.
    Complete,
    /// It cannot be completed.
    Failed(Error),
    /// The origin has another version now, or the task was given up.
    Superseded,
}

/// Bytes of a generation that came to this host since it takes part in the swarm.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) from_origin: u64,
    pub(crate) from_peers: u64,
}

impl Counts {
    /// What came since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            from_origin: self.from_origin.saturating_sub(before.from_origin),
            from_peers: self.from_peers.saturating_sub(before.from_peers),
        }
    }
}

/// What others signed of a generation.
pub(crate) struct Told {
    /// Who attested which value of each piece.
    values: Vec<Option<(PeerId, PieceHash)>>,
    /// Whose seal says which root.
    root: Option<(PeerId, [u8; 32])>,
}

impl Told {
    /// Those who said something else than what `content` is, which has this root.
    pub(super) fn liars(&self, content: &Content, root: &[u8]) -> BTreeSet<PeerId> {
        let differs = |(piece, told): (PieceIndex, &Option<(PeerId, PieceHash)>)| {
            let (signer, value) = (*told)?;
            (content.entry.value(piece) != Some(value)).then_some(signer)
        };
        // A seal is of the whole.
        let sealer = self.root.filter(|(_, sealed)| sealed != root).map(|(sealer, _)| sealer);
        (0..).zip(&self.values).filter_map(differs).chain(sealer).collect()
    }
}

/// A generation: where its bytes are, what proves them, and how far it is.
pub(crate) struct Content {
    pub(crate) key: TaskKey,
    pub(crate) task: TaskId,
    pub(crate) generation: Generation,
    pub(crate) layout: Layout,
    pub(crate) entry: Arc<dyn Entry>,
    /// Bytes that the store held when the task started in this process.
    pub(crate) bytes_held: u64,
    tainted: AtomicBool,
    /// Whether all of it was taken from the origin before it had a name.
    own: bool,
    pub(crate) throttles: Throttles,
    evidence: Mutex<EvidenceVerifier>,
    bytes_from_origin: AtomicU64,
    bytes_from_peers: AtomicU64,
    pub(super) arrivals: Arrivals,
    neighbours: AtomicU64,
    /// Leases of this host that failed, what its source tried again within them, and pieces from peers that did not
    /// match.
    retries: AtomicU32,
    source_retries: Mutex<Retries>,
    refuted: AtomicU32,
    /// How many items of evidence were kept with the entry.
    kept: AtomicU32,
    /// Whether some could not be, which is said once.
    unkept: AtomicBool,
    state: watch::Sender<State>,
    /// What last kept it from going on.
    trouble: Mutex<Option<String>>,
    /// The root of the trace of its download, while it is under way.
    trace: Mutex<Option<Span>>,
    /// Whether its download was traced although it was over by then.
    told: AtomicBool,
    /// What the whole was found to have, the root that it had then, and when.
    digest: Mutex<Option<(Digest, [u8; 32], Instant)>>,
    /// For as long as it takes part lanes are encrypted.
    private: Option<Private>,
    /// While it is downloaded or wanted it is neither evicted nor removed.
    guard: Mutex<Option<UseGuard>>,
}

impl Content {
    /// Whether other hosts may be served from it.
    pub(super) fn is_shared(&self) -> bool {
        !super::event::is_local(self.entry.key().class, self.entry.described().fixed)
    }

    /// Whether any member of the network may have it.
    pub(super) fn is_public(&self) -> bool {
        self.entry.key().class == Class::Public
    }

    pub(crate) fn new(
        (key, task, generation): (TaskKey, TaskId, Generation),
        entry: Arc<dyn Entry>,
        evidence: EvidenceVerifier,
        throttles: Throttles,
    ) -> Result<Self, StoreError> {
        let layout = entry.described().layout;
        let have = entry.have();
        let kept = entry.evidence().len() as u32;
        let bytes_held = bytes_of(&layout, &have);
        let state = if have.is_complete() { State::Complete } else { State::Running(0) };
        Ok(Self {
            key,
            task,
            generation,
            layout,
            guard: Mutex::new(Some(entry.use_guard()?)),
            entry,
            bytes_held,
            tainted: AtomicBool::new(false),
            own: false,
            throttles,
            evidence: Mutex::new(evidence),
            bytes_from_origin: AtomicU64::new(0),
            bytes_from_peers: AtomicU64::new(0),
            arrivals: Arrivals::new(),
            neighbours: AtomicU64::new(0),
            retries: AtomicU32::new(0),
            source_retries: Mutex::default(),
            refuted: AtomicU32::new(0),
            kept: AtomicU32::new(kept),
            unkept: AtomicBool::new(false),
            state: watch::Sender::new(state),
            trouble: Mutex::default(),
            trace: Mutex::default(),
            told: AtomicBool::new(false),
            digest: Mutex::default(),
            private: None,
        })
    }

    /// Has lanes be encrypted for as long as it takes part, if it is shared and not public.
    pub(crate) fn encrypted_on(mut self, node: &Node) -> Self {
        if self.is_shared() && !self.is_public() {
            self.private = node.host().private();
        }
        self
    }

    /// Marks that all of it has just come from the origin.
    pub(crate) fn taken_in(mut self) -> Self {
        self.bytes_from_origin = AtomicU64::new(self.layout.length());
        self.bytes_held = 0;
        self.own = true;
        self
    }

    /// Whether this host took all of it from the origin at once, and may attest all of it.
    pub(crate) const fn is_own(&self) -> bool {
        self.own
    }

    /// What of it can be shown to others: the pieces that are held and that somebody has attested. What stays on
    /// this host needs nobody's word.
    pub(crate) fn attested_have(&self) -> HaveMap {
        let have = self.entry.have();
        if !self.is_shared() {
            return have;
        }
        let mut shown = HaveMap::empty(have.pieces());
        let evidence = self.evidence();
        have.iter().filter(|piece| evidence.value(*piece).is_some()).for_each(|piece| {
            shown.insert(piece);
        });
        shown
    }

    /// What proves the pieces. Held for a verification of one item at most, never across an await.
    pub(crate) fn evidence(&self) -> MutexGuard<'_, EvidenceVerifier> {
        self.evidence.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The value of a piece: as it is held, or as it was attested.
    pub(crate) fn value(&self, piece: PieceIndex) -> Option<PieceHash> {
        self.entry.value(piece).or_else(|| self.evidence().value(piece).map(|(_, value)| value))
    }

    /// The BLAKE3 hash of the whole, once every piece is held.
    pub(crate) fn root(&self) -> Option<[u8; 32]> {
        let values: Option<Vec<_>> = (0..self.layout.pieces()).map(|piece| self.entry.value(piece)).collect();
        values.map(|values| root_of(&values))
    }

    /// The root that it had when all of it was found to have this digest, if that is no longer ago than [`DIGEST_AGE_MAX`].
    pub(super) fn root_of_digest(&self, digest: &Digest) -> Option<[u8; 32]> {
        let found = self.digest.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let fresh = |(found, _, at): &&(Digest, [u8; 32], Instant)| found == digest && at.elapsed() < DIGEST_AGE_MAX;
        found.as_ref().filter(fresh).map(|(_, root, _)| *root)
    }

    /// All of it was read, and has this digest.
    pub(super) fn found_digest(&self, digest: Digest) {
        let known = self.root_of_digest(&digest);
        if let Some(root) = self.root().filter(|root| known != Some(*root)) {
            *self.digest.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some((digest, root, Instant::now()));
        }
    }

    /// Watches how far it is.
    pub(crate) fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// A piece more is held.
    pub(crate) fn advanced(&self) {
        self.state.send_modify(|state| {
            if let State::Running(count) = state {
                *count += 1;
            }
        });
    }

    /// Notes what keeps it from going on, for the message if nothing else helps.
    pub(crate) fn set_trouble(&self, why: &str) {
        *self.trouble.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(why.to_owned());
    }

    /// Whether the disk of this host takes what has come; not for so long that somebody might ask why nothing goes on.
    pub(crate) fn disk_takes(&self, takes: bool) {
        let mut trouble = self.trouble.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if !takes {
            *trouble = Some(SLOW_DISK.to_owned());
        } else if trouble.as_deref() == Some(SLOW_DISK) {
            *trouble = None;
        }
    }

    /// Where that is what keeps it from going on: an error that says so. Others see a host that says nothing.
    pub(crate) fn slow_disk(&self) -> Option<Error> {
        let is_slow = self.trouble().as_deref() == Some(SLOW_DISK);
        let context = || format!("{SLOW_DISK}, {} of {} bytes held", self.held_bytes(), self.layout.length());
        is_slow.then(|| Error::new(ErrorKind::Timeout, context()).temporary(true))
    }

    /// What last kept it from going on.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Ends it; the first end stands.
    pub(crate) fn end(&self, end: State) {
        let told = end.clone();
        let ended = self.state.send_if_modified(|state| {
            let running = matches!(state, State::Running(_));
            if running || matches!((&*state, &end), (State::Complete, State::Superseded)) {
                *state = end;
                return true;
            }
            false
        });
        if ended && let Some(span) = self.trace().take() {
            trace::ended(&span, self, &told);
        }
    }

    /// Somebody on this host wants it, and has waited for so long already: its download is traced from now on.
    pub(super) fn wanted(&self, host: PeerId, waited: Duration) {
        let state = self.state.borrow().clone();
        match state {
            State::Running(_) => {
                self.trace().get_or_insert_with(|| trace::download(self, host, waited));
            }
            // Taken in whole before it had a name.
            State::Complete if self.own && !self.told.swap(true, Ordering::Relaxed) => {
                trace::ended(&trace::download(self, host, waited), self, &state);
            }
            _ => {}
        }
    }

    fn source_retries(&self) -> MutexGuard<'_, Retries> {
        self.source_retries.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn trace(&self) -> MutexGuard<'_, Option<Span>> {
        self.trace.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Whether its id is a secret.
    pub(super) fn is_keyed(&self) -> bool {
        self.entry.key().class == Class::Keyed
    }

    /// Lets the store evict or remove it from now on: it is complete and nobody here wants it, or it takes part in
    /// the swarm no more. What is being served has guards of its own.
    pub(crate) fn rest(&self) {
        self.guard.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
    }

    /// Keeps the store from evicting or removing it again.
    ///
    /// # Errors
    /// It was removed meanwhile.
    pub(crate) fn wake(&self) -> Result<(), StoreError> {
        let mut guard = self.guard.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if guard.is_none() {
            *guard = Some(self.entry.use_guard()?);
        }
        Ok(())
    }

    pub(crate) fn is_complete(&self) -> bool {
        matches!(*self.state.borrow(), State::Complete)
    }

    pub(crate) fn count_origin(&self, bytes: u64) {
        self.bytes_from_origin.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn count_peers(&self, bytes: u64) {
        self.bytes_from_peers.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn set_neighbours(&self, neighbours: usize) {
        self.neighbours.store(neighbours as u64, Ordering::Relaxed);
    }

    /// A lease of this host failed: the range is fetched again.
    pub(crate) fn count_retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// The source that this host asks counts its retries here.
    pub(crate) fn has_retries(&self, retries: &Retries) {
        *self.source_retries() = retries.clone();
    }

    /// A peer sent a piece that does not match its hash.
    pub(crate) fn count_refuted(&self) {
        self.refuted.fetch_add(1, Ordering::Relaxed);
    }

    /// How often its origin was asked again, refuted pieces.
    pub(crate) fn troubles(&self) -> (u32, u32) {
        let retries = self.retries.load(Ordering::Relaxed).saturating_add(self.source_retries().get());
        (retries, self.refuted.load(Ordering::Relaxed))
    }

    /// What came so far.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            from_origin: self.bytes_from_origin.load(Ordering::Relaxed),
            from_peers: self.bytes_from_peers.load(Ordering::Relaxed),
        }
    }

    /// Hosts with which its pieces are exchanged.
    pub(crate) fn neighbours(&self) -> u32 {
        self.neighbours.load(Ordering::Relaxed) as u32
    }

    /// Whether any of it came by way of others, whose word was taken for what it is.
    pub(crate) fn is_from_others(&self) -> bool {
        !self.is_fetched_here()
    }

    /// Whether this host fetched every byte from the origin itself.
    pub(crate) fn is_fetched_here(&self) -> bool {
        let Counts { from_origin, from_peers } = self.counts();
        from_origin >= self.layout.length() && from_peers == 0 && self.bytes_held == 0
    }

    /// Nothing that these said of it counts any more. What is held on their word stays held, and is not proven by it.
    pub(super) fn void(&self, signers: &BTreeSet<PeerId>) {
        if signers.is_empty() {
            return;
        }
        self.evidence().void(signers);
        self.taint();
    }

    /// Some of what is held may be there on the word of one that contradicted itself.
    pub(super) fn taint(&self) {
        // What is complete was passed on already, for what it was worth.
        if !self.is_complete() {
            self.tainted.store(true, Ordering::Release);
        }
    }

    /// Hears again what the store keeps of what others signed: voided words may have taken its place. Checks each
    /// signature, so not for an engine's own task.
    pub(super) fn recall(&self) {
        let now = now_unix();
        for bytes in self.entry.evidence() {
            if let Ok(item) = codec::decode_statement::<Evidence>(&bytes) {
                let _ = self.evidence().accept(&item, now);
            }
        }
    }

    /// Whether a piece may have been taken on the word of one that contradicted itself: nobody whose word counts says the same.
    pub(super) fn is_tainted(&self) -> bool {
        let unproven = |piece| {
            let told = self.evidence().value(piece).map(|(_, value)| value);
            self.entry.value(piece).is_some_and(|held| told != Some(held))
        };
        self.tainted.load(Ordering::Acquire) && (0..self.layout.pieces()).any(unproven)
    }

    /// What others signed of it.
    pub(crate) fn told(&self) -> Told {
        let evidence = self.evidence();
        let values = (0..self.layout.pieces()).map(|piece| evidence.value(piece)).collect();
        Told { values, root: evidence.sealer().zip(evidence.sealed_root()) }
    }

    /// Bytes of it that are held now.
    pub(crate) fn held_bytes(&self) -> u64 {
        bytes_of(&self.layout, &self.entry.have())
    }
}

fn bytes_of(layout: &Layout, have: &HaveMap) -> u64 {
    have.iter().filter_map(|piece| layout.length_of(piece)).sum()
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Content")
            .field("task", &self.task)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// Keeps evidence with the content, so that it can be shown after a restart.
pub(super) async fn keep_evidence(node: &Node, content: &Arc<Content>, items: Vec<Evidence>) {
    if items.is_empty() {
        return;
    }
    let keeper = Arc::clone(content);
    let _ = node.io().run_however_long(move || put_evidence(&keeper, &items)).await;
}

/// The same on a disk thread.
pub(super) fn put_evidence(content: &Content, items: &[Evidence]) {
    let first = content.kept.fetch_add(items.len() as u32, Ordering::Relaxed);
    let kept = (first..).zip(items).try_for_each(|(sequence, item)| match codec::encode_statement(item) {
        Ok(bytes) => content.entry.put_evidence(sequence, bytes.into()),
        Err(_) => Ok(()),
    });
    if let Err(error) = kept {
        // The pieces stay; after a restart they cannot be shown to others until they are attested anew.
        if !content.unkept.swap(true, Ordering::Relaxed) {
            tracing::warn!(task = ?content.task, %error, "cannot keep evidence");
        }
    }
}

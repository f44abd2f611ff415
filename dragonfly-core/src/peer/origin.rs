//! What a lease holder does at the origin: describe a task, fetch a range, attest what came.

use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream::{BoxStream, FuturesOrdered};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::arrivals::{PROGRESS_INTERVAL, meanwhile, pass};
use super::attest::Signer;
use super::content::Content;
use super::event::Event;
use super::spool::{Spooled, Waiting, spool};
use super::trace;
use crate::node::Node;
use crate::source::{OpenRequest, Opened, OriginTrust, Registry, Retries, SourceError, SourceErrorKind};
use crate::swarm::LeaseKey;
use crate::task::{PIECE_LENGTH_UNKNOWN, PieceHash, PieceHasher, PieceIndex, TaskId, Validator, piece_length_for};
use crate::wire::control::{Answer, Failure, FailureKind, LeaseId};
use crate::wire::statement::{ATTESTED_PIECES_MAX, GrantBundle};

/// How much of the content the describing request takes with it. At least one whole piece of anything below
/// 256 GiB; what it carries beyond whole pieces would be fetched twice.
const DESCRIBE_BYTES: u64 = 4 << 20;

/// How many pieces may wait to be written while the next ones come from the origin.
const WRITES_MAX: usize = 4;

/// A disk that has not written a piece in so long is named as what stands in the way.
const SLOW_DISK: Duration = Duration::from_secs(10);

/// How this host may ask the origin of a task. Holds credentials: never logged, never sent to a peer.
#[derive(Clone)]
pub(super) struct OriginAccess {
    pub(super) url: url::Url,
    pub(super) headers: Vec<(String, String)>,
    pub(super) trust: OriginTrust,
    /// Whether a local user asked: the guard allows loopback then.
    pub(super) local: bool,
    /// How often its origin was asked again.
    pub(super) retries: Retries,
}

impl OriginAccess {
    /// The same, in place of one that has counted so far.
    pub(super) fn counting(self, retries: Option<Retries>) -> Self {
        Self { retries: retries.unwrap_or_default(), ..self }
    }

    /// `shared`: other hosts may have what comes.
    pub(super) fn request(&self, range: Option<Range<u64>>, shared: bool) -> OpenRequest {
        OpenRequest {
            headers: self.headers.clone(),
            trust: self.trust.clone(),
            local: self.local,
            shared,
            retries: self.retries.clone(),
            range,
            ..OpenRequest::new(self.url.clone())
        }
    }
}

impl std::fmt::Debug for OriginAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OriginAccess(holds credentials)")
    }
}

/// Bytes of content from the origin, in order.
pub(super) type OriginBody = BoxStream<'static, Result<Bytes, SourceError>>;

/// What a describe lease brought.
pub(super) struct Description {
    pub(super) answer: Answer,
    pub(super) fresh_ms: Option<u64>,
    pub(super) body: Body,
    /// The answer is for those who presented the same credentials alone.
    pub(super) private: bool,
}

/// The bytes that came with a description.
pub(super) enum Body {
    None,
    /// The first pieces, on their way.
    Stream(OriginBody),
    /// All of it, in the store already.
    Spooled(Spooled),
}

/// Asks the origin what the content is now; `shared`: for other hosts, too. For content of unknown length all of it is
/// taken in before this ends.
pub(super) async fn describe(
    node: &Node,
    sources: &Registry,
    access: &OriginAccess,
    (prior, shared): (Option<Validator>, bool),
    (task, lease): (TaskId, LeaseId),
    events: &mpsc::Sender<Event>,
) -> Result<Description, SourceError> {
    let mut request = access.request(Some(0..DESCRIBE_BYTES), shared);
    request.prior = prior;
    let mut asked = request.clone();
    let waiting = Waiting { task, lease, events };
    let mut slot = waiting.place(node.origin_slot()).await;
    let unchanged = |fresh: Option<Duration>| Description {
        answer: Answer::Unchanged,
        fresh_ms: fresh.map(millis),
        body: Body::None,
        private: false,
    };
    let mut content = match sources.open(request.clone()).await? {
        Opened::Unchanged { fresh } => return Ok(unchanged(fresh)),
        Opened::Content(content) => content,
    };
    if content.length.is_none() && content.body_length.is_some() {
        // A part of what nobody knows the length of: its end says nothing about the end of the whole, which is asked for
        // in place of it.
        drop(content);
        request.range = None;
        content = match sources.open(request.clone()).await? {
            Opened::Unchanged { fresh } => return Ok(unchanged(fresh)),
            Opened::Content(content) => content,
        };
    }
    let mut taken_in = None;
    if content.length.is_none() {
        taken_in = node.try_spool_slot();
        if taken_in.is_none() {
            // Who waits keeps neither a place at the origin, which others are waiting for, nor an answer that nobody reads.
            drop((content, slot));
            taken_in = waiting.place(node.spool_slot()).await;
            slot = waiting.place(node.origin_slot()).await;
            request.range = None;
            content = match sources.open(request).await? {
                Opened::Unchanged { fresh } => return Ok(unchanged(fresh)),
                Opened::Content(content) => content,
            };
        }
    }
    let (fresh_ms, private) = (content.fresh.map(millis), content.private);
    let (validator, ranges) = (content.validator.clone(), content.ranges);
    if content.offset != 0 {
        return Err(misplaced());
    }
    let carried = content.body_length;
    let Some(length) = content.length else {
        let _ = events.send(Event::Spooling { task, lease }).await;
        let (spooled, length) = spool(node, (content.body, taken_in), waiting).await?;
        let pieces = spooled.values.len() as u32;
        let answer = Answer::Content {
            length,
            piece_length: PIECE_LENGTH_UNKNOWN,
            validator,
            ranges,
            taking: pieces,
            spooled: true,
        };
        return Ok(Description { answer, fresh_ms, body: Body::Spooled(spooled), private });
    };
    let piece_length = piece_length_for(length);
    // Whole pieces alone: the rest of a cut piece comes with another lease.
    let carried = carried.unwrap_or(0);
    // An origin without ranges sends all of it, whatever was asked for.
    asked.range = Some(0..carried.max(1));
    let taking = if carried >= length {
        length.div_ceil(piece_length) as u32
    } else if validator.is_some() {
        (carried / piece_length) as u32
    } else {
        // Without a strong validator the rest could not be joined to this response.
        0
    };
    let answer = Answer::Content { length, piece_length, validator, ranges, taking, spooled: false };
    if taking == 0 {
        return Ok(Description { answer, fresh_ms, body: Body::None, private });
    }
    // The request is out until its body has ended, whenever the lease on that comes.
    let body = sources.resume(asked, content).inspect(move |_| {
        let _ = &slot;
    });
    let body = Body::Stream(body.boxed());
    Ok(Description { answer, fresh_ms, body, private })
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

/// A lease on a range, as its holder works it off.
pub(super) struct Fetch {
    pub(super) node: Node,
    pub(super) sources: Arc<Registry>,
    pub(super) content: Arc<Content>,
    pub(super) access: Option<OriginAccess>,
    pub(super) validator: Option<Validator>,
    pub(super) splittable: bool,
    pub(super) lease: LeaseKey,
    pub(super) pieces: Range<PieceIndex>,
    pub(super) bundle: GrantBundle,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) cancel: CancellationToken,
}

impl Fetch {
    /// Works the lease off; its end is told as [`Event::LeaseEnded`]. `body` is the response of the describing
    /// request, if this is its lease.
    pub(super) async fn run(self, body: Option<OriginBody>) {
        let (attested, to_attest) = mpsc::channel(ATTESTED_PIECES_MAX);
        if let Some(access) = &self.access {
            self.content.has_retries(&access.retries);
        }
        let signer = Signer::new(&self);
        let signing = self.node.spawn(signer.run(to_attest));
        let mut end = self.pieces.start;
        let span = trace::origin(&self.content, self.node.peer_id(), &self.pieces);
        let (task, lease, events) = (self.content.key, self.lease, self.events.clone());
        let mut outcome = self.take(body, &mut end, &attested).await;
        // The signer ends once the last piece was signed: only then is the lease done.
        drop(attested);
        if !signing.await.unwrap_or(false) && outcome.is_ok() {
            // What nobody can be shown is not fetched, whatever the disk holds.
            outcome = Err(local(&"this host's own attestation of it does not hold"));
        }
        trace::left_origin(&span, end, &outcome);
        drop(span);
        let _ = events.send(Event::LeaseEnded { task, lease, end, outcome }).await;
    }

    /// Waits for leave to ask the origin, and keeps the lease meanwhile, for as long as its coordinator lets it. Nobody is silent
    /// while others have all places.
    async fn slot(&self, lease: LeaseId, end: PieceIndex) -> Option<OwnedSemaphorePermit> {
        let renew = || {
            self.content.arrivals.held_up();
            self.events.send(Event::LeaseProgress { task: self.content.task, lease, end })
        };
        meanwhile(self.node.origin_slot(), PROGRESS_INTERVAL, renew).await
    }

    async fn take(
        &self,
        body: Option<OriginBody>,
        end: &mut PieceIndex,
        attested: &mpsc::Sender<(PieceIndex, PieceHash)>,
    ) -> Result<(), Failure> {
        if self.content.is_own() {
            return self.vouch(end, attested).await;
        }
        let lease = LeaseId { number: self.lease.lease, epoch: self.lease.epoch };
        // A body that is there already has its own.
        let _slot = match &body {
            Some(_) => None,
            None => self.unless_cancelled(self.slot(lease, *end)).await?,
        };
        match body {
            Some(body) => self.take_run(body, self.pieces.clone(), end, attested).await,
            None if self.splittable => {
                for run in self.lacking() {
                    let body = self.unless_cancelled(self.open(run.clone())).await??;
                    self.take_run(body, run, end, attested).await?;
                }
                Ok(())
            }
            None => {
                let body = self.unless_cancelled(self.open(self.pieces.clone())).await??;
                self.take_run(body, self.pieces.clone(), end, attested).await
            }
        }
    }

    /// All of it came from the origin before it had a name: it only has to be attested.
    async fn vouch(
        &self,
        end: &mut PieceIndex,
        attested: &mpsc::Sender<(PieceIndex, PieceHash)>,
    ) -> Result<(), Failure> {
        for piece in self.pieces.clone() {
            let value = self.content.entry.value(piece).ok_or_else(|| local(&"what was taken in is gone"))?;
            *end = piece + 1;
            let _ = attested.send((piece, value)).await;
        }
        Ok(())
    }

    /// The runs of the lease that are not held yet, or held and attested by nobody: an interrupted fetch leaves
    /// holes.
    fn lacking(&self) -> Vec<Range<PieceIndex>> {
        let shown = self.content.attested_have();
        let lacking: Vec<PieceIndex> = self.pieces.clone().filter(|piece| !shown.contains(*piece)).collect();
        lacking.chunk_by(|a, b| a + 1 == *b).map(|run| run[0]..run[run.len() - 1] + 1).collect()
    }

    /// Takes the pieces of `run` out of a body that starts with them.
    async fn take_run(
        &self,
        mut body: OriginBody,
        run: Range<PieceIndex>,
        end: &mut PieceIndex,
        attested: &mpsc::Sender<(PieceIndex, PieceHash)>,
    ) -> Result<(), Failure> {
        let mut writes = FuturesOrdered::new();
        let mut renewed = Instant::now();
        let mut buffer = BytesMut::new();
        let mut outcome = Ok(());
        for piece in run {
            let taking = self.unless_cancelled(self.take_piece(piece, &mut body, &mut buffer, (&mut renewed, *end)));
            let mut taking = pin!(taking);
            // A piece that is written is shown at once, while the next one comes, which from a slow origin takes long.
            let taken = loop {
                tokio::select! {
                    taken = &mut taking => break taken.flatten(),
                    Some(written) = writes.next(), if !writes.is_empty() => self.written(written, end, attested).await?,
                }
            };
            match taken {
                Ok((bytes, value)) => writes.push_back(self.write(piece, bytes, value)),
                Err(failure) => {
                    outcome = Err(failure);
                    break;
                }
            }
            if writes.len() >= WRITES_MAX
                && let Some(written) = writes.next().await
            {
                self.written(written, end, attested).await?;
            }
        }
        // What is on its way to the disk is kept and attested, however the fetch ended.
        while let Some(written) = writes.next().await {
            self.written(written, end, attested).await?;
        }
        outcome
    }

    /// The bytes of the next piece out of a body, and their value. What is read beyond stays in `buffer`.
    async fn take_piece(
        &self,
        piece: PieceIndex,
        body: &mut OriginBody,
        buffer: &mut BytesMut,
        (renewed, end): (&mut Instant, PieceIndex),
    ) -> Result<(BytesMut, PieceHash), Failure> {
        let layout = self.content.layout;
        let length = layout.length_of(piece).unwrap_or(0) as usize;
        let mut hasher = PieceHasher::new(piece, layout.piece_length());
        let mut hashed = 0;
        loop {
            let take = buffer.len().min(length);
            hasher.update(&buffer[hashed..take]).map_err(|e| local(&e))?;
            hashed = take;
            if hashed == length {
                break;
            }
            let bytes = body.next().await.ok_or_else(|| local(&"the origin's body ended early"))?;
            let bytes = bytes.map_err(|e| Failure::from(&e))?;
            self.node.metrics().bytes_from_origin.add(bytes.len() as u64);
            self.content.arrivals.note(bytes.len());
            let passed = pass(&self.node, &self.content.throttles, bytes.len());
            let held_up = || {
                self.content.arrivals.held_up();
                self.renew(end)
            };
            meanwhile(passed, PROGRESS_INTERVAL, held_up).await;
            if renewed.elapsed() >= PROGRESS_INTERVAL {
                *renewed = Instant::now();
                self.renew(end).await;
            }
            buffer.extend_from_slice(&bytes);
        }
        let value = hasher.finish(&layout, piece).map_err(|e| local(&e))?;
        Ok((buffer.split_to(length), value))
    }

    fn write(
        &self,
        piece: PieceIndex,
        bytes: BytesMut,
        value: PieceHash,
    ) -> impl Future<Output = Written> + Send + use<> {
        let (entry, node) = (Arc::clone(&self.content.entry), self.node.clone());
        let length = bytes.len() as u64;
        let content = Arc::clone(&self.content);
        async move {
            let writing = node.io().run_however_long(move || entry.write_piece(piece, &bytes, &value));
            let slow = || async { content.disk_takes(false) };
            let written = meanwhile(writing, SLOW_DISK, slow).await;
            content.disk_takes(true);
            Written { piece, value, length, outcome: written.and_then(|written| Ok(written?)) }
        }
    }

    async fn written(
        &self,
        written: Written,
        end: &mut PieceIndex,
        attested: &mpsc::Sender<(PieceIndex, PieceHash)>,
    ) -> Result<(), Failure> {
        let Written { piece, value, length, outcome } = written;
        if let Err(error) = outcome {
            let failure = local(&error);
            // Who wants it here is told before the lease is given back.
            let _ = self.events.send(Event::StoreFailed { task: self.content.key, error }).await;
            return Err(failure);
        }
        self.content.count_origin(length);
        *end = piece + 1;
        attested.send((piece, value)).await.map_err(|_| local(&"this host's own attestation of it does not hold"))
    }

    async fn unless_cancelled<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        self.cancel.run_until_cancelled(work).await.ok_or_else(aborted)
    }

    /// Keeps the lease while bytes come, however long a piece takes.
    async fn renew(&self, end: PieceIndex) {
        let lease = LeaseId { number: self.lease.lease, epoch: self.lease.epoch };
        let _ = self.events.send(Event::LeaseProgress { task: self.content.task, lease, end }).await;
    }

    async fn open(&self, run: Range<PieceIndex>) -> Result<OriginBody, Failure> {
        let access = self.access.as_ref().ok_or_else(|| local(&"this host may not go to the origin of this task"))?;
        let layout = self.content.layout;
        let bytes = layout.offset(run.start)..layout.offset(run.end).min(layout.length());
        if self.splittable {
            let mut request = access.request(Some(bytes), self.content.is_shared());
            request.expect = self.validator.clone();
            request.expect_length = Some(layout.length());
            return Ok(self.sources.fetch_range(request));
        }
        // One holder, one response, from the start: pieces from the middle, which only a coordinator that is wrong would
        // lease, would be taken for what they are not.
        if run.start != 0 {
            return Err(local(&"a lease on the middle of content that cannot be had in parts"));
        }
        let request = access.request(None, self.content.is_shared());
        let opened = self.sources.open(request).await.map_err(|e| Failure::from(&e))?;
        match opened {
            Opened::Content(content)
                if (content.offset, content.length) == (0, Some(layout.length()))
                    && content.validator == self.validator =>
            {
                Ok(content.body)
            }
            _ => Err(Failure {
                kind: FailureKind::Changed,
                temporary: true,
                status: None,
                retry_ms: None,
                text: "the content changed at its origin".to_owned(),
            }),
        }
    }
}

/// The beginning was asked for.
fn misplaced() -> SourceError {
    SourceError::new(SourceErrorKind::Origin, "the origin answered from the middle of the content")
}

/// A piece that was written, or could not be.
struct Written {
    piece: PieceIndex,
    value: PieceHash,
    length: u64,
    outcome: crate::Result<bool>,
}

fn aborted() -> Failure {
    Failure {
        kind: FailureKind::Local,
        temporary: true,
        status: None,
        retry_ms: None,
        text: "the lease was given up".to_owned(),
    }
}

fn local(error: &dyn std::fmt::Display) -> Failure {
    let mut text = error.to_string();
    text.truncate(text.floor_char_boundary(crate::wire::control::FAILURE_TEXT_MAX));
    Failure { kind: FailureKind::Local, temporary: false, status: None, retry_ms: None, text }
}

impl std::fmt::Debug for Description {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Description").field("answer", &self.answer).finish_non_exhaustive()
    }
}

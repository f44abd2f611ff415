//! One caller's download: waits for the content, follows it to its output, checks the whole.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use tokio_util::sync::CancellationToken;

use super::content::{Content, Counts, State, Told};
use super::engine::{Engine, Want};
use super::follow::Follower;
use super::publisher::{Events, Publisher};
use super::{Event, Proof, Receipt, Request, resolve};
use crate::task::{Algorithm, Digest};
use crate::{Error, ErrorKind, Result};

/// How often an origin's content may change under a download before it gives up.
pub(super) const RESTARTS_MAX: u32 = 8;

/// Without a byte for so long, a download fails. Longer than every bound beneath it, each of which would have found
/// another way by then.
pub(super) const STALLED_MAX: Duration = Duration::from_secs(120);

/// The reason where no origin and no neighbour failed.
pub(super) const NO_WAY: &str = "no neighbour has what is missing, and nobody was allowed to ask the origin";

type Outcome = futures::future::Shared<futures::future::BoxFuture<'static, Result<Receipt>>>;

/// A download under way. It is a future of its [`Receipt`]; [`Download::events`] shows progress meanwhile.
///
/// It runs whether or not it is polled: dropping it detaches from it, [`Download::cancel`] withdraws this caller's
/// interest (others who fetch the same content go on). Cancel-safe: polling can stop and go on at any time; polled
/// again after its end it yields the same once more. A clone is another handle of the same download.
#[derive(Clone)]
#[must_use = "a download detaches when it is dropped: await it, or nobody learns how it ended"]
pub struct Download {
    /// Never polled itself: a shared future that has yielded is spent, and so would be each clone of it.
    outcome: Outcome,
    /// What is polled where this handle is awaited.
    awaited: Outcome,
    events: Arc<Publisher>,
    cancel: CancellationToken,
}

impl Download {
    /// Starts it on the engine's runtime.
    pub(super) fn start(engine: Engine, request: Request) -> Self {
        let events = Arc::new(Publisher::new());
        let cancel = CancellationToken::new();
        let (runtime, publisher, token) = (engine.node().runtime().clone(), Arc::clone(&events), cancel.clone());
        let task = runtime.spawn(async move {
            let bound = request.timeout;
            let run = run(engine, request, publisher);
            let bounded = async {
                match bound {
                    None => run.await,
                    Some(bound) => tokio::time::timeout(bound, run).await.unwrap_or_else(|_| {
                        Err(Error::new(ErrorKind::Timeout, format!("not complete after {bound:?}")).temporary(true))
                    }),
                }
            };
            tokio::select! {
                () = token.cancelled() => Err(Error::new(ErrorKind::Cancelled, "the caller withdrew")),
                outcome = bounded => outcome,
            }
        });
        let outcome = async move {
            task.await.unwrap_or_else(|e| Err(Error::new(ErrorKind::Cancelled, "the runtime stopped").caused_by(e)))
        };
        let outcome = outcome.boxed().shared();
        Self { awaited: outcome.clone(), outcome, events, cancel }
    }

    /// How it ends, for whoever else waits for it.
    pub(super) fn outcome(&self) -> impl Future<Output = Result<Receipt>> + Unpin + Send + 'static {
        self.outcome.clone()
    }

    /// Progress from now on, after the length if that is known by now. Bounded and lossy: a slow reader misses
    /// events, never the receipt. The stream ends with the download.
    pub fn events(&self) -> Events {
        self.events.subscribe(self.outcome.clone())
    }

    /// Withdraws this caller's interest. The future then yields [`ErrorKind::Cancelled`] unless it was done before.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }
}

impl Future for Download {
    type Output = Result<Receipt>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = std::task::ready!(self.awaited.poll_unpin(cx));
        self.awaited = self.outcome.clone();
        Poll::Ready(outcome)
    }
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download").field("outcome", &self.outcome.peek()).finish_non_exhaustive()
    }
}

async fn run(engine: Engine, request: Request, events: Arc<Publisher>) -> Result<Receipt> {
    let started = Instant::now();
    let request = resolve::held(engine.node(), request)?;
    let mut want = engine.want(&request).await?;
    let mut given = Given { request: &request, events: &events, started, told: None };
    for _ in 0..RESTARTS_MAX {
        let (content, before) = want.content().await?;
        if let Some(receipt) = complete(&engine, &mut want, (&content, before), &mut given).await? {
            return Ok(receipt);
        }
    }
    Err(Error::new(ErrorKind::Origin, "the content changed at its origin again and again while it was fetched")
        .temporary(true))
}

/// What a download was started with.
struct Given<'a> {
    request: &'a Request,
    events: &'a Publisher,
    started: Instant,
    /// What others signed of content that did not have the caller's digest, or that of its seal, once that was so.
    told: Option<Told>,
}

/// Follows one generation to its end; `None` if another took its place.
async fn complete(
    engine: &Engine,
    want: &mut Want,
    (content, before): (&Arc<Content>, Counts),
    Given { request, events, started, told }: &mut Given<'_>,
) -> Result<Option<Receipt>> {
    let layout = content.layout;
    events.send(Event::Described { length: layout.length() });
    let mut state = content.watch();
    let mut follower = Follower::start(engine, content, request).await?;
    loop {
        let now = state.borrow_and_update().clone();
        let held = follower.catch_up().await?;
        let Counts { from_origin, from_peers } = content.counts().since(before);
        events.send(Event::Progress {
            bytes: held,
            length: layout.length(),
            from_origin,
            from_peers,
            neighbours: content.neighbours(),
        });
        // With each progress anew: who begins to listen late is told, too.
        let (retries, refuted) = content.troubles();
        if (retries, refuted) != (0, 0) {
            events.send(Event::Trouble { retries, refuted });
        }
        match now {
            State::Complete => break,
            State::Failed(error) => return Err(error),
            State::Superseded => return Ok(None),
            State::Running(_) => {}
        }
        tokio::select! {
            changed = state.changed() => {
                changed.map_err(|_| Error::new(ErrorKind::Cancelled, "the engine has stopped"))?;
            }
            () = content.arrivals.ceased(STALLED_MAX) => {
                return Err(stalled(content));
            }
            error = want.failed() => return Err(error),
        }
    }
    events.send(Event::Complete);
    let proven = match prove(engine, content, request) {
        Ok((root, proof)) => {
            follower.check_digest(&root, request.digest.as_ref(), proof).await.map(|proof| (root, proof))
        }
        Err(error) => Err(error),
    };
    let (root, proof) = match proven {
        Ok(proven) => proven,
        // What cannot be read now says nothing of what it is.
        Err(error) if matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Io | ErrorKind::Timeout) => {
            return Err(error);
        }
        Err(error) => {
            // Others had a hand in it: who attested what is wrong may have lied. The origin alone can tell.
            if content.is_from_others() && request.back_to_source && told.is_none() {
                tracing::info!(task = ?content.task, error = %error, "what others attested is taken from the origin anew");
                *told = Some(content.told());
                engine.distrust(content).await;
                return Ok(None);
            }
            engine.discard(content).await;
            return Err(error);
        }
    };
    if let Some(told) = told {
        engine.blame_liars(content, &root, told).await;
    }
    let output = follower.finish().await?;
    let Counts { from_origin, from_peers } = content.counts().since(before);
    Ok(Some(Receipt {
        task: content.task,
        generation: content.generation,
        length: layout.length(),
        blake3: root,
        digest: request.digest.clone(),
        proof,
        bytes_from_origin: from_origin,
        bytes_from_peers: from_peers,
        bytes_held: layout.length().saturating_sub(from_origin + from_peers),
        elapsed: started.elapsed(),
        output,
    }))
}

/// Nothing came for too long.
pub(super) fn stalled(content: &Content) -> Error {
    let why = content.trouble().unwrap_or_else(|| NO_WAY.to_owned());
    let (held, length) = (content.held_bytes(), content.layout.length());
    let context = format!("nothing came for {STALLED_MAX:?}, {held} of {length} bytes held; last: {why}");
    Error::new(ErrorKind::Timeout, context).temporary(true)
}

/// The root of complete content, and whether anyone beyond the attestations vouches for it.
fn prove(engine: &Engine, content: &Content, request: &Request) -> Result<(Digest, Proof)> {
    let root = content
        .root()
        .ok_or_else(|| Error::new(ErrorKind::Internal, "complete content without a value for every piece"))?;
    let sealed_root = content.evidence().sealed_root();
    if let Some(sealed) = sealed_root
        && sealed != root
    {
        return Err(Error::new(ErrorKind::Network, "the pieces match their attestations but not the task's seal"));
    }
    let by_digest = request.digest.is_some();
    if content.is_tainted() && sealed_root.is_none() && !by_digest {
        return Err(Error::new(ErrorKind::Network, "some pieces were attested by a host that contradicts itself"));
    }
    let vouched = sealed_root.is_some() || content.is_fetched_here() || engine.is_alone();
    let digest = Digest::new(Algorithm::Blake3, &root)
        .ok_or_else(|| Error::new(ErrorKind::Internal, "a BLAKE3 hash has 32 bytes"))?;
    Ok((digest, if vouched { Proof::Verified } else { Proof::Attested }))
}

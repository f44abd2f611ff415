//! Sessions with coordinators: one stream each, kept up for as long as the engine runs.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::event::{AuthorityEvent, AuthorityId, Event};
use crate::node::{ControlReader, Node, write_control, write_frame};
use crate::wire::control::{Announce, ToCoordinator, ToMember, VERSION};
use crate::wire::{Address, PeerId};
use crate::{Error, ErrorKind, Result};

/// The first and the longest pause between attempts to reach a coordinator. Doubled each time, with jitter, so
/// that a coordinator that comes back is not stormed.
pub(super) const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// The pauses between attempts to reach a coordinator.
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) const fn new() -> Self {
        Self(BACKOFF.0)
    }

    /// The pause before the next attempt. `jitter`: between half and all of a time.
    pub(super) fn pause(&mut self, jitter: impl FnOnce(Duration) -> Duration) -> Duration {
        let pause = jitter(self.0);
        self.0 = (self.0 * 2).min(BACKOFF.1);
        pause
    }
}

/// How often a coordinator that turns this host away is tried again before it counts as out of reach: for some eight seconds.
/// When a coordinator dies, or is back, all of its members come to one host in the same moment, from few addresses perhaps, and
/// who went on to another would have the origin send a copy for each.
pub(super) const TURNED_AWAY_MAX: u32 = 10;

/// The pause after so many times, before jitter: 100 ms, doubled up to 1.6 s.
pub(super) fn turned_away_pause(times: u32) -> Duration {
    Duration::from_millis(100) * (1 << times.min(4))
}

/// How often an attempt is begun again before it has failed.
const WAKES_MAX: u32 = 2;

/// How often a coordinator is asked whether it lives, until the coordinator says otherwise.
const INTERVAL: Duration = Duration::from_secs(10);

/// After so many silent intervals a coordinator is taken for dead; after one, if it has never said anything: the
/// connection may be one that its other end has lost.
const SILENT_INTERVALS_MAX: u32 = 3;

/// Bounds on what a coordinator may ask for as an interval.
const INTERVAL_BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// Keeps up a session with the coordinator at `addresses`, which name one peer. `wake` ends a pause between attempts.
/// Ends when the engine drops the queue of events.
pub(super) async fn keep(
    node: Node,
    (id, addresses): (AuthorityId, Vec<Address>),
    seed: bool,
    events: mpsc::Sender<Event>,
    (wake, stop): (Arc<Notify>, CancellationToken),
) {
    // In whatever it is when it is no longer needed: the stream closes with it.
    let _ = stop.run_until_cancelled(keep_up(node, id, addresses, seed, events, &wake)).await;
}

async fn keep_up(
    node: Node,
    id: AuthorityId,
    addresses: Vec<Address>,
    seed: bool,
    events: mpsc::Sender<Event>,
    wake: &Notify,
) {
    let mut backoff = Backoff::new();
    loop {
        let (mut wakes, mut turned_away) = (0, 0);
        let session = loop {
            // An attempt may have begun when nothing could come of it yet: asked for, another one joins it. Not for ever: the
            // engine is to hear that nobody answers.
            tokio::select! {
                session = connect(&node, &addresses) => match session {
                    Err(failed) if failed.turned_away && turned_away < TURNED_AWAY_MAX => {
                        let pause = node.jitter(turned_away_pause(turned_away));
                        turned_away += 1;
                        tracing::debug!(?addresses, ?pause, "a coordinator has no place for this host now");
                        tokio::time::sleep(pause).await;
                    }
                    session => break session.map_err(|failed| failed.error),
                },
                () = wake.notified(), if wakes < WAKES_MAX => wakes += 1,
            }
        };
        let event = match session {
            Ok((peer, stream)) => {
                let started = Instant::now();
                run(&node, (id, peer), stream, seed, &events).await;
                // Asked for before it was up.
                let _ = wake.notified().now_or_never();
                if started.elapsed() > BACKOFF.1 {
                    backoff = Backoff::new();
                }
                AuthorityEvent::Down
            }
            Err(error) => {
                tracing::debug!(?addresses, %error, "cannot reach a coordinator");
                AuthorityEvent::Unreachable(error)
            }
        };
        if events.send(Event::Authority { id, event }).await.is_err() {
            return;
        }
        let pause = backoff.pause(|pause| node.jitter(pause));
        let _ = tokio::time::timeout(pause, wake.notified()).await;
    }
}

/// Why there is no session.
struct Unreached {
    error: Error,
    turned_away: bool,
}

impl Unreached {
    fn for_good(error: impl Into<Error>) -> Self {
        Self { error: error.into(), turned_away: false }
    }
}

async fn connect(node: &Node, addresses: &[Address]) -> Result<(PeerId, crate::net::Stream), Unreached> {
    let nobody = || Error::new(ErrorKind::Config, "a coordinator's address does not end in /p2p/PEER");
    let peer = addresses.iter().find_map(Address::peer).ok_or_else(|| Unreached::for_good(nobody()))?;
    let reached = node.host().connect(peer, addresses.iter().map(Address::without_peer).collect()).await;
    reached.map_err(|error| Unreached { turned_away: error.is_turned_away(), error: error.into() })?;
    let stream = node.host().open(peer, crate::node::CONTROL_PROTOCOL).await.map_err(Unreached::for_good)?;
    Ok((peer, stream))
}

/// Runs the session with this host's own coordinator.
pub(super) async fn keep_local(
    node: Node,
    id: AuthorityId,
    stream: tokio::io::DuplexStream,
    seed: bool,
    events: mpsc::Sender<Event>,
) {
    let peer = node.peer_id();
    run(&node, (id, peer), stream, seed, &events).await;
    let _ = events.send(Event::Authority { id, event: AuthorityEvent::Down }).await;
}

async fn run(
    node: &Node,
    (id, peer): (AuthorityId, PeerId),
    stream: impl AsyncRead + AsyncWrite + Send,
    seed: bool,
    events: &mpsc::Sender<Event>,
) {
    let (input, mut output) = tokio::io::split(stream);
    let mut input = ControlReader::<_, ToMember>::new(input);
    let (commands, mut queue) = node.outbox();
    let over = CancellationToken::new();
    let _over = over.clone().drop_guard();
    let announce =
        Announce { version: VERSION, record: node.record(), seed, slots: node.upload_slots(), site: node.site() };
    if write_control(&mut output, &ToCoordinator::Announce(announce)).await.is_err() {
        return;
    }
    if events.send(Event::Authority { id, event: AuthorityEvent::Up { commands, over, peer } }).await.is_err() {
        return;
    }
    let mut interval = INTERVAL;
    let mut speak = Instant::now() + interval;
    let mut silent = Instant::now() + interval;
    // Reading is not cancel-safe in the middle of a frame, but its buffer lives outside of the future.
    loop {
        tokio::select! {
            frame = queue.next_together() => {
                let Some(frame) = frame else {
                    // What was said last is not lost with the stream.
                    let _ = output.shutdown().await;
                    return;
                };
                // That is no reason not to ask below whether the coordinator lives: it answers nothing else.
                if write_frame(&mut output, frame).await.is_err() {
                    return;
                }
            }
            message = input.next() => {
                let message = match message {
                    Ok(Some(message)) => message,
                    Ok(None) => return,
                    Err(error) => {
                        tracing::warn!(coordinator = %peer, %error, "a coordinator's session failed");
                        return;
                    }
                };
                silent = Instant::now() + interval * SILENT_INTERVALS_MAX;
                if let ToMember::Welcome { interval_ms, .. } = message {
                    let asked = Duration::from_millis(u64::from(interval_ms));
                    interval = asked.clamp(INTERVAL_BOUNDS.0, INTERVAL_BOUNDS.1);
                    silent = Instant::now() + interval * SILENT_INTERVALS_MAX;
                    speak = speak.min(Instant::now() + interval);
                }
                let event = AuthorityEvent::Message(Box::new(message));
                if events.send(Event::Authority { id, event }).await.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep_until(speak) => {
                if write_control(&mut output, &ToCoordinator::KeepAlive).await.is_err() {
                    return;
                }
                speak = Instant::now() + interval;
            }
            () = tokio::time::sleep_until(silent) => {
                tracing::warn!(coordinator = %peer, "a coordinator has gone silent");
                // TCP takes a quarter of an hour to notice. Until then the next attempt would be made on this very
                // connection, and taken for a success until it has been silent for as long.
                if peer != node.peer_id() {
                    node.host().disconnect(peer);
                }
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::task::TaskId;
    use crate::wire::control::LeaseId;

    /// Who works off a slow lease says so every few seconds, and its coordinator has nothing to say to that.
    #[tokio::test]
    async fn a_coordinator_that_has_nothing_to_say_is_not_silent() {
        let node = Node::builder().start().await.unwrap();
        tokio::time::pause();
        let (mine, theirs) = tokio::io::duplex(64 << 10);
        let (events, mut queue) = mpsc::channel(16);
        node.spawn(keep_local(node.clone(), AuthorityId(7), mine, false, events));
        node.spawn(async move {
            let (input, mut output) = tokio::io::split(theirs);
            let mut input = ControlReader::<_, ToCoordinator>::new(input);
            while let Ok(Some(message)) = input.next().await {
                if matches!(message, ToCoordinator::Announce(_) | ToCoordinator::KeepAlive) {
                    let welcome = ToMember::Welcome { interval_ms: 10_000, scheduler: true };
                    write_control(&mut output, &welcome).await.unwrap();
                }
            }
        });
        let Some(Event::Authority { event: AuthorityEvent::Up { commands, .. }, .. }) = queue.recv().await else {
            panic!("no session");
        };
        let task = TaskId::from_hash([1; 32]);
        for end in 0..150 {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let lease = LeaseId { number: 1, epoch: 1 };
            commands.say(&ToCoordinator::Progress { task, lease, end }).unwrap();
            while let Ok(event) = queue.try_recv() {
                let heard = matches!(&event, Event::Authority { event: AuthorityEvent::Message(_), .. });
                assert!(heard, "after {end} messages: {event:?}");
            }
        }
    }
}

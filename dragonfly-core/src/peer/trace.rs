//! Spans of `tracing` with the target [`TRACE_TARGET`], from which a collector makes one trace for each download, across
//! the hosts that took part in it.
//!
//! No message carries a trace. Whoever takes part in a download knows the task, the generation and who receives it, and
//! the ids follow from these: the receiver opens the root (`download`, and `origin` for each range that it takes from
//! the origin), each host that serves it opens a `serve` below that root. So nobody can put an id of its own into
//! another's traces, and hosts that send no traces are just not seen. Content that a host takes in again, because it
//! was evicted, is told in the trace of the first time.
//!
//! The fields `dragonfly.trace` (32 hexadecimal digits), `dragonfly.span` (16, of a root) or `dragonfly.parent` (16,
//! of everything else) say where a span belongs; `dragonfly.link` of a `serve` is trace and root of the server's own
//! download of the same content. Spans without a subscriber that wants them cost next to nothing.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use tracing::field::{Empty, display};
use tracing::{Level, Span};

use super::content::{Content, State};
use crate::swarm::TaskKey;
use crate::task::{Generation, PieceIndex, TaskId};
use crate::wire::PeerId;
use crate::wire::control::Failure;

/// The target of the spans from which traces are made.
pub const TRACE_TARGET: &str = "dragonfly::trace";

/// What is hashed to ids begins with this: another scheme of ids has another one.
const CONTEXT: &str = "dragonfly 2026-11 trace of a download v1";

/// A neighbour that has asked for nothing of a task for so long is served no more; what follows is a span of its own.
pub(super) const REST: Duration = Duration::from_secs(2);

/// A number as collectors take it: theirs have a sign.
fn number(number: u64) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

fn is_wanted() -> bool {
    tracing::span_enabled!(target: TRACE_TARGET, Level::INFO)
}

/// Trace and root of one download.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Ids {
    trace: String,
    root: String,
}

impl Ids {
    fn new(task: TaskId, generation: Generation, receiver: PeerId) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(task.as_bytes()).update(generation.as_bytes()).update(receiver.public_key());
        let hash = hasher.finalize().to_hex();
        Self { trace: hash[..32].to_owned(), root: hash[32..48].to_owned() }
    }

    fn of(content: &Content, receiver: PeerId) -> Self {
        Self::new(content.task, content.generation, receiver)
    }
}

/// The root: `host` takes content in, for which somebody has waited for so long already. Its end is told with
/// [`ended`].
pub(super) fn download(content: &Content, host: PeerId, waited: Duration) -> Span {
    if !is_wanted() {
        return Span::none();
    }
    let ids = Ids::of(content, host);
    let span = tracing::info_span!(
        target: TRACE_TARGET,
        parent: None,
        "download",
        dragonfly.trace = ids.trace,
        dragonfly.span = ids.root,
        dragonfly.waited_us = number(waited.as_micros().try_into().unwrap_or(u64::MAX)),
        host = %host,
        url = Empty,
        bytes = number(content.layout.length()),
        bytes.held = number(content.held_bytes()),
        bytes.origin = Empty,
        bytes.peers = Empty,
        otel.status_code = Empty,
        otel.status_description = Empty,
    );
    if !content.is_keyed() {
        span.record("url", &*content.entry.described().label);
    }
    span
}

/// Says how a download ended.
pub(super) fn ended(span: &Span, content: &Content, end: &State) {
    let counts = content.counts();
    span.record("bytes.origin", number(counts.from_origin)).record("bytes.peers", number(counts.from_peers));
    match end {
        State::Complete => drop(span.record("otel.status_code", "OK")),
        State::Failed(error) => failed(span, error),
        State::Superseded => failed(span, &"given up, or another version took its place"),
        State::Running(_) => {}
    }
}

/// `host` takes pieces from the origin under a lease.
pub(super) fn origin(content: &Content, host: PeerId, pieces: &Range<PieceIndex>) -> Span {
    if !is_wanted() {
        return Span::none();
    }
    let ids = Ids::of(content, host);
    tracing::info_span!(
        target: TRACE_TARGET,
        parent: None,
        "origin",
        otel.kind = "client",
        dragonfly.trace = ids.trace,
        dragonfly.parent = ids.root,
        host = %host,
        pieces.first = i64::from(pieces.start),
        pieces.end = i64::from(pieces.end),
        pieces.reached = Empty,
        otel.status_code = Empty,
        otel.status_description = Empty,
    )
}

/// Says how far a lease came.
pub(super) fn left_origin(span: &Span, reached: PieceIndex, outcome: &Result<(), Failure>) {
    span.record("pieces.reached", i64::from(reached));
    if let Err(failure) = outcome {
        failed(span, &failure.text);
    }
}

fn failed(span: &Span, why: &dyn std::fmt::Display) {
    span.record("otel.status_code", "ERROR").record("otel.status_description", display(why));
}

/// What a neighbour is being served, task by task.
#[derive(Default)]
pub(super) struct Served {
    tasks: HashMap<TaskKey, Serving>,
    looked: Option<Instant>,
}

/// Its span ends when it is dropped, with the last bytes that were sent.
struct Serving {
    span: Span,
    bytes: u64,
    last: Instant,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.span.record("bytes", number(self.bytes));
    }
}

impl Served {
    /// `host` has sent bytes of content to `receiver`.
    pub(super) fn sent(&mut self, content: &Content, (host, receiver): (PeerId, PeerId), bytes: usize) {
        if self.tasks.is_empty() && !is_wanted() {
            return;
        }
        let now = Instant::now();
        if self.looked.is_none_or(|looked| now - looked >= REST) {
            self.rest();
        }
        let serving = self.tasks.entry(content.key).or_insert_with(|| {
            let span = serve(content, host, receiver);
            Serving { span, bytes: 0, last: now }
        });
        serving.bytes += bytes as u64;
        serving.last = now;
        // A span that was entered ends when it was left last.
        serving.span.in_scope(|| ());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Ends what has rested for long enough.
    pub(super) fn rest(&mut self) {
        let now = Instant::now();
        self.looked = Some(now);
        self.tasks.retain(|_, serving| now - serving.last < REST);
    }
}

fn serve(content: &Content, host: PeerId, receiver: PeerId) -> Span {
    let (theirs, own) = (Ids::of(content, receiver), Ids::of(content, host));
    tracing::info_span!(
        target: TRACE_TARGET,
        parent: None,
        "serve",
        otel.kind = "server",
        dragonfly.trace = theirs.trace,
        dragonfly.parent = theirs.root,
        dragonfly.link = format!("{}{}", own.trace, own.root),
        host = %host,
        receiver = %receiver,
        bytes = Empty,
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Hosts of different versions must meet in one trace: these ids may never change under the same context.
    #[test]
    fn ids_follow_from_what_both_sides_know() {
        let peer: PeerId = "12D3KooWPzaXiovPqfQeLFxzvu42BQF83acXE35UguUr1KbC5soq".parse().unwrap();
        let (task, generation) = (TaskId::from_hash([1; 32]), Generation::from_hash([2; 32]));
        let ids = Ids::new(task, generation, peer);
        assert_eq!((&*ids.trace, &*ids.root), ("3ee6ccd89ec0f476bc28aa6c2ee80997", "8d8e7ecf45920fd3"));
        assert_ne!(ids, Ids::new(task, Generation::from_hash([3; 32]), peer));
        assert_ne!(ids, Ids::new(TaskId::from_hash([3; 32]), generation, peer));
    }
}

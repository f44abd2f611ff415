//! What a download tells of itself, and who listens to it.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::{Stream, StreamExt as _};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::Event;

/// How many progress events wait for a slow reader before the oldest are dropped.
const EVENTS_MAX: usize = 64;

/// Tells all who listen. Who begins late is first told the length, since that is said only once.
pub(super) struct Publisher {
    sender: broadcast::Sender<Event>,
    /// The last [`Event::Described`]. Its lock is held while anything is sent, so that who begins to listen hears it
    /// once: from here, or as it is sent.
    described: Mutex<Option<Event>>,
}

impl Publisher {
    pub(super) fn new() -> Self {
        Self { sender: broadcast::Sender::new(EVENTS_MAX), described: Mutex::new(None) }
    }

    pub(super) fn send(&self, event: Event) {
        let mut described = self.described.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(event, Event::Described { .. }) {
            *described = Some(event.clone());
        }
        // Nobody has to listen.
        let _ = self.sender.send(event);
    }

    /// Events from now on, until `outcome` is there; what was sent before it is heard before the end.
    pub(super) fn subscribe(&self, outcome: impl Future<Output: Send> + Send + Unpin + 'static) -> Events {
        let (first, receiver) = {
            let described = self.described.lock().unwrap_or_else(PoisonError::into_inner);
            (described.clone(), self.sender.subscribe())
        };
        let next = futures::stream::unfold((receiver, Some(outcome)), |(mut receiver, mut outcome)| async move {
            loop {
                let received = match &mut outcome {
                    Some(ended) => tokio::select! {
                        biased;
                        received = receiver.recv() => received.map_err(|error| match error {
                            RecvError::Lagged(missed) => TryRecvError::Lagged(missed),
                            RecvError::Closed => TryRecvError::Closed,
                        }),
                        _ = ended => {
                            outcome = None;
                            continue;
                        }
                    },
                    None => receiver.try_recv(),
                };
                match received {
                    Ok(event) => return Some((event, (receiver, outcome))),
                    Err(TryRecvError::Lagged(_)) => {}
                    Err(TryRecvError::Closed | TryRecvError::Empty) => return None,
                }
            }
        });
        // Who listens may ask once more after the end.
        Events { inner: futures::stream::iter(first).chain(next).fuse().boxed() }
    }
}

/// The events of a [`Download`](super::Download).
pub struct Events {
    inner: futures::stream::BoxStream<'static, Event>,
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.inner.poll_next_unpin(cx)
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

#[cfg(test)]
mod tests {
    use futures::future::{pending, ready};

    use super::*;

    const LENGTH: Event = Event::Described { length: 2 };

    fn heard(events: impl Stream<Item = Event>, count: usize) -> Vec<Event> {
        futures::executor::block_on(events.take(count).collect())
    }

    #[test]
    fn who_begins_late_is_told_the_length_first_and_once() {
        let publisher = Publisher::new();
        let early = publisher.subscribe(pending::<()>());
        publisher.send(LENGTH);
        let late = publisher.subscribe(pending::<()>());
        publisher.send(Event::Complete);
        assert_eq!(heard(early, 2), [LENGTH, Event::Complete]);
        assert_eq!(heard(late, 2), [LENGTH, Event::Complete]);
    }

    #[test]
    fn what_was_said_before_the_end_is_heard() {
        let publisher = Publisher::new();
        let events: Vec<Events> = (0..2).map(|_| publisher.subscribe(ready(()))).collect();
        publisher.send(LENGTH);
        publisher.send(Event::Complete);
        for mut events in events {
            assert_eq!(heard(events.by_ref(), 9), [LENGTH, Event::Complete]);
            assert_eq!(heard(events, 9), [], "nor does it fail if it is asked again");
        }
        assert_eq!(
            heard(publisher.subscribe(ready(())), 9),
            [LENGTH],
            "and nothing that came before it was listened to"
        );
    }

    #[test]
    fn who_is_slow_misses_the_oldest() {
        let publisher = Publisher::new();
        let events = publisher.subscribe(ready(()));
        publisher.send(LENGTH);
        for _ in 0..EVENTS_MAX {
            publisher.send(Event::Complete);
        }
        assert_eq!(heard(events, 99), vec![Event::Complete; EVENTS_MAX]);
    }
}

//! `GET /v1/events`: what happens to fetches, as server-sent events. Lossy: a slow listener misses some.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use dragonfly_core::{ErrorKind, Events, TaskId};
use futures::{Stream, StreamExt};
use serde::Deserialize;
use tokio::sync::broadcast;

use super::counters::Counters;
use super::{Context, query};
use crate::error::Failure;
use crate::model::{ErrorBody, EventBody, ReceiptBody, TaskEvent};

/// Events that wait for a slow listener before the oldest are dropped.
const EVENTS_MAX: usize = 256;

/// What goes to all listeners.
#[derive(Clone, Debug)]
struct Told {
    task: TaskId,
    /// Its id is a capability.
    private: bool,
    what: EventBody,
}

/// Where events come together.
#[derive(Clone, Debug)]
pub(crate) struct Hub(broadcast::Sender<Told>);

impl Default for Hub {
    fn default() -> Self {
        Self(broadcast::Sender::new(EVENTS_MAX))
    }
}

/// One fetch as listeners and counters see it. Dropped before its end was told, it was abandoned.
#[derive(Debug)]
pub(super) struct Watch {
    hub: Hub,
    counters: Arc<Counters>,
    task: TaskId,
    private: bool,
    told: bool,
}

impl Watch {
    pub(super) fn start(context: &Context, task: TaskId, private: bool) -> Self {
        let counters = Arc::clone(&context.counters);
        counters.fetch_started();
        Self { hub: context.events.clone(), counters, task, private, told: false }
    }

    /// Passes on what the engine tells of it, for as long as it tells something.
    pub(super) fn follow(&self, mut events: Events) {
        let (hub, task, private) = (self.hub.clone(), self.task, self.private);
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if let Some(what) = EventBody::of(&event) {
                    hub.tell(task, private, what);
                }
            }
        });
    }

    pub(super) fn receipt(&mut self, receipt: &ReceiptBody) {
        self.end("done", receipt.length, EventBody::Receipt(receipt.clone()));
    }

    pub(super) fn failed(&mut self, failure: &Failure) {
        self.end(failure.kind.name(), 0, EventBody::Failed(ErrorBody::from(failure)));
    }

    fn end(&mut self, result: &'static str, bytes: u64, what: EventBody) {
        if !std::mem::replace(&mut self.told, true) {
            self.counters.fetch_ended(result, bytes);
            self.hub.tell(self.task, self.private, what);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.failed(&Failure::new(ErrorKind::Cancelled, "the client went away"));
    }
}

impl Hub {
    fn tell(&self, task: TaskId, private: bool, what: EventBody) {
        // Nobody listens: nothing to do.
        let _ = self.0.send(Told { task, private, what });
    }
}

#[derive(Deserialize)]
pub(super) struct Filter {
    task: Option<String>,
}

pub(super) async fn events(
    State(context): State<Arc<Context>>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    let wanted = query(filter)?.task.as_deref().map(super::tasks::task).transpose()?;
    let events = futures::stream::unfold(context.events.0.subscribe(), move |mut receiver| async move {
        loop {
            let told = match receiver.recv().await {
                Ok(told) => told,
                Err(broadcast::error::RecvError::Lagged(_)) => continue,
                Err(broadcast::error::RecvError::Closed) => return None,
            };
            if wanted.is_some_and(|wanted| wanted != told.task) {
                continue;
            }
            // Whoever named the task knows its id.
            let task = (!told.private || wanted.is_some()).then(|| told.task.to_string());
            let mut event = TaskEvent { task, what: told.what };
            // The event says it already, or must not.
            if let EventBody::Receipt(receipt) = &mut event.what {
                receipt.task.clear();
            }
            // A value without maps and floats is always JSON.
            let Ok(event) = Event::default().json_data(&event) else { continue };
            return Some((Ok(event), receiver));
        }
    });
    // Listeners would otherwise keep the daemon from stopping.
    let events = events.take_until(context.stopping.clone().cancelled_owned());
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

//! After a start: what the store holds complete takes part in the swarm again, so that others can have it from here.
//!
//! Lazily and within bounds: the tasks used last come first, one at a time, at a rate and with jitter, so that
//! hosts which started together do not storm their coordinator. What an unclean stop left unproven is proven on the
//! way, at a rate of its own; who wants it before does not wait for its turn.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use super::actor::Actor;
use super::content::Content;
use super::event::{Event, Scope, is_local};
use super::tasks::{self, Task};
use crate::Result;
use crate::node::Node;
use crate::store::EntryKey;
use crate::swarm::TaskKey;
use crate::wire::control::{Current, TaskInfo};

/// How many tasks are announced: half of those that may take part, so that what is asked for has room.
pub(super) const ANNOUNCED_MAX: usize = tasks::TASKS_MAX / 2;

/// The pause before each announcement; the first one waits longer, so that sessions are up.
pub(super) const PAUSE: Duration = Duration::from_millis(40);

/// The pause before the first announcement.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// How many bytes a second are read to be proven again, so that a restart leaves the disk to those who wait.
pub(super) const PROOF_BYTES_PER_S: u64 = 64 << 20;

/// How many entries are listed at a time.
const PAGE: usize = 256;

/// A task that the store holds, ready to take part.
pub(super) struct HeldTask {
    info: TaskInfo,
    label: String,
    scope: Scope,
    current: Current,
    content: Arc<Content>,
}

/// Sends an event for every task that is to be announced. Ends when that is done or the engine stops.
pub(super) async fn run(node: Node, keys: Arc<AtomicU32>, events: mpsc::Sender<Event>) {
    let Ok(held) = held(&node).await else { return };
    let mut pause = node.jitter(FIRST_PAUSE);
    // Between two tasks it keeps nothing alive: the store's lock goes with the node.
    let weak = node.downgrade();
    drop(node);
    for key in held {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = events.closed() => return,
        }
        let Some(node) = weak.upgrade() else { return };
        let (opener, number) = (node.clone(), TaskKey(keys.fetch_add(1, Ordering::Relaxed)));
        let opened = node.io().run(move || open(&opener, number, &key)).await;
        pause = pause_after(0, |pause| node.jitter(pause));
        match opened {
            // A disk that does nothing now may do what is next later. This one is offered when it is asked for here.
            Err(error) if error.is_temporary() => pause = node.jitter(FIRST_PAUSE),
            Err(_) => return,
            Ok(Ok(None)) => {}
            Ok(Ok(Some((held, proven)))) => {
                pause = pause_after(proven, |pause| node.jitter(pause));
                if events.send(Event::Held(Box::new(held))).await.is_err() {
                    return;
                }
            }
            Ok(Err(error)) => tracing::warn!(error = ?error, "a held task cannot be announced"),
        }
    }
}

/// The pause after a task of which so many bytes had to be proven. `jitter`: between half and all of a time.
pub(super) fn pause_after(proven: u64, jitter: impl FnOnce(Duration) -> Duration) -> Duration {
    jitter(PAUSE) + Duration::from_millis(proven * 1000 / PROOF_BYTES_PER_S)
}

/// The complete entries that may be shared, those used last first.
async fn held(node: &Node) -> Result<Vec<EntryKey>> {
    let (store, network, tenant) = (Arc::clone(node.store()), node.network(), node.claims().tenant.clone());
    let list = move || {
        let mut newest = BinaryHeap::new();
        let mut after: Option<EntryKey> = None;
        loop {
            let page = store.list(after.as_ref(), PAGE);
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            for entry in page {
                // Whether a digest fixes it is seen once it is opened.
                let shared = !is_local(entry.key.class, true);
                let ours = entry.key.network == network && entry.key.tenant == tenant && shared;
                if ours && entry.held == entry.length {
                    newest.push(Reverse((entry.used, entry.key)));
                    if newest.len() > ANNOUNCED_MAX {
                        newest.pop();
                    }
                }
            }
        }
        // Ascending by what is reversed: the newest first.
        newest.into_sorted_vec().into_iter().map(|Reverse((_, key))| key).collect()
    };
    node.io().run(list).await
}

/// Opens what is held under `key` and proves it if it must be; `None` if it is not complete (any more). How many
/// bytes had to be proven.
fn open(node: &Node, number: TaskKey, key: &EntryKey) -> Result<Option<(HeldTask, u64)>> {
    let found = node.store().find(&key.network, &key.tenant, &key.task);
    let Some(entry) = found.into_iter().find(|entry| entry.key() == key) else { return Ok(None) };
    let described = entry.described().clone();
    let layout = described.layout;
    let proven = if entry.needs_proof() { layout.length() } else { 0 };
    let scope = Scope { class: key.class, tenant: key.tenant.clone(), fixed: described.fixed };
    if scope.is_local() {
        return Ok(None);
    }
    let info = TaskInfo { task: key.task, spec: described.spec, fixed: described.fixed };
    let current = Current {
        task: key.task,
        generation: key.generation,
        length: layout.length(),
        piece_length: layout.piece_length(),
        validator: described.validator,
        splittable: described.splittable,
        // After a restart nothing is fresh: who wants it has the coordinator ask the origin.
        age_ms: u64::MAX,
        seal: None,
    };
    let content = tasks::content_of(node, number, entry, &current, &scope)?;
    // What nobody vouches for (any more) is of no use to others.
    if !content.attested_have().is_complete() {
        return Ok(None);
    }
    Ok(Some((HeldTask { info, label: described.label, scope, current, content: Arc::new(content) }, proven)))
}

impl Actor {
    /// What the store holds takes part again, unless somebody has asked for it meanwhile.
    pub(super) fn held(&mut self, held: HeldTask) {
        let id = held.info.task;
        if self.tasks.contains_key(&id) || self.tasks.len() >= ANNOUNCED_MAX {
            return;
        }
        let mut task = Task::new(held.info, held.label, held.scope, 0);
        task.described = Some(held.current);
        self.tasks.insert(id, task);
        self.enter(id, held.content);
        self.reassign(id);
    }
}

impl std::fmt::Debug for HeldTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeldTask").field("content", &self.content).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::Described;
    use crate::task::{Class, Generation, Layout, PieceHasher, TaskId};

    #[tokio::test]
    async fn so_many_are_announced_and_no_more_those_used_last_first() {
        const MORE: usize = 10;
        let node = Node::builder().start().await.unwrap();
        let layout = Layout::of_length(1).unwrap();
        let mut hasher = PieceHasher::new(0, layout.piece_length());
        hasher.update(b"x").unwrap();
        let value = hasher.finish(&layout, 0).unwrap();
        let id = |number: usize| TaskId::from_hash(*blake3::hash(&number.to_le_bytes()).as_bytes());
        for number in 0..ANNOUNCED_MAX + MORE {
            let key = EntryKey {
                network: node.network(),
                tenant: node.claims().tenant.clone(),
                task: id(number),
                class: Class::Public,
                generation: Generation::from_hash([7; 32]),
            };
            let described = Described {
                layout,
                validator: None,
                splittable: false,
                label: String::new(),
                spec: None,
                fixed: false,
            };
            let entry = node.store().open(&key, &described).unwrap();
            assert!(entry.write_piece(0, b"x", &value).unwrap());
            entry.touch(1000 + number as u64);
        }
        let held: Vec<TaskId> = held(&node).await.unwrap().into_iter().map(|key| key.task).collect();
        let newest: Vec<TaskId> = (MORE..ANNOUNCED_MAX + MORE).rev().map(id).collect();
        assert_eq!(held.len(), ANNOUNCED_MAX);
        assert!(held == newest);
        node.shutdown().await.unwrap();
    }
}

//! What follows when a member turns out to have signed two values of one piece: nothing that it said counts any more, and
//! what its word took the place of is heard anew. Downloads go on, and nothing that is held goes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::actor::Actor;
use super::content::Content;
use super::event::Event;
use crate::swarm::TaskKey;
use crate::wire::PeerId;

/// Between two times that lanes begin anew for this. A token gives as many identities as its holder likes, and each can
/// contradict itself: what one of them takes the place of is void at once, and missing for no longer than this.
pub(crate) const RECALL_PAUSE: Duration = Duration::from_secs(10);

/// What is to be heard anew.
#[derive(Debug, Default)]
pub(super) struct Recalls {
    tasks: BTreeSet<TaskKey>,
    last: Option<Instant>,
    planned: bool,
}

impl Actor {
    pub(super) fn contradicted(&mut self, key: TaskKey, signers: &BTreeSet<PeerId>) {
        for &signer in signers {
            self.node.contradicted().insert(signer);
            self.blame_peer(signer, "it attested two values of one piece");
        }
        self.contents.values().for_each(|content| content.void(signers));
        self.recalls.tasks.insert(key);
        if self.recalls.planned {
            return;
        }
        self.recalls.planned = true;
        let wait = self.recalls.last.map(|last| RECALL_PAUSE.saturating_sub(last.elapsed())).unwrap_or_default();
        self.spawn_event(async move {
            tokio::time::sleep(wait).await;
            Event::RecallDue
        });
    }

    /// What is found out from here on is for the next time.
    pub(super) fn recall_due(&mut self) {
        self.recalls.planned = false;
        self.recalls.last = Some(Instant::now());
        let tasks = std::mem::take(&mut self.recalls.tasks);
        let all: Vec<Arc<Content>> = self.contents.values().cloned().collect();
        let node = self.node.clone();
        self.spawn_event(async move {
            let of_disk = node.clone();
            let done = node.io().run(move || {
                if let Err(error) = of_disk.contradicted().save() {
                    tracing::warn!(%error, "who contradicted itself will be forgotten with this process");
                }
                // What this host had kept of honest words itself.
                all.iter().for_each(|content| content.recall());
            });
            let _ = done.await;
            Event::Recalled { tasks }
        });
    }

    /// The neighbours have shown what they know, and it may have counted for less than the word of the liar: on a new lane
    /// they show it again, and are shown what is known here.
    pub(super) fn recalled(&mut self, tasks: &BTreeSet<TaskKey>) {
        tasks.iter().for_each(|&task| self.end_lanes_of(task));
    }
}

#[cfg(test)]
mod tests;

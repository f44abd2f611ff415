//! What follows when a member turns out to have signed two values of one piece of a task: nothing that it said of that task
//! counts any more, and what its word took the place of is heard anew. Downloads go on, and nothing that is held goes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::actor::Actor;
use super::content::Content;
use super::event::Event;
use crate::node::Node;
use crate::swarm::TaskKey;
use crate::task::TaskId;
use crate::wire::PeerId;

/// Between two times that tasks begin anew on lanes for this, doubled each further time in a row. A token gives as many identities as
/// its holder likes, and each can contradict itself: what one of them takes the place of is void at once, and missing for no
/// longer than this.
pub(crate) const RECALL_PAUSE: Duration = Duration::from_secs(10);

/// How often it doubles at most, to 80 seconds: a piece that is under way on a slow link is lost each time, and a download waits
/// for no more than two minutes.
const RECALLS_MAX: u32 = 3;

/// What is to be heard anew.
#[derive(Debug, Default)]
pub(super) struct Recalls {
    tasks: BTreeSet<TaskKey>,
    /// Whether somebody was found out that is not written down yet.
    unsaved: bool,
    /// When it was last done, and how often in a row.
    last: Option<Instant>,
    times: u32,
    /// Whether it is about to be done, or under way.
    busy: bool,
}

impl Recalls {
    /// How long lanes go on as they are, at `now`, although something is to be heard anew.
    fn wait(&mut self, now: Instant) -> Duration {
        let Some(last) = self.last else { return Duration::ZERO };
        let pause = RECALL_PAUSE * (1 << self.times.saturating_sub(1).min(RECALLS_MAX));
        let since = now.saturating_duration_since(last);
        if since >= 2 * pause {
            // The next one is the first of a row again.
            self.times = 0;
        }
        pause.saturating_sub(since)
    }

    /// It was done at `now`.
    fn done(&mut self, now: Instant) {
        self.last = Some(now);
        self.times = self.times.saturating_add(1);
        self.busy = false;
    }
}

impl Actor {
    pub(super) fn contradicted(&mut self, id: TaskId, signers: &BTreeSet<PeerId>) {
        for &signer in signers {
            self.node.contradicted().insert(id, signer);
            self.blame_peer(signer, "it attested two values of one piece");
        }
        self.recalls.unsaved = true;
        for content in self.contents.values().filter(|content| content.task == id) {
            content.void(signers);
            self.recalls.tasks.insert(content.key);
        }
        self.plan_recall();
    }

    fn plan_recall(&mut self) {
        if self.recalls.busy || !self.recalls.unsaved {
            return;
        }
        self.recalls.busy = true;
        let wait = self.recalls.wait(Instant::now());
        self.spawn_event(async move {
            tokio::time::sleep(wait).await;
            Event::RecallDue
        });
    }

    /// What is found out from here on is for the next time.
    pub(super) fn recall_due(&mut self) {
        let tasks = std::mem::take(&mut self.recalls.tasks);
        self.recalls.unsaved = false;
        let contents: Vec<Arc<Content>> = tasks.iter().filter_map(|key| self.contents.get(key).cloned()).collect();
        let node = self.node.clone();
        self.spawn_event(async move {
            let of_disk = node.clone();
            let done = node.io().run_however_long(move || {
                save(&of_disk);
                // What this host had kept of honest words itself.
                contents.iter().for_each(|content| content.recall());
            });
            let _ = done.await;
            Event::Recalled { tasks }
        });
    }

    /// Who was found out and is not written down yet is before the end.
    pub(super) fn remember(&self) -> impl Future<Output = ()> + use<> {
        let (unsaved, node) = (self.recalls.busy || self.recalls.unsaved, self.node.clone());
        async move {
            if unsaved {
                let of_disk = node.clone();
                let _ = node.io().run(move || save(&of_disk)).await;
            }
        }
    }

    /// The neighbours have shown what they know, and it may have counted for less than the word of the liar: where the task is
    /// opened anew they show it again, and are shown what is known here. Other tasks on their lanes go on.
    pub(super) fn recalled(&mut self, tasks: &BTreeSet<TaskKey>) {
        let contents: Vec<Arc<Content>> = tasks.iter().filter_map(|key| self.contents.get(key).cloned()).collect();
        // Also where somebody else's word counts for everything by now: what was shown meanwhile came without proof.
        contents.iter().for_each(|content| self.reopen_on_lanes(content));
        self.recalls.done(Instant::now());
        self.plan_recall();
    }
}

fn save(node: &Node) {
    if let Err(error) = node.contradicted().save() {
        tracing::warn!(%error, "who contradicted itself will be forgotten with this process");
    }
}

#[cfg(test)]
mod tests;

//! What follows when a member turns out to have signed two values of one piece: nothing that it said counts any more, and
//! what its word took the place of is heard anew. Downloads go on, and nothing that is held goes.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::actor::Actor;
use super::content::Content;
use super::event::Event;
use crate::swarm::TaskKey;
use crate::wire::PeerId;

impl Actor {
    pub(super) fn contradicted(&mut self, key: TaskKey, signers: &BTreeSet<PeerId>) {
        for &signer in signers {
            self.node.contradicted().insert(signer);
            self.blame_peer(signer, "it attested two values of one piece");
        }
        let all: Vec<Arc<Content>> = self.contents.values().cloned().collect();
        all.iter().for_each(|content| content.void(signers));
        let node = self.node.clone();
        self.spawn_event(async move {
            // What this host had kept of honest words itself.
            let _ = node.io().run(move || all.iter().for_each(|content| content.recall())).await;
            Event::Recalled { task: key }
        });
    }

    /// The neighbours have shown what they know, and it may have counted for less than the word of the liar: on a new lane
    /// they show it again, and are shown what is known here.
    pub(super) fn recalled(&mut self, key: TaskKey) {
        self.end_lanes_of(key);
    }
}

//! What follows when a member turns out to have signed two values of one piece: nothing that it said counts any more, and
//! what its word took the place of is heard anew.

use std::collections::BTreeSet;

use tokio::sync::oneshot;

use super::actor::Actor;
use crate::swarm::TaskKey;
use crate::wire::PeerId;
use crate::{Error, ErrorKind};

impl Actor {
    pub(super) fn contradicted(&mut self, key: TaskKey, signers: &BTreeSet<PeerId>) {
        for &signer in signers {
            self.node.contradicted().insert(signer);
            self.blame_peer(signer, "it attested two values of one piece");
        }
        let Some(content) = self.contents.get(&key).cloned() else { return };
        let (id, generation) = (content.task, content.generation);
        let Some(task) = self.tasks.get(&id) else { return };
        if !content.told().is_held_on_the_word_of(&content, signers) {
            // Its word may have taken the place of what others had attested. They say it again to one that opens the task.
            self.deactivate(id);
            return self.activate(id);
        }
        // What it served may be anything, as may what was made of that.
        let (wanted, access) = (!task.wants.is_empty(), task.access.is_some());
        let (done, _) = oneshot::channel();
        if wanted && access {
            tracing::info!(task = ?id, "what one attested that contradicts itself is taken from the origin anew");
            return self.distrust(id, generation, done);
        }
        let why = format!("{}: some of it was attested by one that contradicts itself", task.label);
        self.fail(id, &Error::new(ErrorKind::Network, why).temporary(true));
        self.drop_task(id);
        self.remove(Some(content), done);
    }
}

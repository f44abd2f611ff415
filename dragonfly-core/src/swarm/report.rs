//! What the coordinator is told of how far a task is: no more than it acts on.
//!
//! It acts on the first eighth, which makes this host one that others can get something from, and on the end. On what is
//! between it acts in these cases alone:
//! - after this host said that no neighbour holds what it lacks: that something came means that this is over;
//! - once it has granted a lease here: it compares what this host holds with what it fetched by itself, to see whether
//!   anybody serves it (`scheduler/doubt`);
//! - when it is another one than before, which begins with what the join said;
//! - where there are neighbours in other sites: who brings what is there is chosen by who gets on (`scheduler/sites`).

use super::{Action, Swarm, TaskKey};

/// What of a task's progress was told, and is to be.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// Eighths of the pieces that were passed, told or not.
    passed: u8,
    /// Whether the next eighth is to be told.
    is_news: bool,
    /// Whether every one is.
    every: bool,
}

impl Reports {
    /// The coordinator hears that no neighbour holds what is lacking, or begins to know this host.
    pub(super) const fn expect(&mut self) {
        self.is_news = true;
    }

    /// It has granted a lease here, or named neighbours in other sites.
    pub(super) const fn every(&mut self) {
        self.every = true;
    }

    /// So many eighths are held; whether the coordinator is to hear of it.
    fn pass(&mut self, eighths: u8) -> bool {
        if eighths <= self.passed {
            return false;
        }
        let is_first = std::mem::replace(&mut self.passed, eighths) == 0;
        std::mem::take(&mut self.is_news) || self.every || is_first || eighths == 8
    }
}

impl Swarm {
    /// Says how far a task is, where that matters, and that it is done.
    pub(super) fn progressed(&mut self, key: TaskKey) {
        let Some(task) = self.tasks.get_mut(&key) else { return };
        let have = task.pieces.have();
        let eighths = (u64::from(have.held()) * 8).checked_div(u64::from(have.pieces())).unwrap_or(8) as u8;
        let complete = have.is_complete();
        if task.reports.pass(eighths) {
            self.actions.push_back(Action::Report { task: key, eighths });
        }
        if complete && !task.done {
            task.done = true;
            self.actions.push_back(Action::Done { task: key });
        }
    }
}

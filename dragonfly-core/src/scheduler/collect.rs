//! A task that another coordinator had: until those who had a part in it have said what it left them with, the origin
//! is asked for nothing that one of them may have asked for.

use std::collections::BTreeSet;

use super::core::{Core, Timer};
use super::slab::{HostIx, TaskIx};
use super::task::{Describe, Stage, Task};
use crate::wire::control::Earlier;

impl Core {
    /// Another coordinator is lost.
    pub(super) fn expect_others(&mut self) {
        // They are given the time to come, and those who come last in it the time to speak.
        self.expecting_until = self.now + self.config.collect_time * 2;
    }

    /// How one that joins a task anew counts while members of a lost coordinator may come: like one of these, so that
    /// nobody is asked what they know already.
    pub(super) fn expects_others(&self) -> Option<Earlier> {
        (self.now < self.expecting_until).then_some(Earlier::Moved)
    }

    /// Gives members that come from another coordinator the time to say what they hold, fetch and asked for.
    pub(super) fn collect(&mut self, t: TaskIx) {
        let step = self.next_number();
        self.tasks[t].collecting = Some(step);
        self.arm(self.now + self.config.collect_time, Timer::Collected { task: t, step });
    }

    /// Whoever had a part in the task has had the time to say so: from now on the origin is asked and ranges are leased.
    pub(super) fn collected(&mut self, t: TaskIx, step: u64) {
        if self.tasks.get(t).is_none_or(|task| task.collecting != Some(step)) {
            return;
        }
        let task = &mut self.tasks[t];
        task.collecting = None;
        if let Some(&first) = task.waiting.values().next() {
            self.describe_for(t, first);
        }
        self.settle(t);
    }

    /// A member waits to hear what the content is, and comes from another coordinator.
    pub(super) fn describe_again(&mut self, t: TaskIx, host: HostIx, earlier: Earlier) {
        let task = &self.tasks[t];
        let stage = task.describe.as_ref().map(|describe| &describe.stage);
        match (earlier, stage) {
            // The answer costs nothing more.
            (Earlier::Asked, None | Some(Stage::Trigger)) if self.may_have_asked(t, host) => {
                self.cancel_trigger(t);
                let task = &mut self.tasks[t];
                let anew =
                    Describe { round: 0, tried: BTreeSet::new(), retryable: false, last: None, stage: Stage::Trigger };
                task.describe.get_or_insert(anew);
                // Nobody had heard what the content is, so that nobody holds any.
                task.collecting = None;
                self.grant_describe(t, host);
            }
            (_, None) if self.tasks[t].is_new() => self.collect(t),
            _ => self.describe_for(t, host),
        }
    }

    /// Whether a member may be believed that it asked the origin: what it says is anyone's word, so that it gets nothing by
    /// it that it could not have got by coming first. Once, where nobody knows the content, and not past a seed.
    fn may_have_asked(&self, t: TaskIx, host: HostIx) -> bool {
        let (task, serial) = (&self.tasks[t], self.hosts[host].serial);
        let member = &task.members[&host];
        let others = self.seeds.get(&task.tenant).is_some_and(|seeds| !seeds.is_empty()) && !member.seed;
        let tried = task.describe.as_ref().is_some_and(|describe| describe.tried.contains(&serial));
        task.version.is_none() && member.may_lease && member.is_fit() && !member.doubted && !others && !tried
    }
}

impl Task {
    /// Whether nothing is known of it but that one member waits to hear more.
    fn is_new(&self) -> bool {
        self.version.is_none() && self.collecting.is_none() && self.waiting.len() == 1
    }

    /// Whether the origin is not to be asked yet: somebody may have done so.
    pub(super) const fn is_collecting_answers(&self) -> bool {
        self.version.is_none() && self.collecting.is_some()
    }
}

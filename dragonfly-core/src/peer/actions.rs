//! Carrying out what the swarm core decides.

use std::sync::Arc;

use super::actor::Actor;
use super::lane::LaneCommand;
use crate::net::Carrier;
use crate::swarm::{Action, TaskKey};
use crate::task::TaskId;
use crate::wire::control::ToCoordinator;

impl Actor {
    pub(super) fn carry_out(&mut self) {
        while let Some(action) = self.swarm.poll() {
            self.act(action);
        }
        self.node.metrics().lanes.set(self.hosts.lanes_up() as u64);
        self.node.metrics().lane_commands.set(self.hosts.commands_waiting() as u64);
        self.node.metrics().lanes_on_streams.set(self.hosts.lanes_on(Carrier::Muxed) as u64);
        self.node.metrics().lanes_plain.set(self.hosts.lanes_on(Carrier::Plain) as u64);
        self.node.metrics().hosts.set(self.hosts.known() as u64);
        self.node.metrics().in_flight_bytes.set(self.swarm.in_flight_bytes());
        self.node.metrics().tasks.set(self.counted() as u64);
        self.node.metrics().tasks_small.set(self.idle.small() as u64);
        let (found, linked) = self.authorities.sessions();
        self.node.metrics().coordinator_sessions.set(found as u64);
        self.node.metrics().link_sessions.set(linked as u64);
    }

    fn task_of(&self, key: TaskKey) -> Option<TaskId> {
        self.contents.get(&key).map(|content| content.task)
    }

    fn act(&mut self, action: Action) {
        tracing::trace!(?action);
        match action {
            Action::Abort { task, lease } | Action::ReleaseLease { task, lease } => self.give_up(task, lease),
            Action::Allot { host, task, pieces } => {
                if let Some(content) = self.contents.get(&task).cloned() {
                    self.send(host, LaneCommand::Allot { content, runs: vec![pieces.into()] });
                }
            }
            Action::Ask { host, task } => {
                if let Some(content) = self.contents.get(&task).cloned() {
                    self.send(host, LaneCommand::Ask { content });
                }
            }
            Action::AskLease { task, near } => {
                // Whose last caller left, or who is to stop, may have been let go to the origin before.
                let may = |task: &TaskId| self.tasks.get(task).is_some_and(|task| task.access.is_some());
                if let Some(task) = self.task_of(task).filter(may) {
                    self.tell_of(task, ToCoordinator::AskLease(task, near));
                }
            }
            Action::AskNeighbours { task, lacking, starved } => {
                if let Some(task) = self.task_of(task) {
                    if starved.is_some_and(|time| self.asked_in_vain(task, time)) {
                        return;
                    }
                    if let Some(asking) = self.tasks.get_mut(&task).filter(|_| lacking) {
                        asking.asked.who_holds();
                        self.watch_answer(task);
                    }
                    let starved_ms = starved.map(|time| time.as_millis().try_into().unwrap_or(u32::MAX));
                    self.tell_of(task, ToCoordinator::AskNeighbours { task, lacking, starved_ms });
                }
            }
            Action::Blame { host, task, piece } => {
                let task = self.task_of(task);
                self.blame(host, &format!("piece {piece} of {task:?} does not match its hash"));
            }
            Action::Cancel { host, request } => self.cancel_request(host, request.0),
            Action::Close { host } => self.close_lane(host),
            Action::Dial { host } => self.dial(host),
            Action::Done { task } => self.completed(task),
            Action::Fetch { task, lease, pieces } => self.fetch(task, lease, pieces),
            Action::Open { host, task } => self.open_task(host, task),
            Action::Ready { task, piece } => {
                if let Some(content) = self.contents.get(&task) {
                    self.node.parts().held((content.task, content.generation), piece);
                    content.set_neighbours(self.swarm.neighbours(task).count());
                    content.advanced();
                }
            }
            Action::Reject { host, request, reason } => self.send(host, LaneCommand::Reject { request, reason }),
            Action::Report { task, eighths } => {
                if let Some(content) = self.contents.get(&task) {
                    let (task, generation) = (content.task, content.generation);
                    self.tell_of(task, ToCoordinator::Report { task, generation, eighths });
                }
            }
            Action::Request { host, task, request, first, count } => {
                if let Some(content) = self.contents.get(&task).cloned() {
                    self.send(host, LaneCommand::Request { content, request: request.0, first, count });
                }
            }
            Action::SendHave { host, task, runs, complete } => {
                if let Some(content) = self.contents.get(&task).cloned() {
                    let runs = runs.into_iter().map(Into::into).collect();
                    self.send(host, LaneCommand::Have { content, runs, complete });
                }
            }
            Action::SendLost { host, task, runs } => {
                let runs = runs.into_iter().map(Into::into).collect();
                self.send(host, LaneCommand::Lost { key: task, runs });
            }
            Action::Unkept { host, task } => {
                let peer = self.hosts.peer(host).map(|peer| peer.to_string()).unwrap_or_default();
                let task = self.task_of(task);
                tracing::warn!(
                    peer,
                    ?task,
                    "a neighbour does not have what it says it has: it is not asked for a time"
                );
                self.node.metrics().claims_unkept.add(1);
            }
            Action::Stalled { host, silent } => {
                let peer = self.hosts.peer(host).map(|peer| peer.to_string()).unwrap_or_default();
                tracing::info!(peer, ?silent, "a neighbour sends nothing of what it was asked for: others are asked");
                self.node.metrics().neighbours_stalled.add(1);
                let why = format!("the neighbour {peer} sent nothing of what it was asked for, for {silent:.0?}");
                for content in self.contents.values().filter(|content| !content.is_complete()) {
                    if self.swarm.neighbours(content.key).any(|other| other == host) {
                        content.set_trouble(&why);
                    }
                }
            }
            Action::Serve { host, task, request, piece, skip } => {
                if let Some(content) = self.contents.get(&task) {
                    let content = Arc::clone(content);
                    self.send(host, LaneCommand::Serve { content, request, piece, skip });
                }
            }
        }
    }
}

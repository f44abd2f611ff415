//! What must hold after every event.

use dragonfly_core::swarm::{HostKey, TaskKey};

use super::{NEWS, World};

impl World {
    /// What each living host lacks and what it is doing about it, for the message of a failed test.
    pub fn why(&self) -> String {
        let mut text = format!("at {:?}, {} events, {}:", self.now.0, self.handled, self.authority.state());
        for (index, host) in self.hosts.iter().enumerate().filter(|(_, host)| host.is_alive) {
            for (task, held) in &host.held {
                let neighbours: Vec<u32> = host.core.neighbours(*task).map(|host| host.0).collect();
                let in_flight = host.core.in_flight_bytes();
                let (held, pieces) = (held.held(), held.pieces());
                let hidden = host.core.hidden(*task);
                text += &format!(
                    "\n  host {index}, {task:?}: {held}/{pieces}, {hidden} hidden, {in_flight} bytes in flight, neighbours {neighbours:?}"
                );
            }
        }
        text
    }

    /// Panics if a core's books are wrong or it believes what is not so.
    pub fn check(&self) {
        self.authority.assert_invariants();
        for (index, host) in self.hosts.iter().enumerate().filter(|(_, host)| host.is_alive) {
            host.core.assert_invariants();
            for (task, held) in &host.held {
                assert_eq!(host.core.have(*task), Some(held), "host {index} holds something else than it thinks");
                for neighbour in host.core.neighbours(*task) {
                    let theirs = self.hosts[neighbour.0 as usize].held.get(task);
                    for piece in 0..held.pieces() {
                        let believed = host.core.is_believed_held(neighbour, *task, piece);
                        assert!(
                            !believed
                                || self.is_news(neighbour, *task, piece)
                                || theirs.is_some_and(|theirs| theirs.contains(piece)),
                            "host {index} believes that {neighbour:?} holds piece {piece}"
                        );
                    }
                }
            }
        }
    }

    /// Whether a host lost a piece so lately that its neighbours cannot know.
    pub(super) fn is_news(&self, host: HostKey, task: TaskKey, piece: u32) -> bool {
        self.evicted.get(&(host, task, piece)).is_some_and(|at| self.now.since(*at) <= NEWS)
    }
}

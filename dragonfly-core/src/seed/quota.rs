//! How much one member may have a seed fetch (`docs/design/trust.md`, What a fetch may reach). Pure: time is an
//! argument.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::wire::PeerId;

/// What is used counts for so long.
const WINDOW: Duration = Duration::from_secs(3600);

/// Members remembered. Beyond it the one whose window began first is forgotten: it had the longest to use it.
const MEMBERS_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, Default)]
struct Used {
    since: Duration,
    tasks: u64,
    bytes: u64,
}

/// The bound of every member, and what each has used of it.
#[derive(Debug)]
pub(super) struct Quota {
    tasks_max: u64,
    bytes_max: u64,
    members: BTreeMap<PeerId, Used>,
}

impl Quota {
    /// So many tasks and bytes an hour.
    pub(super) const fn new(tasks_max: u64, bytes_max: u64) -> Self {
        Self { tasks_max, bytes_max, members: BTreeMap::new() }
    }

    /// Whether `member` may have another task fetched; if so, it is counted.
    pub(super) fn admit(&mut self, now: Duration, member: PeerId) -> bool {
        let (tasks_max, bytes_max) = (self.tasks_max, self.bytes_max);
        let used = self.used(now, member);
        let admitted = used.tasks < tasks_max && used.bytes < bytes_max;
        used.tasks += u64::from(admitted);
        admitted
    }

    /// So many bytes were fetched for it. The last task may go beyond the bound: its length was not known before.
    pub(super) fn charge(&mut self, now: Duration, member: PeerId, bytes: u64) {
        let used = self.used(now, member);
        used.bytes = used.bytes.saturating_add(bytes);
    }

    fn used(&mut self, now: Duration, member: PeerId) -> &mut Used {
        if self.members.len() >= MEMBERS_MAX && !self.members.contains_key(&member) {
            let oldest = self.members.iter().min_by_key(|(_, used)| used.since).map(|(peer, _)| *peer);
            oldest.and_then(|oldest| self.members.remove(&oldest));
        }
        let used = self.members.entry(member).or_insert(Used { since: now, ..Used::default() });
        if now.saturating_sub(used.since) >= WINDOW {
            *used = Used { since: now, ..Used::default() };
        }
        used
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::Identity;

    fn peer(n: u32) -> PeerId {
        let mut seed = [1; 32];
        seed[..4].copy_from_slice(&n.to_be_bytes());
        Identity::from_seed(seed).peer_id()
    }

    #[test]
    fn tasks_and_bytes_are_bounded_for_each_member_and_come_back() {
        let mut quota = Quota::new(2, 100);
        let now = Duration::from_secs(5);
        assert!(quota.admit(now, peer(1)) && quota.admit(now, peer(1)) && !quota.admit(now, peer(1)));
        assert!(quota.admit(now, peer(2)), "another member has its own");
        quota.charge(now, peer(2), 100);
        assert!(!quota.admit(now, peer(2)));
        let later = now + WINDOW;
        assert!(quota.admit(later, peer(1)) && quota.admit(later, peer(2)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut quota = Quota::new(1, 1);
        for n in 0..MEMBERS_MAX as u32 + 10 {
            assert!(quota.admit(Duration::from_secs(n.into()), peer(n)));
        }
        assert_eq!(quota.members.len(), MEMBERS_MAX);
        assert!(!quota.admit(Duration::from_secs(2000), peer(MEMBERS_MAX as u32)), "a late one is still counted");
    }
}

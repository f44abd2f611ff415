//! Hosts, tenants and limits.

use super::*;
use crate::scheduler::CloseReason;

#[test]
fn an_announcement_is_welcomed_and_nothing_is_heard_before_it() {
    let mut w = World::new();
    w.step(Input::HostUp { peer: peer(1), seed_role: false, tenant: "a".into(), seen_ip: None, local: false });
    w.join(1, wanting(1));
    assert!(w.said.is_empty());
    w.say(1, ToCoordinator::Announce(Announce { version: 1, record: None, seed: false, slots: 1, site: None }));
    assert_eq!(w.to(1), [ToMember::Welcome { interval_ms: 10_000, scheduler: false }]);
    w.join(1, wanting(1));
    w.describer(1);
}

#[test]
fn messages_of_strangers_and_about_unknown_tasks_do_no_harm() {
    let mut w = World::new();
    w.ask(9);
    assert!(w.said.is_empty());
    w.peer_up(1);
    w.ask(1);
    assert_eq!(w.to(1), [ToMember::NoLease { task: task(1), retry_ms: None }]);
    let lease = LeaseId { number: 1, epoch: 1 };
    for end in [0, 7, u32::MAX] {
        w.progress(1, lease, end);
        w.done(1, lease);
        w.fail(1, lease, failure(FailureKind::Local, false));
        w.lacking(1);
    }
    w.say(1, ToCoordinator::Leave(task(1)));
    assert!(w.core.snapshot().tasks.is_empty());
}

#[test]
fn a_silent_host_is_down_after_three_intervals_and_a_local_one_never() {
    let mut w = World::new();
    w.peer_up(1);
    w.step(Input::HostUp { peer: peer(2), seed_role: false, tenant: "a".into(), seen_ip: None, local: true });
    w.now = Duration::from_secs(29);
    w.step(Input::Deadline);
    assert!(w.said.is_empty());
    w.say(1, ToCoordinator::KeepAlive);
    w.now = Duration::from_secs(58);
    w.step(Input::Deadline);
    assert!(w.said.is_empty(), "the keepalive counted");
    w.now = Duration::from_secs(59);
    w.step(Input::Deadline);
    assert_eq!(w.said, [Action::Close { peer: peer(1), reason: CloseReason::Silent }]);
    assert_eq!(w.core.snapshot().hosts.len(), 1);
}

#[test]
fn hosts_and_tasks_are_bounded() {
    let config = Config { hosts_max: 2, tasks_max: 3, tasks_per_host_max: 2, ..Config::default() };
    let mut w = World::with(config);
    w.peer_up(1);
    w.peer_up(2);
    w.step(Input::HostUp { peer: peer(3), seed_role: false, tenant: "a".into(), seen_ip: None, local: false });
    assert_eq!(w.said, [Action::Close { peer: peer(3), reason: CloseReason::Full }]);
    w.join(1, wanting(1));
    w.join(1, wanting(2));
    w.join(1, wanting(3));
    assert_eq!(w.failed(1), Some(FailureKind::Overloaded));
    w.join(2, wanting(3));
    assert_eq!(w.failed(2), None);
    w.join(2, wanting(4));
    assert_eq!(w.failed(2), Some(FailureKind::Overloaded));
    w.say(1, ToCoordinator::Leave(task(1)));
    w.join(2, wanting(4));
    assert_eq!(w.failed(2), None);
}

#[test]
fn tenants_do_not_see_each_other() {
    let mut w = World::new();
    w.up_with(1, false, "a", [10, 0, 0, 1], 4);
    w.up_with(2, false, "b", [10, 0, 0, 2], 4);
    w.up_with(3, true, "b", [10, 0, 0, 3], 4);
    w.join(1, seedable(1));
    let lease = w.describer(1);
    w.describe(1, lease, content(64 * MIB, etag("x"), 8));
    w.join(2, seedable(1));
    assert_eq!(w.triggered(), [peer(3)], "a seed of its own tenant");
    assert_eq!(w.current(2), None);
    assert_eq!(w.core.snapshot().tasks.len(), 2);
    w.done(2, lease);
    assert_eq!(w.core.snapshot().tasks[0].leases.len(), 1, "a lease of another tenant is out of reach");
}

#[test]
fn a_task_without_members_is_remembered_for_a_while() {
    let (mut w, _) = World::cold(1, 64 * MIB, etag("x"));
    w.down(1);
    w.secs(599);
    assert!(w.task().generation.is_some());
    w.secs(2);
    assert!(w.core.snapshot().tasks.is_empty());
    assert_eq!(w.core.next_deadline(), None, "nothing is left to wait for");
}

/// What a host holds is of use to others; what it only wants costs the coordinator most.
#[test]
fn what_one_host_lacks_is_bounded_apart_from_what_it_holds() {
    let config = Config { tasks_per_host_max: 10, lacking_per_host_max: 2, ..Config::default() };
    let mut w = World::with(config);
    w.peer_up(1);
    w.join(1, wanting(1));
    w.join(1, wanting(2));
    assert_eq!(w.failed(1), None);
    w.join(1, wanting(3));
    assert_eq!(w.failed(1), Some(FailureKind::Overloaded));
    // One that it has left is lacking no more, and is looked for now and then.
    w.say(1, ToCoordinator::Leave(task(1)));
    let tries = (0..200).take_while(|_| {
        w.join(1, wanting(3));
        w.failed(1).is_some()
    });
    assert!(tries.count() < 100);
    w.join(1, wanting(4));
    assert_eq!(w.failed(1), Some(FailureKind::Overloaded));
}

//! Seeds go to the origin in the place of peers.

use super::*;

/// Peers 1 and 2 wait for seedable content, seeds 101 to 103 are up; the seed that was triggered.
fn called() -> (World, u32) {
    let mut w = World::new();
    (101..=103).for_each(|n| w.seed_up(n));
    w.peer_up(1);
    w.peer_up(2);
    w.join(1, seedable(1));
    let called = w.triggered();
    assert_eq!(called.len(), 1);
    w.join(2, seedable(1));
    assert!(w.said.is_empty());
    let n = (101..=103).find(|&n| peer(n) == called[0]).unwrap();
    (w, n)
}

#[test]
fn a_seed_is_called_describes_and_fetches() {
    let (mut w, seed) = called();
    w.join(seed, seedable(1));
    let lease = w.describer(seed);
    w.describe(seed, lease, content(64 * MIB, etag("x"), 8));
    assert_eq!(w.grant(seed), (lease, 0, 8));
    assert!(w.current(1).is_some() && w.current(2).is_some());
    w.ask(1);
    assert!(w.grants().is_empty(), "peers fetch nothing while a seed takes part");
    w.ask(seed);
    assert_eq!(w.grant(seed).1, 8);
}

#[test]
fn seeds_without_the_role_are_peers() {
    let mut w = World::new();
    w.step(Input::HostUp { peer: peer(9), seed_role: false, tenant: "a".into(), seen_ip: None, local: false });
    w.say(9, ToCoordinator::Announce(Announce { version: 1, record: None, seed: true, slots: 4, site: None }));
    w.peer_up(1);
    w.join(1, seedable(1));
    assert!(w.triggered().is_empty());
    w.describer(1);
}

#[test]
fn late_declining_and_failing_seeds_are_replaced_and_peers_come_last() {
    let (mut w, first) = called();
    w.secs(3);
    let second = (101..=103).find(|&n| w.triggered() == [peer(n)]).unwrap();
    assert_ne!(second, first);
    w.say(second, ToCoordinator::Leave(task(1)));
    let third = (101..=103).find(|&n| w.triggered() == [peer(n)]).unwrap();
    w.join(third, seedable(1));
    let lease = w.describer(third);
    w.fail(third, lease, failure(FailureKind::Local, false));
    w.describer(1);
}

#[test]
fn a_seed_that_goes_down_while_called_is_replaced_at_once() {
    let (mut w, first) = called();
    w.down(first);
    assert_eq!(w.triggered().len(), 1);
    assert_ne!(w.triggered(), [peer(first)]);
}

#[test]
fn when_a_seed_is_lost_another_goes_on_without_asking_anew() {
    let (mut w, first) = called();
    w.join(first, seedable(1));
    let lease = w.describer(first);
    w.describe(first, lease, content(64 * MIB, etag("x"), 8));
    w.secs(15);
    w.progress(first, lease, 2);
    w.down(first);
    let next = (101..=103).find(|&n| w.triggered() == [peer(n)]).unwrap();
    w.join(next, seedable(1));
    assert!(w.describers().is_empty());
    assert!(w.current(next).is_some());
    assert_eq!(w.grant(next).1, 8);
    // Without any seed the peers share the rest.
    w.ask(1);
    (101..=103).filter(|&n| n != next).for_each(|n| w.down(n));
    w.down(next);
    assert_eq!(w.grant(1).1, 40, "at once, but for what the lost ones may be fetching still");
    w.secs(1);
    w.ask(1);
    assert_eq!(w.grant(1).1, 2);
}

#[test]
fn large_content_calls_several_seeds() {
    let (mut w, first) = called();
    w.join(first, seedable(1));
    let lease = w.describer(first);
    w.describe(first, lease, content(2048 * MIB, etag("x"), 8));
    assert_eq!(w.triggered().len(), 2);
    let other = (101..=103).find(|&n| n != first).unwrap();
    w.join(other, seedable(1));
    w.ask(other);
    assert_eq!(w.grant(other).1, 8);
}

#[test]
fn only_a_seeds_seal_is_passed_on() {
    use crate::wire::statement::SealBundle;
    let (mut w, seed) = called();
    w.join(seed, seedable(1));
    let lease = w.describer(seed);
    w.describe(seed, lease, content(MIB, etag("x"), 8));
    let generation = w.task().generation.unwrap();
    let seal = |n| SealBundle { seal: Signed(vec![n]), signer: vec![] };
    for (n, kept) in [(1, None), (seed, Some(seal(seed as u8)))] {
        w.say(n, ToCoordinator::Sealed { task: task(1), generation, seal: seal(n as u8) });
        w.join(2, seedable(1));
        assert_eq!(w.current(2).unwrap().seal, kept);
    }
}

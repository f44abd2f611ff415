#![allow(clippy::unwrap_used)]

use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::*;
use crate::trust::Identity;
use crate::wire::statement::Signed;

const NOW: Duration = Duration::from_secs(100);

fn peer(n: u8) -> PeerId {
    Identity::from_seed([n; 32]).peer_id()
}

fn neighbour(n: u8) -> Neighbour {
    Neighbour { peer: peer(n), record: Some(Signed(vec![n])), seen_ip: None, seed: false, share: None }
}

fn task(n: u8) -> TaskId {
    TaskId::from_hash([n; 32])
}

fn directory(me: u8, others: std::ops::Range<u8>) -> Directory {
    let mut directory = Directory::new(peer(me), false, true);
    others.filter(|n| *n != me).for_each(|n| directory.named(neighbour(n)));
    directory
}

#[test]
fn everyone_who_knows_the_same_members_names_the_same_coordinator() {
    let mut named = std::collections::BTreeSet::new();
    for n in 0..50 {
        let all: Vec<PeerId> = (1..9).map(|me| directory(me, 1..9).coordinator_of(NOW, task(n), None)).collect();
        assert!(all.iter().all(|one| *one == all[0]), "{n}");
        named.insert(all[0]);
    }
    assert!(named.len() > 4, "the tasks are spread: {named:?}");
}

#[test]
fn a_choice_stays_when_others_come_and_goes_when_it_is_lost() {
    for n in 0..50 {
        let mut known = directory(1, 1..4);
        let first = known.coordinator_of(NOW, task(n), None);
        (4..30).for_each(|other| known.named(neighbour(other)));
        assert_eq!(known.coordinator_of(NOW, task(n), None), first);
        let second = known.coordinator_of(NOW, task(n), Some(first));
        assert_ne!(second, first);
        assert_eq!(known.coordinator_of(NOW, task(n), None), second, "who asks next is sent there, too");
    }
}

#[test]
fn schedulers_are_named_before_others() {
    let mut known = directory(1, 1..9);
    let before = known.coordinator_of(NOW, task(99), None);
    assert!(before != peer(3) && before != peer(5));
    known.schedules(peer(3), true);
    known.schedules(peer(5), true);
    let mut named: Vec<PeerId> = (0..50).map(|n| known.coordinator_of(NOW, task(n), None)).collect();
    named.sort_unstable();
    named.dedup();
    assert_eq!(named.len(), 2, "the tasks are spread over them");
    assert!(named.contains(&peer(3)) && named.contains(&peer(5)));
    assert!(
        named.contains(&known.coordinator_of(NOW, task(99), None)),
        "who was named before gives way, as its members do"
    );
    let scheduler = known.coordinator_of(NOW, task(99), None);
    known.unreachable(NOW, peer(3));
    known.unreachable(NOW, peer(5));
    assert_eq!(known.coordinator_of(NOW, task(99), Some(scheduler)), before, "and has it again");
    known.reached(peer(3));
    known.reached(peer(5));
    let lost = known.coordinator_of(NOW, task(0), None);
    known.unreachable(NOW, lost);
    assert!(named.contains(&known.coordinator_of(NOW, task(0), Some(lost))), "the other one");
    known.schedules(peer(3), false);
    known.schedules(peer(5), false);
    let others = (100..150).map(|n| known.coordinator_of(NOW, task(n), None));
    assert!(others.collect::<std::collections::BTreeSet<_>>().len() > 2);
}

#[test]
fn who_cannot_be_reached_is_left_out_for_a_time_and_then_forgotten() {
    let mut known = directory(1, 1..3);
    let theirs = (0..50).map(task).find(|task| known.coordinator_of(NOW, *task, None) == peer(2)).unwrap();
    known.unreachable(NOW, peer(2));
    assert_eq!(known.coordinator_of(NOW, theirs, None), peer(1));
    assert!(known.sample(NOW, 9, peer(1), &mut SmallRng::seed_from_u64(1)).is_empty());
    let later = NOW + DOWN_MIN * 2;
    assert_eq!(known.sample(later, 9, peer(1), &mut SmallRng::seed_from_u64(1)), [neighbour(2)]);
    (0..FAILURES_MAX).for_each(|_| known.unreachable(later, peer(2)));
    assert_eq!(known.len(), 0);
}

#[test]
fn where_only_seeds_are_trusted_a_credential_is_needed() {
    let mut known = Directory::new(peer(1), true, false);
    (2..9).for_each(|n| known.named(neighbour(n)));
    known.arrived(neighbour(9), false);
    assert_eq!(known.coordinator_of(NOW, task(1), None), peer(1), "nobody may: this host keeps it to itself");
    known.arrived(neighbour(10), true);
    assert_eq!(known.coordinator_of(NOW, task(2), None), peer(10));
}

#[test]
fn what_it_remembers_is_bounded() {
    let mut known = Directory::new(peer(1), false, true);
    known.arrived(neighbour(2), true);
    for n in 0..(MEMBERS_MAX as u32 + 100) {
        let mut secret = [7; 32];
        secret[..4].copy_from_slice(&n.to_be_bytes());
        let peer = Identity::from_seed(secret).peer_id();
        known.named(Neighbour { peer, ..neighbour(3) });
    }
    assert_eq!(known.len(), MEMBERS_MAX);
    assert!(known.get(peer(2)).is_some(), "who is here stays");
    for n in 0..(CHOICES_MAX as u32 + 100) {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&n.to_be_bytes());
        known.coordinator_of(NOW, TaskId::from_hash(hash), None);
    }
    assert_eq!(known.choices.len(), CHOICES_MAX);
}

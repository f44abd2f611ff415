//! Who fetches which range.

use super::*;

#[test]
fn ranges_are_exclusive_front_to_back_and_shared() {
    let (mut w, first) = World::cold(4, 1024 * MIB, etag("x"));
    let mut next = 8;
    for n in 2..=4 {
        w.ask(n);
        let (_, start, end) = w.grant(n);
        assert_eq!((start, end), (next, next + 8));
        next = end;
    }
    w.ask(1);
    assert_eq!(w.grant(1).1, next, "the next one is asked for while the first is fetched");
    w.ask(1);
    assert!(w.grants().is_empty(), "two at a time");
    w.done(1, first);
    assert_eq!(w.grant(1).1, next + 8, "the one who asked is remembered");
}

#[test]
fn who_reads_somewhere_fetches_there() {
    let (mut w, _) = World::cold(4, 1024 * MIB, etag("x"));
    let mut ask = |n: u32, near: u32| {
        w.say(n, ToCoordinator::AskLease(task(1), Some(near)));
        let (_, start, end) = w.grant(n);
        start..end
    };
    assert_eq!(ask(2, 500), 500..508);
    assert_eq!(ask(3, 501), 8..16, "another fetches that");
    assert_eq!(ask(4, u32::MAX), 16..24, "there is nothing");
    w.ask(2);
    assert_eq!(w.grant(2).1, 24, "nobody reads there any more");
}

#[test]
fn a_whole_file_is_granted_once() {
    for (length, hosts) in [(1, 1), (70_000, 3), (5 * MIB, 4), (300 * MIB + 1, 5)] {
        let (mut w, lease) = World::cold(hosts, length, etag("x"));
        let mut live = vec![(1, lease)];
        for n in 2..=hosts {
            w.ask(n);
            live.extend(w.grants().first().map(|(_, lease, _)| (n, *lease)));
        }
        while let Some((n, lease)) = live.pop() {
            w.done(n, lease);
            assert!(w.grants().len() <= 1);
            w.ask(n);
            live.extend(w.grants().first().map(|(_, lease, _)| (n, *lease)));
        }
        let task = w.task();
        assert_eq!((task.origin_bytes_granted, task.origin_bytes_fetched), (length, length));
    }
}

#[test]
fn a_lease_without_progress_lapses_after_twice_the_timeout() {
    let (mut w, lease) = World::cold(2, 64 * MIB, etag("x"));
    w.secs(15);
    w.progress(1, lease, 3);
    w.secs(19);
    assert!(w.to(1).is_empty());
    w.secs(1);
    assert_eq!(w.to(1), [ToMember::Revoked { task: task(1), lease }]);
    w.progress(1, lease, 5);
    w.done(1, lease);
    assert_eq!(w.task().origin_bytes_fetched, 3 * 65_536, "what a stale holder says counts for nothing");
    w.ask(2);
    let (newer, start, _) = w.grant(2);
    assert_eq!(start, 3);
    assert!(newer.epoch > lease.epoch);
}

#[test]
fn progress_of_others_and_past_the_end_counts_for_nothing() {
    let (mut w, lease) = World::cold(2, 64 * MIB, etag("x"));
    w.progress(2, lease, 3);
    w.progress(1, LeaseId { epoch: lease.epoch + 1, ..lease }, 3);
    w.progress(1, lease, 17);
    w.progress(1, lease, u32::MAX);
    assert_eq!(w.task().origin_bytes_fetched, 0);
    w.progress(1, lease, 2);
    w.progress(1, lease, 1);
    assert_eq!(w.task().origin_bytes_fetched, 2 * 65_536);
}

#[test]
fn a_lost_holders_range_is_granted_after_a_short_grace() {
    let (mut w, lease) = World::cold(2, 64 * MIB, etag("x"));
    w.progress(1, lease, 4);
    w.down(1);
    for _ in 0..100 {
        w.ask(2);
        let Some((_, lease, grant)) = w.grants().first().cloned() else { break };
        assert!(grant.first >= 8);
        w.done(2, lease);
    }
    w.secs(1);
    assert_eq!((w.grant(2).1, w.grant(2).2), (4, 8), "without what it had fetched: others may have that");
}

#[test]
fn a_host_that_leaves_gives_its_lease_back_at_once() {
    let (mut w, _) = World::cold(2, MIB, etag("x"));
    w.ask(2);
    assert_eq!((w.grant(2).1, w.grant(2).2), (8, 16));
    w.ask(2);
    assert!(w.grants().is_empty());
    w.say(1, ToCoordinator::Leave(task(1)));
    assert_eq!(w.grant(2).1, 0);
}

#[test]
fn what_a_departed_host_fetched_is_fetched_anew_when_somebody_lacks_it() {
    let (mut w, lease) = World::cold(3, MIB, etag("x"));
    w.done(1, lease);
    while w.task().origin_bytes_fetched < MIB {
        w.ask(2);
        let (lease, ..) = w.grant(2);
        w.done(2, lease);
    }
    w.down(1);
    w.lacking(3);
    let lost = w.grant(3);
    assert_eq!(lost.1, 0);
    assert!(lost.2 <= 8, "not what host 2 fetched");
    // While somebody holds everything there is no need.
    let (mut w, lease) = World::cold(3, MIB, etag("x"));
    w.done(1, lease);
    w.report(2, 8);
    w.down(1);
    w.lacking(3);
    assert!(w.grants().is_empty());
}

#[test]
fn content_without_ranges_has_one_holder_and_a_take_over_starts_at_the_first_byte() {
    let mut w = World::new();
    for n in 1..=3 {
        w.peer_up(n);
    }
    w.join(1, wanting(1));
    let lease = w.describer(1);
    w.join(2, wanting(1));
    let answer = Answer::Content {
        length: 64 * MIB,
        piece_length: 65_536,
        validator: etag("x"),
        ranges: false,
        taking: 1,
        spooled: false,
    };
    w.describe(1, lease, answer);
    assert_eq!(w.grant(1), (lease, 0, 1024));
    w.ask(2);
    assert!(w.grants().is_empty());
    w.progress(1, lease, 500);
    w.fail(1, lease, failure(FailureKind::Local, false));
    assert_eq!((w.grant(2).1, w.grant(2).2), (0, 1024));
}

#[test]
fn a_take_over_without_a_validator_is_a_new_generation() {
    let (mut w, lease) = World::cold(2, 64 * MIB, None);
    let before = w.task().generation;
    w.progress(1, lease, 500);
    w.fail(1, lease, failure(FailureKind::Local, false));
    let describe = w.describers()[0].1;
    let n = if w.describers()[0].0 == peer(1) { 1 } else { 2 };
    w.describe(n, describe, content(64 * MIB, None, 8));
    assert!(w.current(1).is_some() && w.current(2).is_some());
    assert_ne!(w.task().generation, before);
}

/// A holder that says that bytes come keeps its lease while a piece may take; a liar does not keep it for ever.
#[test]
fn a_holder_that_gets_nowhere_loses_its_lease() {
    let (mut w, lease) = World::cold(2, 64 * MIB, etag("x"));
    // A piece of 64 KiB at 16 KiB/s, and half a minute.
    for _ in 0..3 {
        w.progress(1, lease, 3);
        w.secs(10);
        assert!(w.said.is_empty(), "{:?}", w.said);
    }
    w.progress(1, lease, 3);
    w.secs(10);
    assert!(w.to(1).iter().any(|said| matches!(said, ToMember::Revoked { .. })), "{:?}", w.said);
}

#[test]
fn content_that_changed_is_described_anew() {
    let (mut w, lease) = World::cold(2, 64 * MIB, etag("x"));
    w.fail(1, lease, failure(FailureKind::Changed, false));
    let (_, describe, prior) = w.describers()[0].clone();
    assert_eq!(prior, etag("x"));
    w.ask(2);
    assert!(w.grants().is_empty());
    w.describe(1, describe, content(64 * MIB, etag("y"), 8));
    assert!(w.current(1).is_some() && w.current(2).is_some());
}

#[test]
fn failures_in_a_row_are_told() {
    let (mut w, mut lease) = World::cold(2, 64 * MIB, etag("x"));
    for _ in 0..5 {
        w.fail(1, lease, failure(FailureKind::Origin, true));
        assert_eq!(w.failed(2), None);
        assert!(matches!(w.to(1)[..], [ToMember::NoLease { retry_ms: Some(5000), .. }]));
        w.ask(1);
        assert!(w.grants().is_empty());
        w.secs(5);
        w.ask(1);
        lease = w.grant(1).0;
    }
    w.fail(1, lease, failure(FailureKind::Origin, true));
    assert_eq!((w.failed(1), w.failed(2)), (Some(FailureKind::Origin), Some(FailureKind::Origin)));
}

/// An origin that is away for a moment fails all who fetch from it together.
#[test]
fn failures_that_may_pass_are_a_matter_of_time() {
    let (mut w, first) = World::cold(8, 64 * MIB, etag("x"));
    let mut leases = vec![(1, first)];
    for n in 2..=8 {
        w.ask(n);
        leases.push((n, w.grant(n).0));
    }
    for round in 0..5 {
        for (n, lease) in leases.drain(..) {
            w.fail(n, lease, failure(FailureKind::Origin, true));
        }
        assert!((1..=8).all(|n| w.failed(n).is_none()), "round {round}");
        w.secs(5);
        for n in 1..=8 {
            w.ask(n);
            leases.push((n, w.grant(n).0));
        }
    }
    let (n, lease) = leases.remove(0);
    w.fail(n, lease, failure(FailureKind::Origin, true));
    assert!((1..=8).all(|n| w.failed(n) == Some(FailureKind::Origin)));
    // A failure that will not pass is not waited for, nor is one that an origin says will not pass so soon.
    for (told, (n, lease)) in leases.into_iter().enumerate().take(6) {
        w.fail(n, lease, failure(FailureKind::Origin, false));
        assert_eq!(w.failed(8).is_some(), told == 5, "after {told}");
    }
}

#[test]
fn at_most_sixteen_hosts_fetch_and_the_next_waits_its_turn() {
    let (mut w, _) = World::cold(20, 1024 * MIB, etag("x"));
    let mut leases = vec![];
    for n in 2..=20 {
        w.ask(n);
        leases.extend(w.grants());
    }
    assert_eq!(leases.len(), 15);
    w.say(2, ToCoordinator::Release { task: task(1), lease: leases[0].1, end: 9 });
    assert_eq!(w.grant(17).1, 9, "given back at the piece reached, to the first that asked");
}

#[test]
fn a_member_that_may_not_fetch_gets_no_lease() {
    let (mut w, _) = World::cold(1, 64 * MIB, etag("x"));
    w.peer_up(2);
    w.join(2, Join { may_lease: false, ..wanting(1) });
    w.ask(2);
    assert_eq!(w.to(2), [ToMember::NoLease { task: task(1), retry_ms: None }]);
}

/// Host 1 fetched everything, holds it as far as it says, and serves nobody: when nothing comes to any of the others
/// the origin is asked anew, by one of them.
#[test]
fn a_sole_holder_that_serves_nobody_is_doubted() {
    let (mut w, lease) = World::cold(3, MIB / 2, etag("x"));
    w.done(1, lease);
    w.report(1, 8);
    w.secs(30);
    w.lacking(2);
    w.lacking(2);
    assert!(w.grants().is_empty(), "as long as something may still come");
    w.starved(2, 20);
    assert!(w.grants().is_empty(), "the other one may be served");
    w.secs(10);
    w.starved(3, 30);
    let (_, first, end) = w.grant(3);
    assert_eq!((first, end), (0, 8), "all of it, to who lacks it");
    assert_eq!(w.task().origin_bytes_granted, MIB);
    // It is not asked to fetch, it is nobody's source, and saying the same again changes nothing.
    w.ask(1);
    assert!(w.grants().is_empty());
    w.report(1, 8);
    w.say(1, ToCoordinator::Leave(task(1)));
    w.join(1, wanting(1));
    w.report(1, 8);
    assert!(w.core.snapshot().tasks[0].origin_bytes_granted == MIB && w.grants().is_empty());
}

/// It need not say that it is complete: that it does not complain shows nothing.
#[test]
fn a_sole_holder_that_says_nothing_is_doubted() {
    let (mut w, lease) = World::cold(3, MIB / 2, etag("x"));
    w.done(1, lease);
    w.secs(30);
    w.starved(2, 20);
    assert!(w.grants().is_empty(), "the other one may be served");
    w.secs(10);
    w.starved(3, 30);
    assert_eq!((w.grant(2).1, w.task().origin_bytes_granted), (0, MIB));
}

/// One that has more than it fetched is served by somebody.
#[test]
fn a_holder_that_is_fed_keeps_the_others_from_the_origin() {
    for (eighths, is_fed) in [(4, false), (5, true)] {
        let (mut w, lease) = World::cold(3, MIB, etag("x"));
        w.done(1, lease);
        w.ask(2);
        let (lease, first, end) = w.grant(2);
        assert_eq!((first, end), (8, 16));
        w.done(2, lease);
        w.report(2, 8);
        w.report(1, eighths);
        w.secs(40);
        w.starved(3, 30);
        assert_eq!(w.grants().is_empty(), is_fed);
    }
}

/// The same where the holder is a seed, to which alone leases go as long as it is believed.
#[test]
fn a_seed_that_serves_nobody_leaves_the_origin_to_others() {
    let mut w = World::new();
    w.seed_up(101);
    w.peer_up(1);
    w.join(1, seedable(1));
    w.join(101, seedable(1));
    let lease = w.describer(101);
    w.describe(101, lease, content(MIB / 2, etag("x"), 8));
    w.done(101, lease);
    w.report(101, 8);
    w.secs(30);
    w.starved(1, 20);
    assert_eq!((w.grant(1).1, w.grant(1).2), (0, 8));
    assert!(w.triggered().is_empty(), "it is not called again");
}

#[test]
fn holders_are_believed_while_anybody_is_fed_or_fetches() {
    // Somebody gets something.
    let (mut w, lease) = World::cold(3, MIB / 2, etag("x"));
    w.done(1, lease);
    w.report(1, 8);
    w.secs(30);
    w.starved(3, 20);
    w.report(3, 2);
    w.secs(10);
    w.starved(2, 20);
    assert!(w.grants().is_empty());
    // Somebody fetches.
    let (mut w, lease) = World::cold(2, 64 * MIB, etag("x"));
    for _ in 0..4 {
        w.secs(10);
        w.progress(1, lease, 3);
        w.starved(2, 40);
    }
    assert_eq!(w.task().origin_bytes_fetched, 3 * 65_536);
    w.done(1, lease);
    // Who came a moment ago cannot know.
    let (mut w, lease) = World::cold(2, MIB / 2, etag("x"));
    w.done(1, lease);
    w.report(1, 8);
    w.secs(20);
    w.peer_up(5);
    w.join(5, Join { age_max_ms: Some(60_000), ..wanting(1) });
    w.secs(10);
    w.starved(2, 30);
    assert_eq!(w.grant(2).1, 0, "it is not waited for");
}

/// Six leases lapse at once in either case.
#[test]
fn holders_that_are_cut_off_say_nothing_about_the_origin() {
    for cut_off in [true, false] {
        let (mut w, _) = World::cold(5, 1024 * MIB, etag("x"));
        for n in [2, 3, 4, 2, 3, 4] {
            w.ask(n);
            w.grant(n);
        }
        let mut told = false;
        for second in 0..21 {
            w.secs(1);
            told |= w.failed(5).is_some();
            w.say(5, ToCoordinator::KeepAlive);
            for n in (1..=4).filter(|n| *n == 1 || !cut_off || second < 5) {
                w.say(n, ToCoordinator::KeepAlive);
                told |= w.failed(5).is_some();
            }
        }
        assert_eq!(told, !cut_off);
    }
}

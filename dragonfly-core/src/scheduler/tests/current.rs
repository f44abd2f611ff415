//! Which generation is current, and who asks the origin.

use super::*;
use crate::task::Layout;
use crate::wire::control::Held;

fn held(w: &World, eighths: u8) -> Held {
    let task = w.task();
    let (length, generation) = (task.length.unwrap(), task.generation.unwrap());
    let piece_length = piece_length_for(length);
    Held {
        generation,
        length,
        piece_length,
        validator: etag("x"),
        splittable: true,
        eighths,
        live: false,
        fetching: Vec::new(),
    }
}

#[test]
fn all_who_wait_share_one_answer() {
    let (mut w, _) = World::cold(5, 64 * MIB, etag("x"));
    let generations: BTreeSet<_> = (1..=5).map(|n| w.current(n).unwrap().generation).collect();
    assert_eq!(generations.len(), 1);
    assert_eq!(w.current(3).unwrap().age_ms, 0);
    assert!(w.current(3).unwrap().splittable);
    w.secs(9);
    w.peer_up(6);
    w.join(6, wanting(1));
    assert_eq!(w.current(6).unwrap().age_ms, 9000);
    assert!(w.describers().is_empty());
}

#[test]
fn past_the_window_one_conditional_request_is_made() {
    let (mut w, _) = World::cold(1, 64 * MIB, etag("x"));
    let before = w.task().generation;
    w.secs(10);
    w.peer_up(2);
    w.join(2, wanting(1));
    assert_eq!(w.describers()[0].2, etag("x"));
    let lease = w.describer(2);
    w.peer_up(3);
    w.join(3, wanting(1));
    assert!(w.said.is_empty());
    w.describe(2, lease, Answer::Unchanged);
    assert_eq!(w.current(3).map(|c| (Some(c.generation), c.age_ms)), Some((before, 0)));
    assert!(w.current(2).is_some());
}

#[test]
fn the_origin_raises_or_voids_the_window_and_the_caller_overrides_it() {
    for (fresh_ms, age_max_ms, after_secs, current) in [
        (Some(60_000), None, 59, true),
        (Some(60_000), None, 60, false),
        (Some(1), None, 9, true),
        (Some(u64::MAX), None, 3599, true),
        (Some(u64::MAX), None, 3600, false),
        (Some(0), None, 0, false),
        (None, Some(0), 0, false),
        (Some(0), Some(u64::MAX), 599, true),
    ] {
        let mut w = World::new();
        w.peer_up(1);
        w.peer_up(2);
        w.join(1, wanting(1));
        let lease = w.describer(1);
        let described = Described { task: task(1), lease, fresh_ms, answer: content(MIB, etag("x"), 8) };
        w.say(1, ToCoordinator::Described(described));
        w.secs(after_secs);
        w.join(2, Join { age_max_ms, ..wanting(1) });
        assert_eq!(w.current(2).is_some(), current, "{fresh_ms:?} {age_max_ms:?} {after_secs}");
        assert_eq!(w.describers().len(), usize::from(!current));
    }
}

#[test]
fn fixed_content_is_asked_about_once() {
    let (mut w, lease) = World::cold(1, 64 * MIB, None);
    w.done(1, lease);
    w.report(1, 8);
    w.secs(100);
    w.peer_up(2);
    let mut join = wanting(1);
    join.info.fixed = true;
    w.join(2, join);
    assert!(w.current(2).is_some());
}

#[test]
fn new_content_is_a_new_generation_and_old_leases_are_void() {
    let (mut w, lease) = World::cold(1, 64 * MIB, etag("x"));
    let before = w.task().generation;
    w.secs(10);
    w.peer_up(2);
    w.join(2, wanting(1));
    let describe = w.describer(2);
    w.ask(1);
    w.describe(2, describe, content(32 * MIB, etag("y"), 8));
    assert_ne!(w.task().generation, before);
    assert!(w.to(1).contains(&ToMember::Revoked { task: task(1), lease }));
    assert_eq!(w.current(2).map(|c| c.length), Some(32 * MIB));
    assert!(w.neighbours(2).is_none(), "who trades the old generation is no neighbour");
    w.done(1, lease);
    assert_eq!(w.task().origin_bytes_fetched, 0);
    w.ask(1);
    assert_eq!(w.current(1).map(|c| c.length), Some(32 * MIB), "who asks goes on with the new one");
}

#[test]
fn without_a_validator_each_answer_is_a_generation() {
    let (mut w, _) = World::cold(1, 64 * MIB, None);
    let before = w.task().generation;
    w.secs(10);
    w.peer_up(2);
    w.join(2, wanting(1));
    assert_eq!(w.describers()[0].2, None);
    let lease = w.describer(2);
    w.describe(2, lease, content(64 * MIB, None, 8));
    assert_ne!(w.task().generation, before);
}

#[test]
fn a_nonsense_answer_counts_against_its_holder() {
    for answer in [
        Answer::Unchanged,
        Answer::Content { length: MIB, piece_length: MIB, validator: None, ranges: true, taking: 1, spooled: false },
        Answer::Content { length: MIB, piece_length: 3, validator: None, ranges: true, taking: 1, spooled: true },
        Answer::Content {
            length: u64::MAX,
            piece_length: MIB,
            validator: None,
            ranges: true,
            taking: 1,
            spooled: true,
        },
    ] {
        let (mut w, lease) = World::asking(2);
        w.describe(1, lease, answer);
        w.describer(2);
    }
}

#[test]
fn unknown_length_is_spooled_while_all_wait() {
    let (mut w, lease) = World::asking(2);
    w.describe(1, lease, Answer::Spooling);
    for mib in 0..10 {
        w.secs(15);
        assert!(w.said.is_empty(), "progress keeps the lease: {:?}", w.said);
        w.progress(1, lease, mib);
    }
    let answer = Answer::Content {
        length: 10 * MIB,
        piece_length: MIB,
        validator: None,
        ranges: false,
        taking: 10,
        spooled: true,
    };
    w.describe(1, lease, answer);
    assert_eq!(w.current(2).map(|c| (c.length, c.piece_length, c.splittable)), Some((10 * MIB, MIB, false)));
    assert_eq!(w.grant(1), (lease, 0, 10));
}

#[test]
fn empty_content_needs_no_pieces() {
    let mut w = World::new();
    w.peer_up(1);
    w.join(1, wanting(1));
    let lease = w.describer(1);
    w.describe(1, lease, content(0, etag("x"), 0));
    assert_eq!(w.current(1).map(|c| c.length), Some(0));
    assert!(w.grants().is_empty());
    w.ask(1);
    assert!(w.grants().is_empty());
}

#[test]
fn the_origins_no_is_told_to_all_and_not_kept() {
    for kind in [FailureKind::NotFound, FailureKind::Forbidden, FailureKind::Origin] {
        let (mut w, lease) = World::asking(2);
        w.fail(1, lease, failure(kind, false));
        assert_eq!((w.failed(1), w.failed(2)), (Some(kind), Some(kind)));
        w.join(2, wanting(1));
        w.describer(2);
    }
}

#[test]
fn another_host_asks_where_one_cannot_and_rounds_are_bounded() {
    let mut w = World::new();
    w.peer_up(1);
    w.peer_up(2);
    w.join(1, wanting(1));
    let mut lease = w.describer(1);
    w.join(2, wanting(1));
    w.fail(1, lease, failure(FailureKind::Local, false));
    lease = w.describer(2);
    w.fail(2, lease, failure(FailureKind::Origin, true));
    for _ in 0..2 {
        assert!(w.describers().is_empty(), "a pause before the next round");
        w.secs(2);
        for n in [1, 2] {
            lease = w.describer(n);
            w.fail(n, lease, failure(FailureKind::Origin, true));
        }
    }
    assert_eq!((w.failed(1), w.failed(2)), (Some(FailureKind::Origin), Some(FailureKind::Origin)));
}

/// To say that one is at work does not keep the others waiting for ever.
#[test]
fn a_describer_that_gets_nowhere_is_replaced() {
    for spools in [false, true] {
        let (mut w, lease) = World::asking(2);
        if spools {
            w.describe(1, lease, Answer::Spooling);
        }
        // To have begun to take it in is to have got on, once.
        for _ in 0..5 {
            w.secs(10);
            assert!(w.said.is_empty(), "{:?}", w.said);
            w.progress(1, lease, u32::from(spools));
        }
        w.secs(10);
        w.describer(2);
        assert!(w.to(1).contains(&ToMember::Revoked { task: task(1), lease }));
    }
}

/// Who waits for a place at origins, and keeps nobody else waiting, has its time: as soon as another waits it has its minute.
#[test]
fn a_describer_that_nobody_waits_for_has_its_time() {
    let (mut w, lease) = World::asking(1);
    for _ in 0..90 {
        w.secs(10);
        assert!(w.said.is_empty(), "{:?}", w.said);
        w.progress(1, lease, 0);
    }
    w.peer_up(2);
    w.join(2, wanting(1));
    w.said.clear();
    for _ in 0..5 {
        w.secs(10);
        assert!(w.said.is_empty(), "{:?}", w.said);
        w.progress(1, lease, 0);
    }
    w.secs(10);
    w.describer(2);
    assert!(w.to(1).contains(&ToMember::Revoked { task: task(1), lease }));
}

/// Nor does it wait for an origin that sends next to nothing of content without a length.
#[test]
fn a_describer_that_takes_in_has_to_get_on_whoever_waits() {
    let (mut w, lease) = World::asking(1);
    w.describe(1, lease, Answer::Spooling);
    for end in 1..20 {
        w.secs(15);
        assert!(w.said.is_empty(), "{:?}", w.said);
        w.progress(1, lease, end);
    }
    for _ in 0..4 {
        assert!(w.said.is_empty(), "{:?}", w.said);
        w.progress(1, lease, 19);
        w.secs(15);
    }
    assert!(w.to(1).contains(&ToMember::Revoked { task: task(1), lease }), "{:?}", w.said);
}

/// One that is silent, and one that is there and has no answer, are told apart.
#[test]
fn what_a_describer_did_not_do_is_named() {
    for (speaks, named) in [(false, "fell silent"), (true, "got nowhere for 60s")] {
        let (mut w, lease) = World::asking(2);
        let mut describer = (peer(1), lease);
        let failed = |m: ToMember| if let ToMember::Failed { failure, .. } = m { Some(failure.text) } else { None };
        let text = loop {
            if speaks {
                let n = if describer.0 == peer(1) { 1 } else { 2 };
                w.progress(n, describer.1, 0);
            }
            w.secs(10);
            if let Some(text) = w.to(2).into_iter().find_map(failed) {
                break text;
            }
            describer = w.describers().first().map_or(describer, |&(host, lease, _)| (host, lease));
        };
        assert!(text.contains(named), "{text}");
        assert!(w.now < Duration::from_secs(600), "{:?}", w.now);
    }
}

/// Who waits asks, and is answered, by whoever coordinates: else it would do without it.
#[test]
fn who_waits_is_told_that_it_is_not_forgotten() {
    let (mut w, lease) = World::asking(2);
    w.say(2, ToCoordinator::KeepAlive);
    assert_eq!(w.to(2), [ToMember::NoLease { task: task(1), retry_ms: None }]);
    w.describe(1, lease, content(MIB, etag("x"), 8));
    assert!(w.current(2).is_some());
    w.said.clear();
    w.say(2, ToCoordinator::KeepAlive);
    assert!(w.said.is_empty(), "it waits no more: {:?}", w.said);
}

#[test]
fn nobody_who_may_ask_is_a_failure() {
    let mut w = World::new();
    w.peer_up(1);
    w.join(1, Join { may_lease: false, ..wanting(1) });
    assert_eq!(w.failed(1), Some(FailureKind::Local));
}

#[test]
fn a_describer_that_is_silent_lost_or_gone_is_replaced() {
    let mut w = World::new();
    for n in 1..=4 {
        w.peer_up(n);
    }
    w.join(1, wanting(1));
    let lease = w.describer(1);
    for n in 2..=4 {
        w.join(n, wanting(1));
    }
    w.secs(19);
    assert!(w.said.is_empty());
    w.secs(1);
    w.describer(2);
    assert!(w.to(1).contains(&ToMember::Revoked { task: task(1), lease }));
    w.down(2);
    assert!(w.said.is_empty());
    w.secs(1);
    w.describer(3);
    w.say(3, ToCoordinator::Leave(task(1)));
    let last = w.describer(4);
    w.describe(1, lease, content(MIB, etag("x"), 8));
    assert_eq!(w.to(1), [ToMember::Revoked { task: task(1), lease }], "the answer of a stale holder is not taken");
    w.describe(4, last, content(MIB, etag("x"), 8));
    assert!(w.current(1).is_some());
}

#[test]
fn stale_content_is_for_those_who_take_it_when_the_origin_cannot_be_asked() {
    for (kind, served) in [(FailureKind::Origin, true), (FailureKind::NotFound, false)] {
        let (mut w, lease) = World::cold(1, MIB, etag("x"));
        w.done(1, lease);
        w.report(1, 8);
        w.secs(60);
        w.peer_up(2);
        w.peer_up(3);
        w.join(2, Join { stale_ok: true, ..wanting(1) });
        let describe = w.describer(2);
        w.join(3, wanting(1));
        w.fail(2, describe, failure(kind, false));
        assert_eq!(w.current(2).map(|c| c.age_ms), served.then_some(60_000));
        assert_eq!(w.failed(2).is_some(), !served);
        assert_eq!(w.failed(3), Some(kind));
    }
}

#[test]
fn who_holds_all_of_it_may_have_it_stale_though_nobody_else_does() {
    for stale_ok in [true, false] {
        let (mut w, lease) = World::cold(1, MIB, etag("x"));
        w.done(1, lease);
        w.report(1, 8);
        w.secs(60);
        w.said.clear();
        w.join(1, Join { stale_ok, ..wanting(1) });
        let describe = w.describer(1);
        w.fail(1, describe, failure(FailureKind::Origin, false));
        assert_eq!(w.current(1).map(|c| c.age_ms), stale_ok.then_some(60_000));
        assert_eq!(w.failed(1).is_some(), !stale_ok);
    }
}

#[test]
fn a_core_that_starts_anew_learns_from_what_is_held() {
    let (w, _) = World::cold(1, 64 * MIB, etag("x"));
    let (held, generation) = (held(&w, 8), w.task().generation);
    let mut w = World::new();
    w.peer_up(1);
    w.join(1, Join { held: Some(held.clone()), wanted: false, ..wanting(1) });
    assert!(w.said.is_empty());
    assert_eq!((w.task().generation, w.task().age), (generation, None));
    w.peer_up(2);
    w.join(2, wanting(1));
    assert_eq!(w.describers()[0].2, etag("x"), "its age is unknown: it is asked about");
    let lease = w.describer(2);
    w.describe(2, lease, Answer::Unchanged);
    assert_eq!(w.current(2).map(|c| Some(c.generation)), Some(generation));
    assert_eq!(w.neighbours(2), Some(vec![peer(1)]));
    w.ask(2);
    assert!(w.grants().is_empty(), "a host holds all");
    w.down(1);
    assert!(w.grants().is_empty());
    w.lacking(2);
    assert_eq!(w.grants().len(), 1, "what it held is fetched anew");
    // What cannot be is not believed.
    let mut w = World::new();
    w.peer_up(1);
    w.join(1, Join { held: Some(Held { validator: etag("z"), ..held.clone() }), wanted: false, ..wanting(1) });
    assert_eq!(w.task().generation, None);
    w.join(1, Join { held: Some(Held { piece_length: 5, ..held }), wanted: false, ..wanting(1) });
    assert_eq!(w.task().generation, None);
    assert!(Layout::new(64 * MIB, 5).is_err());
}

#[test]
fn the_age_of_fixed_content_does_not_matter_after_a_new_start() {
    let (w, _) = World::cold(1, 64 * MIB, etag("x"));
    let held = held(&w, 8);
    let mut w = World::new();
    w.peer_up(1);
    w.peer_up(2);
    let mut join = wanting(1);
    join.info.fixed = true;
    w.join(1, Join { held: Some(held), wanted: false, ..join.clone() });
    w.join(2, join);
    assert_eq!(w.current(2).map(|c| c.age_ms), Some(u64::MAX));
    assert!(w.describers().is_empty());
}

#[test]
fn failures_are_passed_on_short() {
    let mut w = World::new();
    w.peer_up(1);
    w.join(1, wanting(1));
    let lease = w.describer(1);
    let text = "é".repeat(10_000);
    w.fail(1, lease, Failure { text, ..failure(FailureKind::NotFound, false) });
    let [ToMember::Failed { failure, .. }] = &w.to(1)[..] else { panic!("{:?}", w.said) };
    assert_eq!(failure.text.len(), 256);
}

//! What another coordinator left its members with is heard before the origin is asked.

use super::*;
use crate::wire::control::{Earlier, Held};
use crate::wire::lane::Run;

fn moved() -> Join {
    Join { earlier: Some(Earlier::Moved), ..wanting(1) }
}

fn asked() -> Join {
    Join { earlier: Some(Earlier::Asked), ..wanting(1) }
}

fn with_peers(peers: u32) -> World {
    let mut w = World::new();
    (1..=peers).for_each(|n| w.peer_up(n));
    w
}

#[test]
fn who_asked_the_origin_already_is_the_one_that_says_what_it_said() {
    let mut w = with_peers(4);
    w.join(1, moved());
    assert!(w.said.is_empty(), "others may know more");
    w.join(2, moved());
    w.join(3, wanting(1));
    assert!(w.said.is_empty(), "nor is it asked for one that comes anew");
    w.join(4, asked());
    let lease = w.describer(4);
    w.describe(4, lease, content(64 * MIB, etag("x"), 8));
    assert!((1..=4).all(|n| w.current(n).is_some()));
    assert_eq!(w.grant(4).1, 0, "and what came along is used");
    w.secs(2);
    assert!(w.describers().is_empty(), "nobody asks again");
}

#[test]
fn the_origin_is_asked_where_nobody_had_done_so() {
    let mut w = with_peers(3);
    w.join(1, moved());
    w.join(2, moved());
    w.pass(Duration::from_millis(999));
    assert!(w.describers().is_empty());
    w.pass(Duration::from_millis(1));
    w.describer(1);
    // It was asked by then.
    w.join(3, asked());
    assert!(w.said.is_empty(), "who comes late waits like all others");
}

#[test]
fn whoever_may_not_ask_has_no_answer() {
    let mut w = with_peers(2);
    w.join(1, Join { may_lease: false, ..asked() });
    assert!(w.said.is_empty());
    w.join(2, moved());
    w.secs(1);
    w.describer(2);
}

#[test]
fn a_seed_that_asked_is_not_called_and_no_peer_is_believed_past_one() {
    let mut w = with_peers(2);
    w.seed_up(101);
    w.join(1, Join { earlier: Some(Earlier::Moved), ..seedable(1) });
    w.join(2, Join { earlier: Some(Earlier::Asked), ..seedable(1) });
    assert!(w.describers().is_empty(), "a peer's word is not enough where a seed is");
    w.join(101, Join { earlier: Some(Earlier::Asked), ..seedable(1) });
    w.describer(101);
    w.secs(5);
    assert!(w.triggered().is_empty());
}

/// Who says it again and again is believed once, and never of content that is known.
#[test]
fn what_was_asked_is_believed_once() {
    let mut w = with_peers(2);
    w.join(1, asked());
    let lease = w.describer(1);
    w.fail(1, lease, failure(FailureKind::Origin, true));
    w.join(1, asked());
    assert!(w.describers().is_empty());
    w.join(2, wanting(1));
    w.secs(1);
    let mut w = World::cold(2, 64 * MIB, etag("x")).0;
    w.join(2, Join { age_max_ms: Some(0), ..asked() });
    let lease = w.describer(2);
    w.join(1, Join { age_max_ms: Some(0), ..asked() });
    assert!(w.describers().is_empty());
    w.describe(2, lease, Answer::Unchanged);
    assert!(w.current(1).is_some());
}

#[test]
fn nobody_is_forgotten_when_the_first_one_leaves_meanwhile() {
    let mut w = with_peers(2);
    w.join(1, moved());
    w.join(2, wanting(1));
    w.down(1);
    w.secs(1);
    w.describer(2);
    // And a task that nobody wants any more is gone, whatever was waited for.
    let mut w = with_peers(1);
    w.join(1, moved());
    w.say(1, ToCoordinator::Leave(task(1)));
    w.secs(2);
    assert!(w.core.snapshot().tasks.is_empty());
}

/// Who comes anew may be quicker than those who lost their coordinator at the same time.
#[test]
fn where_another_coordinator_was_lost_its_members_are_waited_for() {
    let mut w = with_peers(3);
    w.step(Input::OtherLost);
    w.join(1, wanting(1));
    assert!(w.said.is_empty());
    w.join(2, asked());
    w.describer(2);
    w.secs(2);
    w.join(3, wanting(2));
    assert_eq!(w.describers().len(), 1, "and later no more");
}

/// Ranges that are being fetched under the leases of another coordinator count as fetched, and nothing is leased until all
/// have had the time to say so.
#[test]
fn what_is_being_fetched_still_is_not_leased_again() {
    let (before, _) = World::cold(1, 64 * MIB, etag("x"));
    let before = before.task();
    let held = |first: u32, count: u32| Held {
        generation: before.generation.unwrap(),
        length: 64 * MIB,
        piece_length: piece_length_for(64 * MIB),
        validator: etag("x"),
        splittable: true,
        eighths: 0,
        live: true,
        fetching: vec![Run { first, count }],
    };
    let mut w = with_peers(2);
    w.join(1, Join { held: Some(held(0, 8)), ..moved() });
    let lease = w.describer(1);
    w.describe(1, lease, Answer::Unchanged);
    w.ask(1);
    assert!(w.grants().is_empty(), "not before all have spoken");
    w.join(2, Join { held: Some(held(8, 16)), ..moved() });
    w.ask(2);
    w.secs(1);
    let grants = w.grants();
    assert!(!grants.is_empty() && grants.iter().all(|(_, _, grant)| grant.first >= 24), "{grants:?}");
}

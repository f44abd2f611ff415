//! Tests of the core as a whole: single scenes, and random inputs, which must neither panic nor unbalance its books.
#![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]

mod sites;

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::task::{HaveMap, Layout};
use crate::wire::control::Share;
use crate::wire::lane::RejectReason;

mod whole;

const TASK: TaskKey = TaskKey(1);
const PIECE: u64 = 64 << 10;
const OPTIONS: TaskOptions =
    TaskOptions { priority: 3, wanted: true, may_lease: false, leases_max: 1, injector: false };

struct Driver {
    core: Swarm,
    now: Time,
}

impl Driver {
    fn new(config: Config) -> Self {
        Self { core: Swarm::new(config, 1), now: Time::ZERO }
    }

    fn put(&mut self, input: Input) -> Vec<Action> {
        self.core.handle(self.now, input);
        self.core.assert_invariants();
        std::iter::from_fn(|| self.core.poll()).collect()
    }

    fn wait(&mut self, duration: Duration) -> Vec<Action> {
        let end = self.now.after(duration);
        let mut actions = Vec::new();
        while let Some(at) = self.core.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            actions.extend(self.put(Input::Deadline));
        }
        self.now = end;
        actions
    }

    fn add(&mut self, pieces: u32, have: &[u32], options: TaskOptions) -> Vec<Action> {
        let mut map = HaveMap::empty(pieces);
        have.iter().for_each(|piece| {
            map.insert(*piece);
        });
        let layout = Layout::new(u64::from(pieces) * PIECE, PIECE).unwrap();
        self.put(Input::TaskAdded { task: TASK, layout, have: map, options, hosts: Vec::new(), across: Vec::new() })
    }

    fn join(&mut self, host: u32) -> Vec<Action> {
        let host = HostKey(host);
        let mut actions = self.put(Input::LaneUp { host });
        actions.extend(self.put(Input::TaskOpened { host, task: TASK, wanted: true }));
        actions
    }

    fn have(&mut self, host: u32, run: std::ops::Range<u32>) -> Vec<Action> {
        self.put(Input::Have { host: HostKey(host), task: TASK, runs: vec![run], complete: false })
    }
}

fn requests(actions: &[Action]) -> Vec<(HostKey, RequestId, u32, u32)> {
    let request = |action: &Action| match action {
        Action::Request { host, request, first, count, .. } => Some((*host, *request, *first, *count)),
        _ => None,
    };
    actions.iter().filter_map(request).collect()
}

#[test]
fn a_complete_task_and_one_without_pieces_are_done_at_once() {
    for pieces in [0, 2] {
        let mut driver = Driver::new(Config::default());
        let have: Vec<u32> = (0..pieces).collect();
        let actions = driver.add(pieces, &have, OPTIONS);
        assert!(actions.contains(&Action::Done { task: TASK }), "{actions:?}");
        assert!(actions.contains(&Action::Report { task: TASK, eighths: 8 }));
    }
}

/// What of these pieces the coordinator is told, in eighths, once each is held.
fn reported(driver: &mut Driver, pieces: std::ops::Range<u32>) -> Vec<u8> {
    let report = |action: Action| if let Action::Report { eighths, .. } = action { Some(eighths) } else { None };
    let stored = |piece| driver.put(Input::Stored { task: TASK, piece });
    pieces.flat_map(stored).filter_map(report).collect()
}

#[test]
fn a_host_that_is_served_reports_twice() {
    let mut driver = Driver::new(Config::default());
    driver.add(64, &[], OPTIONS);
    assert_eq!(reported(&mut driver, 0..64), [1, 8]);
    // Who begins with a part of it says so at once.
    let mut driver = Driver::new(Config::default());
    let first = driver.add(64, &(0..24).collect::<Vec<_>>(), OPTIONS);
    assert!(first.contains(&Action::Report { task: TASK, eighths: 3 }), "{first:?}");
    assert_eq!(reported(&mut driver, 24..64), [8]);
}

#[test]
fn what_the_coordinator_acts_on_between_is_reported_as_well() {
    // After a question of one that lacks what no neighbour holds, the next eighth.
    let mut driver = Driver::new(Config::default());
    driver.add(64, &[], OPTIONS);
    assert_eq!(reported(&mut driver, 0..20), [1]);
    let asked = driver.wait(Duration::from_secs(2));
    let is_question = |action: &&Action| matches!(action, Action::AskNeighbours { lacking: true, .. });
    assert!(asked.iter().any(|action| is_question(&action)), "{asked:?}");
    assert_eq!(reported(&mut driver, 20..48), [3]);
    // To another coordinator the next one, too.
    driver.put(Input::AuthorityDown { task: TASK });
    driver.put(Input::AuthorityUp { task: TASK });
    assert_eq!(reported(&mut driver, 48..64), [7, 8]);
    // Who has had a lease reports each.
    let mut driver = Driver::new(Config::default());
    driver.add(64, &[], TaskOptions { may_lease: true, ..OPTIONS });
    assert_eq!(reported(&mut driver, 0..16), [1]);
    driver.put(Input::LeaseGranted { task: TASK, lease: LeaseKey { lease: 1, epoch: 1 }, pieces: 16..24 });
    assert_eq!(reported(&mut driver, 16..64), [3, 4, 5, 6, 7, 8]);
}

#[test]
fn a_piece_runs_from_request_to_ready_and_is_announced() {
    let mut driver = Driver::new(Config::default());
    driver.add(1, &[], OPTIONS);
    driver.join(1);
    driver.join(2);
    let (host, request, ..) = requests(&driver.have(1, 0..1))[0];
    assert_eq!(driver.core.in_flight_bytes(), PIECE);
    driver.put(Input::Received { host, request, bytes: PIECE as u32 });
    driver.put(Input::Proven { host, task: TASK, request, piece: 0 });
    assert_eq!(driver.core.in_flight_bytes(), 0);
    let actions = driver.put(Input::Stored { task: TASK, piece: 0 });
    assert!(actions.contains(&Action::Ready { task: TASK, piece: 0 }));
    let announced = Action::SendHave { host: HostKey(2), task: TASK, runs: vec![0..1], complete: true };
    assert!(actions.contains(&announced), "the first have-map after a pause goes at once: {actions:?}");
    let to_holder = |action: &&Action| matches!(action, Action::SendHave { host: HostKey(1), .. });
    assert_eq!(actions.iter().find(to_holder), None, "a complete neighbour need not know");
}

/// Bytes that had come when their request was withdrawn are not asked of another, or no longer.
#[test]
fn a_piece_that_came_before_its_request_was_withdrawn_counts() {
    let mut driver = Driver::new(Config::default());
    driver.add(1, &[], OPTIONS);
    driver.join(1);
    let (first, old, ..) = requests(&driver.have(1, 0..1))[0];
    driver.join(2);
    driver.have(2, 0..1);
    let moved = driver.wait(Duration::from_millis(300));
    assert!(moved.contains(&Action::Cancel { host: first, request: old }), "it waits for too long: {moved:?}");
    let (second, new, ..) = requests(&moved)[0];
    let actions = driver.put(Input::Proven { host: first, task: TASK, request: old, piece: 0 });
    assert!(actions.contains(&Action::Cancel { host: second, request: new }), "{actions:?}");
    assert_eq!((driver.core.in_flight_bytes(), driver.core.is_missing(TASK, 0)), (0, false));
    // Nothing is asked of anybody meanwhile.
    let mut driver = Driver::new(Config::default());
    driver.add(1, &[], OPTIONS);
    driver.join(1);
    let (host, request, ..) = requests(&driver.have(1, 0..1))[0];
    driver.put(Input::LaneDown { host });
    driver.put(Input::Proven { host, task: TASK, request, piece: 0 });
    driver.join(2);
    assert_eq!(requests(&driver.have(2, 0..1)), []);
    driver.put(Input::StoreFailed { task: TASK, piece: 0 });
    assert!(driver.core.is_missing(TASK, 0) || driver.core.in_flight_bytes() > 0, "it is wanted still");
}

/// Two hosts that dial each other at once end one of the two lanes: the task is opened on the other one at once.
#[test]
fn a_lane_that_another_takes_the_place_of_costs_no_time() {
    let host = HostKey(1);
    let mut driver = Driver::new(Config::default());
    driver.add(2, &[], OPTIONS);
    let dialled = driver.put(Input::Neighbours { task: TASK, hosts: vec![host], across: Vec::new() });
    assert!(dialled.contains(&Action::Dial { host }), "{dialled:?}");
    let open = Action::Open { host, task: TASK };
    assert!(driver.put(Input::LaneUp { host }).contains(&open));
    driver.put(Input::TaskOpened { host, task: TASK, wanted: false });
    assert_eq!(driver.put(Input::LaneDown { host }), [], "it is not dialled again at once");
    assert!(driver.put(Input::LaneUp { host }).contains(&open));
}

/// Whatever has come of them: what was not told to be proven is not held.
#[test]
fn what_a_lane_owed_when_it_ended_is_asked_of_another() {
    let mut driver = Driver::new(Config::default());
    driver.add(3, &[], OPTIONS);
    driver.join(1);
    let asked = requests(&driver.have(1, 0..3));
    let (host, request, first, _) = asked[0];
    driver.put(Input::Received { host, request, bytes: PIECE as u32 });
    driver.put(Input::Proven { host, task: TASK, request, piece: first });
    driver.join(2);
    let mut actions = driver.have(2, 0..3);
    actions.extend(driver.put(Input::LaneDown { host }));
    let again: u32 = requests(&actions).iter().filter(|(host, ..)| *host == HostKey(2)).map(|(.., count)| count).sum();
    let missing = (0..3).filter(|piece| driver.core.is_missing(TASK, *piece)).count() as u32;
    assert_eq!(again + missing, 2, "all but the one that is being written: {actions:?}");
    assert!(again > 0, "{actions:?}");
    assert!(!driver.core.is_missing(TASK, first));
}

/// Also for a time after it was banned.
#[test]
fn a_banned_host_is_no_neighbour_because_it_opens_a_lane() {
    let host = HostKey(1);
    let mut driver = Driver::new(Config::default());
    driver.add(1, &[], OPTIONS);
    driver.put(Input::Neighbours { task: TASK, hosts: vec![host], across: Vec::new() });
    driver.join(1);
    let (_, request, ..) = requests(&driver.have(1, 0..1))[0];
    driver.put(Input::Refuted { host, request, piece: 0 });
    driver.put(Input::LaneDown { host });
    let actions = driver.put(Input::LaneUp { host });
    assert!(!actions.contains(&Action::Open { host, task: TASK }), "{actions:?}");
}

/// What takes part for the sake of others asks for nothing, until somebody on this host wants it.
#[test]
fn a_task_that_is_wanted_later_is_fetched() {
    let host = HostKey(1);
    let mut driver = Driver::new(Config::default());
    driver.add(1, &[], TaskOptions { wanted: false, ..OPTIONS });
    driver.put(Input::Neighbours { task: TASK, hosts: vec![host], across: Vec::new() });
    driver.join(1);
    assert_eq!(requests(&driver.have(1, 0..1)), []);
    let actions = driver.put(Input::Wanted { task: TASK, may_lease: false });
    assert_eq!(requests(&actions).len(), 1, "{actions:?}");
    let mut driver = Driver::new(Config::default());
    driver.add(1, &[], TaskOptions { wanted: false, ..OPTIONS });
    let idle = driver.put(Input::Neighbours { task: TASK, hosts: vec![host], across: Vec::new() });
    assert!(!idle.contains(&Action::Dial { host }));
    let actions = driver.put(Input::Wanted { task: TASK, may_lease: true });
    assert!(actions.contains(&Action::Dial { host }), "{actions:?}");
    assert!(actions.contains(&Action::AskLease { task: TASK, near: None }), "{actions:?}");
    assert_eq!(driver.put(Input::Wanted { task: TASK, may_lease: true }), [], "once");
}

/// Hosts that take all lanes and are of no use give way to those that the coordinator names; one that is useful stays.
#[test]
fn a_lane_that_proves_useless_gives_its_place_to_a_named_neighbour() {
    let mut driver = Driver::new(Config { lanes_max: 3, ..Config::default() });
    driver.add(4, &[], OPTIONS);
    for host in 1..=3 {
        driver.join(host);
    }
    let (host, request, ..) = requests(&driver.have(1, 0..1))[0];
    driver.put(Input::Proven { host, task: TASK, request, piece: 0 });
    driver.put(Input::Stored { task: TASK, piece: 0 });
    driver.put(Input::Neighbours { task: TASK, hosts: vec![HostKey(9)], across: Vec::new() });
    let early = driver.wait(Duration::from_secs(19));
    let closed = |actions: &[Action]| -> Vec<HostKey> {
        let close = |action: &Action| if let Action::Close { host } = action { Some(*host) } else { None };
        actions.iter().filter_map(close).collect()
    };
    assert_eq!(closed(&early), [], "they may prove useful yet");
    let actions = driver.wait(Duration::from_secs(2));
    assert_eq!(closed(&actions), [HostKey(2)], "one, not the useful one");
    let mut after = driver.put(Input::LaneDown { host: HostKey(2) });
    let again = driver.put(Input::LaneUp { host: HostKey(2) });
    assert!(again.contains(&Action::Close { host: HostKey(2) }), "the place is for the other one: {again:?}");
    after.extend(again);
    after.extend(driver.wait(Duration::from_secs(2)));
    assert!(after.contains(&Action::Dial { host: HostKey(9) }), "{after:?}");
    // Who lacks nothing that its neighbours do not hold keeps them.
    let mut driver = Driver::new(Config { lanes_max: 2, ..Config::default() });
    driver.add(4, &[], OPTIONS);
    driver.join(1);
    driver.join(2);
    driver.have(1, 0..4);
    driver.put(Input::Neighbours { task: TASK, hosts: vec![HostKey(9)], across: Vec::new() });
    assert_eq!(closed(&driver.wait(Duration::from_secs(8))), []);
}

#[test]
fn a_stored_piece_that_failed_is_asked_for_again() {
    let mut driver = Driver::new(Config::default());
    driver.add(1, &[], OPTIONS);
    driver.join(1);
    let (host, request, ..) = requests(&driver.have(1, 0..1))[0];
    driver.put(Input::Proven { host, task: TASK, request, piece: 0 });
    let actions = driver.put(Input::StoreFailed { task: TASK, piece: 0 });
    assert_eq!(requests(&actions).len(), 1);
}

#[test]
fn the_budget_bounds_what_is_in_flight_and_lets_one_piece_through() {
    let mut driver = Driver::new(Config { in_flight_bytes_max: PIECE / 2, ..Config::default() });
    driver.add(8, &[], OPTIONS);
    driver.join(1);
    driver.join(2);
    assert_eq!(requests(&driver.have(1, 0..8)).len(), 1);
    assert_eq!(requests(&driver.have(2, 0..8)).len(), 0);
    let actions = driver.put(Input::LaneDown { host: HostKey(1) });
    assert_eq!(requests(&actions).len(), 1, "the other neighbour takes over");
}

#[test]
fn a_silent_neighbour_is_left_for_another_and_later_asked_again() {
    let mut driver = Driver::new(Config::default());
    driver.add(1, &[], OPTIONS);
    driver.join(1);
    let (host, request, ..) = requests(&driver.have(1, 0..1))[0];
    let actions = driver.wait(Duration::from_secs(11));
    assert!(actions.contains(&Action::Cancel { host, request }), "{actions:?}");
    assert_eq!(requests(&actions).len(), 0, "it is on probation");
    assert_eq!(requests(&driver.wait(Duration::from_secs(6))).len(), 1, "there is nobody else");
    driver.join(2);
    driver.have(2, 0..1);
    let moved = requests(&driver.wait(Duration::from_secs(2)));
    assert_eq!(moved.first().map(|request| request.0), Some(HostKey(2)), "an idle holder takes over");
}

#[test]
fn a_neighbour_that_waits_for_our_own_limits_is_not_silent() {
    let mut driver = Driver::new(Config::default());
    driver.add(1, &[], OPTIONS);
    driver.join(1);
    let is_stalled = |action: &Action| matches!(action, Action::Stalled { .. });
    let (host, ..) = requests(&driver.have(1, 0..1))[0];
    for _ in 0..100 {
        let actions = driver.wait(Duration::from_secs(5));
        assert!(!actions.iter().any(is_stalled), "{actions:?}");
        driver.put(Input::HeldUp { host });
    }
    let actions = driver.wait(Duration::from_secs(11));
    assert!(actions.iter().any(is_stalled), "now it is: {actions:?}");
}

/// Not even for as long as one that is known to be slow is waited for.
#[test]
fn a_neighbour_that_sends_a_byte_now_and_then_is_silent() {
    let mut driver = Driver::new(Config::default());
    driver.add(1, &[], OPTIONS);
    driver.join(1);
    let (host, request, ..) = requests(&driver.have(1, 0..1))[0];
    for second in 0..9 {
        let actions = driver.wait(Duration::from_millis(500));
        assert!(!actions.contains(&Action::Cancel { host, request }), "after {second}");
        driver.put(Input::Received { host, request, bytes: 1 });
        let actions = driver.wait(Duration::from_millis(500));
        assert!(!actions.contains(&Action::Cancel { host, request }), "after {second}");
    }
    let actions = driver.wait(Duration::from_secs(2));
    assert!(actions.contains(&Action::Cancel { host, request }), "{actions:?}");
}

#[test]
fn a_liar_is_blamed_and_banned_also_when_it_comes_back() {
    let mut driver = Driver::new(Config::default());
    driver.add(1, &[], OPTIONS);
    driver.join(1);
    let (host, request, ..) = requests(&driver.have(1, 0..1))[0];
    let actions = driver.put(Input::Refuted { host, request, piece: 0 });
    assert!(actions.contains(&Action::Blame { host, task: TASK, piece: 0 }));
    driver.put(Input::LaneDown { host });
    driver.join(1);
    assert_eq!(requests(&driver.have(1, 0..1)), []);
    assert_eq!(requests(&driver.wait(Duration::from_secs(61))).len(), 1, "a ban ends");
}

#[test]
fn what_is_refused_is_not_asked_of_the_same_host_again() {
    let mut driver = Driver::new(Config::default());
    driver.add(1, &[], OPTIONS);
    driver.join(1);
    let (host, request, ..) = requests(&driver.have(1, 0..1))[0];
    let actions = driver.put(Input::Rejected { host, request, reason: RejectReason::NotHeld });
    assert_eq!(requests(&actions), []);
    let (host, request, ..) = requests(&driver.have(1, 0..1))[0];
    assert_eq!(requests(&driver.put(Input::Rejected { host, request, reason: RejectReason::Busy })), []);
    assert_eq!(requests(&driver.wait(Duration::from_secs(1))).len(), 1, "busy passes");
}

/// Also when it comes back on another lane, and not for good.
#[test]
fn who_claims_and_refuses_is_not_asked_for_a_time() {
    let mut driver = Driver::new(Config::default());
    driver.add(1, &[], OPTIONS);
    let mut unkept = 0;
    for refusals in 1..=4 {
        if refusals % 2 == 1 {
            driver.put(Input::LaneDown { host: HostKey(1) });
            driver.join(1);
        }
        let (host, request, ..) = requests(&driver.have(1, 0..1))[0];
        let actions = driver.put(Input::Rejected { host, request, reason: RejectReason::NotHeld });
        unkept += actions.iter().filter(|action| matches!(action, Action::Unkept { .. })).count();
    }
    assert_eq!(unkept, 1);
    assert_eq!(requests(&driver.have(1, 0..1)), [], "it is not asked");
    driver.put(Input::LaneDown { host: HostKey(1) });
    driver.join(1);
    assert_eq!(requests(&driver.have(1, 0..1)), []);
    assert_eq!(requests(&driver.wait(Duration::from_secs(61))).len(), 1, "for a time");
}

#[test]
fn an_injector_shows_a_child_what_it_allotted_to_it_and_no_more() {
    let mut driver = Driver::new(Config::default());
    driver.add(32, &(0..32).collect::<Vec<_>>(), TaskOptions { injector: true, ..OPTIONS });
    let mut allotted = std::collections::BTreeSet::new();
    let mut actions = driver.join(1);
    actions.extend(driver.join(2));
    actions.extend(driver.wait(Duration::from_secs(1)));
    for action in actions {
        match action {
            Action::Allot { pieces, .. } => pieces.for_each(|piece| assert!(allotted.insert(piece), "{piece} twice")),
            Action::SendHave { .. } => panic!("shown too early"),
            _ => {}
        }
    }
    assert!((4..32).contains(&allotted.len()), "{} pieces", allotted.len());
    assert_eq!(driver.core.hidden(TASK), 32);
}

#[test]
fn children_that_do_not_ask_lose_their_allotments_and_in_the_end_everything_is_shown() {
    let mut driver = Driver::new(Config::default());
    driver.add(4, &[0, 1, 2, 3], TaskOptions { injector: true, ..OPTIONS });
    driver.join(1);
    driver.wait(Duration::from_secs(6));
    assert_eq!(driver.core.hidden(TASK), 0);
}

#[test]
fn slots_are_shared_least_recently_served_first() {
    let mut driver = Driver::new(Config { upload_slots: 1, ..Config::default() });
    driver.add(32, &(0..32).collect::<Vec<_>>(), OPTIONS);
    let ask =
        |host, request, first| Input::Requested { host: HostKey(host), task: TASK, request, first, count: 8, skip: 0 };
    driver.join(1);
    driver.join(2);
    let mut serves = driver.put(ask(1, 0, 0));
    serves.extend(driver.put(ask(2, 0, 8)));
    let mut order = Vec::new();
    while let Some(Action::Serve { host, request, piece, .. }) = serves.pop() {
        order.push(host.0);
        serves = driver.put(Input::Sent { host, request, piece, bytes: PIECE as u32 });
    }
    assert_eq!(order, [1, 1, 1, 1, 2, 2, 2, 2, 1, 1, 1, 1, 2, 2, 2, 2]);
}

#[test]
fn requests_beyond_what_is_held_or_allowed_are_refused() {
    let mut driver = Driver::new(Config::default());
    driver.add(80, &(0..70).collect::<Vec<_>>(), OPTIONS);
    driver.join(1);
    let host = HostKey(1);
    let mut ask = |request, first, count| {
        let actions = driver.put(Input::Requested { host, task: TASK, request, first, count, skip: 0 });
        actions.iter().find_map(|action| match action {
            Action::Reject { reason, .. } => Some(*reason),
            _ => None,
        })
    };
    assert_eq!(ask(1, 69, 2), Some(RejectReason::NotHeld));
    assert_eq!(ask(1, 0, 65), Some(RejectReason::Malformed));
    assert_eq!(ask(1, u32::MAX, 2), Some(RejectReason::Malformed));
    for request in 2..66 {
        assert_eq!(ask(request, 0, 1), None);
    }
    assert_eq!(ask(66, 0, 1), Some(RejectReason::Busy));
}

/// Who asks for the rest of a piece gets that, and of the next ones all; there is no rest of what is whole.
#[test]
fn a_part_of_a_piece_may_be_left_out_and_never_all_of_it() {
    let mut driver = Driver::new(Config::default());
    driver.add(4, &[0, 1, 2, 3], OPTIONS);
    driver.join(1);
    let host = HostKey(1);
    for (request, skip) in [(1, PIECE as u32), (2, PIECE as u32 + 1), (3, u32::MAX)] {
        let actions = driver.put(Input::Requested { host, task: TASK, request, first: 0, count: 2, skip });
        assert_eq!(actions, [Action::Reject { host, request, reason: RejectReason::Malformed }], "{skip}");
    }
    let skip = PIECE as u32 - 1;
    let actions = driver.put(Input::Requested { host, task: TASK, request: 4, first: 0, count: 2, skip });
    assert_eq!(actions, [Action::Serve { host, task: TASK, request: 4, piece: 0, skip }]);
    let actions = driver.put(Input::Sent { host, request: 4, piece: 0, bytes: 1 });
    assert_eq!(actions, [Action::Serve { host, task: TASK, request: 4, piece: 1, skip: 0 }]);
}

/// Nobody is to blame for what several sent, and it is asked for again.
#[test]
fn a_piece_that_several_sent_and_that_does_not_match_is_asked_for_again() {
    let mut driver = Driver::new(Config::default());
    driver.add(2, &[], OPTIONS);
    driver.join(1);
    let (host, request, first, count) = requests(&driver.have(1, 0..2))[0];
    let actions = driver.put(Input::Mixed { host, request, piece: first });
    assert!(
        !actions.iter().any(|action| matches!(action, Action::Blame { .. } | Action::Cancel { .. })),
        "{actions:?}"
    );
    let asked = requests(&actions);
    assert!(asked.iter().any(|(_, _, again, _)| *again == first), "{actions:?}");
    // What else was asked for comes as it would have.
    if count > 1 {
        let actions = driver.put(Input::Proven { host, task: TASK, request, piece: first + 1 });
        assert!(requests(&actions).is_empty(), "{actions:?}");
    }
    assert_eq!(driver.put(Input::Mixed { host, request, piece: first }), [], "it is no part of that request any more");
}

#[test]
fn a_lease_is_fetched_without_what_neighbours_hold_and_the_next_is_asked_at_half() {
    let mut driver = Driver::new(Config::default());
    let actions = driver.add(16, &[], TaskOptions { may_lease: true, ..OPTIONS });
    let ask = Action::AskLease { task: TASK, near: None };
    assert!(actions.contains(&ask));
    driver.join(1);
    driver.have(1, 0..2);
    let lease = LeaseKey { lease: 1, epoch: 1 };
    let actions = driver.put(Input::LeaseGranted { task: TASK, lease, pieces: 0..8 });
    assert!(actions.contains(&Action::Fetch { task: TASK, lease, pieces: 2..8 }), "{actions:?}");
    assert!(!actions.contains(&ask));
    for piece in 2..4 {
        assert!(!driver.put(Input::OriginStored { task: TASK, piece }).contains(&ask));
    }
    assert!(driver.put(Input::OriginStored { task: TASK, piece: 4 }).contains(&ask), "half is done");
    assert_eq!(driver.put(Input::LeaseNone { task: TASK, retry: None }), []);
    let actions = driver.put(Input::LeaseRevoked { task: TASK, lease });
    assert!(actions.contains(&Action::Abort { task: TASK, lease }));
}

#[test]
fn a_lease_is_asked_for_where_somebody_reads() {
    let mut driver = Driver::new(Config::default());
    driver.add(16, &[], TaskOptions { may_lease: true, ..OPTIONS });
    driver.join(1);
    driver.have(1, 9..10);
    let lease = LeaseKey { lease: 1, epoch: 1 };
    driver.put(Input::LeaseGranted { task: TASK, lease, pieces: 0..2 });
    driver.put(Input::Window { task: TASK, pieces: 9..12 });
    let actions = driver.put(Input::OriginStored { task: TASK, piece: 0 });
    // What a neighbour holds comes from there.
    assert!(actions.contains(&Action::AskLease { task: TASK, near: Some(10) }), "{actions:?}");
}

/// A coordinator that knows nothing of a host that resumes a task grants it what it holds first.
#[test]
fn leases_of_what_is_held_do_not_hold_up() {
    let mut driver = Driver::new(Config::default());
    let held: Vec<u32> = (0..8).collect();
    driver.add(16, &held, TaskOptions { may_lease: true, ..OPTIONS });
    let ask = Action::AskLease { task: TASK, near: None };
    let first = LeaseKey { lease: 1, epoch: 1 };
    let actions = driver.put(Input::LeaseGranted { task: TASK, lease: first, pieces: 0..8 });
    assert!(actions.contains(&Action::ReleaseLease { task: TASK, lease: first }), "{actions:?}");
    assert!(driver.wait(Duration::from_millis(60)).contains(&ask), "at once");
    // What a neighbour holds the coordinator may grant again.
    driver.join(1);
    driver.have(1, 8..16);
    let second = LeaseKey { lease: 2, epoch: 1 };
    let actions = driver.put(Input::LeaseGranted { task: TASK, lease: second, pieces: 8..16 });
    assert!(actions.contains(&Action::ReleaseLease { task: TASK, lease: second }), "{actions:?}");
    assert!(!driver.wait(Duration::from_millis(900)).contains(&ask), "a little later");
}

#[test]
fn a_lane_that_serves_no_task_is_closed_after_a_while() {
    let mut driver = Driver::new(Config::default());
    driver.add(1, &[], OPTIONS);
    driver.join(1);
    driver.put(Input::TaskRemoved { task: TASK });
    let actions = driver.wait(Duration::from_secs(31));
    assert_eq!(actions, [Action::Close { host: HostKey(1) }]);
}

const PIECES: u32 = 10;

fn piece() -> impl Strategy<Value = u32> {
    prop_oneof![9 => 0..PIECES, 1 => Just(u32::MAX)]
}

fn range() -> impl Strategy<Value = std::ops::Range<u32>> {
    (piece(), 0u32..6).prop_map(|(start, count)| start..start.saturating_add(count))
}

fn input() -> impl Strategy<Value = Input> {
    let host = || (0u32..4).prop_map(HostKey);
    let task = || (0u32..2).prop_map(TaskKey);
    let id = || (0u32..24).prop_map(RequestId);
    let lease = || (0u64..3).prop_map(|lease| LeaseKey { lease, epoch: lease });
    let reason = prop_oneof![Just(RejectReason::Busy), Just(RejectReason::NotHeld), Just(RejectReason::Conflict)];
    let answered = prop_oneof![Just(Answered::Nothing), Just(Answered::Proven), Just(Answered::Refuted)];
    let skip = prop_oneof![4 => Just(0), 1 => any::<u32>(), 1 => 0..PIECE as u32];
    let retry = prop_oneof![Just(None), Just(Some(Duration::ZERO)), Just(Some(Duration::from_secs(2)))];
    let options = (any::<u8>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(priority, wanted, may_lease, injector)| TaskOptions { priority, wanted, may_lease, leases_max: 2, injector },
    );
    let lanes = prop_oneof![
        4 => (host(), task(), any::<bool>()).prop_map(|(host, task, wanted)| Input::TaskOpened { host, task, wanted }),
        4 => host().prop_map(|host| Input::LaneUp { host }),
        1 => host().prop_map(|host| Input::LaneDown { host }),
        1 => (host(), task()).prop_map(|(host, task)| Input::TaskClosed { host, task }),
        1 => (host(), task()).prop_map(|(host, task)| Input::TaskReopened { host, task }),
        2 => (task(), prop::collection::vec((host(), prop::option::of(0u16..4)), 0..4)).prop_map(|(task, named)| {
            let share = |of| Share { part: of / 2, of };
            let across = named.iter().filter_map(|(host, of)| Some((*host, share((*of)?)))).collect();
            Input::Neighbours { task, hosts: named.into_iter().map(|(host, _)| host).collect(), across }
        }),
        1 => task().prop_map(|task| Input::AuthorityDown { task }),
        1 => task().prop_map(|task| Input::AuthorityUp { task }),
    ];
    let tasks = prop_oneof![
        4 => (task(), prop::collection::vec(piece(), 0..8), options).prop_map(|(task, held, options)| {
            let mut have = HaveMap::empty(PIECES);
            held.into_iter().for_each(|piece| { have.insert(piece); });
            let layout = Layout::new(u64::from(PIECES) * PIECE - 5, PIECE).unwrap();
            Input::TaskAdded { task, layout, have, options, hosts: Vec::new(), across: Vec::new() }
        }),
        2 => (task(), prop::collection::vec(host(), 0..4)).prop_map(|(task, hosts)| {
            let layout = Layout::new(PIECE - 5, PIECE).unwrap();
            let options = TaskOptions { may_lease: true, ..OPTIONS };
            Input::TaskAdded { task, layout, have: HaveMap::empty(1), options, hosts, across: Vec::new() }
        }),
        1 => task().prop_map(|task| Input::TaskRemoved { task }),
        1 => (task(), any::<bool>()).prop_map(|(task, may_lease)| Input::Wanted { task, may_lease }),
        2 => (task(), range()).prop_map(|(task, pieces)| Input::Window { task, pieces }),
        1 => (task(), range()).prop_map(|(task, pieces)| Input::Evicted { task, pieces }),
        4 => (task(), piece()).prop_map(|(task, piece)| Input::Stored { task, piece }),
        1 => (task(), piece()).prop_map(|(task, piece)| Input::StoreFailed { task, piece }),
        6 => Just(Input::Deadline),
    ];
    let pull = prop_oneof![
        6 => (host(), task(), range(), prop::bool::weighted(0.1)).prop_map(|(host, task, run, complete)| {
            Input::Have { host, task, runs: vec![run], complete }
        }),
        1 => (host(), task(), range()).prop_map(|(host, task, run)| Input::Lost { host, task, runs: vec![run] }),
        2 => (host(), task(), range()).prop_map(|(host, task, pieces)| Input::Allotted { host, task, pieces }),
        4 => (host(), id(), any::<u32>()).prop_map(|(host, request, bytes)| Input::Received { host, request, bytes }),
        1 => host().prop_map(|host| Input::HeldUp { host }),
        1 => host().prop_map(|host| Input::AnswerHeldUp { host }),
        6 => (host(), task(), id(), piece()).prop_map(|(host, task, request, piece)| {
            Input::Proven { host, task, request, piece }
        }),
        1 => (host(), id(), piece()).prop_map(|(host, request, piece)| Input::Refuted { host, request, piece }),
        1 => (host(), id(), piece()).prop_map(|(host, request, piece)| Input::Mixed { host, request, piece }),
        1 => (host(), id(), reason).prop_map(|(host, request, reason)| Input::Rejected { host, request, reason }),
        3 => (host(), task(), answered).prop_map(|(host, task, answered)| Input::Answered { host, task, answered }),
        1 => host().prop_map(|host| Input::Asked { host }),
    ];
    let push = prop_oneof![
        4 => (host(), task(), 0u32..4, piece(), 0u32..4, skip).prop_map(|(host, task, request, first, count, skip)| {
            Input::Requested { host, task, request, first, count, skip }
        }),
        6 => (host(), 0u32..4, piece(), any::<u32>()).prop_map(|(host, request, piece, bytes)| {
            Input::Sent { host, request, piece, bytes }
        }),
        1 => (host(), 0u32..4).prop_map(|(host, request)| Input::Cancelled { host, request }),
        1 => (host(), 0u32..4).prop_map(|(host, request)| Input::ServeFailed { host, request }),
    ];
    let origin = prop_oneof![
        3 => (task(), lease(), range()).prop_map(|(task, lease, pieces)| Input::LeaseGranted { task, lease, pieces }),
        1 => (task(), lease()).prop_map(|(task, lease)| Input::LeaseRevoked { task, lease }),
        1 => (task(), retry).prop_map(|(task, retry)| Input::LeaseNone { task, retry }),
        1 => (task(), lease()).prop_map(|(task, lease)| Input::OriginDone { task, lease }),
        1 => (task(), lease()).prop_map(|(task, lease)| Input::OriginFailed { task, lease }),
        4 => (task(), piece()).prop_map(|(task, piece)| Input::OriginStored { task, piece }),
    ];
    prop_oneof![2 => lanes, 2 => tasks, 3 => pull, 2 => push, 1 => origin]
}

proptest! {
    #[test]
    fn random_inputs_neither_panic_nor_unbalance_the_books(
        inputs in prop::collection::vec((0u64..700, input()), 1..250),
        budget in prop_oneof![Just(1u64), Just(3 * PIECE), Just(32 << 20)],
    ) {
        let config = Config { in_flight_bytes_max: budget, lanes_max: 3, ..Config::default() };
        let mut cores = [Swarm::new(config.clone(), 3), Swarm::new(config, 3)];
        let mut now = Time::ZERO;
        for (pause, input) in inputs {
            now = now.after(Duration::from_millis(pause));
            let [a, b] = cores.each_mut().map(|core| {
                core.handle(now, input.clone());
                core.assert_invariants();
                assert!(core.next_deadline().is_none_or(|at| at > now), "a deadline that has passed");
                std::iter::from_fn(|| core.poll()).collect::<Vec<_>>()
            });
            prop_assert_eq!(a, b, "equal inputs gave unequal actions");
        }
    }
}

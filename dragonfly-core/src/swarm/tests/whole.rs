//! Small content is had in one answer, and otherwise as all content is.

use super::super::connect::IDLE_MAX;
use super::super::whole::{ANSWER_MAX, ASKED_BYTES_MAX};
use super::*;

const HOST: HostKey = HostKey(1);
const OTHER: HostKey = HostKey(2);
const ASK: Action = Action::Ask { host: HOST, task: TASK };
const LEASE: Action = Action::AskLease { task: TASK };

/// A host that may ask for leases, with lanes to two others.
fn driver() -> Driver {
    let mut driver = Driver::new(Config::default());
    for host in [HOST, OTHER] {
        driver.put(Input::LaneUp { host });
    }
    driver
}

impl Driver {
    /// A task starts whose neighbours were named.
    fn named(&mut self, task: TaskKey, length: u64, hosts: Vec<HostKey>) -> Vec<Action> {
        let layout = Layout::new(length, PIECE).unwrap();
        let options = TaskOptions { may_lease: true, ..OPTIONS };
        self.put(Input::TaskAdded { task, layout, have: HaveMap::empty(layout.pieces()), options, hosts })
    }

    fn answered(&mut self, host: HostKey, answered: Answered) -> Vec<Action> {
        self.put(Input::Answered { host, task: TASK, answered })
    }
}

fn open(host: HostKey) -> Action {
    Action::Open { host, task: TASK }
}

#[test]
fn all_of_it_comes_for_one_question_and_nothing_else_is_said() {
    for length in [1, PIECE] {
        let mut driver = driver();
        assert_eq!(driver.named(TASK, length, vec![HOST, OTHER]), [ASK], "of {length} bytes");
        assert_eq!(driver.wait(ANSWER_MAX / 2), []);
        assert_eq!(driver.answered(HOST, Answered::Proven), []);
        let held = driver.put(Input::Stored { task: TASK, piece: 0 });
        let ready = Action::Ready { task: TASK, piece: 0 };
        assert_eq!(held, [ready, Action::Report { task: TASK, eighths: 8 }, Action::Done { task: TASK }]);
        assert_eq!(driver.wait(IDLE_MAX / 2), []);
    }
}

#[test]
fn what_has_two_pieces_and_what_is_held_is_not_asked_for_so() {
    let mut driver = driver();
    let opened = driver.named(TASK, PIECE + 1, vec![HOST]);
    assert!(opened.contains(&open(HOST)) && !opened.contains(&ASK), "{opened:?}");
    let mut have = HaveMap::empty(1);
    have.insert(0);
    let layout = Layout::new(PIECE, PIECE).unwrap();
    let held = Input::TaskAdded { task: TaskKey(2), layout, have, options: OPTIONS, hosts: vec![HOST] };
    let asked = driver.put(held);
    assert!(!asked.iter().any(|action| matches!(action, Action::Ask { .. } | Action::Open { .. })), "{asked:?}");
}

/// Whoever answers with nothing, is silent, or is gone: it goes on as if nobody had been asked.
#[test]
fn without_an_answer_it_goes_the_way_of_all_content() {
    let ways: [fn(&mut Driver) -> Vec<Action>; 3] = [
        |driver| driver.answered(HOST, Answered::Nothing),
        |driver| driver.wait(ANSWER_MAX),
        |driver| driver.put(Input::LaneDown { host: HOST }),
    ];
    for (number, way) in ways.into_iter().enumerate() {
        let mut driver = driver();
        driver.named(TASK, PIECE, vec![HOST, OTHER]);
        let actions = way(&mut driver);
        assert!(actions.contains(&open(OTHER)) && actions.contains(&LEASE), "{number}: {actions:?}");
        assert_eq!(actions.contains(&open(HOST)), number < 2, "{number}: {actions:?}");
        assert!(!actions.iter().any(|action| matches!(action, Action::Ask { .. })), "{number}: {actions:?}");
    }
}

#[test]
fn an_answer_that_comes_late_is_of_use_all_the_same() {
    let mut driver = driver();
    driver.named(TASK, PIECE, vec![HOST]);
    driver.wait(ANSWER_MAX * 2);
    driver.answered(HOST, Answered::Proven);
    let held = driver.put(Input::Stored { task: TASK, piece: 0 });
    assert!(held.contains(&Action::Done { task: TASK }), "{held:?}");
}

#[test]
fn bytes_that_are_not_what_they_should_be_are_blamed_once() {
    let mut driver = driver();
    driver.named(TASK, PIECE, vec![HOST, OTHER]);
    let actions = driver.answered(HOST, Answered::Refuted);
    let blame = Action::Blame { host: HOST, task: TASK, piece: 0 };
    assert_eq!(actions.iter().filter(|action| **action == blame).count(), 1, "{actions:?}");
    assert!(actions.contains(&open(OTHER)) && !actions.contains(&open(HOST)), "{actions:?}");
    let actions = driver.named(TaskKey(2), PIECE, vec![HOST]);
    assert!(actions.contains(&Action::Ask { host: HOST, task: TaskKey(2) }), "of that task alone: {actions:?}");
}

/// Who answers one after the other is not silent; who is asked for much has the rest asked for piece by piece.
#[test]
fn one_neighbour_is_asked_for_so_much_at_a_time() {
    let mut driver = driver();
    let at_once = (ASKED_BYTES_MAX / PIECE) as u32;
    for task in 0..at_once {
        let asked = driver.named(TaskKey(task), PIECE, vec![HOST]);
        assert_eq!(asked, [Action::Ask { host: HOST, task: TaskKey(task) }]);
    }
    let more = driver.named(TaskKey(at_once), PIECE, vec![HOST]);
    assert!(more.contains(&Action::Open { host: HOST, task: TaskKey(at_once) }), "{more:?}");
    for task in 0..at_once {
        let waited = driver.wait(ANSWER_MAX * 3 / 4);
        assert!(!waited.iter().any(|a| matches!(a, Action::Open { task, .. } if task.0 < at_once)), "{waited:?}");
        driver.put(Input::Answered { host: HOST, task: TaskKey(task), answered: Answered::Proven });
        driver.put(Input::Stored { task: TaskKey(task), piece: 0 });
    }
    assert_eq!(driver.named(TaskKey(99), PIECE, vec![HOST]), [Action::Ask { host: HOST, task: TaskKey(99) }]);
}

/// At either end: a lane over which nothing but small content goes is in use.
#[test]
fn a_lane_is_kept_for_as_long_as_small_content_goes_over_it() {
    let close = Action::Close { host: HOST };
    let mut driver = Driver::new(Config::default());
    driver.put(Input::LaneUp { host: HOST });
    for _ in 0..5 {
        assert_eq!(driver.wait(IDLE_MAX * 3 / 4), []);
        driver.put(Input::Asked { host: HOST });
    }
    assert_eq!(driver.wait(IDLE_MAX - ANSWER_MAX), []);
    assert_eq!(driver.wait(ANSWER_MAX * 2), [close]);
}

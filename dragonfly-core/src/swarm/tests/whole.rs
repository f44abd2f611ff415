//! Small content is had in one answer, and otherwise as all content is.

use super::super::connect::IDLE_MAX;
use super::super::whole::{ANSWER_MAX, ASKED_BYTES_MAX, HELD_UP_MAX, LATE_MAX, PAUSE_MIN};
use super::*;

const HOST: HostKey = HostKey(1);
const OTHER: HostKey = HostKey(2);
const ASK: Action = Action::Ask { host: HOST, task: TASK };
const LEASE: Action = Action::AskLease { task: TASK, near: None };

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
        self.put(Input::TaskAdded {
            task,
            layout,
            have: HaveMap::empty(layout.pieces()),
            options,
            hosts,
            across: Vec::new(),
        })
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
    let held =
        Input::TaskAdded { task: TaskKey(2), layout, have, options: OPTIONS, hosts: vec![HOST], across: Vec::new() };
    let asked = driver.put(held);
    assert!(!asked.iter().any(|action| matches!(action, Action::Ask { .. } | Action::Open { .. })), "{asked:?}");
}

/// Whoever answers with nothing, is silent, or is gone: it goes on as if nobody had been asked.
#[test]
fn without_an_answer_it_goes_the_way_of_all_content() {
    let ways: [fn(&mut Driver) -> Vec<Action>; 2] =
        [|driver| driver.answered(HOST, Answered::Nothing), |driver| driver.wait(ANSWER_MAX)];
    for (number, way) in ways.into_iter().enumerate() {
        let mut driver = driver();
        driver.named(TASK, PIECE, vec![HOST, OTHER]);
        let actions = way(&mut driver);
        assert!(actions.contains(&open(OTHER)) && actions.contains(&LEASE), "{number}: {actions:?}");
        assert!(actions.contains(&open(HOST)), "{number}: {actions:?}");
        assert!(!actions.iter().any(|action| matches!(action, Action::Ask { .. })), "{number}: {actions:?}");
    }
}

/// Two hosts that dial each other at once lose one of two lanes, and what was asked over it.
#[test]
fn what_was_asked_over_a_lane_that_is_lost_is_asked_of_another() {
    let mut driver = driver();
    driver.named(TASK, PIECE, vec![HOST, OTHER]);
    let ask = Action::Ask { host: OTHER, task: TASK };
    assert!(driver.put(Input::LaneDown { host: HOST }).contains(&ask));
    let again = driver.put(Input::LaneUp { host: HOST });
    assert!(!again.contains(&ASK), "once is enough: {again:?}");
    assert!(driver.put(Input::LaneDown { host: OTHER }).contains(&ASK));
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

/// What it owes comes ahead of anything else on its lane: what is opened with it meanwhile would come twice.
#[test]
fn one_that_has_answered_before_is_given_time_and_others_are_asked() {
    let mut driver = driver();
    driver.named(TaskKey(2), PIECE, vec![HOST]);
    driver.put(Input::Answered { host: HOST, task: TaskKey(2), answered: Answered::Proven });
    driver.put(Input::Stored { task: TaskKey(2), piece: 0 });
    driver.named(TASK, PIECE, vec![HOST, OTHER]);
    let silent = driver.wait(ANSWER_MAX);
    assert!(silent.contains(&open(OTHER)) && !silent.contains(&open(HOST)), "{silent:?}");
    let waited = driver.wait(LATE_MAX - ANSWER_MAX);
    assert!(!waited.contains(&open(HOST)), "{waited:?}");
    let late = driver.wait(ANSWER_MAX * 2);
    assert!(late.contains(&open(HOST)), "{late:?}");
}

/// What it says and asks itself is no answer: it is not waited for any longer.
#[test]
fn one_that_says_other_things_meanwhile_owes_its_answer_all_the_same() {
    let mut driver = driver();
    driver.named(TASK, PIECE, vec![HOST, OTHER]);
    for _ in 0..3 {
        driver.put(Input::Asked { host: HOST });
        assert_eq!(driver.wait(ANSWER_MAX / 4), []);
    }
    driver.put(Input::Asked { host: HOST });
    assert!(driver.wait(ANSWER_MAX / 4).contains(&open(OTHER)));
}

/// Nor is one that answers one question after the other, and this one never.
#[test]
fn an_answer_that_others_go_before_has_an_end() {
    let mut driver = driver();
    let others = 2 + (LATE_MAX.as_millis() / ANSWER_MAX.as_millis()) as u32 * 2;
    driver.named(TASK, PIECE, vec![HOST, OTHER]);
    for task in 2..2 + others {
        driver.named(TaskKey(task), 1, vec![HOST]);
    }
    let mut waited = Duration::ZERO;
    for task in 2.. {
        let actions = driver.wait(ANSWER_MAX / 2);
        waited += ANSWER_MAX / 2;
        if actions.contains(&open(OTHER)) {
            break;
        }
        assert!(waited < LATE_MAX, "{actions:?}");
        driver.put(Input::Answered { host: HOST, task: TaskKey(task), answered: Answered::Proven });
    }
    assert_eq!(waited, LATE_MAX);
}

/// This host's own rates and disk hold up what has come: nobody is to blame, and nothing comes twice.
#[test]
fn what_waits_for_limits_of_this_host_is_waited_for() {
    let mut driver = driver();
    driver.named(TASK, PIECE, vec![HOST, OTHER]);
    for _ in 0..HELD_UP_MAX.as_secs() - 1 {
        let waited = driver.wait(Duration::from_secs(1));
        // A lane over which nothing goes ends.
        assert!(waited.iter().all(|action| *action == Action::Close { host: OTHER }), "{waited:?}");
        driver.put(Input::AnswerHeldUp { host: HOST });
    }
    // But not for ever.
    let waited = driver.wait(Duration::from_secs(1));
    assert!(waited.contains(&LEASE) && waited.contains(&open(OTHER)), "{waited:?}");
}

/// What holds up other things that it sends is no excuse for an answer that does not come.
#[test]
fn an_answer_is_not_waited_for_behind_what_is_none() {
    let mut driver = driver();
    driver.named(TASK, PIECE, vec![HOST, OTHER]);
    driver.put(Input::HeldUp { host: HOST });
    assert_eq!(driver.wait(ANSWER_MAX / 2), []);
    driver.put(Input::HeldUp { host: HOST });
    assert!(driver.wait(ANSWER_MAX / 2).contains(&open(OTHER)));
}

/// Else the one that is named first would cost each file of a directory that time.
#[test]
fn one_that_owed_an_answer_is_not_asked_for_the_next_file() {
    let mut driver = driver();
    let file = |number| Action::Ask { host: HOST, task: TaskKey(number) };
    driver.named(TaskKey(2), PIECE, vec![HOST, OTHER]);
    driver.put(Input::Answered { host: HOST, task: TaskKey(2), answered: Answered::Proven });
    assert_eq!(driver.named(TaskKey(3), PIECE, vec![HOST, OTHER]), [file(3)]);
    driver.wait(ANSWER_MAX);
    let next = driver.named(TaskKey(4), PIECE, vec![HOST, OTHER]);
    assert!(next.contains(&Action::Ask { host: OTHER, task: TaskKey(4) }), "{next:?}");
    driver.put(Input::Answered { host: OTHER, task: TaskKey(4), answered: Answered::Proven });
    driver.wait(PAUSE_MIN);
    assert_eq!(driver.named(TaskKey(5), PIECE, vec![HOST, OTHER]), [file(5)]);
    // The second time for twice as long.
    driver.wait(PAUSE_MIN + ANSWER_MAX);
    let next = driver.named(TaskKey(6), PIECE, vec![HOST, OTHER]);
    assert!(next.contains(&Action::Ask { host: OTHER, task: TaskKey(6) }), "{next:?}");
}

/// Which this host does by itself where it would be asked for too much: nothing is known of it by that.
#[test]
fn one_that_was_not_asked_has_not_answered() {
    let mut driver = driver();
    driver.named(TASK, PIECE, vec![HOST]);
    let opened = driver.answered(HOST, Answered::Unasked);
    assert!(opened.contains(&open(HOST)), "{opened:?}");
    driver.named(TaskKey(2), PIECE, vec![HOST]);
    driver.wait(ANSWER_MAX);
    let next = driver.named(TaskKey(3), PIECE, vec![HOST]);
    assert!(next.contains(&Action::Open { host: HOST, task: TaskKey(3) }), "it never answered: {next:?}");
}

/// Who holds small content asks nobody to take it: who lacks it asks, or opens it.
#[test]
fn who_holds_it_opens_it_with_nobody() {
    let mut driver = Driver::new(Config::default());
    let mut have = HaveMap::empty(1);
    have.insert(0);
    let options = TaskOptions { wanted: false, injector: true, ..OPTIONS };
    let layout = Layout::new(PIECE, PIECE).unwrap();
    let named =
        driver.put(Input::TaskAdded { task: TASK, layout, have, options, hosts: vec![HOST], across: Vec::new() });
    assert!(named.contains(&Action::Dial { host: HOST }), "it may have no address of its own: {named:?}");
    assert_eq!(driver.put(Input::LaneUp { host: HOST }), []);
    assert_eq!(driver.wait(IDLE_MAX / 2), []);
}

/// It may be of an earlier version: it is opened with at once, and not asked again.
#[test]
fn one_that_never_answers_is_not_asked_again() {
    let mut driver = driver();
    driver.named(TASK, PIECE, vec![HOST]);
    assert!(driver.wait(ANSWER_MAX).contains(&open(HOST)));
    let opened = driver.named(TaskKey(2), PIECE, vec![HOST]);
    assert!(opened.contains(&Action::Open { host: HOST, task: TaskKey(2) }), "{opened:?}");
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
        let waited = driver.wait(LATE_MAX / (at_once + 1));
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

//! Who gives way to whom, and who learns of it.

#![allow(clippy::unwrap_used)]

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::node::Node;
use crate::peer::TASKS_MAX;
use crate::peer::authorities::{LOCAL, PRIVATE};
use crate::peer::engine::EVENTS_MAX;
use crate::peer::event::{AuthorityId, Event, NewWant, Scope, WantId, WantStatus};
use crate::peer::tasks::Task;
use crate::scheduler::Coordinator;
use crate::task::Class;
use crate::wire::control::{Failure, FailureKind, TaskInfo};

fn id(number: u64) -> TaskId {
    TaskId::from_hash(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

fn scope() -> Scope {
    Scope { class: Class::Public, tenant: "default".into(), fixed: false }
}

async fn actor() -> (Node, Actor, mpsc::Receiver<Event>) {
    let node = Node::builder().start().await.unwrap();
    let (events, queue) = mpsc::channel(EVENTS_MAX);
    let actor = Actor::new(node.clone(), Coordinator::of(&node), events, CancellationToken::new());
    (node, actor, queue)
}

/// Has an engine take part in a task that nobody wants, used as the `number`th.
fn take_part(actor: &mut Actor, number: u64, authority: AuthorityId, small: bool) {
    let task = id(number);
    let mut part = Task::new(TaskInfo { task, spec: None, fixed: false }, String::new(), scope(), number);
    part.authority = Some(authority);
    actor.tasks.insert(task, part);
    actor.idle.put(task, number, small);
}

/// Somebody on this host wants it.
fn want(actor: &mut Actor, number: u64) {
    let (status, _) = watch::channel(WantStatus::Resolving);
    actor.want(NewWant {
        id: WantId(number),
        info: TaskInfo { task: id(number), spec: None, fixed: false },
        label: String::new(),
        scope: scope(),
        access: None,
        held: None,
        age_max_ms: None,
        stale_ok: false,
        priority: 0,
        for_others: false,
        status,
    });
}

#[test]
fn small_content_is_one_piece_of_so_many_bytes() {
    let of = |length| is_small(&Layout::of_length(length).unwrap());
    assert!(of(1) && of(WHOLE_BYTES_MAX as u64));
    assert!(!of(0) && !of(WHOLE_BYTES_MAX as u64 + 1) && !of(1 << 30));
}

/// Those of content that is not small, in the order of use; small ones are not counted and do not give way to them.
#[tokio::test]
async fn what_was_used_longest_ago_gives_way() {
    let (node, mut actor, _queue) = actor().await;
    for number in 0..10 {
        take_part(&mut actor, number, LOCAL, true);
    }
    for number in 10..10 + TASKS_MAX as u64 {
        take_part(&mut actor, number, LOCAL, false);
    }
    assert_eq!((actor.counted(), actor.idle.small()), (TASKS_MAX, 10));
    assert!(actor.has_room(id(11)), "it is counted already");
    assert_eq!(actor.counted(), TASKS_MAX);
    actor.idle.put(id(10), 1 << 20, false);
    assert!(actor.has_room(id(1 << 30)), "a new one");
    assert!(actor.has_room(id(3)), "it takes part already");
    assert_eq!((actor.counted(), actor.idle.small()), (TASKS_MAX - 1, 10));
    assert!(!actor.tasks.contains_key(&id(11)) && actor.tasks.contains_key(&id(10)), "it was used since");
    // Where all are wanted none gives way, however many small ones there are.
    for number in 10..10 + TASKS_MAX as u64 {
        actor.idle.take(id(number));
    }
    take_part(&mut actor, 1 << 20, LOCAL, false);
    actor.idle.take(id(1 << 20));
    assert!(!actor.has_room(id(1 << 30)));
    assert_eq!((actor.counted(), actor.idle.small()), (TASKS_MAX, 10));
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn so_many_small_ones_take_part_and_no_more() {
    let (node, mut actor, _queue) = actor().await;
    for number in 0..=SMALL_TASKS_MAX as u64 {
        take_part(&mut actor, number, LOCAL, true);
    }
    take_part(&mut actor, 1 << 20, LOCAL, false);
    // Whichever it is that rests then.
    actor.rest(id(1 << 20));
    assert_eq!((actor.counted(), actor.idle.small()), (1, SMALL_TASKS_MAX));
    assert!(!actor.tasks.contains_key(&id(0)) && actor.tasks.contains_key(&id(1)));
    node.shutdown().await.unwrap();
}

/// A coordinator that keeps fewer tasks of one host than this host takes part in says so: what it keeps and nobody here wants is
/// taken back, and the task is joined anew; where there is nothing to take back it has failed.
#[tokio::test]
async fn a_coordinator_without_room_is_given_some() {
    let (node, mut actor, _queue) = actor().await;
    let small = 10;
    for number in 0..small {
        take_part(&mut actor, number, if number % 2 == 0 { LOCAL } else { PRIVATE }, true);
    }
    take_part(&mut actor, 1 << 20, LOCAL, false);
    want(&mut actor, 1 << 20);
    let text = "too many tasks".to_owned();
    let failure = Failure { kind: FailureKind::Overloaded, temporary: true, status: None, retry_ms: None, text };
    actor.task_failed(id(1 << 20), &failure);
    assert_eq!((actor.idle.small(), actor.counted()), (small as usize - YIELDED, 1));
    assert!(!actor.tasks.contains_key(&id(0)) && !actor.tasks.contains_key(&id(2)) && actor.tasks.contains_key(&id(4)));
    actor.task_failed(id(1 << 20), &failure);
    assert!(!actor.tasks.contains_key(&id(1 << 20)), "it has another reason");
    assert_eq!(actor.idle.small(), small as usize - YIELDED);
    node.shutdown().await.unwrap();
}

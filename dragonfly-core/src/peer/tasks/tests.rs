//! What takes part in the swarm while nobody wants it.

#![allow(clippy::unwrap_used)]

use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use dragonfly_testkit::{Origin, Resource};
use futures::FutureExt as _;

use super::*;
use crate::node::{Node, NodeBuilder, TokenOptions};
use crate::peer::authorities::LOCAL;
use crate::peer::engine::Want;
use crate::peer::event::AuthorityEvent;
use crate::peer::{ActiveTask, Engine, Peer, Receipt, Request};
use crate::task::{Class, piece_length_for};
use crate::wire::control::ToMember;

const LENGTH: u64 = 300_000;

const PATIENCE: Duration = Duration::from_secs(20);

/// More than there are disk threads.
const JOBS: usize = 16;

fn current_of(receipt: &Receipt) -> Current {
    Current {
        task: receipt.task,
        generation: receipt.generation,
        length: receipt.length,
        piece_length: piece_length_for(receipt.length),
        validator: None,
        splittable: true,
        age_ms: 0,
        seal: None,
    }
}

/// A host that has fetched a file.
struct Fetched {
    node: Node,
    peer: Peer,
    _origin: Origin,
    request: Request,
    receipt: Receipt,
    engine: Engine,
}

impl Fetched {
    async fn by(builder: NodeBuilder) -> Self {
        let node = builder.start().await.unwrap();
        let peer = Peer::builder(&node).start().await.unwrap();
        let origin = Origin::start().await.unwrap();
        origin.set("/file", Resource::seeded(1, LENGTH));
        let request = Request::new(origin.url("/file"));
        let receipt = peer.fetch(request.clone()).await.unwrap();
        let engine = Engine::of(&node);
        Self { node, peer, _origin: origin, request, receipt, engine }
    }
}

/// Has the engine take this for its coordinator's word.
async fn say(engine: &Engine, message: ToMember) {
    let event = AuthorityEvent::Message(Box::new(message));
    engine.handled(Event::Authority { id: LOCAL, event }).await;
}

/// A caller that was told what is current by the task's coordinator, which says no more of it by itself.
async fn wanted(engine: &Engine, request: &Request) -> Want {
    let mut want = engine.want(request).await.unwrap();
    want.content().await.unwrap();
    want
}

/// Keeps the disk threads busy until it is dropped: what is to be opened waits.
fn hold_disk(node: &Node) -> Sender<()> {
    let (gate, closed) = channel::<()>();
    let closed = Arc::new(Mutex::new(closed));
    for _ in 0..JOBS {
        let closed = Arc::clone(&closed);
        let wait = move || closed.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).recv();
        assert!(node.io().run(wait).now_or_never().is_none(), "it waits for the gate");
    }
    gate
}

/// Who wanted a generation may leave while it is being opened. It is fetched all the same once somebody wants it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generation_that_nobody_wants_once_it_is_open_takes_no_part() {
    let Fetched { node, peer, _origin, request, receipt, engine } = Fetched::by(Node::builder()).await;
    let want = wanted(&engine, &request).await;
    let gate = hold_disk(&node);
    let current = Current { generation: Generation::from_hash([2; 32]), ..current_of(&receipt) };
    say(&engine, ToMember::Current(current)).await;
    drop(want);
    let until = async |is: &dyn Fn(&[ActiveTask]) -> bool| {
        let reached = async { while !is(&engine.active_tasks().await.unwrap()) {} };
        tokio::time::timeout(PATIENCE, reached).await.unwrap();
    };
    until(&|active| active.iter().all(|task| task.callers == 0)).await;
    assert_eq!(engine.active_tasks().await.unwrap().len(), 1);
    drop(gate);
    until(&|active| active.is_empty()).await;
    let again = tokio::time::timeout(PATIENCE, peer.fetch(request)).await.unwrap().unwrap();
    assert_eq!((again.generation, again.blake3), (receipt.generation, receipt.blake3));
    peer.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
}

/// An origin behind several machines may go from one version to another and back before the other was opened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_current_for_a_moment_takes_no_part() {
    let Fetched { node, peer, _origin, request, receipt, engine } = Fetched::by(Node::builder()).await;
    let want = wanted(&engine, &request).await;
    let gate = hold_disk(&node);
    let other = Current { generation: Generation::from_hash([2; 32]), ..current_of(&receipt) };
    for current in [other, current_of(&receipt)] {
        say(&engine, ToMember::Current(current)).await;
    }
    drop(gate);
    // The disk threads take jobs in turn: what was opened has been told by the time that this is done.
    for _ in 0..JOBS {
        node.io().run(|| ()).await.unwrap();
    }
    let again = tokio::time::timeout(PATIENCE, peer.fetch(request)).await.unwrap().unwrap();
    assert_eq!((again.generation, again.bytes_held, again.bytes_from_origin), (receipt.generation, LENGTH, 0));
    let active = engine.active_tasks().await.unwrap();
    assert!(active.len() == 1 && active[0].bytes_held == LENGTH, "{active:?}");
    drop(want);
    peer.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
}

/// A task may have become another's business, or this host's alone, while a generation of it was being opened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_opened_too_late_takes_no_part() {
    let Fetched { node, peer, _origin, request, receipt, engine } = Fetched::by(Node::builder()).await;
    let want = wanted(&engine, &request).await;
    let other = Node::builder().start().await.unwrap();
    let current = Current { generation: Generation::from_hash([2; 32]), ..current_of(&receipt) };
    let scope = Scope { class: Class::Public, tenant: "default".into(), fixed: false };
    let info = TaskInfo { task: receipt.task, spec: None, fixed: false };
    let late = open(&other, TaskKey(1000), &current, (info, String::new(), scope), None).unwrap();
    let (task, key) = (receipt.task, TaskKey(1000));
    engine.handled(Event::Activated { task, key, outcome: Ok(Arc::new(late)) }).await;
    let refused = Error::new(crate::ErrorKind::Config, "of an opening that nobody waits for");
    engine.handled(Event::Activated { task, key, outcome: Err(refused) }).await;
    let active = engine.active_tasks().await.unwrap();
    assert!(active.len() == 1 && active[0].callers == 1, "{active:?}");
    let again = tokio::time::timeout(PATIENCE, peer.fetch(request)).await.unwrap().unwrap();
    assert_eq!((again.generation, again.bytes_held), (receipt.generation, LENGTH));
    drop(want);
    peer.shutdown().await.unwrap();
    for node in [node, other] {
        node.shutdown().await.unwrap();
    }
}

/// Neighbours are named with what is current, while that is being opened and what was before is here still.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_named_while_a_generation_is_opened_is_a_neighbour_in_it() {
    let loopback: crate::Address = "/ip4/127.0.0.1/tcp/0".parse().unwrap();
    // It has nothing to give: a neighbour is for what it lacks.
    let builder = Node::builder().listen(loopback.clone()).upload_slots(0);
    let Fetched { node, peer, _origin, request, receipt, engine } = Fetched::by(builder).await;
    let want = wanted(&engine, &request).await;
    // Once the task has its coordinator.
    let token = node.token(TokenOptions::default()).unwrap();
    let other = Node::builder().listen(loopback).join(token).start().await.unwrap();
    let others = Peer::builder(&other).start().await.unwrap();
    let gate = hold_disk(&node);
    let current = Current { generation: Generation::from_hash([2; 32]), ..current_of(&receipt) };
    let named = Neighbour { peer: other.peer_id(), record: other.record(), seen_ip: None, seed: false, share: None };
    for message in [ToMember::Current(current), ToMember::Neighbours { task: receipt.task, hosts: vec![named] }] {
        say(&engine, message).await;
    }
    drop(gate);
    let met = async {
        while !engine.neighbour_infos().await.unwrap().iter().any(|met| met.peer == other.peer_id() && met.connected) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, met).await.unwrap();
    drop(want);
    for peer in [peer, others] {
        peer.shutdown().await.unwrap();
    }
    for node in [other, node] {
        node.shutdown().await.unwrap();
    }
}

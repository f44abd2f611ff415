//! What takes part in the swarm while nobody wants it.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use dragonfly_testkit::{Origin, Resource};

use super::*;
use crate::node::Node;
use crate::peer::{Engine, Peer, Receipt, Request};
use crate::task::{Class, piece_length_for};

const LENGTH: u64 = 300_000;

/// The content of a receipt, of which nothing is held: in the store of a node of its own.
async fn unheld(receipt: &Receipt) -> (Node, Arc<Content>) {
    let node = Node::builder().start().await.unwrap();
    let current = Current {
        task: receipt.task,
        generation: receipt.generation,
        length: receipt.length,
        piece_length: piece_length_for(receipt.length),
        validator: None,
        splittable: true,
        age_ms: 0,
        seal: None,
    };
    let scope = Scope { class: Class::Public, tenant: "default".into(), fixed: false };
    let info = TaskInfo { task: receipt.task, spec: None, fixed: false };
    let content = open(&node, TaskKey(1000), &current, (info, String::new(), scope), None).unwrap();
    (node, Arc::new(content))
}

/// Who wanted a generation may leave while it is being opened. It is fetched all the same once somebody wants it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generation_that_nobody_wants_once_it_is_open_takes_no_part() {
    let node = Node::builder().start().await.unwrap();
    let peer = Peer::builder(&node).start().await.unwrap();
    let origin = Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(1, LENGTH));
    let url = origin.url("/file");
    let receipt = peer.fetch(Request::new(&url)).await.unwrap();
    let engine = Engine::of(&node);
    let left = async { while engine.active_tasks().await.unwrap().iter().any(|task| task.callers > 0) {} };
    tokio::time::timeout(Duration::from_secs(20), left).await.unwrap();
    let (other, content) = unheld(&receipt).await;
    engine.handled(Event::Activated { task: receipt.task, outcome: Ok(content) }).await;
    let active = engine.active_tasks().await.unwrap();
    assert!(active.is_empty(), "{active:?}");
    let again = tokio::time::timeout(Duration::from_secs(20), peer.fetch(Request::new(&url))).await.unwrap().unwrap();
    assert_eq!((again.generation, again.blake3), (receipt.generation, receipt.blake3));
    peer.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
    other.shutdown().await.unwrap();
}

//! What is on the shelf, for how long, and who learns when it is not.

#![allow(clippy::unwrap_used)]

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::node::Node;
use crate::peer::authorities::LOCAL;
use crate::peer::engine::EVENTS_MAX;
use crate::peer::event::Scope;
use crate::peer::tasks::{Task, content_of};
use crate::scheduler::Coordinator;
use crate::store::{Described, EntryKey};
use crate::swarm::TaskKey;
use crate::task::{Class, Layout};
use crate::trust::statement::{Attester, sign_grant};
use crate::wire::control::{Current, TaskInfo};
use crate::wire::statement::{Evidence, Grant, GrantBundle};

const BYTES: [u8; 100] = [7; 100];

fn id(number: u32) -> TaskId {
    TaskId::from_hash(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

const GENERATION: Generation = Generation::from_hash([2; 32]);

/// Held content that this host attested, if `attested`.
fn content(node: &Node, number: u32, attested: bool) -> Arc<Content> {
    let layout = Layout::of_length(BYTES.len() as u64).unwrap();
    let (task, scope) = (id(number), Scope { class: Class::Public, tenant: "default".into(), fixed: false });
    let current = Current {
        task,
        generation: GENERATION,
        length: layout.length(),
        piece_length: layout.piece_length(),
        validator: None,
        splittable: true,
        age_ms: 0,
        seal: None,
    };
    let (network, tenant) = (node.network(), scope.tenant.clone());
    let key = EntryKey { network, tenant, task, class: scope.class, generation: GENERATION };
    let described =
        Described { layout, validator: None, splittable: true, label: String::new(), spec: None, fixed: false };
    let entry = node.store().open(&key, &described).unwrap();
    let value = *blake3::hash(&BYTES).as_bytes();
    entry.write_piece(0, &BYTES, &value).unwrap();
    let content = Arc::new(content_of(node, TaskKey(number), entry, &current, &scope).unwrap());
    if attested {
        let grant = Grant {
            version: 1,
            network,
            tenant: "default".into(),
            task,
            generation: GENERATION,
            length: layout.length(),
            piece_length: layout.piece_length(),
            first: 0,
            end: 1,
            holder: node.peer_id(),
            epoch: 1,
        };
        let grant = sign_grant(node.identity(), &grant);
        let signed = Attester::new(&grant).attest(node.identity(), 0, &[value]).unwrap();
        let credential = node.membership().credential_bytes().to_vec();
        let bundle = GrantBundle { grant, grantor: credential.clone(), holder: credential };
        for item in [Evidence::Grant(bundle), Evidence::Attestation(signed)] {
            content.evidence().accept(&item, crate::node::now_unix()).unwrap();
        }
    }
    content
}

/// Has an engine take part in a task that nobody wants, under its own coordinator.
fn take_part(actor: &mut Actor, content: Arc<Content>) {
    let (task, key) = (content.task, content.key);
    let scope = Scope { class: Class::Public, tenant: "default".into(), fixed: false };
    let mut part = Task::new(TaskInfo { task, spec: None, fixed: false }, String::new(), scope, 0);
    (part.authority, part.current) = (Some(LOCAL), Some(key));
    content.rest();
    actor.registry.insert(&content);
    actor.contents.insert(key, content);
    actor.tasks.insert(task, part);
}

async fn actor() -> (Node, Actor, mpsc::Receiver<crate::peer::event::Event>) {
    let node = Node::builder().start().await.unwrap();
    let (events, queue) = mpsc::channel(EVENTS_MAX);
    let actor = Actor::new(node.clone(), Coordinator::of(&node), events, CancellationToken::new());
    (node, actor, queue)
}

#[tokio::test]
async fn small_content_is_found_on_it_until_it_is_evicted() {
    let (node, mut actor, _queue) = actor().await;
    for number in 0..3 {
        take_part(&mut actor, content(&node, number, true));
        assert!(actor.shelve(id(number)));
        assert!(!actor.shelve(id(number)), "it takes part no more");
        assert!(actor.registry.find(id(number), GENERATION).is_some(), "a lane finds it");
    }
    assert_eq!((actor.tasks.len(), actor.contents.len(), actor.shelf.len()), (0, 0, 3));
    actor.evicted(id(1), GENERATION);
    assert_eq!(actor.shelf.len(), 3, "it is there still");
    let key = actor.registry.find(id(1), GENERATION).unwrap().entry.key().clone();
    assert!(node.store().remove(&key).unwrap(), "nothing keeps it");
    actor.evicted(id(1), GENERATION);
    assert_eq!((actor.shelf.len(), actor.registry.find(id(1), GENERATION).is_none()), (2, true));
    // A coordinator that is gone names nobody.
    actor.lose_shelf_of(AuthorityId(9));
    assert_eq!(actor.shelf.len(), 2);
    actor.lose_shelf_of(LOCAL);
    assert_eq!((actor.shelf.len(), actor.registry.find(id(0), GENERATION).is_none()), (0, true));
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_nobody_could_use_is_not_put_there() {
    let (node, mut actor, _queue) = actor().await;
    take_part(&mut actor, content(&node, 1, false));
    assert!(!actor.shelve(id(1)), "nobody has attested it");
    take_part(&mut actor, content(&node, 2, true));
    actor.tasks.get_mut(&id(2)).unwrap().authority = None;
    assert!(!actor.shelve(id(2)), "nobody names it");
    actor.tasks.get_mut(&id(2)).unwrap().authority = Some(PRIVATE);
    assert!(!actor.shelve(id(2)), "it is this host's alone");
    assert_eq!(actor.tasks.len(), 2);
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn so_much_is_on_it_and_no_more() {
    let (node, mut actor, _queue) = actor().await;
    let content = content(&node, 1, true);
    for number in 0..SHELF_MAX as u32 {
        actor.shelf.put(id(100 + number), Arc::clone(&content), LOCAL);
    }
    take_part(&mut actor, content);
    assert!(actor.shelve(id(1)));
    assert_eq!(actor.shelf.len(), SHELF_MAX);
    assert!(actor.shelf.take(id(100)).is_none(), "the first gave way");
    assert!(actor.shelf.take(id(101)).is_some() && actor.shelf.take(id(1)).is_some());
    node.shutdown().await.unwrap();
}

//! What is opened again that came on the word of one that contradicted itself meanwhile.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{RECALL_PAUSE, RECALLS_MAX, Recalls};
use crate::node::{Node, TokenOptions};
use crate::peer::event::{Event, Scope};
use crate::peer::tasks::content_of;
use crate::peer::{Engine, Peer};
use crate::store::{Described, Entry, EntryKey};
use crate::swarm::TaskKey;
use crate::task::{Class, Generation, Layout, TaskId};
use crate::trust::statement::{Attester, sign_grant};
use crate::trust::{Identity, Membership};
use crate::wire::codec;
use crate::wire::control::Current;
use crate::wire::statement::{Evidence, Grant, GrantBundle};

/// Sixteen pieces of 64 KiB.
const LENGTH: u64 = 1 << 20;
const TASK: TaskId = TaskId::from_hash([1; 32]);
const GENERATION: Generation = Generation::from_hash([2; 32]);

struct Member {
    identity: Identity,
    membership: Membership,
}

/// A node, and content of which it holds the first piece.
struct World {
    node: Node,
    entry: Arc<dyn Entry>,
    layout: Layout,
}

impl World {
    async fn new() -> Self {
        Self::on(Node::builder().start().await.unwrap())
    }

    fn on(node: Node) -> Self {
        let layout = Layout::of_length(LENGTH).unwrap();
        let key = EntryKey {
            network: *node.membership().network_id(),
            tenant: "default".into(),
            task: TASK,
            class: Class::Public,
            generation: GENERATION,
        };
        let described =
            Described { layout, validator: None, splittable: true, label: String::new(), spec: None, fixed: false };
        let entry = node.store().open(&key, &described).unwrap();
        let piece = vec![7; layout.piece_length() as usize];
        entry.write_piece(0, &piece, blake3::hash(&piece).as_bytes()).unwrap();
        Self { node, entry, layout }
    }

    fn member(&self) -> Member {
        let identity = Identity::generate();
        let token = self.node.token(TokenOptions::default()).unwrap();
        Member { membership: Membership::join(&identity, &token), identity }
    }

    /// Has the store keep what a member attests of the first piece under a grant of its own.
    fn keep(&self, member: &Member, value: [u8; 32]) {
        let credential = member.membership.credential_bytes().to_vec();
        let grant = sign_grant(
            &member.identity,
            &Grant {
                version: 1,
                network: *member.membership.network_id(),
                tenant: "default".into(),
                task: TASK,
                generation: GENERATION,
                length: LENGTH,
                piece_length: self.layout.piece_length(),
                first: 0,
                end: self.layout.pieces(),
                holder: member.identity.peer_id(),
                epoch: 1,
            },
        );
        let attested = Attester::new(&grant).attest(&member.identity, 0, &[value]).unwrap();
        let bundle = GrantBundle { grant, grantor: credential.clone(), holder: credential };
        let first = self.entry.evidence().len() as u32;
        for (number, item) in (first..).zip([Evidence::Grant(bundle), Evidence::Attestation(attested)]) {
            self.entry.put_evidence(number, codec::encode_statement(&item).unwrap().into()).unwrap();
        }
    }

    fn is_tainted(&self) -> bool {
        let current = Current {
            task: TASK,
            generation: GENERATION,
            length: LENGTH,
            piece_length: self.layout.piece_length(),
            validator: None,
            splittable: true,
            age_ms: 0,
            seal: None,
        };
        let scope = Scope { class: Class::Public, tenant: "default".into(), fixed: false };
        content_of(&self.node, TaskKey(1), Arc::clone(&self.entry), &current, &scope).unwrap().is_tainted()
    }

    fn value(&self) -> [u8; 32] {
        self.entry.value(0).unwrap()
    }
}

#[tokio::test]
async fn what_was_held_on_a_void_word_is_not_proven_by_it() {
    let world = World::new().await;
    let liar = world.member();
    world.keep(&liar, world.value());
    assert!(!world.is_tainted(), "it has said nothing else yet");
    world.node.contradicted().insert(TASK, liar.identity.peer_id());
    assert!(world.is_tainted());
    world.keep(&world.member(), world.value());
    assert!(!world.is_tainted(), "somebody else says the same");
}

#[tokio::test]
async fn what_a_liar_said_that_is_not_held_changes_nothing() {
    let world = World::new().await;
    let liar = world.member();
    world.keep(&world.member(), world.value());
    world.keep(&liar, [9; 32]);
    world.node.contradicted().insert(TASK, liar.identity.peer_id());
    assert!(!world.is_tainted());
}

/// By an engine that was told by a neighbour, for the next run.
#[tokio::test]
async fn who_contradicted_itself_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let start = || Node::builder().data_dir(dir.path()).lock_wait(Duration::from_secs(10)).start();
    let world = World::on(start().await.unwrap());
    let (liar, peer) = (world.member(), Peer::builder(&world.node).start().await.unwrap());
    world.keep(&liar, world.value());
    let signers = BTreeSet::from([liar.identity.peer_id()]);
    Engine::of(&world.node).handled(Event::Contradicted { task: TASK, signers: signers.clone() }).await;
    peer.shutdown().await.unwrap();
    drop(peer);
    world.node.shutdown().await.unwrap();
    drop(world);
    let node = start().await.unwrap();
    assert_eq!(node.contradicted().of(TASK), signers);
    assert!(World::on(node).is_tainted());
}

/// Whoever has many identities has lanes begin anew at once, and then more and more seldom, up to 80 seconds; the bound is as
/// it was once there was rest for a while.
#[test]
fn recalls_in_a_row_come_more_seldom() {
    let (mut recalls, mut now) = (Recalls::default(), Instant::now());
    for row in 0..2 {
        assert_eq!(recalls.wait(now), Duration::ZERO, "the first of row {row}");
        for pause in [10, 20, 40, 80, 80, 80].map(Duration::from_secs) {
            recalls.done(now);
            assert_eq!(recalls.wait(now), pause);
            assert_eq!(recalls.wait(now + pause / 4), pause * 3 / 4, "what has passed counts");
            now += pause;
            assert_eq!(recalls.wait(now), Duration::ZERO);
        }
        recalls.done(now);
        now += 2 * RECALL_PAUSE * (1 << RECALLS_MAX);
    }
}

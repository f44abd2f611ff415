use dragonfly_core::{ErrorKind, Node, Peer, Request, Roles, Scheduler, Seed, Token};
use dragonfly_testkit::Resource;

use crate::harness::{Network, SEED, all_roles, loopback};

const LENGTH: u64 = 1 << 20;

/// Members of another network get nothing from this one: they go to the origin alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused() {
    let network = Network::start(1, true).await;
    let other = Network::start(0, true).await;
    let url = network.serve("/file", Resource::seeded(SEED, LENGTH));
    network.fetch_all(&url, LENGTH).await;
    let stranger = Node::builder()
        .listen(loopback())
        .join(other.token())
        .scheduler(network.scheduler.as_ref().unwrap().0.listeners()[0].clone())
        .start()
        .await
        .unwrap();
    let peer = Peer::builder(&stranger).start().await.unwrap();
    let receipt = peer.fetch(Request::new(&url)).await.unwrap();
    assert_eq!((receipt.bytes_from_origin, receipt.bytes_from_peers), (LENGTH, 0));
    let snapshot = network.scheduler.as_ref().unwrap().1.snapshot().await.unwrap();
    assert!(snapshot.hosts.iter().all(|host| host.peer != stranger.peer_id()));
    peer.shutdown().await.unwrap();
    stranger.shutdown().await.unwrap();
    other.stop().await;
    network.stop().await;
}

/// Roles come from the credential: a peer's token makes neither a scheduler nor a seed, and prints no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_come_from_the_token() {
    let network = Network::start(1, false).await;
    let node = &network.peers[0].node;
    assert_eq!(Scheduler::builder(node).start().await.unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(Seed::builder(node).start().await.unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(node.token(all_roles()).unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(node.claims().roles, Roles::PEER);
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_survive_text_and_hide_their_secrets() {
    let network = Network::start(0, false).await;
    let token = network.token();
    let text = token.to_text();
    let read: Token = text.parse().unwrap();
    assert_eq!(read.to_text(), text);
    assert!(!format!("{token:?}").contains(&text[8..40]));
    assert!(text[..text.len() - 3].parse::<Token>().is_err());
    network.stop().await;
}

/// A node comes back as who it was, in the network that it was in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_comes_back_as_who_it_was() {
    let network = Network::start(0, true).await;
    let token = network.token();
    let first = network.member(0, &token, loopback()).await;
    let id = first.node.peer_id();
    first.peer.shutdown().await.unwrap();
    first.node.shutdown().await.unwrap();
    drop(first);
    let again = Node::builder().data_dir(network.dir.path().join("peer-0")).listen(loopback()).start().await.unwrap();
    assert_eq!(again.peer_id(), id);
    assert_eq!(again.claims().roles, Roles::PEER);
    again.shutdown().await.unwrap();
    network.stop().await;
}

/// Two processes on one data directory would destroy it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_has_one_user() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::builder().data_dir(dir.path()).start().await.unwrap();
    let error = Node::builder().data_dir(dir.path()).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(format!("{error:?}").contains(&dir.path().display().to_string()), "{error:?}");
    node.shutdown().await.unwrap();
}

use std::sync::{Arc, Mutex};

use dragonfly_core::{
    Claims, ErrorKind, Identity, Metric, MetricKind, Node, NodeEvent, Peer, PeerId, PeerRequest, Policy, Request,
    Roles, Scheduler, Seed, Token,
};
use dragonfly_testkit::Resource;
use futures::StreamExt as _;

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

/// An embedder's policy: which members may connect, and which tasks they are served.
struct Picky {
    refused: Mutex<Option<PeerId>>,
    hidden: &'static str,
}

impl Policy for Picky {
    fn admit_peer(&self, peer: PeerId, claims: &Claims) -> bool {
        assert!(claims.roles.contains(Roles::PEER));
        *self.refused.lock().unwrap() != Some(peer)
    }

    fn admit_request(&self, request: &PeerRequest<'_>) -> bool {
        let (PeerRequest::Serve { label, .. } | PeerRequest::Fetch { label, .. }) = request else { return true };
        !label.contains(self.hidden)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedder_decides_whom_to_serve_and_what() {
    let network = Network::start(1, true).await;
    let open = network.serve("/open", Resource::seeded(SEED, LENGTH));
    let hidden = network.serve("/hidden", Resource::seeded(SEED, LENGTH));
    let policy = Arc::new(Picky { refused: Mutex::default(), hidden: "/hidden" });
    let node = network
        .builder(7, &network.token(), loopback())
        .identity(Identity::generate())
        .policy(Arc::clone(&policy) as Arc<dyn Policy>)
        .start()
        .await
        .unwrap();
    let mut events = node.events();
    let peer = Peer::builder(&node).start().await.unwrap();
    for url in [&open, &hidden] {
        assert_eq!(peer.fetch(Request::new(url)).await.unwrap().length, LENGTH);
    }
    assert!(matches!(events.next().await, Some(NodeEvent::PeerUp(_))));
    assert!(!node.peers().is_empty());
    // What is not served comes from elsewhere, although this host was asked for it.
    let other = &network.peers[0].peer;
    assert_eq!(other.fetch(Request::new(&hidden)).await.unwrap().bytes_from_peers, LENGTH);
    let sent = |metric: &Metric| metric.name == "dragonfly_peer_sent_bytes_total";
    let sent = node.metrics_now().into_iter().find(sent).unwrap();
    assert_eq!((sent.value, sent.kind), (0, MetricKind::Counter));
    assert!(node.metrics_text().contains(&format!("{} 0\n", sent.name)));

    // A member that is refused cannot connect, although its credential is good: it is left with the origin.
    let refused = Identity::generate();
    *policy.refused.lock().unwrap() = Some(refused.peer_id());
    let stranger = network
        .builder(8, &network.token(), loopback())
        .identity(refused)
        .bootstrap(node.listeners()[0].clone())
        .start()
        .await
        .unwrap();
    let alone = Peer::builder(&stranger).start().await.unwrap();
    assert_eq!(alone.fetch(Request::new(&open)).await.unwrap().bytes_from_origin, LENGTH);
    assert!(!node.peers().contains(&stranger.peer_id()));

    alone.shutdown().await.unwrap();
    stranger.shutdown().await.unwrap();
    peer.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
    network.stop().await;
}

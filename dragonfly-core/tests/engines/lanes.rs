//! What carries pieces: lanes, and streams where lanes are not to be had.

use dragonfly_core::net::Carrier;
use dragonfly_core::{NodeBuilder, Peer, Request};
use dragonfly_testkit::{Resource, content};

use crate::harness::{Member, Network, SEED, loopback, metric, quic};

const LENGTH: u64 = 6 << 20;

/// The carriers of a member's open lanes.
async fn carriers(member: &Member) -> Vec<Carrier> {
    member.peer.neighbours().await.unwrap().iter().filter_map(|info| info.carrier).collect()
}

/// One member of `network` holds a file; another, made by `configure`, takes it from there. What carried it.
async fn handed_over(network: &mut Network, configure: impl FnOnce(NodeBuilder) -> NodeBuilder) -> Vec<Carrier> {
    let url = network.serve("/file", Resource::seeded(SEED, LENGTH));
    network.peers[0].peer.fetch(Request::new(&url)).await.unwrap();
    let number = network.peers.len();
    let node = configure(network.builder(number, &network.token(), loopback())).start().await.unwrap();
    let taker = Member { peer: Peer::builder(&node).start().await.unwrap(), node };
    let receipt = taker.peer.fetch(Request::new(&url)).await.unwrap();
    assert_eq!(receipt.blake3.bytes(), content::blake3(SEED, LENGTH));
    assert_eq!((receipt.bytes_from_origin, receipt.bytes_from_peers), (0, LENGTH));
    assert_eq!(network.origin.body_bytes("/file"), LENGTH);
    let carriers = carriers(&taker).await;
    assert_eq!(
        metric(&taker.node, "dragonfly_lanes_on_streams"),
        carriers.iter().filter(|carrier| **carrier == Carrier::Muxed).count() as u64
    );
    network.peers.push(taker);
    carriers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pieces_go_over_lanes() {
    let mut network = Network::start(1, false).await;
    let carriers = handed_over(&mut network, |builder| builder).await;
    assert_eq!(carriers, [Carrier::Lane]);
    let (holder, taker) = (&network.peers[0].node, &network.peers[1].node);
    assert!(holder.peers().contains(&taker.peer_id()), "who has a lane is connected");
    network.stop().await;
}

/// Hosts that listen for QUIC alone accept lanes all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_beside_quic() {
    let mut network = Network::over(1, false, quic(), true).await;
    assert_eq!(handed_over(&mut network, |builder| builder).await, [Carrier::Lane]);
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_without_lanes_takes_pieces_over_streams() {
    let mut network = Network::start(1, false).await;
    assert_eq!(handed_over(&mut network, NodeBuilder::no_lanes).await, [Carrier::Muxed]);
    network.stop().await;
}

/// A lane's address counts only where its host is seen: nobody is sent to a third party.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_that_point_elsewhere_are_not_dialled() {
    let mut network = Network::start(0, false).await;
    // Whoever dialled it there would be answered.
    let builder = network.builder(0, &network.token(), loopback()).lane_listen("127.0.0.2:0".parse().unwrap());
    let node = builder.start().await.unwrap();
    assert!(node.lane_listeners()[0].to_string().contains("127.0.0.2"));
    network.peers.push(Member { peer: Peer::builder(&node).start().await.unwrap(), node });
    // Neither end can reach the other by lane, whoever dials first.
    let elsewhere = |builder: NodeBuilder| builder.lane_listen("127.0.0.3:0".parse().unwrap());
    assert_eq!(handed_over(&mut network, elsewhere).await, [Carrier::Muxed]);
    network.stop().await;
}

/// A network in which one member, whose lanes may go on without encryption, holds nothing yet.
async fn network_of_one() -> Network {
    let mut network = Network::start(0, false).await;
    let node = network.builder(0, &network.token(), loopback()).plain_lanes(true).start().await.unwrap();
    network.peers.push(Member { peer: Peer::builder(&node).start().await.unwrap(), node });
    network
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_are_without_encryption_where_both_ends_let_them() {
    for (plain, carrier) in [(true, Carrier::Plain), (false, Carrier::Lane)] {
        let mut network = network_of_one().await;
        assert_eq!(handed_over(&mut network, |builder| builder.plain_lanes(plain)).await, [carrier]);
        let (holder, taker) = (&network.peers[0].node, &network.peers[1].node);
        for node in [holder, taker] {
            assert_eq!(metric(node, "dragonfly_lanes_plain"), u64::from(plain));
        }
        let direct = if plain && cfg!(target_os = "linux") { LENGTH } else { 0 };
        assert_eq!(metric(holder, "dragonfly_peer_sent_direct_bytes_total"), direct);
        network.stop().await;
    }
}

/// Content that not everybody may have is neither named nor given on a lane that everybody on the way can read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn private_content_has_lanes_be_encrypted() {
    let mut network = network_of_one().await;
    assert_eq!(handed_over(&mut network, |builder| builder.plain_lanes(true)).await, [Carrier::Plain]);
    let url = network.serve("/secret", Resource::seeded(SEED + 1, LENGTH).require_header("x-key", "right"));
    let request = || Request::new(&url).header("x-key", "right");
    network.peers[0].peer.fetch(request()).await.unwrap();
    let receipt = network.peers[1].peer.fetch(request()).await.unwrap();
    assert_eq!((receipt.bytes_from_origin, receipt.bytes_from_peers), (0, LENGTH));
    assert_eq!(carriers(&network.peers[1]).await, [Carrier::Lane]);
    let direct = if cfg!(target_os = "linux") { LENGTH } else { 0 };
    assert_eq!(
        metric(&network.peers[0].node, "dragonfly_peer_sent_direct_bytes_total"),
        direct,
        "the public file alone"
    );
    network.stop().await;
}

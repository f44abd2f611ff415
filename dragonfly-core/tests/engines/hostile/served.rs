//! A neighbour that asks and does not read: what it is being served stays in the store, and in time it is told off.

use std::time::Duration;

use dragonfly_core::task::Layout;
use dragonfly_core::wire::lane::{Frame, Message};
use dragonfly_core::{Node, Peer, Receipt};
use dragonfly_testkit::Resource;

use super::peer::{Hostile, Lane};
use super::{Request, current, value};
use crate::harness::{Network, SEED, eventually, logged, loopback, metric};

/// More than what lies between two hosts takes in.
const LENGTH: u64 = 12 << 20;

const SMALL: u64 = 100_000;

/// For what takes a minute by itself.
const BOUND: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_served_stays_and_who_takes_nothing_is_told_off() {
    let network = Network::start(0, false).await;
    let url = network.serve("/file", Resource::seeded(SEED, LENGTH).header("cache-control", "max-age=3600"));
    let token = network.token();
    // Whatever is not in use goes at the next look.
    let node = network
        .builder(0, &token, loopback())
        .water_marks(0.0, 0.01)
        .quota_bytes(64 << 20)
        .eviction_interval(Duration::from_millis(20));
    let node = node.start().await.unwrap();
    let peer = Peer::builder(&node).start().await.unwrap();
    let mut reader = peer.open(Request::new(&url)).await.unwrap();
    let receipt = reader.receipt().await.unwrap();

    let hostile = Hostile::join(&token).await;
    let mut session = hostile.session(&network.scheduler.as_ref().unwrap().0).await;
    let current = current(&mut session, receipt.task).await;
    // It is named to the one that has everything, who opens the lane: of two one would be closed.
    let mut lane = Lane::over(hostile.take_lanes().recv().await.unwrap().stream);
    let open = Message::Open {
        slot: 1,
        task: current.task,
        generation: current.generation,
        length: current.length,
        piece_length: current.piece_length,
        wanted: true,
    };
    lane.say(&Frame::Message(open)).await.unwrap();
    // It has to be known as one that takes part before it may ask.
    let offers = |frame: &Frame| matches!(frame, Frame::Message(Message::Allot { .. } | Message::Have { .. }));
    while !offers(&lane.hear().await.expect("the lane lasts")) {}
    let layout = Layout::of_length(LENGTH).unwrap();
    for (request, first) in (0..layout.pieces()).step_by(16).enumerate() {
        let values: Vec<u8> = (first..first + 16).flat_map(|piece| value(&layout, piece)).collect();
        let request = Message::Request { slot: 1, request: request as u32, first, skip: 0, values };
        lane.say(&Frame::Message(request)).await.unwrap();
    }
    let is_served = async || peer.neighbours().await.unwrap().iter().any(|other| other.queued > 0);
    eventually("it is being served", async || is_served().await.then_some(())).await;

    drop(reader);
    // Something that nobody uses goes: the store has been looked over since.
    let small = network.serve("/small", Resource::seeded(SEED + 1, SMALL));
    let unused = peer.fetch(Request::new(&small)).await.unwrap();
    let is_held = async |task| peer.stat(task).await.unwrap().iter().any(|held| held.bytes_held > 0);
    eventually("what nobody uses is evicted", async || (!is_held(unused.task).await).then_some(())).await;
    assert!(is_served().await, "it takes nothing, so that this lasts");
    assert!(is_held(receipt.task).await, "what is being served stays");

    let culprit = hostile.identity.peer_id().to_string();
    let told = eventually_within(BOUND, async || {
        let lines: Vec<_> = logged(&culprit).into_iter().filter(|line| line.contains("is to blame")).collect();
        (!lines.is_empty()).then_some(lines)
    });
    let told = told.await;
    let why = "took nothing of what";
    assert!(told.len() == 1 && told[0].contains(why) && !told[0].contains("sent nothing"), "{told:?}");
    assert_eq!(metric(&node, "dragonfly_neighbours_blamed_total"), 1);
    eventually("what is not served any more may go", async || (!is_held(receipt.task).await).then_some(())).await;

    hostile.host.clone().shutdown().await;
    peer.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
    network.stop().await;
}

/// A lane takes the place of another while pieces that were asked for on that one are on their way: on the new one
/// comes nothing that was not asked for there, for which the sender would be blamed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_asked_for_on_one_lane_does_not_come_on_the_next() {
    let network = Network::start(1, false).await;
    let url = network.serve("/file", Resource::seeded(SEED, LENGTH));
    let member = &network.peers[0];
    let receipt = member.peer.fetch(Request::new(&url)).await.unwrap();
    let token = network.token();
    // The more there is to do at once, the more is decided before a lane is taken in.
    let all = (0..8).map(async |_| {
        let hostile = Hostile::join(&token).await;
        for _ in 0..30 {
            replace_a_lane(&hostile, &member.node, &receipt).await;
        }
        hostile.host.clone().shutdown().await;
    });
    futures::future::join_all(all).await;
    assert_eq!(metric(&member.node, "dragonfly_neighbours_blamed_total"), 0);
    network.stop().await;
}

/// Is served on a lane, and opens another one meanwhile.
async fn replace_a_lane(hostile: &Hostile, node: &Node, receipt: &Receipt) {
    let layout = Layout::of_length(LENGTH).unwrap();
    // Made anew each time: an engine that has to wait for the processor takes in more at once.
    let values: Vec<u8> = (0..16).flat_map(|piece| value(&layout, piece)).collect();
    for asks in [true, false] {
        let mut lane = hostile.lane(node).await.unwrap();
        let open = Message::Open {
            slot: 1,
            task: receipt.task,
            generation: receipt.generation,
            length: LENGTH,
            piece_length: layout.piece_length(),
            wanted: true,
        };
        lane.say(&Frame::Message(open)).await.unwrap();
        loop {
            match lane.hear().await.expect("the lane lasts") {
                Frame::Message(Message::Have { .. }) => break,
                Frame::Message(_) => {}
                block @ Frame::Block { .. } => panic!("nothing was asked for on this lane yet: {block:?}"),
            }
        }
        for request in (0..8).filter(|_| asks) {
            let request = Message::Request { slot: 1, request, first: 0, skip: 0, values: values.clone() };
            lane.say(&Frame::Message(request)).await.unwrap();
        }
        while asks && matches!(lane.hear().await.expect("it is served"), Frame::Message(_)) {}
    }
}

async fn eventually_within<T>(bound: Duration, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(bound, looking).await.expect("in time")
}

//! A member that fetched some content, attests it rightly and serves it, and then signs another value of a piece.

use std::sync::atomic::Ordering;

use dragonfly_core::Request;
use dragonfly_testkit::content;

use super::holders::{Pace, Taken, serving};
use super::{BOUND, LENGTH};
use crate::harness::{SEED, eventually, logged, metric};

const BLAMED: &str = "dragonfly_neighbours_blamed_total";

/// Everyone has the content on its word. Nothing of what they hold goes when its word is void.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_stays() {
    let taken = Taken::start().await;
    let (holder, lanes) = serving(&taken, Pace::Honest);
    let network = &taken.network;
    tokio::time::timeout(BOUND, network.fetch_all(&taken.url, LENGTH)).await.expect("it is served");
    assert_eq!(network.origin.body_bytes("/file"), 0, "all of it came from that member");
    assert!(holder.asked.load(Ordering::Relaxed) > 0);
    holder.turned.send(true).unwrap();
    // By those who have a lane with it; one may have had all from the other.
    let blamed = || network.peers.iter().map(|member| metric(&member.node, BLAMED)).sum::<u64>();
    eventually("it is blamed", async || (blamed() > 0).then_some(())).await;
    for member in &network.peers {
        assert!(metric(&member.node, "dragonfly_store_bytes") >= LENGTH, "what is held stays");
        let again = member.peer.fetch(Request::new(&taken.url).output(network.output("again")).overwrite(true));
        let receipt = tokio::time::timeout(BOUND, again).await.expect("it is held").unwrap();
        assert_eq!((receipt.bytes_held, receipt.blake3.bytes()), (LENGTH, &content::blake3(SEED, LENGTH)[..]));
    }
    let lines = logged(&taken.hostile.identity.peer_id().to_string());
    assert_eq!(lines.iter().filter(|line| line.contains("is to blame")).count() as u64, blamed(), "{lines:?}");
    assert_eq!(network.origin.body_bytes("/file"), 0);
    lanes.abort();
    taken.stop().await;
}

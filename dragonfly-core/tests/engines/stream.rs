use std::io::SeekFrom;

use dragonfly_core::Request;
use dragonfly_testkit::{Resource, content};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use crate::harness::{Network, SEED};

const LENGTH: u64 = 12 << 20;

/// Bytes can be read, from any place, while the rest is on its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_is_read_before_it_is_complete() {
    let network = Network::start(2, true).await;
    // Slow enough that the end is not there when the start is read.
    let url = network.serve("/file", Resource::seeded(SEED, LENGTH).rate(24 << 20));
    let mut reader = network.peers[0].peer.open(Request::new(&url)).await.unwrap();
    assert_eq!(reader.length(), LENGTH);
    let mut start = vec![0; 100_000];
    reader.read_exact(&mut start).await.unwrap();
    assert_eq!(start, content::bytes(SEED, 0, 100_000));
    let held = network.peers[0].peer.stat(reader.task()).await.unwrap();
    assert!(!held[0].complete, "{held:?}");
    let near_the_end = LENGTH - 70_000;
    reader.seek(SeekFrom::Start(near_the_end)).await.unwrap();
    let mut end = Vec::new();
    reader.read_to_end(&mut end).await.unwrap();
    assert_eq!(end, content::bytes(SEED, near_the_end, 70_000));
    let receipt = reader.receipt().await.unwrap();
    assert_eq!(receipt.length, LENGTH);
    assert_eq!(reader.receipt().await.unwrap().blake3, receipt.blake3, "asked again it says the same");
    assert_eq!(network.origin.body_bytes("/file"), LENGTH);
    // What is held is not handed out piece by piece: each read costs a change of threads.
    reader.seek(SeekFrom::Start(100_000)).await.unwrap();
    let mut much = vec![0; 1 << 20];
    let read = reader.read(&mut much).await.unwrap();
    assert_eq!(read, much.len());
    assert_eq!(much, content::bytes(SEED, 100_000, 1 << 20));
    network.stop().await;
}

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

/// What an origin has sent is of use to everybody at once, however long the next piece takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_before_a_stall_is_passed_on() {
    let pieces = 3 << 16;
    let network = Network::start(2, true).await;
    let url = network.serve("/file", Resource::seeded(SEED, LENGTH).stall_after(pieces + 10_000, 1));
    for host in &network.peers {
        let mut reader = host.peer.open(Request::new(&url)).await.unwrap();
        let mut start = vec![0; pieces as usize];
        reader.read_exact(&mut start).await.unwrap();
        assert_eq!(start, content::bytes(SEED, 0, pieces as usize));
    }
    // The start of it was asked for once: the pieces came before the origin was given up and asked again.
    let ranges =
        network.origin.log().iter().filter_map(|asked| Some(asked.header("range")?.to_owned())).collect::<Vec<_>>();
    let from = |range: &String| range.trim_start_matches("bytes=").split('-').next().unwrap().parse::<u64>().unwrap();
    assert_eq!(ranges.iter().filter(|range| from(range) < 4 << 20).count(), 1, "{ranges:?}");
    network.stop().await;
}

use dragonfly_testkit::Resource;

use crate::harness::{Network, SEED};

/// The edges of pieces, blocks and the slab; a piece of these has 64 KiB.
const SIZES: [u64; 9] = [
    0,                  // no piece at all
    1,                  // proven by its root
    1 << 10,            // one small piece, in the slab
    (64 << 10) - 1,     // the last size in the slab with a short piece
    64 << 10,           // exactly one piece
    (64 << 10) + 1,     // two pieces, the second of one byte
    (128 << 10) - 1,    // two pieces, the second short
    (4 << 20) + 1,      // one byte more than the describing request takes
    (5 << 20) + 12_345, // an odd length
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_size_with_a_seed() {
    sizes(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_size_without_a_seed() {
    sizes(false).await;
}

async fn sizes(seed: bool) {
    let network = Network::start(3, seed).await;
    for size in SIZES {
        let path = format!("/{size}");
        let url = network.serve(&path, Resource::seeded(SEED, size));
        network.fetch_all(&url, size).await;
        assert_eq!(network.origin.body_bytes(&path), size, "{size}: {:?}", network.requests(&path));
    }
    network.stop().await;
}

/// Offers of a task cross on the lanes in every order when many tasks start at once; none may be lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_ones_at_once() {
    const FILES: u64 = 200;
    let network = Network::start(3, true).await;
    let urls = (0..FILES).map(|file| network.serve(&format!("/{file}"), Resource::seeded(SEED, 1000 + file)));
    let urls: Vec<String> = urls.collect();
    let fetches = urls.iter().zip(0..).map(|(url, file)| network.fetch_all(url, 1000 + file));
    futures::future::join_all(fetches).await;
    for file in 0..FILES {
        assert_eq!(network.origin.body_bytes(&format!("/{file}")), 1000 + file, "/{file}");
    }
    network.stop().await;
}

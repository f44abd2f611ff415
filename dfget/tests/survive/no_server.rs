//! No scheduler and no seed: members find each other and share the origin.

use dragonfly_testkit::{Origin, Resource};

use super::{SEED, all_finish, everyone_knows_everyone, fetch};
use crate::harness::Daemon;

const LENGTH: u64 = 24 << 20;
const PEERS: usize = 8;

/// Peers of one network, of whom the first is where the others meet.
fn peers() -> Vec<Daemon> {
    let first = Daemon::with_role("peer").start();
    let others: Vec<Daemon> = (1..PEERS).map(|_| Daemon::with_role("peer").join(&first).start()).collect();
    std::iter::once(first).chain(others).collect()
}

/// Eight cold peers with one address to meet at: the origin sends one copy, and is asked for metadata once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_cold_peers_cost_the_origin_one_copy() {
    let origin = Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(SEED, LENGTH));
    let url = origin.url("/file");
    let work = tokio::task::spawn_blocking(move || {
        let daemons = peers();
        let clients = daemons.iter().map(|daemon| (daemon, fetch(daemon, &url))).collect();
        all_finish(clients, LENGTH);
    });
    work.await.unwrap();
    assert_eq!(origin.body_bytes("/file"), LENGTH, "{:?}", origin.log());
    let log = origin.log();
    let whole = log.iter().filter(|logged| logged.header("if-range").is_none() && logged.header("if-match").is_none());
    assert_eq!(whole.count(), 1, "{log:?}");
}

/// Where they met is gone before they start: they know each other by then, and still share one copy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_meeting_place_is_gone() {
    let origin = Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(SEED, LENGTH));
    let url = origin.url("/file");
    let work = tokio::task::spawn_blocking(move || {
        let mut daemons = peers();
        everyone_knows_everyone(&daemons.iter().collect::<Vec<_>>());
        drop(daemons.remove(0));
        let clients = daemons.iter().map(|daemon| (daemon, fetch(daemon, &url))).collect();
        all_finish(clients, LENGTH);
    });
    work.await.unwrap();
    assert_eq!(origin.body_bytes("/file"), LENGTH, "{:?}", origin.log());
}

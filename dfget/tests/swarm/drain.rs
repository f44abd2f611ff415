//! A daemon that drains hands its leases over: who waits for its pieces goes on with another host, and the origin
//! sends again only what was on its way.

use std::fs;
use std::process::{Child, Stdio};

use dragonfly_testkit::{Origin, Resource, content};
use rustix::process::Signal;

use super::SEED;
use crate::harness::{Daemon, signal, wait_for};

const LENGTH: u64 = 32 << 20;
/// So slow that a lease of any size is in the middle of its range when its holder is told to stop.
const SLOW: u64 = 2 << 20;
/// What may be on its way to a holder when it gives its leases back, and comes once more: of each of the two requests
/// that one host makes at a time for a task, a cut piece, and what the sockets hold.
const UNDER_WAY: u64 = 2 * (64 << 10) + 2 * (512 << 10);

fn fetch(daemon: &Daemon, url: &str) -> Child {
    let mut command = daemon.dfget_command([url, "-O", "output"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn is_done(child: Child, daemon: &Daemon) {
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(0), "{}\n{}", String::from_utf8_lossy(&done.stderr), daemon.log());
    let bytes = fs::read(daemon.dir().join("output")).unwrap();
    assert_eq!(blake3::hash(&bytes).as_bytes(), &content::blake3(SEED, LENGTH));
}

fn wait_for_half(origin: &Origin) {
    wait_for("half of the file", || (origin.body_bytes("/file") > LENGTH / 2).then_some(()));
}

/// One copy, what was under way, and `kept`.
fn one_copy(origin: &Origin, kept: u64) {
    let sent = origin.body_bytes("/file");
    eprintln!("the origin sent {} bytes more than one copy", sent - LENGTH);
    let ranges: Vec<_> = origin.log().into_iter().filter_map(|logged| logged.range).collect();
    assert!((LENGTH..=LENGTH + UNDER_WAY + kept).contains(&sent), "{sent}: {ranges:?}");
}

/// The seed holds every lease, and a client of its own keeps it from ending: what it fetches for others goes to
/// others at once nevertheless, and what it has it goes on serving.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seed_that_drains_hands_its_leases_over_before_it_ends() {
    let origin = Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(SEED, LENGTH).rate(SLOW));
    origin.set("/endless", Resource::seeded(SEED + 1, LENGTH).stall_after(1 << 20, u64::MAX));
    let (url, endless) = (origin.url("/file"), origin.url("/endless"));
    tokio::task::spawn_blocking(move || {
        let scheduler = Daemon::with_role("scheduler").start();
        let seed = Daemon::with_role("seed").args(["--drain-timeout", "1h"]).join(&scheduler).start();
        let peers = [(); 2].map(|()| Daemon::with_role("peer").join(&scheduler).start());
        let mut own = fetch(&seed, &endless);
        wait_for("the seed's own client", || (origin.body_bytes("/endless") > 0).then_some(()));
        let clients: Vec<Child> = peers.iter().map(|peer| fetch(peer, &url)).collect();
        wait_for_half(&origin);
        let slow = origin.log().iter().filter(|logged| logged.path == "/file").count();
        // Whoever asks from now on is not slowed down.
        origin.set("/file", Resource::seeded(SEED, LENGTH));
        signal(seed.child(), Signal::TERM);
        for (client, peer) in clients.into_iter().zip(&peers) {
            is_done(client, peer);
        }
        assert!(origin.log().iter().filter(|logged| logged.path == "/file").count() > slow, "others went on");
        assert!(own.try_wait().unwrap().is_none(), "{}", seed.log());
        assert!(!seed.log().contains("stopped"), "it has not ended: {}", seed.log());
        own.kill().unwrap();
        own.wait().unwrap();
        let (status, log) = seed.wait();
        assert!(status.code() == Some(0) && !log.contains("were not"), "{log}");
        one_copy(&origin, 0);
    })
    .await
    .unwrap();
}

/// Without a seed a peer holds leases for its own client. When that one's time is over they go back, and who wants the
/// same fetches the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_does_not_finish_in_time_hands_its_leases_over() {
    let origin = Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(SEED, LENGTH).rate(SLOW / 8));
    let url = origin.url("/file");
    tokio::task::spawn_blocking(move || {
        let scheduler = Daemon::with_role("scheduler").start();
        let start = || Daemon::with_role("peer").args(["--drain-timeout", "2s"]).join(&scheduler).start();
        let (ending, other) = (start(), start());
        let interrupted = fetch(&ending, &url);
        wait_for("the first lease", || (origin.body_bytes("/file") > 0).then_some(()));
        let client = fetch(&other, &url);
        wait_for("an eighth", || (origin.body_bytes("/file") > LENGTH / 8).then_some(()));
        let (status, log) = ending.stop();
        assert!(status.code() == Some(0) && log.contains("not done within 1.5s"), "{log}");
        assert_eq!(interrupted.wait_with_output().unwrap().status.code(), Some(1));
        origin.set("/file", Resource::seeded(SEED, LENGTH));
        is_done(client, &other);
        // On a busy machine the rest of the bound may be too short; then it says what it keeps for itself.
        let kept = log.lines().find_map(|line| line.split_once("neighbours did not get ")).map_or(0, |(_, rest)| {
            let pieces = rest.split_once(" pieces").unwrap().0;
            pieces.parse::<u64>().unwrap() * (64 << 10)
        });
        one_copy(&origin, kept);
    })
    .await
    .unwrap();
}

//! `kill -9`: what was proven is kept, and the next process goes on from there.

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};

use dfget::model::TasksBody;
use dragonfly_testkit::{Origin, Resource, content};
use http::Method;
use tokio::runtime::Handle;

use super::SEED;
use crate::harness::{Daemon, wait_for};

const LENGTH: u64 = 32 << 20;

fn digest_of(path: &Path) -> blake3::Hash {
    blake3::hash(&fs::read(path).unwrap())
}

/// How many bytes the only task of a daemon holds, and how many generations its index is behind with.
async fn held_and_unwritten(daemon: &Daemon) -> (u64, u64) {
    let mut client = daemon.client().await;
    let none: Option<&()> = None;
    let tasks: TasksBody = client.json(Method::GET, "/v1/tasks", none).await.unwrap();
    // In this order: what is held by then is in the index, or counted.
    let metrics = client.bytes(Method::GET, "/metrics", None).await.unwrap();
    let metrics = String::from_utf8(metrics.to_vec()).unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix("dragonfly_store_unwritten_entries "));
    (tasks.tasks.first().map_or(0, |task| task.bytes_held), line.unwrap().parse().unwrap())
}

/// A daemon is killed in the middle of a download, which fails with a reason; the next one takes from the origin
/// only what was missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_killed_in_the_middle_fetches_only_the_rest() {
    let origin = Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(SEED, LENGTH).rate(16 << 20));
    let url = origin.url("/file");
    let daemon = tokio::task::spawn_blocking(|| Daemon::with_role("peer").start()).await.unwrap();
    let mut first = daemon.dfget_command([url.as_str(), "-O", "first"]);
    let first = first.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();

    let runtime = Handle::current();
    let held_by = |daemon: &Daemon| tokio::task::block_in_place(|| runtime.block_on(held_and_unwritten(daemon)));
    wait_for("half of the file", || (origin.body_bytes("/file") > LENGTH / 2).then_some(()));
    // From now on nothing more comes: ranges under way end, and those asked for now stall before their first byte.
    origin.set("/file", Resource::seeded(SEED, LENGTH).stall_after(0, u64::MAX));
    let held = wait_for("everything sent is held, and the index knows", || {
        let (held, unwritten) = held_by(&daemon);
        (held == origin.body_bytes("/file") && unwritten == 0).then_some(held)
    });
    assert!((LENGTH / 2..LENGTH).contains(&held), "{held}");

    let work = tokio::task::spawn_blocking(move || {
        let daemon = daemon.kill_and_restart();
        let Output { status, stderr, .. } = first.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        assert!(status.code() == Some(1) && stderr.contains("hint:"), "{status} {stderr}");
        assert!(!daemon.dir().join("first").exists(), "nothing under its name that is not complete");
        daemon
    });
    let daemon = work.await.unwrap();
    origin.set("/file", Resource::seeded(SEED, LENGTH));
    tokio::task::spawn_blocking(move || {
        let done = daemon.dfget([url.as_str(), "-O", "first"]);
        assert!(done.is_code(0), "{done:?}\n{}", daemon.log());
        assert_eq!(digest_of(&daemon.dir().join("first")).as_bytes(), &content::blake3(SEED, LENGTH));
    })
    .await
    .unwrap();
    assert_eq!(origin.body_bytes("/file"), LENGTH, "{:?}", origin.log());
}

/// A daemon that is killed the moment after a download has ended still has it, be it in a file of its own or in the index.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_killed_after_a_download_still_has_it() {
    let origin = Origin::start().await.unwrap();
    let lengths = [1000, 100_000, LENGTH];
    let files = lengths.map(|length| {
        let path = format!("/file-{length}");
        origin.set(&path, Resource::seeded(SEED, length));
        (length, origin.url(&path))
    });
    let work = tokio::task::spawn_blocking(move || {
        let mut daemon = Daemon::with_role("peer").start();
        for (length, url) in &files {
            let (first, second) = (format!("first-{length}"), format!("second-{length}"));
            let done = daemon.dfget([url.as_str(), "-O", &first]);
            assert!(done.is_code(0), "{done:?}");
            daemon = daemon.kill_and_restart();
            let done = daemon.dfget([url.as_str(), "-O", &second]);
            assert!(done.is_code(0), "{done:?}\n{}", daemon.log());
            assert_eq!(digest_of(&daemon.dir().join(second)).as_bytes(), &content::blake3(SEED, *length));
        }
    });
    work.await.unwrap();
    for length in lengths {
        assert_eq!(origin.body_bytes(&format!("/file-{length}")), length, "{:?}", origin.log());
    }
}

//! The main job with real processes: an origin that counts, a scheduler with a seed, peers, and their clients.

mod drain;
mod gateway;
mod killed;
mod large;
#[cfg(feature = "storages")]
mod listed;
mod options;
mod secrets;

use std::fs;
use std::process::Stdio;

use dragonfly_testkit::{Origin, Resource, content};

use crate::harness::{Daemon, dfget, run};

const SEED: u64 = 11;

/// A request for less than the whole that is not made under a condition asks what the content is now.
fn metadata_requests(origin: &Origin) -> usize {
    let log = origin.log();
    log.iter().filter(|logged| logged.header("if-range").is_none() && logged.header("if-match").is_none()).count()
}

/// Eight clients at eight daemons want 64 MiB at once: the origin sends one copy and is asked for metadata once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_daemons_cost_the_origin_one_copy() {
    const LENGTH: u64 = 64 << 20;
    let origin = Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(SEED, LENGTH));
    let url = origin.url("/file");
    let clients = tokio::task::spawn_blocking(move || {
        let first = Daemon::with_role("scheduler,seed").start();
        let daemons: Vec<Daemon> = (0..8).map(|_| Daemon::with_role("peer").join(&first).start()).collect();
        let digest = format!("sha256:{}", content::hex(&content::sha256(SEED, LENGTH)));
        let spawn = |daemon: &Daemon| {
            let mut command = daemon.dfget_command([url.as_str(), "-O", "output", "--json", "--digest", &digest]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let children: Vec<_> = daemons.iter().map(spawn).collect();
        for (child, daemon) in children.into_iter().zip(&daemons) {
            let done = child.wait_with_output().unwrap();
            assert_eq!(done.status.code(), Some(0), "{}\n{}", String::from_utf8_lossy(&done.stderr), daemon.log());
            let bytes = fs::read(daemon.dir().join("output")).unwrap();
            assert_eq!(blake3::hash(&bytes).as_bytes(), &content::blake3(SEED, LENGTH));
        }
        for daemon in daemons {
            let (status, log) = daemon.stop();
            assert_eq!(status.code(), Some(0), "{log}");
        }
        assert_eq!(first.stop().0.code(), Some(0));
    });
    clients.await.unwrap();
    assert_eq!(origin.body_bytes("/file"), LENGTH, "{:?}", origin.log());
    assert_eq!(metadata_requests(&origin), 1, "{:?}", origin.log());
}

/// Without a daemon and a token `dfget` takes the bytes from the origin alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standalone_takes_from_the_origin_alone() {
    const LENGTH: u64 = 3 << 20;
    let origin = Origin::builder().tls().start().await.unwrap();
    origin.set("/file", Resource::seeded(SEED, LENGTH));
    let url = origin.url("/file");
    let ca = origin.ca_pem().unwrap().to_owned();
    let work = tokio::task::spawn_blocking(move || {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.pem"), ca).unwrap();
        let refused = run(dfget(dir.path()).args(["--standalone", "-q", "-O", "output", &url]));
        assert!(refused.is_code(1) && refused.stderr.contains("hint:"), "{refused:?}");
        assert!(!dir.path().join("output").exists());
        let done = run(dfget(dir.path()).args(["--standalone", "--ca-cert", "ca.pem", "-O", "output", &url]));
        assert!(done.is_code(0), "{done:?}");
        assert_eq!(fs::read(dir.path().join("output")).unwrap(), content::bytes(SEED, 0, LENGTH as usize));
    });
    work.await.unwrap();
    assert_eq!(origin.body_bytes("/file"), LENGTH);
}

/// A proxy that the environment names leads to origins that this host cannot resolve itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_from_the_environment_is_used() {
    const LENGTH: u64 = 100_000;
    let proxy = Origin::start().await.unwrap();
    proxy.set("/file", Resource::seeded(SEED, LENGTH));
    let at = proxy.url("");
    let work = tokio::task::spawn_blocking(move || {
        let dir = tempfile::tempdir().unwrap();
        let fetch = |no_proxy: &str| {
            let mut command = dfget(dir.path());
            command.env("http_proxy", &at).env("no_proxy", no_proxy);
            run(command.args(["--standalone", "-q", "-O", "output", "http://example.invalid/file"]))
        };
        let around = fetch("example.invalid");
        assert!(around.is_code(1) && around.stderr.contains("example.invalid"), "{around:?}");
        let through = fetch("");
        assert!(through.is_code(0), "{through:?}");
        assert_eq!(fs::read(dir.path().join("output")).unwrap(), content::bytes(SEED, 0, LENGTH as usize));
    });
    work.await.unwrap();
    assert_eq!(proxy.body_bytes("/file"), LENGTH);
    assert!(proxy.log().iter().all(|request| request.header("host") == Some("example.invalid")), "{:?}", proxy.log());
}

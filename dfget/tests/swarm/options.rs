//! Options that only show with an origin.

use std::fs;

use dragonfly_testkit::{Origin, Resource, content};

use super::SEED;
use crate::harness::{Daemon, TestOrigin, dfdaemon, dfget, run};

const LENGTH: u64 = 2 << 20;

/// A fetch that takes too long ends when it was told to, through the daemon and without, and leaves nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeout_ends_a_fetch_that_hangs() {
    let origin = Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(SEED, LENGTH).stall_after(100_000, u64::MAX));
    let url = origin.url("/file");
    let work = tokio::task::spawn_blocking(move || {
        let daemon = Daemon::with_role("peer").start();
        let through = daemon.dfget([url.as_str(), "-O", "output", "--timeout", "1s"]);
        let alone = run(dfget(daemon.dir()).args([&url, "--standalone", "-O", "output", "--timeout", "1s"]));
        for done in [through, alone] {
            // Its own bound ended it, which the client keeps, too, should the daemon not; not one of those on silence.
            let own = ["not complete after 1s", "the daemon did not finish in time"];
            assert!(own.iter().any(|own| done.stderr.contains(own)), "{done:?}");
            assert!(done.is_code(1) && done.stderr.contains("--timeout"), "{done:?}");
        }
        assert!(!daemon.dir().join("output").exists());
    });
    work.await.unwrap();
    assert!(origin.log().len() <= 2, "nobody came to ask again: {:?}", origin.log());
}

/// `-q` says nothing; a certificate that is not checked is told to who did not ask for silence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quiet_is_quiet_and_insecure_warns() {
    let origin = Origin::builder().tls().start().await.unwrap();
    origin.set("/file", Resource::seeded(SEED, LENGTH));
    let url = origin.url("/file");
    let work = tokio::task::spawn_blocking(move || {
        let dir = tempfile::tempdir().unwrap();
        let warned = run(dfget(dir.path()).args([&url, "--standalone", "-O", "one", "--insecure"]));
        assert!(warned.is_code(0) && warned.stderr.contains("warning"), "{warned:?}");
        let quiet = run(dfget(dir.path()).args([&url, "--standalone", "-O", "two", "--insecure", "-q"]));
        assert!(quiet.is_code(0) && quiet.stderr.is_empty() && quiet.stdout.is_empty(), "{quiet:?}");
        for name in ["one", "two"] {
            assert_eq!(fs::read(dir.path().join(name)).unwrap(), content::bytes(SEED, 0, LENGTH as usize));
        }
    });
    work.await.unwrap();
}

/// The digest is checked by the daemon over the whole: a wrong one leaves no output.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_digest_leaves_no_output() {
    let origin = Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(SEED, LENGTH));
    let url = origin.url("/file");
    let work = tokio::task::spawn_blocking(move || {
        let daemon = Daemon::with_role("peer").start();
        let wrong = format!("sha256:{}", "0".repeat(64));
        let mut alone = dfget(daemon.dir());
        alone.args([&url, "--standalone"]);
        for mut command in [daemon.dfget_command([&url]), alone] {
            let done = run(command.args(["-O", "output", "--digest", &wrong]));
            assert!(done.is_code(1), "{done:?}");
            assert!(!daemon.dir().join("output").exists());
        }
    });
    work.await.unwrap();
}

/// With a token `dfget` is a member for as long as it runs: what the network holds does not come from the origin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standalone_with_a_token_takes_from_the_network() {
    let origin = Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(SEED, LENGTH));
    let url = origin.url("/file");
    let work = tokio::task::spawn_blocking(move || {
        let seed = Daemon::with_role("scheduler,seed").start();
        let dir = tempfile::tempdir().unwrap();
        for name in ["one", "two"] {
            let mut command = dfget(dir.path());
            command.env("DRAGONFLY_JOIN", seed.token("peer"));
            let done = run(command.args([&url, "--standalone", "-O", name]));
            assert!(done.is_code(0), "{done:?}\n{}", seed.log());
            assert_eq!(fs::read(dir.path().join(name)).unwrap(), content::bytes(SEED, 0, LENGTH as usize));
        }
    });
    work.await.unwrap();
    assert_eq!(origin.body_bytes("/file"), LENGTH);
}

/// Roles come from the token: with a peer's a daemon is no seed, and prints no token for one.
#[test]
fn a_peers_token_makes_no_seed() {
    let first = Daemon::with_role("scheduler,seed").start();
    let dir = tempfile::tempdir().unwrap();
    let mut command = crate::harness::dfdaemon(dir.path());
    command.env("DRAGONFLY_JOIN", first.token("peer"));
    let args = ["--role", "seed", "--data-dir", "data", "--api", "none", "--listen", "/ip4/127.0.0.1/tcp/0"];
    let refused = run(command.args(args));
    assert!(refused.is_code(2) && refused.stderr.contains("role"), "{refused:?}");
    let refused = run(crate::harness::dfdaemon(dir.path()).args(["token", "--data-dir", "data", "--role", "seed"]));
    assert!(!refused.is_code(0) && refused.stdout.is_empty(), "{refused:?}");
}

/// A scheduler and a member that are named are turned to, by a daemon and by a `dfget` that is a member for as long as it
/// runs: the token names nobody who is there, so that without them the origin is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_named_scheduler_or_member_is_turned_to() {
    let origin = Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(SEED, LENGTH));
    let url = origin.url("/file");
    let work = tokio::task::spawn_blocking(move || {
        let first = Daemon::with_role("scheduler,seed").start();
        assert!(first.dfget(["preheat", &url, "-q"]).is_code(0));
        let gone = Daemon::with_role("peer").join(&first).start();
        let token = gone.token("peer");
        drop(gone);
        let from_peers = |done: &crate::harness::Done| {
            assert!(done.is_code(0), "{done:?}");
            let receipt: serde_json::Value = serde_json::from_str(done.text().lines().last().unwrap()).unwrap();
            receipt["bytes_from_peers"].as_u64().unwrap()
        };
        let place = first.ready().listen[0].clone();
        for (option, wanted) in [(None, 0), (Some("--scheduler"), LENGTH), (Some("--bootstrap"), LENGTH)] {
            let options: Vec<&str> = option.into_iter().flat_map(|option| [option, &place]).collect();
            let daemon = Daemon::with_role("peer").token(&token).args(&options).start();
            let through = daemon.dfget([url.as_str(), "-O", "output", "--json"]);
            assert_eq!(from_peers(&through), wanted, "{option:?}: {through:?}\n{}", daemon.log());
            let mut alone = dfget(daemon.dir());
            let alone = run(alone.args(&options).args(["--join", &token, &url, "-O", "alone", "--json"]));
            assert_eq!(from_peers(&alone), wanted, "{option:?}: {alone:?}");
        }
    });
    work.await.unwrap();
}

/// Lanes listen where they are told to, and where there are none pieces go over streams.
#[test]
fn lanes_are_where_they_are_wanted() {
    const LENGTH: u64 = 3 << 20;
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(1, LENGTH));
    let seed = Daemon::with_role("scheduler,seed").args(["--lane-listen", "127.0.0.1:0", "--lane-congestion", "reno"]);
    let seed = seed.start();
    let peer = |args: &[&str]| Daemon::with_role("peer").args(args).join(&seed).start();
    let (with, without) = (peer(&[]), peer(&["--no-lanes"]));
    for (daemon, carrier) in [(&with, "lane"), (&without, "stream")] {
        let done = daemon.dfget([url.as_str(), "-O", "out"]);
        assert!(done.is_code(0), "{done:?}");
        let hosts = daemon.dfget(["peers", "--json"]).text();
        let hosts: Vec<serde_json::Value> = hosts.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let to_seed = hosts.iter().find(|host| host["peer"] == seed.ready().peer_id.as_str());
        assert_eq!(to_seed.unwrap()["carrier"], carrier, "{hosts:?}");
    }
    assert_eq!(origin.origin.body_bytes("/file"), LENGTH);
    let refused = run(dfdaemon(seed.dir()).args(["--no-lanes", "--lane-listen", "127.0.0.1:0", "--check-config"]));
    assert!(refused.is_code(2), "{refused:?}");
}

/// Lanes without encryption are there only where both ends are set so.
#[test]
fn lanes_are_plain_where_both_ends_are_set_so() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(1, 3 << 20));
    let seed = Daemon::with_role("scheduler,seed").args(["--plain-lanes"]).start();
    let peer = |args: &[&str]| Daemon::with_role("peer").args(args).join(&seed).start();
    for (daemon, carrier) in [(peer(&["--plain-lanes"]), "plain"), (peer(&[]), "lane")] {
        let done = daemon.dfget([url.as_str(), "-O", "out"]);
        assert!(done.is_code(0), "{done:?}");
        let hosts = daemon.dfget(["peers", "--json"]).text();
        let hosts: Vec<serde_json::Value> = hosts.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let to_seed = hosts.iter().find(|host| host["peer"] == seed.ready().peer_id.as_str());
        assert_eq!(to_seed.unwrap()["carrier"], carrier, "{hosts:?}");
    }
    let refused = run(dfdaemon(seed.dir()).args(["--no-lanes", "--plain-lanes", "--check-config"]));
    assert!(refused.is_code(2), "{refused:?}");
}

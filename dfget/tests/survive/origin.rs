//! The origin goes away: before anyone asks, in the middle, when it has given everything, and when everyone is done.

use dragonfly_testkit::{Resource, content};

use super::{Client, SEED, all_finish, ended, fetch_with};
use crate::harness::{Daemon, TestOrigin, names, wait_for};

const LENGTH: u64 = 16 << 20;
const RATE: u64 = 8 << 20;
const PEERS: usize = 8;

/// Slower than what they take from the origin, so that much is left to be exchanged when the origin has given all.
const UPLOAD: &str = "2MiB";

/// A scheduler, a seed and some peers; or peers alone, of which the first is where they meet.
fn network(servers: bool) -> Vec<Daemon> {
    let start = |role: &str| Daemon::with_role(role).args(["--upload-limit", UPLOAD]);
    let mut all = Vec::new();
    for role in if servers { &["scheduler", "seed"][..] } else { &[] } {
        let next = start(role);
        all.push(if let Some(first) = all.first() { next.join(first).start() } else { next.start() });
    }
    for _ in 0..PEERS {
        let next = start("peer");
        all.push(if let Some(first) = all.first() { next.join(first).start() } else { next.start() });
    }
    all
}

fn fetch_all<'a>(daemons: &'a [Daemon], url: &str, args: &[&str]) -> Vec<(&'a Daemon, Client)> {
    daemons.iter().filter(|daemon| daemon.is_peer()).map(|daemon| (daemon, fetch_with(daemon, url, args))).collect()
}

/// Every client says one thing about its origin, by itself and not because its time was up, and there is nothing under
/// the final name, nor under any other.
fn all_fail(clients: Vec<(&Daemon, Client)>) {
    for (daemon, client) in clients {
        let done = ended(client);
        let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(1), "{stderr}\n{}", daemon.log());
        let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("dfget: cannot ")).collect();
        let [error] = errors[..] else { panic!("{stderr}") };
        assert!(error.contains("/file") && !error.contains("not complete after"), "{stderr}");
        println!("{error}");
        let left: Vec<String> = names(daemon.dir()).into_iter().filter(|name| name.contains("output")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn taken(daemons: &[Daemon]) -> u64 {
    daemons.iter().map(|daemon| daemon.metric("dragonfly_origin_bytes_total")).sum()
}

fn before(servers: bool) {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(SEED, LENGTH));
    let daemons = network(servers);
    drop(origin);
    all_fail(fetch_all(&daemons, &url, &[]));
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// It was asked, and has not answered.
    Asked,
    FirstByte,
    Middle,
}

fn under_way(servers: bool, moment: Moment) {
    let origin = TestOrigin::start();
    let file = Resource::seeded(SEED, LENGTH).rate(RATE);
    let url = origin.set("/file", if moment == Moment::Asked { file.held() } else { file });
    let daemons = network(servers);
    let clients = fetch_all(&daemons, &url, &[]);
    let comes = || match moment {
        Moment::Asked => !origin.origin.log().is_empty(),
        Moment::FirstByte => origin.origin.body_bytes("/file") > 0,
        Moment::Middle => origin.origin.body_bytes("/file") >= LENGTH / 2,
    };
    wait_for("the moment to go", || comes().then_some(()));
    drop(origin);
    all_fail(clients);
}

fn when_it_has_given_everything(servers: bool) {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(SEED, LENGTH).rate(RATE));
    let daemons = network(servers);
    let clients = fetch_all(&daemons, &url, &[]);
    wait_for("everything to be with somebody", || (taken(&daemons) >= LENGTH).then_some(()));
    assert_eq!(origin.origin.body_bytes("/file"), LENGTH);
    drop(origin);
    let left = clients.len();
    all_finish(clients, LENGTH);
    println!("{left} finished without an origin");
}

/// What a digest names needs no origin any more once somebody has it.
fn when_everyone_is_done(servers: bool) {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(SEED, LENGTH));
    let digest = format!("blake3:{}", content::hex(&content::blake3(SEED, LENGTH)));
    let named = ["--digest", &digest];
    let mut daemons = network(servers);
    all_finish(fetch_all(&daemons, &url, &named), LENGTH);
    assert_eq!(origin.origin.body_bytes("/file"), LENGTH);
    drop(origin);
    let late = Daemon::with_role("peer").join(&daemons[0]).start();
    daemons.push(late);
    all_finish(fetch_all(&daemons[daemons.len() - 1..], &url, &named), LENGTH);
}

#[test]
fn the_origin_is_gone_before_anyone_asks() {
    before(true);
    before(false);
}

#[test]
fn the_origin_goes_when_it_was_asked() {
    under_way(true, Moment::Asked);
    under_way(false, Moment::Asked);
}

#[test]
fn the_origin_goes_at_the_first_byte() {
    under_way(true, Moment::FirstByte);
    under_way(false, Moment::FirstByte);
}

#[test]
fn the_origin_goes_in_the_middle() {
    under_way(true, Moment::Middle);
    under_way(false, Moment::Middle);
}

#[test]
fn the_origin_goes_when_it_has_given_everything() {
    when_it_has_given_everything(true);
    when_it_has_given_everything(false);
}

#[test]
fn the_origin_goes_when_everyone_is_done() {
    when_everyone_is_done(true);
    when_everyone_is_done(false);
}

//! An origin that is a process of its own: killed in the middle of a download, and started again where it was.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dragonfly_testkit::Resource;

use super::{SEED, all_finish, all_know, fetch};
use crate::harness::{Daemon, get, wait_for};

const LENGTH: u64 = 24 << 20;
const RATE: u64 = 8 << 20;
const PEERS: usize = 8;

/// Shorter than the failures that a lease and a source put up with before anybody is told.
const AWAY: Duration = Duration::from_secs(3);

/// What was in flight when it died, of each range that was being fetched: at most the describing request and two leases
/// of each holder that had begun.
const AGAIN: u64 = 10 << 20;

/// Says to the test that is such an origin where it is to listen.
const ADDRESS: &str = "DRAGONFLY_TEST_ORIGIN";

/// The origin as a process. It runs until it is killed.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn start(address: SocketAddr) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "survive::origin_back::an_origin", "--ignored", "--nocapture"]);
        let mut child = command.env(ADDRESS, address.to_string()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = lines.map_while(Result::ok).find_map(|line| Some(line.split_once("listening ")?.1.to_owned()));
        Self { child, address: said.unwrap().parse().unwrap() }
    }

    fn sent(&self) -> u64 {
        let stats = get(&self.address.to_string(), "/_stats");
        let total = stats.split_once("\"body_bytes_total\":").unwrap().1;
        total[..total.find(|c: char| !c.is_ascii_digit()).unwrap()].parse().unwrap()
    }
}

/// `kill -9`.
impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What [`Process`] runs; nothing to see where nobody says where it is to listen.
#[test]
#[ignore = "the origin of another test, which runs it as a process of its own"]
fn an_origin() {
    let Ok(address) = std::env::var(ADDRESS) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let origin = dragonfly_testkit::Origin::builder().address(address.parse().unwrap()).start().await.unwrap();
        origin.set("/file", Resource::seeded(SEED, LENGTH).rate(RATE));
        println!("listening {}", origin.address());
        std::future::pending::<()>().await;
    });
}

/// Everybody finishes, and only what was in flight leaves it again, each time that it is killed.
fn killed_and_back(servers: bool, times: u64) {
    let mut origin = Process::start(([127, 0, 0, 1], 0).into());
    let address = origin.address;
    let url = format!("http://{address}/file");
    let mut daemons: Vec<Daemon> = Vec::new();
    for role in if servers { &["scheduler", "seed"][..] } else { &[] } {
        let next = Daemon::with_role(role);
        daemons.push(if let Some(first) = daemons.first() { next.join(first).start() } else { next.start() });
    }
    for _ in 0..PEERS {
        let next = Daemon::with_role("peer");
        daemons.push(if let Some(first) = daemons.first() { next.join(first).start() } else { next.start() });
    }
    all_know(&daemons.iter().collect::<Vec<_>>(), daemons.len() as u64 - 1);
    let peers = daemons.iter().filter(|daemon| daemon.is_peer());
    let clients: Vec<_> = peers.map(|peer| (peer, fetch(peer, &url))).collect();
    let mut before = 0;
    for _ in 0..times {
        wait_for("the next part", || (origin.sent() >= LENGTH / (2 + times)).then_some(()));
        before += origin.sent();
        drop(origin);
        std::thread::sleep(AWAY);
        origin = Process::start(address);
    }
    all_finish(clients, LENGTH);
    let again = origin.sent();
    let taken: u64 = daemons.iter().map(|daemon| daemon.metric("dragonfly_origin_bytes_total")).sum();
    println!("servers: {servers}, {times} times: {before} bytes before, {again} after, {taken} taken of {LENGTH}");
    assert!(again > 0 && before + again <= LENGTH + times * AGAIN, "{before} and {again} of {LENGTH}");
}

#[test]
fn an_origin_that_is_killed_and_back() {
    killed_and_back(true, 1);
    killed_and_back(false, 1);
}

#[test]
fn an_origin_that_is_killed_and_back_twice() {
    killed_and_back(true, 2);
    killed_and_back(false, 2);
}

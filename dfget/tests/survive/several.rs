//! Several schedulers, several seeds, many tasks: each task has one scheduler, the seeds share the work, and a scheduler
//! that dies leaves its tasks to the other.

use std::fmt::Write as _;
use std::fs;

use dragonfly_testkit::{Resource, content};

use super::all_know;
use crate::harness::{Daemon, TestOrigin};

const LENGTH: u64 = 300_000;
const TASKS: u64 = 40;
const PEERS: usize = 4;
const NONE: Option<&()> = None;

/// How many tasks a scheduler knows.
fn tasks(scheduler: &Daemon) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let snapshot: serde_json::Value = runtime
        .block_on(async { scheduler.client().await.json(http::Method::GET, "/v1/scheduler", NONE).await.unwrap() });
    snapshot["tasks"].as_array().unwrap().len() as u64
}

/// Every peer fetches all of these at once; each has the right bytes, and the origin sends one copy of each.
fn everyone_fetches_all(peers: &[Daemon], origin: &TestOrigin, round: u64) {
    let mut list = String::new();
    for number in 0..TASKS {
        let name = format!("{round}-{number}");
        let url = origin.set(&format!("/{name}"), Resource::seeded(round * TASKS + number, LENGTH));
        writeln!(list, "{url}").unwrap();
    }
    let clients: Vec<_> = peers
        .iter()
        .map(|peer| {
            fs::write(peer.dir().join("list"), &list).unwrap();
            peer.dfget_command(["-i", "list", "-q", "--timeout", "120"]).spawn().unwrap()
        })
        .collect();
    for (peer, mut client) in peers.iter().zip(clients) {
        assert!(client.wait().unwrap().success(), "{}", peer.log());
        for number in 0..TASKS {
            let bytes = fs::read(peer.dir().join(format!("{round}-{number}"))).unwrap();
            assert!(bytes == content::bytes(round * TASKS + number, 0, LENGTH as usize), "{round}-{number}");
        }
    }
    for number in 0..TASKS {
        let sent = origin.origin.body_bytes(&format!("/{round}-{number}"));
        assert_eq!(sent, LENGTH, "{round}-{number}: {:?}", origin.origin.log());
    }
}

#[test]
fn many_tasks_have_one_scheduler_each_and_the_seeds_share_them() {
    let origin = TestOrigin::start();
    let first = Daemon::with_role("scheduler").start();
    let second = Daemon::with_role("scheduler").join(&first).start();
    let member = |role: &str| {
        let mut daemon = Daemon::with_role(role);
        for scheduler in [&first, &second] {
            daemon = daemon.args(["--scheduler", &scheduler.ready().listen[0]]);
        }
        daemon.join(&first).start()
    };
    let seeds = [member("seed"), member("seed")];
    let peers: Vec<Daemon> = (0..PEERS).map(|_| member("peer")).collect();
    let all: Vec<&Daemon> = peers.iter().chain(&seeds).collect();
    all_know(&all, all.len() as u64 + 1);

    everyone_fetches_all(&peers, &origin, 1);
    let (of_first, of_second) = (tasks(&first), tasks(&second));
    println!("schedulers: {of_first} and {of_second} tasks");
    assert_eq!(of_first + of_second, TASKS, "each task has one");
    assert!(of_first.min(of_second) >= TASKS / 8, "{of_first} and {of_second}");
    let from_origin = |seed: &Daemon| seed.metric("dragonfly_origin_bytes_total") / LENGTH;
    let shares = [from_origin(&seeds[0]), from_origin(&seeds[1])];
    println!("seeds: {shares:?}");
    assert_eq!(shares[0] + shares[1], TASKS, "seeds go to the origin, nobody else");
    assert!(shares[0].min(shares[1]) >= TASKS / 8, "{shares:?}");

    drop(first);
    everyone_fetches_all(&peers, &origin, 2);
    assert!(tasks(&second) >= TASKS, "it has all of the new ones, at least");
}

//! A scheduler that comes back to many hosts that hold, and want, and say so.

use dragonfly_core::{Request, Scheduler};
use dragonfly_testkit::Resource;

use crate::harness::{Member, Network, SEED, digest, eventually, metric};

/// Twice as many as may be about to be admitted from one address.
const PEERS: usize = 16;
const HELD: usize = 12;
/// What each has of the origin's at a time; all of it comes in a few seconds.
const LENGTH: u64 = 24 << 20;
const RATE: u64 = 6 << 20;

/// Everybody is told of the scheduler's death in the middle of a download, holds a dozen other tasks, and comes back when
/// it does: each opens one session and says each task once, and nobody fetches the download that was under way by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_is_told_each_thing_once() {
    let mut network = Network::start(PEERS, false).await;
    for number in 0..HELD {
        let (path, seed) = (format!("/held/{number}"), number as u64);
        let url = network.serve(&path, Resource::seeded(seed, 1000));
        let requests =
            network.peers.iter().map(|member| member.peer.fetch(Request::new(&url).digest(digest(seed, 1000))));
        futures::future::try_join_all(requests).await.unwrap();
        assert_eq!(network.origin.body_bytes(&path), 1000);
    }
    let url = network.serve("/wanted", Resource::seeded(SEED, LENGTH).rate(RATE));
    eventually("everyone knows everyone", async || {
        let knows_all = |member: &Member| metric(&member.node, "dragonfly_members") >= PEERS as u64;
        network.peers.iter().all(knows_all).then_some(())
    })
    .await;
    let wants = network.peers.iter().map(|member| member.peer.fetch(Request::new(&url).digest(digest(SEED, LENGTH))));
    let wants: Vec<_> = wants.collect();
    eventually("the download is under way", async || (network.origin.body_bytes("/wanted") > LENGTH / 4).then_some(()))
        .await;
    let (node, scheduler) = network.scheduler.take().unwrap();
    let listen = node.listeners().into_iter().next().unwrap();
    scheduler.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
    drop((node, scheduler));

    let node = network.first_again(listen).await;
    let scheduler = Scheduler::builder(&node).start().await.unwrap();
    eventually("everyone is back with what it holds", async || {
        let known = scheduler.snapshot().await.unwrap();
        let complete = known.tasks.iter().filter(|task| task.complete == PEERS).count();
        (complete >= HELD).then_some(())
    })
    .await;
    for receipt in futures::future::join_all(wants).await {
        assert_eq!(receipt.unwrap().length, LENGTH);
    }
    let sent = network.origin.body_bytes("/wanted");
    let [sessions, joins, messages] = ["sessions_opened", "joins", "messages"]
        .map(|what| metric(&node, &format!("dragonfly_coordinator_{what}_total")));
    println!("{sessions} sessions, {joins} joins, {messages} messages, {sent} of {LENGTH} bytes");
    // Once each; a session that a busy machine cuts is taken up anew.
    assert!((PEERS as u64..=PEERS as u64 + 2).contains(&sessions), "{sessions}");
    assert!(joins >= (PEERS * (HELD + 1)) as u64 && joins <= sessions * (HELD + 1) as u64, "{joins} in {sessions}");
    // Who finds no place with it for a while may have gone on with another one meanwhile, which leases the same.
    assert!(sent < 2 * LENGTH, "{sent} of {LENGTH}");
    network.scheduler = Some((node, scheduler));
    network.stop().await;
}

//! Members that say something to their coordinator, and so slowly that it is of no use.

use std::time::Duration;

use dragonfly_testkit::Resource;
use futures::future::join_all;

use super::LENGTH;
use super::peer::Hostile;
use crate::harness::{Network, SEED, logged};

/// What is cut off for its silence is so after half a minute.
const SILENCE_BOUND: Duration = Duration::from_secs(120);

/// Members that begin a message to the coordinator and never end it, some with a byte now and then: honest downloads
/// finish meanwhile, and soon their sessions are over, each with one line of the log: bytes are no sign of life.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_streams_that_never_say_anything_whole() {
    const MEMBERS: usize = 8;
    let network = Network::start(2, true).await;
    let scheduler = &network.scheduler.as_ref().unwrap().0;
    let token = network.token();
    let mut slow = Vec::new();
    for number in 0..MEMBERS {
        let hostile = Hostile::join(&token).await;
        // Half of them say who they are before.
        let mut session = match number % 2 {
            0 => hostile.session(scheduler).await,
            _ => hostile.control(scheduler).await,
        };
        // The head of a message of 64 KiB.
        session.raw(&[0, 1, 0, 0, 1]).await.unwrap();
        slow.push((hostile, session));
    }
    let url = network.serve("/file", Resource::seeded(SEED, LENGTH));
    network.fetch_all(&url, LENGTH).await;
    assert_eq!(network.origin.body_bytes("/file"), LENGTH);
    // Each is heard out to the end of its session, and says another byte whenever it hears nothing.
    let ends = slow.into_iter().map(async |(hostile, mut session)| {
        loop {
            match tokio::time::timeout(Duration::from_secs(2), session.hear()).await {
                Ok(None) => break,
                Ok(Some(_)) => {}
                Err(_) => drop(session.raw(&[0]).await),
            }
        }
        let culprit = hostile.identity.peer_id().to_string();
        let why = "a member's session is closed";
        let told = logged(&culprit).into_iter().filter(|line| line.contains(why)).collect::<Vec<_>>();
        assert!(told.len() == 1 && told[0].contains("Silent"), "{told:?}");
        hostile.host.clone().shutdown().await;
    });
    tokio::time::timeout(SILENCE_BOUND, join_all(ends)).await.expect("their sessions end");
    // The coordinator is as it was.
    let url = network.serve("/next", Resource::seeded(SEED, LENGTH));
    network.fetch_all(&url, LENGTH).await;
    assert_eq!(network.origin.body_bytes("/next"), LENGTH);
    network.stop().await;
}

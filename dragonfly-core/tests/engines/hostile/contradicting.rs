//! A member that fetched some content, attests it rightly and serves it, and then signs another value of a piece.

use std::sync::atomic::Ordering;
use std::time::Duration;

use dragonfly_core::Request;
use dragonfly_core::task::{Layout, PieceHash};
use dragonfly_core::trust::statement::{Attester, sign_grant};
use dragonfly_core::wire::lane::{Frame, Message};
use dragonfly_core::wire::statement::{ATTESTED_PIECES_MAX, Evidence, Grant, GrantBundle};
use dragonfly_testkit::{Resource, content};

use super::holders::{Pace, Taken, serving};
use super::peer::{Hostile, Lane, Wire};
use super::{BOUND, LENGTH, current};
use crate::harness::{Network, SEED, eventually, logged, metric};

const BLAMED: &str = "dragonfly_neighbours_blamed_total";

/// Everyone has the content on its word. Nothing of what they hold goes when its word is void.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_stays() {
    let taken = Taken::start().await;
    let (holder, lanes) = serving(&taken, Pace::Honest);
    let network = &taken.network;
    tokio::time::timeout(BOUND, network.fetch_all(&taken.url, LENGTH)).await.expect("it is served");
    assert_eq!(network.origin.body_bytes("/file"), 0, "all of it came from that member");
    assert!(holder.asked.load(Ordering::Relaxed) > 0);
    holder.turned.send(true).unwrap();
    // By those who have a lane with it; one may have had all from the other.
    let blamed = || network.peers.iter().map(|member| metric(&member.node, BLAMED)).sum::<u64>();
    eventually("it is blamed", async || (blamed() > 0).then_some(())).await;
    for member in &network.peers {
        assert!(metric(&member.node, "dragonfly_store_bytes") >= LENGTH, "what is held stays");
        let again = member.peer.fetch(Request::new(&taken.url).output(network.output("again")).overwrite(true));
        let receipt = tokio::time::timeout(BOUND, again).await.expect("it is held").unwrap();
        assert_eq!((receipt.bytes_held, receipt.blake3.bytes()), (LENGTH, &content::blake3(SEED, LENGTH)[..]));
    }
    let lines = logged(&taken.hostile.identity.peer_id().to_string());
    assert_eq!(lines.iter().filter(|line| line.contains("is to blame")).count() as u64, blamed(), "{lines:?}");
    assert_eq!(network.origin.body_bytes("/file"), 0);
    lanes.abort();
    taken.stop().await;
}

/// The one host that has the content fetched it all itself. A member grants itself the highest epoch, says otherwise of every
/// piece, and contradicts that: what the host had attested counts again, and who comes next has it from there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_liar_took_the_place_of_counts_again() {
    let network = Network::start(2, false).await;
    let url = network.serve("/file", Resource::seeded(SEED, LENGTH));
    let request = Request::new(&url);
    let (holder, late) = (&network.peers[0], &network.peers[1]);
    holder.peer.fetch(request.clone()).await.unwrap();
    let hostile = Hostile::join(&network.token()).await;
    let mut session = hostile.session(&network.scheduler.as_ref().unwrap().0).await;
    let current = current(&mut session, holder.peer.task_id(&request).unwrap()).await;
    let pieces = Layout::of_length(LENGTH).unwrap().pieces();
    let grant = Grant {
        version: 1,
        network: *hostile.membership.network_id(),
        tenant: "default".into(),
        task: current.task,
        generation: current.generation,
        length: current.length,
        piece_length: current.piece_length,
        first: 0,
        end: pieces,
        holder: hostile.identity.peer_id(),
        epoch: u64::MAX,
    };
    let signed = sign_grant(&hostile.identity, &grant);
    let own = hostile.membership.credential_bytes().to_vec();
    let open = Message::Open {
        slot: 1,
        task: current.task,
        generation: current.generation,
        length: current.length,
        piece_length: current.piece_length,
        wanted: true,
    };
    let mut items = vec![Evidence::Grant(GrantBundle { grant: signed.clone(), grantor: own.clone(), holder: own })];
    for value in [[3; 32], [4; 32]] {
        let values: Vec<PieceHash> = vec![value; pieces as usize];
        let mut attester = Attester::new(&signed);
        for (batch, first) in values.chunks(ATTESTED_PIECES_MAX).zip((0..).step_by(ATTESTED_PIECES_MAX)) {
            items.push(Evidence::Attestation(attester.attest(&hostile.identity, first, batch).unwrap()));
        }
    }
    let said = [Frame::Message(open), Frame::Message(Message::Evidence { slot: 1, items })];
    // The other host may have opened a lane, too: of two one stays.
    let (mut incoming, theirs) = (hostile.take_lanes(), said.clone());
    let lanes = tokio::spawn(async move {
        while let Some(lane) = incoming.recv().await {
            say_all(&mut Wire::over(lane.stream), &theirs).await;
        }
    });
    eventually("it is blamed", async || {
        if let Some(mut lane) = hostile.lane(&holder.node).await {
            say_all(&mut lane, &said).await;
        }
        (metric(&holder.node, BLAMED) == 1).then_some(())
    })
    .await;
    lanes.abort();
    let fetched = tokio::time::timeout(BOUND, late.peer.fetch(request)).await.expect("it is served").unwrap();
    assert_eq!((fetched.bytes_from_peers, fetched.blake3.bytes()), (LENGTH, &content::blake3(SEED, LENGTH)[..]));
    assert_eq!(network.origin.body_bytes("/file"), LENGTH, "one copy");
    drop(session);
    hostile.host.clone().shutdown().await;
    network.stop().await;
}

/// And hears the other end out for a moment.
async fn say_all(lane: &mut Lane, said: &[Frame]) {
    for frame in said {
        let _ = lane.say(frame).await;
    }
    let _ = tokio::time::timeout(Duration::from_millis(500), lane.hear()).await;
}

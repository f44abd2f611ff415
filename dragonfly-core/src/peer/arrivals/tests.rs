//! In virtual time where time is the matter; with real engines where it is who counts what as an arrival.

#![allow(clippy::unwrap_used)]

use dragonfly_testkit::{Origin, Resource};

use super::*;
use crate::ErrorKind;
use crate::node::{Node, RateLimits, TokenOptions};
use crate::peer::content::Content;
use crate::peer::download::{NO_WAY, stalled};
use crate::peer::{Peer, Request};

const BOUND: Duration = Duration::from_secs(120);

/// A piece of 4 MiB at 16 KiB/s takes 256 s, of which no block of 64 KiB takes more than 4.
#[tokio::test(start_paused = true)]
async fn bytes_are_progress_before_their_piece_is_whole() {
    let (arrivals, started) = (Arrivals::new(), Instant::now());
    let piece = async {
        for _ in 0..64 {
            tokio::time::sleep(Duration::from_secs(4)).await;
            arrivals.note(64 << 10);
        }
    };
    tokio::select! {
        () = arrivals.ceased(BOUND) => panic!("stalled after {:?}", started.elapsed()),
        () = piece => assert_eq!(started.elapsed(), Duration::from_secs(256)),
    }
    arrivals.ceased(BOUND).await;
    assert_eq!(started.elapsed(), Duration::from_secs(256) + BOUND, "counted from when it is asked");
}

#[tokio::test(start_paused = true)]
async fn silence_ends_after_the_bound_and_not_before() {
    let (arrivals, started) = (Arrivals::new(), Instant::now());
    let silence = async {
        tokio::time::sleep(BOUND - Duration::from_secs(1)).await;
        arrivals.note(64 << 10);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = arrivals.ceased(BOUND) => {}
        () = silence => {}
    }
    assert_eq!(started.elapsed(), BOUND * 2 - Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn drops_are_silence_and_what_this_host_holds_up_is_not() {
    let (arrivals, started) = (Arrivals::new(), Instant::now());
    let drops = async {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            arrivals.note(1);
        }
    };
    tokio::select! {
        () = arrivals.ceased(BOUND) => assert_eq!(started.elapsed(), BOUND),
        () = drops => {}
    }
    let started = Instant::now();
    let held_up = async {
        for _ in 0..300 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            arrivals.held_up();
        }
    };
    tokio::select! {
        () = arrivals.ceased(BOUND) => panic!("stalled after {:?}", started.elapsed()),
        () = held_up => {}
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_heard_of_meanwhile() {
    let ticks = std::cell::Cell::new(0);
    let work = tokio::time::sleep(Duration::from_secs(7));
    meanwhile(work, Duration::from_secs(2), || async { ticks.set(ticks.get() + 1) }).await;
    assert_eq!(ticks.get(), 3);
}

/// Waits until something of a peer's content has come; every piece of it has to be incomplete then.
async fn arrives_before_a_piece_is_whole(peer: &Peer, request: Request) {
    let arrived = async {
        let mut want = peer.engine.want(&request).await.unwrap();
        let (content, _) = want.content().await.unwrap();
        let content: &Content = &content;
        while content.arrivals.last().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(content.held_bytes(), 0);
    };
    tokio::time::timeout(Duration::from_secs(60), arrived).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_from_an_origin_are_arrivals() {
    let origin = Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(1, 1 << 20).stall_after(20_000, u64::MAX));
    let node = Node::builder().start().await.unwrap();
    let peer = Peer::builder(&node).start().await.unwrap();
    arrives_before_a_piece_is_whole(&peer, Request::new(origin.url("/file"))).await;
}

/// Who waits in vain learns what stood in the way last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_neighbour_is_named_in_the_error() {
    let origin = Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(1, 1 << 20).stall_after(0, u64::MAX));
    let node = Node::builder().start().await.unwrap();
    let peer = Peer::builder(&node).start().await.unwrap();
    let mut want = peer.engine.want(&Request::new(origin.url("/file"))).await.unwrap();
    let (content, _) = want.content().await.unwrap();
    let error = stalled(&content);
    assert!(error.to_string().ends_with(NO_WAY), "{error}");
    content.set_trouble("the neighbour P sent nothing of what it was asked for, for 10s");
    let error = stalled(&content);
    let text = "nothing came for 120s, 0 of 1048576 bytes held; last: the neighbour P sent nothing";
    assert!(error.kind() == ErrorKind::Timeout && error.to_string().contains(text), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_from_a_peer_are_arrivals() {
    let origin = Origin::start().await.unwrap();
    // What has no length until its end is in pieces of a mebibyte: more than one block.
    origin.set("/file", Resource::seeded(1, 1 << 20).chunked());
    // One block goes at once, the next one in eighteen hours.
    let rates = RateLimits { upload: Some(1), ..RateLimits::default() };
    let listen = "/ip4/127.0.0.1/tcp/0".parse().unwrap();
    let holder = Node::builder().listen(listen).rates(rates).start().await.unwrap();
    let held = Peer::builder(&holder).start().await.unwrap();
    held.fetch(Request::new(origin.url("/file"))).await.unwrap();
    let token = holder.token(TokenOptions::default()).unwrap();
    let node = Node::builder().join(token).start().await.unwrap();
    let peer = Peer::builder(&node).start().await.unwrap();
    arrives_before_a_piece_is_whole(&peer, Request::new(origin.url("/file")).back_to_source(false)).await;
}

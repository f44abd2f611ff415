//! What a neighbour that asks for what it should not gets over a lane.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bytes::BytesMut;
use dragonfly_testkit::{Origin, Resource};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::node::{LANE_PROTOCOL, Node, TokenOptions};
use crate::peer::{Peer, Receipt, Request};
use crate::task::piece_length_for;
use crate::wire::codec::{self, Decoded, FrameDecoder};
use crate::wire::lane::{Frame, Message};

const LENGTH: u64 = 300_000;

/// What a member answers when another opens the task of a receipt.
async fn answer(holder: &Node, receipt: &Receipt) -> Message {
    let token = holder.token(TokenOptions::default()).unwrap();
    let other = Node::builder().join(token).start().await.unwrap();
    let addresses = holder.listeners().iter().map(crate::wire::Address::without_peer).collect();
    other.host().connect(holder.peer_id(), addresses).await.unwrap();
    let mut stream = other.host().open(holder.peer_id(), LANE_PROTOCOL).await.unwrap();
    let open = Message::Open {
        slot: 7,
        task: receipt.task,
        generation: receipt.generation,
        length: receipt.length,
        piece_length: piece_length_for(receipt.length),
        wanted: true,
    };
    let mut buffer = BytesMut::new();
    codec::encode(&Frame::Message(open), &mut buffer).unwrap();
    stream.write_all(&buffer).await.unwrap();
    stream.flush().await.unwrap();
    buffer.clear();
    let mut decoder = FrameDecoder::<Frame>::new();
    let read = async {
        loop {
            if let Some(Decoded::Message(Frame::Message(message))) = decoder.next(&mut buffer).unwrap() {
                return message;
            }
            assert_ne!(stream.read_buf(&mut buffer).await.unwrap(), 0, "the lane ended");
        }
    };
    let message = tokio::time::timeout(Duration::from_secs(20), read).await.unwrap();
    other.shutdown().await.unwrap();
    message
}

/// Who knows the names of content that is a host's alone gets it no more than who does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_of_one_host_is_not_served() {
    let holder = Node::builder().listen("/ip4/127.0.0.1/tcp/0".parse().unwrap()).start().await.unwrap();
    let peer = Peer::builder(&holder).start().await.unwrap();
    let origin = Origin::start().await.unwrap();
    origin.set("/public", Resource::seeded(1, LENGTH));
    origin.set("/private", Resource::seeded(2, LENGTH).header("cache-control", "private"));
    origin.set("/signed", Resource::seeded(3, LENGTH));
    let public = peer.fetch(Request::new(origin.url("/public"))).await.unwrap();
    let message = answer(&holder, &public).await;
    assert!(matches!(message, Message::Open { .. }), "{message:?}");
    let requests = [
        Request::new(origin.url("/private")),
        Request::new(origin.url("/signed") + "?X-Amz-Signature=00"),
        Request::new(origin.url("/public")).insecure(true),
    ];
    for request in requests {
        let receipt = peer.fetch(request).await.unwrap();
        let message = answer(&holder, &receipt).await;
        assert!(matches!(message, Message::Close { slot: None, .. }), "{message:?}");
    }
    peer.shutdown().await.unwrap();
    holder.shutdown().await.unwrap();
}

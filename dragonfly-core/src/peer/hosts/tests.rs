//! Who is remembered, who is left alone, and what a lane that takes nothing leaves behind.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::node::{Node, TokenOptions};
use crate::scheduler::Coordinator;
use crate::trust::{Identity, sign_record};

#[test]
fn who_is_to_blame_is_left_alone_for_longer_each_time_and_not_for_ever() {
    let mut host = Host::new(PeerId::from_public_key([7; 32]), 0);
    let long_ago = Instant::now().checked_sub(SHUNNED_MIN).unwrap();
    assert_eq!(host.shun(long_ago), SHUNNED_MIN);
    assert!(!host.is_shunned(), "its time is over");
    for doubled in [2, 4, 8, 16, 16, 16] {
        assert_eq!(host.shun(Instant::now()), SHUNNED_MIN * doubled);
        assert!(host.is_shunned());
    }
}

#[test]
fn a_lane_that_does_not_answer_is_left_alone_for_longer_each_time() {
    let peer = PeerId::from_public_key([7; 32]);
    let addresses = vec![Address::of_lane("10.0.0.7:4002".parse().unwrap())];
    let mut host = Host { addresses, ..Host::new(peer, 0) };
    host.reached(Carrier::Muxed);
    let (first, failures) = host.unreachable.unwrap();
    assert!(first > Instant::now() && failures == 0);
    host.reached(Carrier::Muxed);
    assert_eq!(host.unreachable, Some((first, 0)), "it was not tried");
    host.unreachable = Some((Instant::now(), 0));
    host.reached(Carrier::Muxed);
    let (second, failures) = host.unreachable.unwrap();
    assert!(second > first && failures == 1);
    host.reached(Carrier::Lane);
    assert!(host.unreachable.is_none());
    host.addresses = vec!["/ip4/10.0.0.7/tcp/4001".parse().unwrap()];
    host.reached(Carrier::Muxed);
    assert!(host.unreachable.is_none(), "it has none");
}

fn peer(number: usize) -> PeerId {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&number.to_be_bytes());
    PeerId::from_public_key(key)
}

/// A lane of which nobody takes anything, and what ends it.
fn idle_lane(hosts: &mut Hosts, key: HostKey) -> (mpsc::Receiver<LaneCommand>, CancellationToken) {
    let (commands, queue) = mpsc::channel(COMMANDS_MAX);
    let stop = CancellationToken::new();
    let lane = OpenLane {
        number: LaneNumber(1),
        ours: false,
        carrier: Carrier::Lane,
        commands,
        requests: lane::Requests::default(),
        stop: stop.clone(),
        tasks: BTreeMap::new(),
    };
    hosts.get(key).unwrap().lane = Some(lane);
    (queue, stop)
}

#[test]
fn so_many_hosts_are_remembered_and_no_more() {
    let mut hosts = Hosts::default();
    for number in 0..HOSTS_MAX {
        assert_eq!(hosts.key(peer(number)), HostKey(number as u32));
    }
    let _lane = idle_lane(&mut hosts, HostKey(0));
    hosts.get(HostKey(1)).unwrap().shun(Instant::now());
    assert_eq!(hosts.key(peer(2)), HostKey(2), "met once more");
    assert_eq!(hosts.key(peer(HOSTS_MAX)), HostKey(3), "who was met longest ago of the others gives way");
    assert_eq!(hosts.peer(HostKey(3)), Some(peer(HOSTS_MAX)));
    for number in HOSTS_MAX + 1..HOSTS_MAX + 200 {
        hosts.key(peer(number));
        assert_eq!((hosts.known(), hosts.by_peer.len()), (HOSTS_MAX, HOSTS_MAX));
    }
    assert_eq!((hosts.peer(HostKey(0)), hosts.lanes_up()), (Some(peer(0)), 1), "who has a lane stays");
    assert!(hosts.get(HostKey(1)).unwrap().is_shunned(), "who is shunned is not forgotten for strangers");
    // Met again it is a stranger: nothing is left of what was known of it.
    let again = hosts.key(peer(4));
    assert!(hosts.get(again).unwrap().addresses.is_empty() && hosts.by_peer[&peer(4)] == again);
}

fn actor(node: &Node) -> (Actor, mpsc::Receiver<Event>) {
    let (events, queue) = mpsc::channel(crate::peer::engine::EVENTS_MAX);
    (Actor::new(node.clone(), Coordinator::of(node), events, CancellationToken::new()), queue)
}

/// A lane that takes nothing of so much is over at once: nothing of what waits for it outlives it.
#[tokio::test]
async fn so_many_commands_wait_for_a_lane_and_no_more() {
    let node = Node::builder().start().await.unwrap();
    let (mut actor, _events) = actor(&node);
    let key = actor.hosts.key(peer(1));
    let (queue, stop) = idle_lane(&mut actor.hosts, key);
    for request in 0..COMMANDS_MAX as u32 {
        actor.send(key, LaneCommand::Cancel { request });
    }
    assert_eq!((actor.hosts.commands_waiting(), actor.hosts.lanes_up()), (COMMANDS_MAX, 1));
    assert!(!stop.is_cancelled());
    actor.send(key, LaneCommand::Cancel { request: 0 });
    assert_eq!((actor.hosts.commands_waiting(), actor.hosts.lanes_up()), (0, 0));
    assert!(stop.is_cancelled(), "it does not go on with what waits");
    assert_eq!(queue.len(), COMMANDS_MAX);
    assert!(queue.is_closed());
    node.shutdown().await.unwrap();
}

/// A host may be forgotten while it is dialled, and another have its place: a lane of the one is none of the other, which
/// would be served, and blamed, in its stead.
#[tokio::test]
async fn who_has_the_place_of_another_is_not_taken_for_it() {
    let loopback: Address = "/ip4/127.0.0.1/tcp/0".parse().unwrap();
    let there = Node::builder().listen(loopback).start().await.unwrap();
    let token = there.token(TokenOptions::default()).unwrap();
    let here = Node::builder().join(token).start().await.unwrap();
    let (mut actor, _events) = actor(&here);
    let addresses: Vec<Address> = there.listeners().iter().map(Address::without_peer).collect();
    let dialled = async || open(&here, there.peer_id(), addresses.clone()).await;
    let key = actor.hosts.key(peer(1));
    actor.dialled(key, there.peer_id(), dialled().await);
    assert_eq!(actor.hosts.lanes_up(), 0);
    let blame = || LaneEvent::Down { blame: Some("it did harm".to_owned()) };
    actor.lane((key, there.peer_id()), LaneNumber(1), blame());
    assert!(!actor.hosts.get(key).unwrap().is_shunned());
    let own = actor.hosts.key(there.peer_id());
    actor.dialled(own, there.peer_id(), dialled().await);
    assert_eq!(actor.hosts.lanes_up(), 1);
    actor.lane((own, there.peer_id()), LaneNumber(1), blame());
    assert!(actor.hosts.get(own).unwrap().is_shunned() && actor.hosts.lanes_up() == 0);
    for node in [here, there] {
        node.shutdown().await.unwrap();
    }
}

/// Dials a host, and takes the lane into use.
async fn dial(actor: &mut Actor, events: &mut mpsc::Receiver<Event>, key: HostKey) {
    actor.dial(key);
    let dialled = async {
        loop {
            // Of the lane before it something may still be told.
            if let Event::Dialled { host, peer, outcome } = events.recv().await.unwrap() {
                return (host, peer, outcome);
            }
        }
    };
    let (host, peer, outcome) = tokio::time::timeout(Duration::from_secs(60), dialled).await.unwrap();
    actor.dialled(host, peer, outcome);
    actor.carry_out();
}

/// A host whose port for lanes is closed is reached by a stream, and that is seen. Once it says that it is elsewhere it has a lane
/// again, without waiting for what the old address may do.
#[tokio::test]
async fn a_stream_does_until_a_closed_port_for_lanes_is_another() {
    let (identity, loopback) = (Identity::generate(), "/ip4/127.0.0.1/tcp/0".parse().unwrap());
    let there = Node::builder().listen(loopback).identity(identity.clone()).start().await.unwrap();
    let token = there.token(TokenOptions::default()).unwrap();
    let here = Node::builder().join(token).start().await.unwrap();
    let (mut actor, mut events) = actor(&here);
    // Bound, so that nobody else is there, and listening to nobody.
    let closed = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    closed.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let closed_at = || Address::of_lane(closed.local_addr().unwrap().as_socket().unwrap());
    let said = |lanes: &[Address]| {
        let streams = there.listeners();
        let addresses: Vec<Address> = streams.iter().chain(lanes).map(Address::without_peer).collect();
        let record = Some(sign_record(&identity, &addresses).unwrap());
        Neighbour { peer: there.peer_id(), record, seen_ip: Some(vec![127, 0, 0, 1]), seed: false, share: None }
    };
    let carrier = |actor: &Actor| actor.hosts.met().find(|met| met.peer == there.peer_id()).unwrap().carrier;
    let key = actor.intern(said(&[closed_at()])).unwrap();
    for _ in 0..2 {
        dial(&mut actor, &mut events, key).await;
        assert_eq!(carrier(&actor), Some(Carrier::Muxed));
        assert_eq!(here.metrics().lanes_on_streams.value(), 1);
        assert!(actor.hosts.get(key).unwrap().unreachable.is_some(), "it is not tried for a time");
        actor.close_lane(key);
    }
    // The same again changes nothing.
    actor.hosts.get(key).unwrap().named = None;
    actor.intern(said(&[closed_at()])).unwrap();
    assert!(actor.hosts.get(key).unwrap().unreachable.is_some());
    actor.intern(said(&there.lane_listeners())).unwrap();
    dial(&mut actor, &mut events, key).await;
    assert_eq!(carrier(&actor), Some(Carrier::Lane));
    assert_eq!(here.metrics().lanes_on_streams.value(), 0);
    for node in [here, there] {
        node.shutdown().await.unwrap();
    }
}

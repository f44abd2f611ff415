//! How connections and hosts end.

use super::*;

/// Nobody dials who is connected: of two connections that a peer has made it has given up the older one.
#[tokio::test]
async fn a_peer_that_connects_anew_has_given_up_what_it_had() {
    for listen in [TCP, QUIC] {
        // Whatever is older at all was not dialed at the same time.
        let limits = Limits { dial_timeout: Duration::ZERO, ..Limits::default() };
        let mut server = Node::start(1, secret(b"members!"), &[listen], limits).await;
        let mut old = Node::member(2, &[]).await;
        soon(old.connect(&server)).await.unwrap();
        assert_eq!(old.event().await, PeerEvent::Up(server.id()));
        assert_eq!(server.event().await, PeerEvent::Up(old.id()));
        ping(&old, &mut server).await;
        let mut new = Node::member(2, &[]).await;
        soon(new.connect(&server)).await.unwrap();
        assert_eq!(old.event().await, PeerEvent::Down(server.id()));
        ping(&new, &mut server).await;
        ping(&server, &mut new).await;
        server.no_event();
        assert_eq!(server.host.claims(new.id()).unwrap().downcast_ref::<PeerId>(), Some(&new.id()));
    }
}

/// Two that dial each other at once have two connections, and keep them.
#[tokio::test]
async fn connections_that_were_dialed_at_once_both_stay() {
    let mut a = Node::member(1, &[TCP]).await;
    let mut b = Node::member(2, &[TCP]).await;
    let (to_b, to_a) = soon(async { tokio::join!(a.connect(&b), b.connect(&a)) }).await;
    to_b.unwrap();
    to_a.unwrap();
    for _ in 0..3 {
        ping(&a, &mut b).await;
        ping(&b, &mut a).await;
    }
    assert_eq!(a.event().await, PeerEvent::Up(b.id()));
    assert_eq!(b.event().await, PeerEvent::Up(a.id()));
    a.no_event();
    b.no_event();
}

#[tokio::test]
async fn closing_ends_streams_and_leaves_nothing_behind() {
    let mut a = Node::member(1, &[]).await;
    let mut b = Node::member(2, &[TCP, QUIC]).await;
    for round in 0..100 {
        let address = b.host.listeners()[round % 2].clone();
        soon(a.host.connect(b.id(), vec![address])).await.unwrap();
        assert_eq!(a.event().await, PeerEvent::Up(b.id()));
        assert_eq!(b.event().await, PeerEvent::Up(a.id()));
        let mut stream = a.host.open(b.id(), ECHO).await.unwrap();
        if round % 2 == 0 {
            a.host.disconnect(b.id())
        } else {
            b.host.disconnect(a.id())
        }
        assert_eq!(a.event().await, PeerEvent::Down(b.id()));
        assert_eq!(b.event().await, PeerEvent::Down(a.id()));
        assert!(matches!(soon(stream.read(&mut [0; 1])).await, Ok(0) | Err(_)));
    }
    // A connection's task drops its muxer, and the registry entry with it, right after the event.
    soon(async {
        while a.host.leftovers().await + b.host.leftovers().await > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_closes_and_a_stream_keeps_it() {
    let limits = Limits { idle_timeout: Duration::from_millis(500), ..Limits::default() };
    let mut a = Node::start(1, secret(b"members!"), &[], limits).await;
    let mut b = Node::member(2, &[TCP]).await;
    let idle = Node::member(3, &[QUIC]).await;
    soon(a.connect(&b)).await.unwrap();
    let mut stream = a.host.open(b.id(), ECHO).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    stream.flush().await.unwrap();
    let mut incoming = soon(b.echo.recv()).await.unwrap();
    // Connected later, closed earlier.
    soon(a.connect(&idle)).await.unwrap();
    let expected = [PeerEvent::Up(b.id()), PeerEvent::Up(idle.id()), PeerEvent::Down(idle.id())];
    for event in expected {
        assert_eq!(a.event().await, event);
    }
    incoming.stream.write_all(b"y").await.unwrap();
    incoming.stream.flush().await.unwrap();
    assert_eq!(soon(stream.read_u8()).await.unwrap(), b'y');
    drop((stream, incoming));
    assert_eq!(a.event().await, PeerEvent::Down(b.id()));
}

#[tokio::test]
async fn shutdown_ends_every_task() {
    let admission = secret(b"members!");
    let alive = Arc::downgrade(&admission);
    let b = Node::start(2, admission, &[TCP, QUIC], Limits::default()).await;
    let mut a = Node::member(1, &[]).await;
    soon(a.connect(&b)).await.unwrap();
    assert_eq!(a.event().await, PeerEvent::Up(b.id()));
    let (clone, addresses) = (b.host.clone(), b.host.listeners());
    let Node { host, mut echo, events, .. } = b;
    soon(host.shutdown()).await;
    assert_eq!(a.event().await, PeerEvent::Down(clone.local()));
    // The transport holds the admission, and the queues end with the last handler: both are gone.
    assert!(alive.upgrade().is_none());
    assert!(echo.recv().await.is_none());
    assert_eq!(clone.peers(), []);
    assert_eq!(clone.connect(a.id(), addresses.clone()).await, Err(DialError::Stopped));
    soon(a.host.connect(clone.local(), addresses)).await.unwrap_err();
    drop(events);
}

#[tokio::test]
async fn dropping_the_last_handle_stops_the_host() {
    let admission = secret(b"members!");
    let alive = Arc::downgrade(&admission);
    let b = Node::start(2, admission, &[TCP], Limits::default()).await;
    let mut a = Node::member(1, &[]).await;
    soon(a.connect(&b)).await.unwrap();
    assert_eq!(a.event().await, PeerEvent::Up(b.id()));
    drop(b);
    assert!(matches!(a.event().await, PeerEvent::Down(_)));
    soon(async {
        while alive.upgrade().is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_host_runs_where_it_was_told_to() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let config = HostConfig {
        listen: vec![TCP.parse().unwrap(), QUIC.parse().unwrap()],
        protocols: vec![ECHO],
        ..HostConfig::new([2; 32], secret(b"members!"))
    };
    let handle = runtime.handle().clone();
    // From a thread that knows no runtime.
    let (host, _queues) = std::thread::spawn(move || Host::start(config, &handle).unwrap()).join().unwrap();
    let addresses = soon(host.listening()).await.unwrap();
    let a = Node::member(1, &[]).await;
    for address in addresses {
        soon(a.host.connect(host.local(), vec![address])).await.unwrap();
    }
    runtime.shutdown_background();
}

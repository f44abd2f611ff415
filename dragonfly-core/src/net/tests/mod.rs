//! Real sockets on loopback: two hosts, and strangers.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Handle;
use tokio::sync::{broadcast, mpsc};

use super::*;
use crate::wire::{Address, PeerId};

mod ends;

const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const ECHO: &str = "/test/echo/1";
const OTHER: &str = "/test/other/1";

/// Admits who says the same secret; the dialer speaks first. Claims: the other's PeerId.
struct Secret {
    secret: [u8; 8],
    runs: AtomicUsize,
}

impl Admission for Secret {
    fn admit<'a>(
        &'a self,
        io: &'a mut dyn Duplex,
        dialer: bool,
        _: PeerId,
        remote: PeerId,
        _: &'a [u8],
    ) -> BoxFuture<'a, Result<Admitted, Refused>> {
        Box::pin(async move {
            self.runs.fetch_add(1, Ordering::Relaxed);
            let mut theirs = [0; 8];
            let result = async {
                if dialer {
                    io.write_all(&self.secret).await?;
                    io.flush().await?;
                    io.read_exact(&mut theirs).await
                } else {
                    io.read_exact(&mut theirs).await?;
                    io.write_all(&self.secret).await?;
                    io.flush().await
                }
            };
            result.await.map_err(|e| Refused::new(e.to_string()))?;
            if theirs != self.secret {
                return Err(Refused::new("another secret"));
            }
            Ok(Admitted { claims: Arc::new(remote), not_after: None })
        })
    }
}

/// Never answers.
struct Stalled;

impl Admission for Stalled {
    fn admit<'a>(
        &'a self,
        _: &'a mut dyn Duplex,
        _: bool,
        _: PeerId,
        _: PeerId,
        _: &'a [u8],
    ) -> BoxFuture<'a, Result<Admitted, Refused>> {
        Box::pin(std::future::pending())
    }
}

fn secret(text: &[u8; 8]) -> Arc<Secret> {
    Arc::new(Secret { secret: *text, runs: AtomicUsize::new(0) })
}

struct Node {
    host: Host,
    echo: mpsc::Receiver<Incoming>,
    other: mpsc::Receiver<Incoming>,
    events: broadcast::Receiver<PeerEvent>,
}

impl Node {
    async fn start(seed: u8, admission: Arc<dyn Admission>, listen: &[&str], limits: Limits) -> Self {
        let config = HostConfig {
            listen: listen.iter().map(|address| address.parse().unwrap()).collect(),
            protocols: vec![ECHO, OTHER],
            limits,
            ..HostConfig::new([seed; 32], admission)
        };
        let (host, mut queues) = Host::start(config, &Handle::current()).unwrap();
        let events = host.events();
        host.listening().await.unwrap();
        Self { host, echo: queues.remove(ECHO).unwrap(), other: queues.remove(OTHER).unwrap(), events }
    }

    async fn member(seed: u8, listen: &[&str]) -> Self {
        Self::start(seed, secret(b"members!"), listen, Limits::default()).await
    }

    fn id(&self) -> PeerId {
        self.host.local()
    }

    async fn connect(&self, other: &Self) -> Result<(), DialError> {
        self.host.connect(other.id(), other.host.listeners()).await
    }

    async fn event(&mut self) -> PeerEvent {
        soon(self.events.recv()).await.unwrap()
    }

    fn no_event(&mut self) {
        assert_eq!(self.events.try_recv(), Err(broadcast::error::TryRecvError::Empty));
    }
}

/// A bound that only a broken host reaches.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("nothing happened for a minute")
}

async fn ping(a: &Node, b: &mut Node) {
    let mut stream = a.host.open(b.id(), ECHO).await.unwrap();
    stream.write_all(b"ping").await.unwrap();
    stream.flush().await.unwrap();
    let mut incoming = soon(b.echo.recv()).await.unwrap();
    assert_eq!((incoming.peer, incoming.protocol), (a.id(), ECHO));
    assert_eq!(incoming.remote_ip, Some(Ipv4Addr::LOCALHOST.into()));
    let mut got = [0; 4];
    soon(incoming.stream.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"ping");
}

async fn exchange_in_bulk(listen: &str) {
    const LENGTH: usize = 16 << 20;
    const STREAMS: usize = 3;
    let mut a = Node::member(1, &[]).await;
    let mut b = Node::member(2, &[listen]).await;
    soon(a.connect(&b)).await.unwrap();
    assert_eq!(a.event().await, PeerEvent::Up(b.id()));
    assert_eq!(b.event().await, PeerEvent::Up(a.id()));
    assert_eq!(a.host.claims(b.id()).unwrap().downcast_ref::<PeerId>(), Some(&b.id()));
    assert_eq!(b.host.claims(a.id()).unwrap().downcast_ref::<PeerId>(), Some(&a.id()));
    assert_eq!(a.host.remote_ip(b.id()), Some(Ipv4Addr::LOCALHOST.into()));
    assert_eq!(b.host.remote_ip(a.id()), Some(Ipv4Addr::LOCALHOST.into()));

    let to = b.id();
    let content: Arc<Vec<u8>> = Arc::new((0..LENGTH).map(|n| (n ^ (n >> 11)) as u8).collect());
    let echo = async {
        let mut tasks = Vec::new();
        for _ in 0..STREAMS {
            let incoming = b.echo.recv().await.unwrap();
            tasks.push(tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(incoming.stream);
                tokio::io::copy(&mut read, &mut write).await.unwrap();
                write.shutdown().await.unwrap();
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    };
    let send = async {
        let mut tasks = Vec::new();
        for _ in 0..STREAMS {
            let stream = a.host.open(to, ECHO).await.unwrap();
            let content = Arc::clone(&content);
            tasks.push(tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(stream);
                let sent = Arc::clone(&content);
                let writer = tokio::spawn(async move {
                    write.write_all(&sent).await.unwrap();
                    write.shutdown().await.unwrap();
                });
                let mut back = Vec::with_capacity(LENGTH);
                read.read_to_end(&mut back).await.unwrap();
                writer.await.unwrap();
                assert!(back == *content, "the echo differs");
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    };
    soon(async { tokio::join!(echo, send) }).await;
    a.host.shutdown().await;
    b.host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_both_ways_over_tcp() {
    exchange_in_bulk(TCP).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_both_ways_over_quic() {
    exchange_in_bulk(QUIC).await;
}

#[tokio::test]
async fn a_wrong_secret_is_refused_at_both_ends() {
    for listen in [TCP, QUIC] {
        let mut member = Node::member(1, &[listen]).await;
        let admission = secret(b"stranger");
        let mut stranger = Node::start(2, admission.clone(), &[listen], Limits::default()).await;
        for _ in 0..2 {
            let error = soon(stranger.connect(&member)).await.unwrap_err();
            assert!(matches!(error, DialError::Failed { .. }), "{error}");
            soon(member.connect(&stranger)).await.unwrap_err();
        }
        assert_eq!(admission.runs.load(Ordering::Relaxed), 4, "the refusals came from the admission");
        // Proof that nothing is still under way: a real member comes and is the first event.
        let mut friend = Node::member(3, &[]).await;
        soon(friend.connect(&member)).await.unwrap();
        assert_eq!(member.event().await, PeerEvent::Up(friend.id()));
        assert_eq!(friend.event().await, PeerEvent::Up(member.id()));
        member.no_event();
        stranger.no_event();
        assert!(!member.host.is_connected(stranger.id()) && member.host.claims(stranger.id()).is_none());
    }
}

#[tokio::test]
async fn one_sided_acceptance_connects_nobody() {
    /// Says what the other wants to hear, and then refuses it.
    struct Fickle;
    impl Admission for Fickle {
        fn admit<'a>(
            &'a self,
            io: &'a mut dyn Duplex,
            dialer: bool,
            local: PeerId,
            remote: PeerId,
            binding: &'a [u8],
        ) -> BoxFuture<'a, Result<Admitted, Refused>> {
            Box::pin(async move {
                secret(b"members!").admit(io, dialer, local, remote, binding).await?;
                Err(Refused::new("on second thoughts"))
            })
        }
    }
    for listen in [TCP, QUIC] {
        let mut member = Node::member(1, &[listen]).await;
        let fickle = Node::start(2, Arc::new(Fickle), &[listen], Limits::default()).await;
        let error = soon(fickle.connect(&member)).await.unwrap_err();
        assert!(error.to_string().contains("on second thoughts"), "{error}");
        soon(member.connect(&fickle)).await.unwrap_err();
        member.no_event();
        assert!(!member.host.is_connected(fickle.id()));
    }
}

#[tokio::test]
async fn a_stalled_admission_is_cut() {
    for listen in [TCP, QUIC] {
        let limits = Limits { admission_timeout: Duration::from_millis(100), ..Limits::default() };
        let mut stalled = Node::start(1, Arc::new(Stalled), &[listen], limits).await;
        let mut member = Node::member(2, &[]).await;
        let error = soon(member.connect(&stalled)).await.unwrap_err();
        assert!(matches!(error, DialError::Failed { .. }), "{error}");
        stalled.no_event();
        member.no_event();
    }
}

#[tokio::test]
async fn another_peer_at_the_address_is_refused() {
    for listen in [TCP, QUIC] {
        let admission = secret(b"members!");
        let mut b = Node::start(2, admission.clone(), &[listen], Limits::default()).await;
        let a = Node::member(1, &[]).await;
        let expected = Node::member(3, &[]).await.id();
        let addresses: Vec<Address> = b.host.listeners().iter().map(Address::without_peer).collect();
        let error = soon(a.host.connect(expected, addresses.clone())).await.unwrap_err().to_string();
        assert!(error.contains("another peer is there") && error.contains(&addresses[0].to_string()), "{error}");
        let error = soon(a.host.connect(expected, b.host.listeners())).await.unwrap_err().to_string();
        assert!(error.contains("the address of another peer"), "{error}");
        b.no_event();
    }
}

#[tokio::test]
async fn a_host_without_listener_is_reached_over_its_own_connection() {
    for listen in [TCP, QUIC] {
        let mut a = Node::member(1, &[]).await;
        assert_eq!(a.host.listeners(), []);
        let mut b = Node::member(2, &[listen]).await;
        soon(a.connect(&b)).await.unwrap();
        assert_eq!(b.event().await, PeerEvent::Up(a.id()));
        ping(&b, &mut a).await;
        ping(&a, &mut b).await;
    }
}

#[tokio::test]
async fn a_name_is_resolved_and_its_address_known() {
    let a = Node::member(1, &[]).await;
    let mut b = Node::member(2, &[TCP]).await;
    let by_name = b.host.listeners()[0].to_string().replace("/ip4/127.0.0.1/", "/dns4/localhost/");
    soon(a.host.connect(b.id(), vec![by_name.parse().unwrap()])).await.unwrap();
    assert_eq!(a.host.remote_ip(b.id()), Some(Ipv4Addr::LOCALHOST.into()));
    ping(&a, &mut b).await;
}

#[tokio::test]
async fn a_full_accept_queue_drops_streams() {
    let mut b = Node::start(2, secret(b"members!"), &[TCP], Limits { accept_queue: 2, ..Limits::default() }).await;
    let mut a = Node::member(1, &[]).await;
    soon(a.connect(&b)).await.unwrap();
    assert_eq!(a.event().await, PeerEvent::Up(b.id()));
    let mut streams = Vec::new();
    for _ in 0..5 {
        let mut stream = a.host.open(b.id(), ECHO).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.flush().await.unwrap();
        streams.push(stream);
    }
    // All five have arrived before the first is taken.
    soon(stream_overflow(&b, 3)).await;
    // Answers come to the two that found room; the others end without one.
    for answered in [true, true, false, false, false] {
        let mut stream = streams.remove(0);
        if answered {
            let mut incoming = soon(b.echo.recv()).await.unwrap();
            incoming.stream.write_all(b"hi").await.unwrap();
            incoming.stream.shutdown().await.unwrap();
            let mut got = Vec::new();
            soon(stream.read_to_end(&mut got)).await.unwrap();
            assert_eq!(got, b"hi");
        } else {
            let mut got = Vec::new();
            let end = soon(stream.read_to_end(&mut got)).await;
            assert!(end.is_err() || got.is_empty());
        }
    }
    assert_eq!(b.host.overflowed(), 3);
    // The protocol beside it is not affected.
    let mut stream = a.host.open(b.id(), OTHER).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(soon(b.other.recv()).await.unwrap().protocol, OTHER);
}

async fn stream_overflow(node: &Node, count: u64) {
    while node.host.overflowed() < count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_protocol_that_nobody_accepts_fails_at_the_first_read() {
    for listen in [TCP, QUIC] {
        let a = Node::member(1, &[]).await;
        let mut b = Node::member(2, &[listen]).await;
        soon(a.connect(&b)).await.unwrap();
        let mut stream = a.host.open(b.id(), "/test/unknown/1").await.unwrap();
        soon(stream.read_u8()).await.unwrap_err();
        ping(&a, &mut b).await;
    }
}

#[tokio::test]
async fn an_opener_may_listen_first() {
    for listen in [TCP, QUIC] {
        let a = Node::member(1, &[]).await;
        let mut b = Node::member(2, &[listen]).await;
        soon(a.connect(&b)).await.unwrap();
        let mut stream = a.host.open(b.id(), ECHO).await.unwrap();
        let answer = async {
            let mut incoming = b.echo.recv().await.unwrap();
            incoming.stream.write_u8(7).await.unwrap();
            incoming.stream.shutdown().await.unwrap();
            incoming
        };
        let (byte, _incoming) = soon(async { tokio::join!(stream.read_u8(), answer) }).await;
        assert_eq!(byte.unwrap(), 7);
    }
}

#[tokio::test]
async fn streams_are_bounded_per_connection() {
    let limits = Limits { streams_per_connection: 2, ..Limits::default() };
    let a = Node::start(1, secret(b"members!"), &[], limits).await;
    let b = Node::member(2, &[TCP]).await;
    soon(a.connect(&b)).await.unwrap();
    let first = a.host.open(b.id(), ECHO).await.unwrap();
    let _second = a.host.open(b.id(), ECHO).await.unwrap();
    assert_eq!(a.host.open(b.id(), ECHO).await.unwrap_err(), OpenError::Busy(b.id()));
    drop(first);
    a.host.open(b.id(), ECHO).await.unwrap();
}

#[tokio::test]
async fn unadmitted_connections_of_one_address_are_bounded() {
    // Nothing but the limit ends a handshake in this test: what is not dropped at once stays.
    let day = Duration::from_secs(86_400);
    let limits = Limits { handshakes_per_ip: 2, handshake_timeout: day, ..Limits::default() };
    let b = Node::start(2, secret(b"members!"), &[TCP], limits).await;
    let address = b.host.listeners()[0].to_string();
    let port = address.split('/').nth(4).unwrap().parse().unwrap();
    let connect = || tokio::net::TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let mut kept = vec![connect().await.unwrap(), connect().await.unwrap()];
    let mut third = connect().await.unwrap();
    let dropped = soon(third.read(&mut [0; 16])).await;
    assert!(matches!(dropped, Ok(0) | Err(_)), "{dropped:?}");
    for stream in &mut kept {
        // The listener's first words are still to be had, so these two are alive.
        let end = stream.try_read(&mut [0; 16]);
        assert!(!matches!(end, Ok(0)), "{end:?}");
        assert!(end.is_ok() || end.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock));
    }
    // A member that comes meanwhile is told apart from one that finds nobody, or that may not come in.
    let a = Node::member(1, &[]).await;
    let error = soon(a.connect(&b)).await.unwrap_err();
    assert!(error.is_turned_away(), "{error}");
    // A place that becomes free is given to the next.
    drop(kept);
    soon(async {
        while a.connect(&b).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn who_is_dead_or_refuses_for_good_turns_nobody_away() {
    let b = Node::member(2, &[TCP]).await;
    let stranger = Node::start(3, secret(b"stranger"), &[], Limits::default()).await;
    let refused = soon(stranger.connect(&b)).await.unwrap_err();
    let (a, id, listeners) = (Node::member(1, &[]).await, b.id(), b.host.listeners());
    b.host.shutdown().await;
    let dead = soon(a.host.connect(id, listeners)).await.unwrap_err();
    for error in [refused, dead] {
        assert!(matches!(error, DialError::Failed { .. }) && !error.is_turned_away(), "{error}");
    }
}

#[tokio::test]
async fn established_connections_are_bounded() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let mut b = Node::start(2, secret(b"members!"), &[TCP], limits).await;
    let a = Node::member(1, &[]).await;
    let mut c = Node::member(3, &[]).await;
    soon(a.connect(&b)).await.unwrap();
    assert_eq!(b.event().await, PeerEvent::Up(a.id()));
    // The admission lets it in, the limit does not: it closes again.
    if soon(c.connect(&b)).await.is_ok() {
        assert_eq!(c.event().await, PeerEvent::Up(b.id()));
        assert_eq!(c.event().await, PeerEvent::Down(b.id()));
    }
    b.no_event();
    ping(&a, &mut b).await;
}

/// However many processes have one identity, so many connections are there with it; others are not kept out.
#[tokio::test]
async fn connections_with_one_peer_are_bounded() {
    // None of them takes the place of an older one meanwhile.
    let limits = Limits { dial_timeout: Duration::from_secs(3600), ..Limits::default() };
    let mut b = Node::start(2, secret(b"members!"), &[TCP], limits.clone()).await;
    let mut same = Vec::new();
    for _ in 0..limits.connections_per_peer {
        let a = Node::member(1, &[]).await;
        soon(a.connect(&b)).await.unwrap();
        ping(&a, &mut b).await;
        same.push(a);
    }
    let mut more = Node::member(1, &[]).await;
    if soon(more.connect(&b)).await.is_ok() {
        assert_eq!(more.event().await, PeerEvent::Up(b.id()));
        assert_eq!(more.event().await, PeerEvent::Down(b.id()));
    }
    for a in &same {
        ping(a, &mut b).await;
    }
    let other = Node::member(3, &[]).await;
    soon(other.connect(&b)).await.unwrap();
    ping(&other, &mut b).await;
    // A place that becomes free is given to the next.
    same.pop().unwrap().host.shutdown().await;
    let next = Node::member(1, &[]).await;
    soon(async {
        loop {
            if next.connect(&b).await.is_ok()
                && let Ok(mut stream) = next.host.open(b.id(), ECHO).await
                && stream.write_all(b"ping").await.is_ok()
                && stream.flush().await.is_ok()
                && b.echo.recv().await.is_some()
            {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn concurrent_connects_share_one_dial() {
    let admission = secret(b"members!");
    let a = Node::start(1, admission.clone(), &[], Limits::default()).await;
    let b = Node::member(2, &[TCP]).await;
    let connects = (0..20).map(|_| a.connect(&b));
    for result in soon(futures::future::join_all(connects)).await {
        result.unwrap();
    }
    assert_eq!(admission.runs.load(Ordering::Relaxed), 1);
    a.connect(&b).await.unwrap();
    assert_eq!(admission.runs.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_failed_dial_names_address_and_cause() {
    let a = Node::member(1, &[]).await;
    let b = Node::member(2, &[TCP]).await;
    let (id, addresses) = (b.id(), b.host.listeners());
    b.host.shutdown().await;
    let unusable: Address = "/ip4/127.0.0.1/udp/1".parse().unwrap();
    let error = soon(a.host.connect(id, vec![addresses[0].clone(), unusable.clone()])).await.unwrap_err().to_string();
    let tcp = addresses[0].without_peer().to_string();
    assert!(error.contains(&id.to_string()) && error.contains(&tcp) && error.contains("refused"), "{error}");
    assert!(error.contains(&unusable.to_string()), "{error}");
    assert_eq!(a.host.connect(id, Vec::new()).await, Err(DialError::NoAddress { peer: id }));
    assert_eq!(a.host.open(id, ECHO).await.unwrap_err(), OpenError::NotConnected(id));
}

#[tokio::test]
async fn a_host_is_no_peer_of_itself() {
    let a = Node::member(1, &[TCP]).await;
    assert_eq!(a.connect(&a).await, Err(DialError::Itself));
    assert_eq!(a.host.open(a.id(), ECHO).await.unwrap_err(), OpenError::Itself);
}

#[tokio::test]
async fn a_listener_that_fails_is_named() {
    let b = Node::member(2, &[TCP]).await;
    let taken = b.host.listeners()[0].without_peer();
    let config = HostConfig { listen: vec![taken.clone()], ..HostConfig::new([1; 32], secret(b"members!")) };
    let (host, _) = Host::start(config, &Handle::current()).unwrap();
    let error = soon(host.listening()).await.unwrap_err();
    assert!(error.to_string().contains(&taken.to_string()), "{error}");
    let config = HostConfig { protocols: vec!["echo"], ..HostConfig::new([1; 32], secret(b"members!")) };
    assert!(matches!(Host::start(config, &Handle::current()), Err(StartError::Protocol("echo"))));
}

#[tokio::test]
async fn a_wildcard_listener_reports_concrete_addresses() {
    let b = Node::member(2, &["/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0/quic-v1"]).await;
    let listeners = b.host.listeners();
    assert!(listeners.len() >= 2, "{listeners:?}");
    for address in listeners {
        assert!(!address.ip().unwrap().is_unspecified() && address.peer() == Some(b.id()), "{address}");
        assert!(!address.to_string().contains("/0/"), "{address}");
    }
}

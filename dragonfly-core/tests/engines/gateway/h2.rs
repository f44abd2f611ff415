//! HTTP/2 outside of TLS, by prior knowledge.

use bytes::Bytes;
use dragonfly_core::gateway::{GatewayConfig, Users};
use dragonfly_testkit::{Resource, content};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Gateways, sha256};
use crate::harness::{Network, SEED};

const LENGTH: u64 = (1 << 20) + 7;

fn config(network: &Network) -> GatewayConfig {
    let mut config = GatewayConfig::default();
    config.rules = vec!["swarm:\\.deb$".parse().unwrap()];
    config.registry_default = Some(network.origin.url("/").parse().unwrap());
    config
}

type Sender = SendRequest<Full<Bytes>>;

/// A connection to the gateway of a host.
async fn connect(gateways: &Gateways, host: usize) -> Sender {
    let stream = TcpStream::connect(gateways.gateways[host].1).await.unwrap();
    let begun = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = begun.unwrap();
    tokio::spawn(connection);
    sender
}

async fn get(sender: &mut Sender, uri: String) -> Response<Incoming> {
    sender.send_request(Request::get(uri).body(Full::default()).unwrap()).await.unwrap()
}

async fn whole(response: Response<Incoming>) -> (u16, Bytes) {
    (response.status().as_u16(), response.into_body().collect().await.unwrap().to_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_and_a_proxy_over_one_connection() {
    let gateways = Gateways::start(config).await;
    let bytes = content::bytes(SEED, 0, LENGTH as usize);
    let digest = sha256(&bytes);
    let path = format!("/v2/lib/a/blobs/{digest}");
    let resource = Resource::seeded(SEED, LENGTH).etag(format!("\"{digest}\"")).no_last_modified();
    gateways.network.origin.set(&path, resource);
    let package = gateways.network.serve("/a.deb", Resource::seeded(SEED + 1, LENGTH));
    let plain = gateways.network.serve("/index", Resource::bytes("index"));
    for host in 0..2 {
        let mut sender = connect(&gateways, host).await;
        let own = gateways.gateways[host].1;
        assert_eq!(whole(get(&mut sender, format!("http://{own}/healthz")).await).await.0, 200);
        let names = [own.to_string(), format!("localhost:{}", own.port())];
        for name in names {
            let answer = get(&mut sender, format!("http://{name}{path}")).await;
            assert_eq!(answer.headers()["docker-content-digest"], &*digest);
            let (status, body) = whole(answer).await;
            assert_eq!((status, body == bytes), (200, true), "{name}");
        }
        // Of another host, at the same time.
        let (mut one, mut other) = (sender.clone(), sender.clone());
        let (one, other) = tokio::join!(get(&mut one, package.clone()), get(&mut other, plain.clone()));
        assert!(one.headers().contains_key("x-dragonfly-task-id"));
        let (status, body) = whole(one).await;
        assert_eq!((status, body == content::bytes(SEED + 1, 0, LENGTH as usize)), (200, true));
        assert_eq!(whole(other).await, (200, Bytes::from("index")));
        let refused = get(&mut sender, "http://169.254.169.254/latest".to_owned()).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    }
    let counts = gateways.gateways[1].0.counts();
    assert_eq!((counts.swarm, counts.fallbacks), (3, 0));
    let bodies = gateways.network.origin.counters().body_bytes_total();
    assert_eq!(bodies, 2 * LENGTH + 2 * 5, "one copy of what is shared");
    gateways.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_is_one_request_of_many() {
    let gateways = Gateways::start(config).await;
    let file = gateways.network.serve("/file", Resource::seeded(SEED, 100));
    let server = gateways.network.origin.address().to_string();
    let mut sender = connect(&gateways, 0).await;
    let connect = Request::connect(&server).body(Full::default()).unwrap();
    let mut response = sender.send_request(connect).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let mut tunnel = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    assert_eq!(whole(get(&mut sender, file).await).await.0, 200, "beside the tunnel");
    tunnel.write_all(b"GET /file HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    tunnel.read_to_end(&mut answer).await.unwrap();
    assert!(answer.ends_with(&content::bytes(SEED, 0, 100)), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(gateways.gateways[0].0.counts().tunnels, 1);
    for (wrong, status) in [("169.254.169.254:80", 403), ("nowhere", 400)] {
        let connect = Request::connect(wrong).body(Full::default()).unwrap();
        assert_eq!(sender.send_request(connect).await.unwrap().status().as_u16(), status, "{wrong}");
    }
    drop(tunnel);
    gateways.stop().await;
}

/// Tunnels are as many as connections may be, and nobody else waits for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tunnels_leave_places_for_requests() {
    let gateways = Gateways::start(|network| {
        let mut config = config(network);
        config.connections_max = 2;
        config
    })
    .await;
    let file = gateways.network.serve("/file", Resource::seeded(SEED, 100));
    let server = gateways.network.origin.address().to_string();
    let mut sender = connect(&gateways, 0).await;
    let tunnel = || Request::connect(&server).body(Full::default()).unwrap();
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut response = sender.send_request(tunnel()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        open.push(TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap()));
    }
    assert_eq!(sender.send_request(tunnel()).await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    for _ in 0..3 {
        assert_eq!(whole(get(&mut sender, file.clone()).await).await.0, 200, "beside them");
    }
    // One that ends leaves its place.
    let mut ends = open.pop().unwrap();
    ends.write_all(b"GET /file HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    ends.read_to_end(&mut answer).await.unwrap();
    drop(ends);
    let again = async {
        while sender.send_request(tunnel()).await.unwrap().status() != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), again).await.unwrap();
    drop(open);
    gateways.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_says_who_asks() {
    let gateways = Gateways::start(|network| {
        let mut config = config(network);
        config.users = Some(Users::from_text("alice:secret\n").unwrap());
        config
    })
    .await;
    let url = gateways.network.serve("/index", Resource::bytes("index"));
    let mut sender = connect(&gateways, 0).await;
    assert_eq!(get(&mut sender, url.clone()).await.status(), StatusCode::PROXY_AUTHENTICATION_REQUIRED);
    let request = Request::get(&url).header("proxy-authorization", "Basic YWxpY2U6c2VjcmV0");
    let answer = sender.send_request(request.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!(whole(answer).await, (200, Bytes::from("index")));
    assert_eq!(
        get(&mut sender, url).await.status(),
        StatusCode::PROXY_AUTHENTICATION_REQUIRED,
        "on the same connection"
    );
    gateways.stop().await;
}

/// What may be on its way to servers of one request, and of all on a connection, as HTTP/2 says it (RFC 9113, 6.5.2 and 6.9).
async fn told_windows(stream: &mut TcpStream) -> (u32, u32) {
    // The preface, and settings that say nothing.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let (mut of_stream, mut of_connection, mut pongs) = (65_535, 65_535, 0);
    let ping = b"\0\0\x08\x06\0\0\0\0\0together";
    let read = async {
        stream.write_all(ping).await.unwrap();
        // What was to be said at the start was said before the second answer.
        while pongs < 2 {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.unwrap();
            let mut frame = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            stream.read_exact(&mut frame).await.unwrap();
            let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
            match head[3] {
                // SETTINGS; SETTINGS_INITIAL_WINDOW_SIZE is the fourth.
                4 => {
                    let told = frame.chunks(6).find(|one| one[..2] == [0, 4]).map(|one| number(&one[2..]));
                    of_stream = told.unwrap_or(of_stream);
                }
                // PING, answered.
                6 if head[4] & 1 == 1 => {
                    pongs += 1;
                    stream.write_all(ping).await.unwrap();
                }
                // WINDOW_UPDATE of the connection.
                8 if head[5..] == [0; 4] => of_connection += number(&frame),
                _ => {}
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), read).await.unwrap();
    (of_stream, of_connection)
}

/// The largest push that is on its way to a server: enough for a long way, and no more than that is kept for a server that
/// takes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pushed_has_room_on_its_way() {
    let gateways = Gateways::start(config).await;
    let mut stream = TcpStream::connect(gateways.gateways[0].1).await.unwrap();
    assert_eq!(told_windows(&mut stream).await, (2 << 20, 16 << 20));
    drop(stream);
    gateways.stop().await;
}

/// However many connections there are, what they may have on its way to servers is bounded for all of them together; and
/// what one had is there again for the next, be it because it ended or because it is not HTTP/2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_connections_share_one_budget() {
    const BUDGET: u64 = 256 << 20;
    let gateways = Gateways::start(config).await;
    let gateway = gateways.gateways[0].1;
    let mut open = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(gateway).await.unwrap();
        let (of_stream, of_connection) = told_windows(&mut stream).await;
        assert!((65_535..=of_connection).contains(&of_stream), "{of_stream} of {of_connection}");
        open.push((of_connection, stream));
    }
    let beside = |(window, _): &(u32, TcpStream)| u64::from(*window - 65_535);
    let all: u64 = open.iter().map(beside).sum();
    assert!(all <= BUDGET && all > BUDGET * 9 / 10, "{all}");
    assert_eq!(open[199].0, 65_535, "nothing is left");
    drop(open);
    // Kept, of another kind.
    let mut others = Vec::new();
    for _ in 0..40 {
        let stream = TcpStream::connect(gateway).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("/healthz").header("host", "g").body(Full::<Bytes>::default()).unwrap();
        assert_eq!(whole(sender.send_request(request).await.unwrap()).await.0, 200);
        others.push(sender);
    }
    let again = async {
        while told_windows(&mut TcpStream::connect(gateway).await.unwrap()).await.1 != 16 << 20 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), again).await.unwrap();
    drop(others);
    gateways.stop().await;
}

/// A server that takes what is pushed, and answers with its BLAKE3.
async fn sink() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper::service::service_fn(|request: Request<Incoming>| async {
                let bytes = request.into_body().collect().await?.to_bytes();
                let hash = blake3::hash(&bytes).to_hex().to_string();
                Ok::<_, hyper::Error>(Response::new(Full::<Bytes>::from(hash)))
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

/// What a long way carries: 32 MiB/s.
const CHUNK: usize = 64 << 10;
const CHUNK_TIME: std::time::Duration = std::time::Duration::from_millis(2);

/// A way to `to` on which each byte takes so long, in either direction, and no more than that pass.
async fn long_way(to: std::net::SocketAddr, delay: std::time::Duration) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (here, _) = listener.accept().await.unwrap();
            let there = TcpStream::connect(to).await.unwrap();
            let ((from_here, to_here), (from_there, to_there)) = (here.into_split(), there.into_split());
            for (mut from, mut to) in [(from_here, to_there), (from_there, to_here)] {
                // 16 MiB under way at the most, which is more than what is on the way at this rate.
                let (sender, mut queue) = tokio::sync::mpsc::channel::<(tokio::time::Instant, Vec<u8>)>(256);
                tokio::spawn(async move {
                    let (mut buffer, mut due) = (vec![0; CHUNK], tokio::time::Instant::now());
                    while let Ok(n @ 1..) = from.read(&mut buffer).await {
                        let time = CHUNK_TIME.mul_f64(n as f64 / CHUNK as f64);
                        due = (due + time).max(tokio::time::Instant::now() + delay);
                        if sender.send((due, buffer[..n].to_vec())).await.is_err() {
                            break;
                        }
                    }
                });
                tokio::spawn(async move {
                    while let Some((due, bytes)) = queue.recv().await {
                        tokio::time::sleep_until(due).await;
                        if to.write_all(&bytes).await.is_err() {
                            break;
                        }
                    }
                });
            }
        }
    });
    address
}

/// The same push over a long way by either HTTP. How long each took is shown with `--nocapture`, and not judged here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_over_a_long_way_arrives() {
    const PUSHED: usize = 16 << 20;
    let gateways = Gateways::start(config).await;
    let way = long_way(gateways.gateways[0].1, std::time::Duration::from_millis(25)).await;
    let url = format!("http://{}/upload", sink().await);
    let bytes = content::bytes(SEED, 0, PUSHED);
    let hash = blake3::hash(&bytes).to_hex().to_string();
    let push = || Request::put(&url).body(Full::<Bytes>::from(bytes.clone())).unwrap();
    for version in ["HTTP/1.1", "HTTP/2"] {
        let stream = TokioIo::new(TcpStream::connect(way).await.unwrap());
        let began = std::time::Instant::now();
        let answer = if version == "HTTP/2" {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            tokio::spawn(connection);
            whole(sender.send_request(push()).await.unwrap()).await
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            whole(sender.send_request(push()).await.unwrap()).await
        };
        eprintln!("{version}: {} MiB, 50 ms there and back, in {:?}", PUSHED >> 20, began.elapsed());
        assert_eq!(answer, (200, Bytes::from(hash.clone())), "{version}");
    }
    gateways.stop().await;
}

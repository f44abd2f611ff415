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

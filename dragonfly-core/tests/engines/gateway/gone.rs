//! Clients that go away, and clients that wait: what is fetched and read for them is what they take.

use std::net::SocketAddr;

use bytes::Bytes;
use dragonfly_core::gateway::GatewayConfig;
use dragonfly_testkit::{Resource, content};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;

use super::{Gateways, open, sha256};
use crate::harness::{Network, SEED, eventually};

const LENGTH: u64 = (3 << 20) + 1000;

fn mirrors(network: &Network) -> GatewayConfig {
    let mut config = GatewayConfig::default();
    config.registry_default = Some(network.origin.url("/").parse().unwrap());
    config
}

/// A registry that sends so many bytes a second of it.
fn serve(gateways: &Gateways, seed: u64, bytes_per_s: u64) -> (Bytes, String) {
    let bytes = content::bytes(seed, 0, LENGTH as usize);
    let digest = sha256(&bytes);
    let path = format!("/v2/lib/a/blobs/{digest}");
    let resource = Resource::seeded(seed, LENGTH).etag(format!("\"{digest}\"")).no_last_modified();
    gateways.network.origin.set(&path, resource.rate(bytes_per_s));
    (bytes, path)
}

/// Has the first bytes of it, which come while the rest does not yet.
async fn begin(gateways: &Gateways, bytes: &Bytes, path: &str) -> http::Response<Incoming> {
    let request = Request::get(path).body(Full::<Bytes>::default()).unwrap();
    let mut response = open(gateways.gateways[0].1, request).await;
    assert_eq!(response.status().as_u16(), 200);
    let first = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(!first.is_empty() && first == bytes[..first.len()]);
    assert!(gateways.network.origin.body_bytes(path) < LENGTH, "before the end is there");
    response
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_come_before_the_end_is_there_and_stop_with_the_client() {
    let gateways = Gateways::start(mirrors).await;
    let origin = &gateways.network.origin;
    // The whole would need longer than it is waited for below.
    let (bytes, path) = serve(&gateways, SEED, 32 << 10);
    let response = begin(&gateways, &bytes, &path).await;
    drop(response);
    let peer = &gateways.network.peers[0].peer;
    eventually("nobody wants it any more", async || {
        let active = peer.active().await.unwrap();
        active.iter().all(|task| task.callers == 0).then_some(())
    })
    .await;
    // Whose body nobody takes any more has no more to send.
    eventually("the origin is rid of it", async || (origin.bodies_under_way() == 0).then_some(())).await;
    let sent = origin.body_bytes(&path);
    assert!(sent < LENGTH, "{sent} of {LENGTH}");
    gateways.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_client_wants_comes_to_its_end() {
    let gateways = Gateways::start(mirrors).await;
    let (bytes, path) = serve(&gateways, SEED, 1 << 20);
    let one = begin(&gateways, &bytes, &path).await;
    let other = begin(&gateways, &bytes, &path).await;
    drop(one);
    // Its first bytes were read above.
    let rest = other.into_body().collect().await.unwrap().to_bytes();
    assert!(bytes.ends_with(&rest) && rest.len() < bytes.len());
    assert_eq!(gateways.network.origin.body_bytes(&path), LENGTH, "one copy");
    assert_eq!(gateways.gateways[0].0.counts().fallbacks, 0);
    gateways.stop().await;
}

/// What systems and HTTP keep of a body on its way to a client that takes nothing of it: Linux's largest buffer to send
/// (4 MiB, of which it may double the bookkeeping), and those of both ends of HTTP.
const ON_ITS_WAY: u64 = 12 << 20;

/// One that keeps little of what it does not take.
async fn small(address: SocketAddr, path: &str) -> http::Response<Incoming> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    let stream = socket.connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender.send_request(Request::get(path).body(Full::<Bytes>::default()).unwrap()).await.unwrap()
}

/// A client that waits is waited for: what is read of the content for it is what fits on its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_read_than_a_client_takes() {
    const LONG: u64 = 64 << 20;
    let gateways = Gateways::start(mirrors).await;
    let bytes = content::bytes(SEED, 0, LONG as usize);
    let digest = sha256(&bytes);
    let path = format!("/v2/lib/a/blobs/{digest}");
    let resource = Resource::seeded(SEED, LONG).etag(format!("\"{digest}\"")).no_last_modified();
    gateways.network.origin.set(&path, resource);
    let (gateway, address) = &gateways.gateways[0];
    let mut waiting = small(*address, &path).await;
    let first = waiting.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    // Meanwhile others have all of it, twice: the first of them once it is here, the second from here alone.
    for _ in 0..2 {
        let (status, body) = gateways.get(0, &path, &[]).await.whole();
        assert_eq!((status, body == bytes), (200, true));
    }
    let read = gateway.counts().bytes - 2 * LONG;
    assert!(read >= first.len() as u64 && read <= ON_ITS_WAY, "{read} bytes were read for who took {}", first.len());
    let rest = waiting.into_body().collect().await.unwrap().to_bytes();
    assert!(bytes[..first.len()] == first && bytes[first.len()..] == rest, "all of it, once it is taken");
    assert_eq!(gateway.counts().bytes, 3 * LONG);
    assert_eq!(gateways.network.origin.body_bytes(&path), LONG, "one copy");
    gateways.stop().await;
}

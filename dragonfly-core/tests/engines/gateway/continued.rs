//! Trouble of the swarm in the middle of a body: it goes on at the server, or the client sees that it is not all.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use dragonfly_core::gateway::GatewayConfig;
use dragonfly_testkit::{Resource, content};
use http::Request;
use http_body_util::{BodyExt as _, Full};

use super::{Answer, Gateways, open, sha256};
use crate::harness::{Network, SEED};

const LENGTH: u64 = (6 << 20) + 1000;

/// Where the first body stops for good.
const STOPS: u64 = 3 << 20;

/// A mirror, and a proxy for packages, that wait for a moment only.
fn config(network: &Network) -> GatewayConfig {
    let mut config = GatewayConfig::default();
    config.patience = Duration::from_secs(1);
    config.rules = vec!["swarm:\\.deb$".parse().unwrap()];
    config.registry_default = Some(network.origin.url("/").parse().unwrap());
    config
}

fn bytes() -> Bytes {
    content::bytes(SEED, 0, LENGTH as usize)
}

/// The first body of it stops for good, later ones do not.
fn stopping() -> Resource {
    Resource::seeded(SEED, LENGTH).stall_after(STOPS, 1)
}

fn blob(digest: &str) -> (String, Resource) {
    (format!("/v2/lib/a/blobs/{digest}"), stopping().etag(format!("\"{digest}\"")).no_last_modified())
}

/// An answer of the swarm's, which is as long as the content says.
fn whole(answer: Answer) -> Bytes {
    assert!(answer.header("x-dragonfly-task-id").is_some(), "{answer:?}");
    let (status, body) = answer.whole();
    assert_eq!(status, 200);
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_goes_on_at_its_registry() {
    let gateways = Gateways::start(config).await;
    let digest = sha256(&bytes());
    let (path, resource) = blob(&digest);
    gateways.network.origin.set(&path, resource);
    let body = whole(gateways.get(0, &path, &[("authorization", "Bearer mine")]).await);
    assert!(body == bytes());
    let asked = gateways.network.requests(&path);
    let last = asked.last().unwrap();
    let from =
        last.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix(&format!("-{}", LENGTH - 1)));
    let from: u64 = from.unwrap_or_else(|| panic!("{asked:?}")).parse().unwrap();
    assert!(from > 0 && from <= STOPS, "from where the client was: {from}");
    assert_eq!(last.header("authorization"), Some("Bearer mine"), "as the client");
    let counts = gateways.gateways[0].0.counts();
    assert_eq!((counts.swarm, counts.continued, counts.fallbacks), (1, 1, 0));
    gateways.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_package_goes_on_at_its_server() {
    let gateways = Gateways::start(config).await;
    let url = gateways.network.serve("/a.deb", stopping());
    assert!(whole(gateways.get(0, &url, &[]).await) == bytes());
    let last = gateways.network.requests("/a.deb").pop().unwrap();
    assert!(last.header("range").is_some() && last.header("if-range").is_some(), "{last:?}");
    // A server that knows no ranges sends it from its start.
    let url = gateways.network.serve("/b.deb", Resource::seeded(SEED, LENGTH).no_ranges().stall_after(STOPS, 1));
    assert!(whole(gateways.get(0, &url, &[]).await) == bytes());
    assert_eq!(gateways.gateways[0].0.counts().continued, 2);
    gateways.stop().await;
}

/// A part that the client asked for, too: of it alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_goes_on_to_its_end() {
    let gateways = Gateways::start(config).await;
    let url = gateways.network.serve("/a.deb", stopping());
    let answer = gateways.get(0, &url, &[("range", &format!("bytes=10-{}", LENGTH - 100))]).await;
    let (status, body) = answer.whole();
    assert_eq!((status, body == bytes().slice(10..LENGTH as usize - 99)), (206, true));
    assert_eq!(gateways.gateways[0].0.counts().continued, 1);
    gateways.stop().await;
}

/// A pull that is resumed has not had what comes before; it is checked with it all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resumed_blob_goes_on_at_its_registry() {
    let gateways = Gateways::start(config).await;
    let digest = sha256(&bytes());
    let (path, resource) = blob(&digest);
    gateways.network.origin.set(&path, resource);
    let from = 1 << 20;
    let resumed = [("range", &*format!("bytes={from}-"))];
    let (status, body) = gateways.get(0, &path, &resumed).await.whole();
    assert_eq!((status, body == bytes().slice(from..)), (206, true));
    let last = gateways.network.requests(&path).pop().unwrap();
    assert_eq!(last.header("range"), Some(&*format!("bytes=0-{}", LENGTH - 1)));
    assert_eq!(gateways.gateways[0].0.counts().continued, 1);
    gateways.stop().await;
}

/// What the server has by then is another version, or not what the digest says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_content_is_not_sent_to_its_end() {
    let gateways = Gateways::start(config).await;
    let digest = sha256(&bytes());
    // The answers to HEAD and to the swarm are of the first version.
    let changing = |resource: Resource| resource.change_after(2, SEED + 1, LENGTH);
    let (blob, of_blob) = blob(&digest);
    gateways.network.origin.set(&blob, changing(of_blob));
    let package = gateways.network.serve("/a.deb", changing(stopping()));
    let ignoring = gateways.network.serve("/b.deb", changing(stopping()).conditions_ignored());
    for uri in [&blob, &package, &ignoring] {
        let answer = gateways.get(0, uri, &[]).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("content-length")),
            (200, Some(&*LENGTH.to_string())),
            "{uri}"
        );
        assert!(answer.is_cut(), "{uri}: {answer:?}");
    }
    gateways.stop().await;
}

/// A server that takes no notice of conditions, and has another version by then that no strong tag tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_versions_are_known_by_what_they_say() {
    let gateways = Gateways::start(config).await;
    let other = || Resource::seeded(SEED + 1, LENGTH).conditions_ignored();
    for (name, then) in [
        ("/weak.deb", other().etag("W/\"b\"")),
        ("/moment.deb", other().no_etag().last_modified(SystemTime::now())),
        ("/none.deb", other().no_etag().no_last_modified()),
    ] {
        let url = gateways.network.serve(name, stopping());
        let mut response = open(gateways.gateways[0].1, Request::get(&url).body(Full::default()).unwrap()).await;
        assert_eq!(response.status().as_u16(), 200, "{name}");
        assert!(response.headers().contains_key("x-dragonfly-task-id"), "{name}");
        response.body_mut().frame().await.unwrap().unwrap();
        gateways.network.serve(name, then);
        assert!(response.into_body().collect().await.is_err(), "{name}: its end is another version's");
    }
    assert_eq!(gateways.gateways[0].0.counts().continued, 0);
    gateways.stop().await;
}

/// The server has no more to say than the swarm.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_has_is_cut() {
    let gateways = Gateways::start(config).await;
    let url = gateways.network.serve("/a.deb", stopping());
    let request = Request::get(&url).body(Full::<Bytes>::default()).unwrap();
    let mut response = open(gateways.gateways[0].1, request).await;
    assert_eq!(response.status().as_u16(), 200);
    let first = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(!first.is_empty());
    gateways.network.serve("/a.deb", Resource::bytes("busy").fail_first(u64::MAX, 503, None));
    assert!(response.into_body().collect().await.is_err(), "its end is not the body's");
    assert_eq!(gateways.gateways[0].0.counts().continued, 0);
    gateways.stop().await;
}

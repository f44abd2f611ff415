//! Parts of blobs, as those ask for them who load an image lazily.

use bytes::Bytes;
use dragonfly_core::gateway::GatewayConfig;
use dragonfly_testkit::{Origin, Resource, content};
use http::Request;
use http_body_util::Full;

use super::{Answer, Gateways, sha256};
use crate::harness::{Network, SEED, eventually};

const LENGTH: u64 = (3 << 20) + 1000;

fn blob() -> (Bytes, String) {
    let bytes = content::bytes(SEED, 0, LENGTH as usize);
    let digest = sha256(&bytes);
    (bytes, digest)
}

fn is_shared(answer: &Answer) -> bool {
    answer.header("x-dragonfly-task-id").is_some()
}

/// What nydusd 2.x says to a proxy. With `use_http` it writes `http:` where the registry is at `https:`; `ping_url` is good
/// below 400; with `fallback` it goes to the registry itself after a status from 500 on, or where nobody answers, and never
/// because of another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nydusd_and_its_proxy() {
    let registry = Origin::builder().tls().start().await.unwrap();
    let mut gateways = Gateways::start(|_| {
        let mut config = GatewayConfig::default();
        config.ca_pem = vec![registry.ca_pem().unwrap().as_bytes().to_vec()];
        config.rules = vec!["swarm+tls:/v2/.*/blobs/".parse().unwrap()];
        config
    })
    .await;
    let (bytes, digest) = blob();
    let path = format!("/v2/lib/a/blobs/{digest}");
    let resource = Resource::seeded(SEED, LENGTH).etag(format!("\"{digest}\"")).no_last_modified();
    registry.set(&path, resource.basic_auth("alice", "secret123"));
    let url = format!("http://{}{path}", registry.address());
    let alice = ("authorization", "Basic YWxpY2U6c2VjcmV0MTIz");
    for host in 0..2 {
        for ping in ["/server/ping", "/ping", "/healthz"] {
            assert_eq!(gateways.get(host, ping, &[]).await.whole().0, 200, "{ping}");
        }
        // Whether it is there and who may have it; then how long it is, with what it was told to show.
        let refused = gateways.get(host, &url, &[("range", "bytes=0-99")]).await;
        assert_eq!(refused.header("www-authenticate"), Some("Basic realm=\"testkit\""));
        assert_eq!(refused.whole().0, 401, "it goes on by what the registry says, through the gateway");
        let head = Request::head(&url).header(alice.0, alice.1).body(Full::default()).unwrap();
        let head = gateways.ask(host, head).await;
        assert_eq!((head.status.as_u16(), head.header("content-length")), (200, Some(&*LENGTH.to_string())));
        // Out of order, with both ends, more than once.
        for (from, to) in [(LENGTH - 512, LENGTH), (1 << 20, (2 << 20) + 1), (4096, 8192), (4096, 8192), (0, 1)] {
            let answer = gateways.get(host, &url, &[alice, ("range", &format!("bytes={from}-{}", to - 1))]).await;
            assert_eq!(answer.header("content-range"), Some(&*format!("bytes {from}-{}/{LENGTH}", to - 1)));
            assert!(is_shared(&answer), "{answer:?}");
            let (status, body) = answer.whole();
            assert_eq!((status, body == bytes[from as usize..to as usize]), (206, true), "{from}-{to}");
        }
        if host == 0 {
            assert_eq!(gateways.get(0, &url, &[alice]).await.whole(), (200, bytes.clone()));
        }
    }
    let (sent, passed) = (registry.counters().body_bytes_total(), gateways.gateways[1].0.counts().fallbacks);
    assert_eq!(passed, 0);
    let again = gateways.get(1, &url, &[alice, ("range", "bytes=4096-8191")]).await;
    assert!(is_shared(&again) && again.whole() == (206, bytes.slice(4096..8192)));
    assert_eq!(registry.counters().body_bytes_total(), sent, "from hosts alone");
    // A registry with trouble, and none at all: nydusd tries its own way.
    let other = format!("{path}0").replace("/lib/a/", "/lib/b/");
    registry.set(&other, Resource::bytes("x").fail_first(u64::MAX, 503, None));
    let url = |path: &str| format!("http://{}{path}", registry.address());
    assert_eq!(gateways.get(0, &url(&other), &[("range", "bytes=0-0")]).await.whole().0, 503);
    gateways.network.origin = Origin::start().await.unwrap();
    let nobody = url(&path.replace("/lib/a/", "/lib/c/"));
    drop(registry);
    assert_eq!(gateways.get(0, &nobody, &[("range", "bytes=0-0")]).await.whole().0, 502);
    gateways.stop().await;
}

fn proven(network: &Network) -> GatewayConfig {
    let mut config = GatewayConfig::default();
    config.registry_default = Some(network.origin.url("/").parse().unwrap());
    config.proven_parts = true;
    config
}

/// With `proven_parts` nobody's word but the registry's is taken for a part, until the whole is here and has its digest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_are_the_registrys_own_until_the_whole_is_proven() {
    let gateways = Gateways::start(proven).await;
    let (bytes, digest) = blob();
    let path = format!("/v2/lib/a/blobs/{digest}");
    let resource = Resource::seeded(SEED, LENGTH).etag(format!("\"{digest}\"")).no_last_modified();
    gateways.network.origin.set(&path, resource);
    let part = async |host: usize, range: &str| gateways.get(host, &path, &[("range", range)]).await;
    for host in 0..2 {
        // What is small at the end is not checked with the whole either.
        let first = part(host, "bytes=-10").await;
        assert!(!is_shared(&first), "another host has it all, which says nothing: {first:?}");
        assert_eq!(first.whole(), (206, bytes.slice(LENGTH as usize - 10..)));
        eventually("the whole is proven here", async || {
            let answer = part(host, "bytes=4096-8191").await;
            let shared = is_shared(&answer);
            assert_eq!(answer.whole(), (206, bytes.slice(4096..8192)));
            shared.then_some(())
        })
        .await;
    }
    let counts = gateways.gateways[1].0.counts();
    assert_eq!(counts.fallbacks, 0, "that is not the swarm's trouble");
    let sent = gateways.network.origin.counters().body_bytes_total();
    for host in 0..2 {
        for from in [0, 1 << 20, LENGTH as usize - 5] {
            let answer = part(host, &format!("bytes={from}-{}", from + 4)).await;
            assert!(is_shared(&answer));
            assert_eq!(answer.whole(), (206, bytes.slice(from..from + 5)));
        }
    }
    assert_eq!(gateways.network.origin.counters().body_bytes_total(), sent, "from this host alone");
    gateways.stop().await;
}

/// What has not the digest that names it is never taken for proven, however often a part of it is asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_wrong_content_are_never_the_swarms() {
    let gateways = Gateways::start(proven).await;
    let (bytes, _) = blob();
    let path = format!("/v2/lib/a/blobs/{}", sha256(b"something else"));
    gateways.network.origin.set(&path, Resource::seeded(SEED, LENGTH).etag("\"a\"").no_last_modified());
    let count = || gateways.network.origin.counters().requests_total();
    for host in 0..2 {
        for _ in 0..2 {
            let before = count();
            let answer = gateways.get(host, &path, &[("range", "bytes=4096-8191")]).await;
            assert!(!is_shared(&answer), "{answer:?}");
            assert_eq!(answer.whole(), (206, bytes.slice(4096..8192)), "as the registry has it");
            assert!(count() > before, "asked for there");
        }
    }
    gateways.stop().await;
}

const LARGE: u64 = 64 << 20;

fn large() -> (String, Resource) {
    let digest = format!("sha256:{}", content::hex(&content::sha256(SEED, LARGE)));
    (
        format!("/v2/lib/a/blobs/{digest}"),
        Resource::seeded(SEED, LARGE).etag(format!("\"{digest}\"")).no_last_modified(),
    )
}

fn mirror(network: &Network) -> GatewayConfig {
    let mut config = GatewayConfig::default();
    config.registry_default = Some(network.origin.url("/").parse().unwrap());
    config.rules = vec!["swarm:\\.bin$".parse().unwrap()];
    config
}

/// The pieces that a part touches come first, wherever they are, and little else before them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_part_touches_comes_first() {
    let gateways = Gateways::start(mirror).await;
    let (path, resource) = large();
    // All of it would need half a minute.
    gateways.network.origin.set(&path, resource.rate(2 << 20));
    for (before, from) in [LARGE - (1 << 20) - 77, LARGE / 2 + 5].into_iter().enumerate() {
        let answer = gateways.get(0, &path, &[("range", &format!("bytes={from}-{}", from + 4095))]).await;
        assert!(is_shared(&answer), "{answer:?}");
        assert_eq!(answer.header("content-range"), Some(&*format!("bytes {from}-{}/{LARGE}", from + 4095)));
        assert_eq!(answer.whole(), (206, content::bytes(SEED, from, 4096)));
        let sent = gateways.network.origin.body_bytes(&path);
        println!("{sent} bytes left the origin by the time of answer {}", before + 1);
        assert!(sent <= (before as u64 + 1) * (12 << 20), "{sent} bytes left the origin, of {LARGE}");
    }
    assert_eq!(gateways.gateways[0].0.counts().fallbacks, 0);
    gateways.stop().await;
}

/// With prefetch the rest comes after the part, although nobody asks for it, and other parts cost the server nothing.
async fn the_rest_comes_too(config: impl Fn(&Network) -> GatewayConfig, headers: &[(&str, &str)], paths: &[&str]) {
    let gateways = Gateways::start(config).await;
    let origin = &gateways.network.origin;
    let (blob, resource) = large();
    for path in paths {
        let path = if path.is_empty() { &*blob } else { path };
        origin.set(path, resource.clone());
        let uri = if path == blob { path.to_owned() } else { origin.url(path) };
        let part = async |host: usize, from: u64| {
            let range = format!("bytes={from}-{}", from + 4095);
            let headers: Vec<_> = headers.iter().copied().chain([("range", &*range)]).collect();
            let answer = gateways.get(host, &uri, &headers).await;
            let task = answer.header("x-dragonfly-task-id").unwrap_or_else(|| panic!("{answer:?}")).to_owned();
            assert_eq!(answer.whole(), (206, content::bytes(SEED, from, 4096)));
            task
        };
        let task = part(0, LARGE - (1 << 20)).await;
        let peer = &gateways.network.peers[0].peer;
        eventually("all of it is held", async || {
            let active = peer.active().await.unwrap();
            active.iter().any(|of| of.task.to_string() == task && of.bytes_held == LARGE).then_some(())
        })
        .await;
        let sent = origin.body_bytes(path);
        assert!((LARGE..LARGE + (4 << 20)).contains(&sent), "{sent} bytes left the origin, of {LARGE}");
        for from in [0, LARGE / 2, LARGE - 4096] {
            part(0, from).await;
        }
        part(1, LARGE / 3).await;
        assert_eq!(origin.body_bytes(path), sent, "from hosts alone: {path}");
    }
    for (gateway, _) in &gateways.gateways {
        assert_eq!(gateway.counts().fallbacks, 0);
    }
    gateways.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefetch_of_all_clients() {
    let config = |network: &Network| {
        let mut config = mirror(network);
        config.prefetch = true;
        config
    };
    the_rest_comes_too(config, &[], &["", "/model.bin"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefetch_of_who_asks_for_it() {
    the_rest_comes_too(mirror, &[("x-dragonfly-prefetch", "true")], &["", "/model.bin"]).await;
}

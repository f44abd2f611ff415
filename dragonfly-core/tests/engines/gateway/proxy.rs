//! The forward proxy.

use std::time::Duration;

use bytes::Bytes;
use dragonfly_core::gateway::GatewayConfig;
use dragonfly_testkit::{Resource, content};
use http::Request;
use http_body_util::Full;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Gateways, open, sha256};
use crate::harness::{Network, SEED, eventually};

const LENGTH: u64 = (2 << 20) + 77;

fn rules(_: &Network) -> GatewayConfig {
    let mut config = GatewayConfig::default();
    config.rules = vec!["swarm:\\.deb$".parse().unwrap()];
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packages_leave_their_server_once_and_are_never_old() {
    let gateways = Gateways::start(rules).await;
    let origin = &gateways.network.origin;
    for version in 0..2 {
        let url = gateways.network.serve("/pool/a.deb", Resource::seeded(SEED + version, LENGTH).header("x-kept", "1"));
        let before = origin.counters().body_bytes_total();
        for host in 0..2 {
            let answer = gateways.get(host, &url, &[("cache-control", "max-age=0")]).await;
            assert_eq!(answer.header("x-kept"), Some("1"), "the server's own headers");
            assert!(answer.header("x-dragonfly-task-id").is_some(), "{answer:?}");
            let (status, body) = answer.whole();
            let right = body == content::bytes(SEED + version, 0, LENGTH as usize);
            assert_eq!((status, right), (200, true), "{version} {host}");
        }
        assert_eq!(origin.counters().body_bytes_total() - before, LENGTH, "one copy of version {version}");
    }
    // As apt resumes.
    let url = origin.url("/pool/a.deb");
    let etag = gateways.get(0, &url, &[]).await.header("etag").unwrap().to_owned();
    let answer = gateways.get(1, &url, &[("range", "bytes=1000-"), ("if-range", &etag)]).await;
    let (status, body) = answer.whole();
    assert_eq!((status, body == content::bytes(SEED + 1, 1000, LENGTH as usize - 1000)), (206, true));
    let answer = gateways.get(1, &url, &[("range", "bytes=1000-"), ("if-range", "\"older\"")]).await;
    assert_eq!(answer.whole().0, 200);
    gateways.stop().await;
}

/// Who has what is current is told so, and who asks for what there is not how long it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_and_conditions_of_packages() {
    let gateways = Gateways::start(rules).await;
    let url = gateways.network.serve("/a.deb", Resource::seeded(SEED, LENGTH).etag("\"a\""));
    assert_eq!(gateways.get(0, &url, &[]).await.whole().0, 200);
    let sent = gateways.network.origin.counters().body_bytes_total();
    for host in 0..2 {
        for range in [format!("bytes={LENGTH}-"), format!("bytes={}-{}", 2 * LENGTH, 3 * LENGTH), "bytes=-0".to_owned()]
        {
            let answer = gateways.get(host, &url, &[("range", &range)]).await;
            assert_eq!(answer.header("content-range"), Some(&*format!("bytes */{LENGTH}")), "{host} {range}");
            assert_eq!(answer.whole(), (416, Bytes::new()), "{host} {range}");
        }
        for (name, value, status) in [
            ("if-none-match", "\"a\"", 304),
            ("if-none-match", "\"b\", W/\"a\"", 304),
            ("if-none-match", "*", 304),
            ("if-none-match", "\"b\"", 206),
            ("if-modified-since", "Mon, 01 Jan 2024 00:00:00 GMT", 304),
            ("if-modified-since", "Sun, 31 Dec 2023 00:00:00 GMT", 206),
        ] {
            let answer = gateways.get(host, &url, &[(name, value), ("range", "bytes=3-7")]).await;
            assert_eq!(answer.header("etag"), Some("\"a\""), "{name}: {value}");
            let body = if status == 206 { content::bytes(SEED, 3, 5) } else { Bytes::new() };
            assert_eq!(answer.whole(), (status, body), "{name}: {value}");
        }
    }
    assert_eq!(gateways.network.origin.counters().body_bytes_total(), sent, "from hosts alone");
    gateways.stop().await;
}

/// A date that is old enough tells versions apart where there is no tag.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packages_without_a_tag_leave_their_server_once() {
    let gateways = Gateways::start(rules).await;
    let origin = &gateways.network.origin;
    let url = gateways.network.serve("/pool/date.deb", Resource::seeded(SEED, LENGTH).no_etag());
    let before = origin.counters().body_bytes_total();
    for host in 0..2 {
        let answer = gateways.get(host, &url, &[]).await;
        assert!(answer.header("x-dragonfly-task-id").is_some(), "{answer:?}");
        let (status, body) = answer.whole();
        assert_eq!((status, body == content::bytes(SEED, 0, LENGTH as usize)), (200, true), "{host}");
    }
    assert_eq!(origin.counters().body_bytes_total() - before, LENGTH, "one copy");
    gateways.stop().await;
}

/// What of a query does not change the content a rule says, and a client may say otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_rule_filters_makes_no_other_content() {
    let gateways = Gateways::start(|_| {
        let mut config = GatewayConfig::default();
        config.rules = vec!["swarm+filter=from,until:\\.deb".parse().unwrap()];
        config
    })
    .await;
    let url = gateways.network.serve("/pool/signed.deb", Resource::seeded(SEED, LENGTH));
    let names = "x-dragonfly-filtered-query-params";
    let mut tasks = Vec::new();
    for (host, query, headers) in [
        (0, "from=a&until=1&of=x", &[][..]),
        (1, "from=b&until=2&of=x", &[]),
        (1, "from=b&until=2&of=y", &[]),
        (1, "from=c&until=2&of=y", &[(names, "from")]),
        (0, "from=d&until=2&of=y", &[(names, "from")]),
    ] {
        let answer = gateways.get(host, &format!("{url}?{query}"), headers).await;
        tasks.push(answer.header("x-dragonfly-task-id").unwrap().to_owned());
        let (status, body) = answer.whole();
        assert_eq!((status, body == content::bytes(SEED, 0, LENGTH as usize)), (200, true), "{query}");
    }
    assert_eq!((&tasks[0], &tasks[3]), (&tasks[1], &tasks[4]), "one task");
    assert_eq!(tasks.iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "what is not named counts");
    assert_eq!(gateways.network.origin.counters().body_bytes_total(), 3 * LENGTH);
    gateways.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_rule_names_is_passed_on_as_it_is() {
    let gateways = Gateways::start(rules).await;
    let url = gateways.network.serve("/index", Resource::seeded(SEED, 1000));
    for _ in 0..2 {
        let answer = gateways.get(0, &url, &[("x-mine", "1"), ("proxy-authorization", "Basic x")]).await;
        assert_eq!(answer.whole(), (200, content::bytes(SEED, 0, 1000)));
    }
    let logged = gateways.network.requests("/index");
    assert_eq!(logged.len(), 2);
    assert_eq!((logged[0].header("x-mine"), logged[0].header("proxy-authorization")), (Some("1"), None));
    // A client may say that it wants the swarm, or not.
    let asked = gateways.get(0, &url, &[("x-dragonfly-use-p2p", "true")]).await;
    assert!(asked.header("x-dragonfly-task-id").is_some());
    let url = gateways.network.serve("/b.deb", Resource::seeded(SEED, 1000));
    let asked = gateways.get(0, &url, &[("x-dragonfly-use-p2p", "false")]).await;
    assert!(asked.header("x-dragonfly-task-id").is_none());
    // Whatever is no GET.
    let post = Request::post(&url).body(Full::from("a body")).unwrap();
    assert_eq!(gateways.ask(0, post).await.whole().0, 405, "the server's own answer");
    gateways.stop().await;
}

/// What a swarm cannot tell apart goes straight: no validator, an answer that depends on who asks, a coding.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_swarm_cannot_tell_apart_is_passed_on() {
    let gateways = Gateways::start(rules).await;
    let plain = || Resource::seeded(SEED, 1000);
    for (path, resource) in [
        ("/none.deb", plain().no_etag().no_last_modified()),
        ("/vary.deb", plain().header("vary", "x-tenant")),
        ("/coded.deb", plain().header("content-encoding", "gzip")),
        ("/chunked.deb", plain().chunked()),
        ("/accept.deb", plain().header("vary", "accept").no_etag()),
    ] {
        let url = gateways.network.serve(path, resource);
        let answer = gateways.get(0, &url, &[]).await;
        assert!(answer.header("x-dragonfly-task-id").is_none(), "{path}");
        assert_eq!(answer.whole(), (200, content::bytes(SEED, 0, 1000)), "{path}");
    }
    gateways.stop().await;
}

/// So is what a client asks for in a way that the swarm is not told of, or that only the server can judge.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_swarm_is_not_told_of_is_passed_on() {
    let gateways = Gateways::start(rules).await;
    let url = gateways.network.serve("/a.deb", Resource::seeded(SEED, 1000));
    let answer = gateways.get(0, &url, &[("if-match", "\"older\""), ("range", "bytes=5-20")]).await;
    assert_eq!(answer.whole().0, 412);
    let answer = gateways.get(0, &url, &[("x-jfrog-art-api", "key")]).await;
    assert!(answer.header("x-dragonfly-task-id").is_none(), "{answer:?}");
    assert_eq!(answer.whole().0, 200);
    let mut put = Request::put(&url).body(Full::from("0123456789")).unwrap();
    put.headers_mut().insert("content-type", "text/plain".parse().unwrap());
    assert_eq!(gateways.ask(0, put).await.whole().0, 405);
    assert_eq!(gateways.network.requests("/a.deb").last().unwrap().header("content-length"), Some("10"));
    gateways.stop().await;
}

/// A runtime that is told a proxy and no mirror: what a registry names by its digest is one task here, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_behind_the_proxy_is_taken_for_one() {
    let config = |_: &Network| {
        let mut config = GatewayConfig::default();
        config.rules = vec!["swarm:/v2/.*/blobs/".parse().unwrap()];
        config
    };
    let gateways = Gateways::start(config).await;
    let bytes = content::bytes(SEED, 0, LENGTH as usize);
    let digest = sha256(&bytes);
    for (host, repository) in ["lib/a", "other/b"].into_iter().enumerate() {
        let resource = Resource::seeded(SEED, LENGTH).etag(format!("\"{digest}\"")).no_last_modified();
        let url = gateways.network.serve(&format!("/v2/{repository}/blobs/{digest}"), resource);
        let answer = gateways.get(host, &url, &[]).await;
        assert_eq!(answer.header("docker-content-digest"), Some(&*digest));
        let (status, body) = answer.whole();
        assert_eq!((status, body == bytes), (200, true));
    }
    assert_eq!(gateways.network.origin.counters().body_bytes_total(), LENGTH, "one copy for two repositories");
    gateways.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tunnels_carry_bytes_untouched() {
    let gateways = Gateways::start(rules).await;
    gateways.network.serve("/file", Resource::seeded(SEED, 100));
    let server = gateways.network.origin.url("/").replace("http://", "");
    let server = server.trim_end_matches('/').to_owned();
    let connect = Request::connect(&server).body(Full::<Bytes>::default()).unwrap();
    let mut response = open(gateways.gateways[0].1, connect).await;
    assert_eq!(response.status().as_u16(), 200);
    let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
    let mut tunnel = hyper_util::rt::TokioIo::new(upgraded);
    tunnel.write_all(b"GET /file HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    tunnel.read_to_end(&mut answer).await.unwrap();
    assert!(answer.ends_with(&content::bytes(SEED, 0, 100)), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(gateways.gateways[0].0.counts().tunnels, 1);
    let nowhere = Request::connect("169.254.169.254:80").body(Full::<Bytes>::default()).unwrap();
    assert_eq!(open(gateways.gateways[0].1, nowhere).await.status().as_u16(), 403);
    gateways.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_must_not_be_reached_is_refused_and_loops_end() {
    let gateways = Gateways::start(rules).await;
    let address = gateways.gateways[0].1;
    for url in ["http://169.254.169.254/latest/meta-data/", "http://0.0.0.0:1/x.deb", "http://[fd00:ec2::254]/x"] {
        assert_eq!(gateways.get(0, url, &[]).await.whole().0, 403, "{url}");
    }
    // Nor what the process itself listens at, whatever it is called.
    let own = |_: &Network| {
        let mut config = GatewayConfig::default();
        config.own = vec![([0, 0, 0, 0], address.port()).into()];
        config
    };
    let with_own = Gateways::start(own).await;
    for host in ["127.0.0.1", "localhost", "127.0.0.2"] {
        let url = format!("http://{host}:{}/healthz", address.port());
        assert_eq!(with_own.get(0, &url, &[]).await.whole().0, 403, "{url}");
    }
    with_own.stop().await;
    // A request for the gateway through the gateway comes back to it once.
    assert_eq!(gateways.get(0, &format!("http://{address}/v2/"), &[]).await.whole().0, 508);
    for url in ["ftp://a.example/x", "http://"] {
        let request = Request::get("/").uri(url);
        let Ok(request) = request.body(Full::default()) else { continue };
        assert_eq!(gateways.ask(0, request).await.whole().0, 400, "{url}");
    }
    gateways.stop().await;
}

/// One connection too many waits in the kernel, and is served when one of the others is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_connections_are_served_and_the_next_one_waits() {
    const PLACES: usize = 2;
    let gateways = Gateways::start(|network| {
        let mut config = rules(network);
        config.connections_max = PLACES;
        config
    })
    .await;
    let (gateway, address) = &gateways.gateways[0];
    let used = |name: &str| gateway.metrics_now().iter().find(|metric| metric.name == name).unwrap().value as usize;
    let (used, limit) = (|| used("dragonfly_gateway_connections"), used("dragonfly_gateway_connections_limit"));
    assert_eq!((used(), limit), (0, PLACES));
    let mut idle = Vec::new();
    for _ in 0..PLACES {
        idle.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    eventually("they have their places", async || (used() == PLACES).then_some(())).await;
    let url = gateways.network.serve("/index", Resource::seeded(SEED, 1000));
    let mut late = Box::pin(gateways.get(0, &url, &[]));
    let waits = tokio::time::timeout(Duration::from_millis(500), &mut late).await;
    assert!(waits.is_err(), "{waits:?}");
    assert_eq!((used(), gateways.network.requests("/index").len()), (PLACES, 0));
    drop(idle.pop());
    let (status, body) = late.await.whole();
    assert_eq!((status, body == content::bytes(SEED, 0, 1000)), (200, true));
    drop(idle);
    eventually("all places are free", async || (used() == 0).then_some(())).await;
    gateways.stop().await;
}

/// What is longer than a head may be is answered so, and the connection is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_has_a_bound() {
    let gateways = Gateways::start(|_| GatewayConfig::default()).await;
    let mut stream = tokio::net::TcpStream::connect(gateways.gateways[0].1).await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(65 << 10));
    // The other end may close before it has read all.
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await.expect("it is over");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    gateways.stop().await;
}

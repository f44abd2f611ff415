//! The gateway of the daemon, as a program that speaks HTTP sees it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use dragonfly_testkit::{Resource, content};
use rustix::process::Signal;
use sha2::{Digest as _, Sha256};

use super::SEED;
use crate::harness::{Daemon, TestOrigin, dfdaemon, run, signal};

const LENGTH: u64 = 4 << 20;

/// Asks for `path`; the head of the answer and the connection, at the first byte of the body.
fn ask(daemon: &Daemon, path: &str) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(daemon.ready().gateway.as_deref().unwrap()).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: registry.test\r\nconnection: close\r\n\r\n").unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    (String::from_utf8(head).unwrap(), stream)
}

fn is_whole(mut body: TcpStream) {
    let mut bytes = Vec::new();
    body.read_to_end(&mut bytes).unwrap();
    assert_eq!(blake3::hash(&bytes).as_bytes(), &content::blake3(SEED, LENGTH), "{} bytes", bytes.len());
}

#[test]
fn a_blob_leaves_its_registry_once_and_a_daemon_that_stops_sends_it_to_its_end() {
    let origin = TestOrigin::start();
    let digest = Sha256::digest(content::bytes(SEED, 0, LENGTH as usize));
    let path = format!("/v2/lib/a/blobs/sha256:{}", content::hex(&digest));
    origin.origin.set(&path, Resource::seeded(SEED, LENGTH).rate(4 << 20));
    let registry = format!("registry.test={}", origin.origin.url("/").trim_end_matches('/'));
    let args = ["--gateway", "127.0.0.1:0", "--gateway-registry", &registry];
    let first = Daemon::with_role("scheduler,peer,gateway").args(args).start();
    let second = Daemon::with_role("peer").args(args).join(&first).start();
    let asked = format!("{path}?ns=registry.test");
    let (head, body) = ask(&first, &asked);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    is_whole(body);
    // The second one is told to stop while its client waits.
    let (head, body) = ask(&second, &asked);
    assert!(head.contains("x-dragonfly-task-id"), "{head}");
    signal(second.child(), Signal::TERM);
    is_whole(body);
    let (status, log) = second.wait();
    assert!(status.success(), "{log}");
    assert_eq!(origin.origin.body_bytes(&path), LENGTH, "one copy for both");
    let counted = ["requests_total", "swarm_total", "fallbacks_total", "bytes_total"];
    let counted = counted.map(|name| first.metric(&format!("dragonfly_gateway_{name}")));
    assert_eq!(counted, [1, 1, 0, LENGTH]);
}

/// The head of an answer.
fn head_of(gateway: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(gateway).unwrap();
    write!(stream, "{request}\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// A client of the gateway comes to no door of the daemon by it, whatever it says.
#[test]
fn nobody_is_led_to_the_daemons_own_doors() {
    let args = ["--gateway", "127.0.0.1:0", "--api-tcp", "127.0.0.1:0", "--gateway-rule", "swarm:bin$"];
    let daemon = Daemon::with_role("scheduler,peer,gateway").args(args).start();
    let ready = daemon.ready();
    let gateway = ready.gateway.clone().unwrap();
    let mut doors: Vec<String> =
        [&ready.gateway, &ready.metrics, &ready.api_tcp].into_iter().flatten().cloned().collect();
    assert_eq!(doors.len(), 3);
    let swarm: Vec<String> = ready
        .listen
        .iter()
        .filter_map(|address| {
            let parts: Vec<&str> = address.split('/').collect();
            matches!(parts[..], [_, "ip4", _, "tcp", ..]).then(|| format!("{}:{}", parts[2], parts[4]))
        })
        .collect();
    assert!(!swarm.is_empty(), "{:?}", ready.listen);
    doors.extend(swarm);
    for door in doors {
        for request in [
            format!("CONNECT {door} HTTP/1.1\r\nhost: {door}"),
            format!("GET http://{door}/metrics HTTP/1.1\r\nhost: {door}"),
            format!("GET http://{door}/a.bin HTTP/1.1\r\nhost: {door}"),
            format!("GET /v2/lib/a/manifests/v1?ns={door} HTTP/1.1\r\nhost: x"),
        ] {
            let answer = head_of(&gateway, &request);
            assert!(answer.starts_with("HTTP/1.1 403"), "{request:?}: {answer}");
        }
    }
}

#[test]
fn a_gateway_needs_an_engine_that_fetches() {
    let dir = tempfile::tempdir().unwrap();
    let check = |args: &[&str]| run(dfdaemon(dir.path()).args(["--check-config", "--data-dir", "data"]).args(args));
    assert!(check(&["--role", "peer,gateway", "--gateway-rule", "swarm:x"]).is_code(0));
    for args in [
        &["--role", "gateway"][..],
        &["--role", "scheduler,gateway"],
        &["--gateway-rule", "fast:x"],
        &["--gateway-registry", "a"],
    ] {
        let done = check(args);
        assert!(done.is_code(2), "{args:?} {done:?}");
    }
}

/// What a tag named, its manifest and a blob are pulled from a daemon that was killed right after they had been, and whose
/// registry is gone.
#[test]
fn an_image_outlives_its_registry_and_a_daemon_that_is_killed() {
    let origin = TestOrigin::start();
    let named = |bytes: &[u8]| format!("sha256:{}", content::hex(&Sha256::digest(bytes)));
    let (bytes, manifest) = (content::bytes(SEED, 0, LENGTH as usize), "{\"schemaVersion\": 2}");
    let (layer, digest) = (named(&bytes), named(manifest.as_bytes()));
    let blob = format!("/v2/lib/a/blobs/{layer}");
    let described = Resource::seeded(SEED, LENGTH).etag(format!("\"{layer}\"")).no_last_modified();
    origin.set(&blob, described.header("docker-content-digest", &layer));
    for name in ["v1", &digest] {
        let resource = Resource::bytes(manifest).etag(format!("\"{digest}\"")).no_last_modified();
        let resource = resource.header("docker-content-digest", &digest).header("content-type", "a/manifest");
        origin.set(&format!("/v2/lib/a/manifests/{name}"), resource);
    }
    let registry = format!("registry.test={}", origin.origin.url("/").trim_end_matches('/'));
    let args = ["--gateway", "127.0.0.1:0", "--gateway-registry", &registry, "--gateway-offline"];
    let mut daemon = Daemon::with_role("scheduler,peer,gateway").args(args).start();
    let pull = |daemon: &Daemon| {
        for name in ["v1", &digest] {
            let (head, mut body) = ask(daemon, &format!("/v2/lib/a/manifests/{name}?ns=registry.test"));
            let mut text = String::new();
            body.read_to_string(&mut text).unwrap();
            let is_there = head.starts_with("HTTP/1.1 200") && head.contains("content-type: a/manifest");
            assert!(is_there, "{name} {head}{text}\n{}", daemon.log());
            assert_eq!(text, manifest);
        }
        let (head, body) = ask(daemon, &format!("{blob}?ns=registry.test"));
        assert!(head.starts_with("HTTP/1.1 200"), "{head}\n{}", daemon.log());
        is_whole(body);
    };
    pull(&daemon);
    daemon = daemon.kill_and_restart();
    let _refused = gone(origin);
    pull(&daemon);
}

/// Ends an origin. For as long as what is returned lives, whoever asks there is refused, and not answered by what another test has
/// listen at an address that has become free.
fn gone(origin: TestOrigin) -> tokio::net::TcpSocket {
    let address = origin.origin.address();
    drop(origin);
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    // Bound, and not listening.
    socket.bind(address).unwrap();
    socket
}

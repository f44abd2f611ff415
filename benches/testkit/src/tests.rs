#![allow(clippy::unwrap_used)]

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{Origin, Resource, content};

/// One request on a connection of its own: the head and the body as they came.
async fn ask(origin: &Origin, request: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(origin.address()).await.unwrap();
    let request = format!("{request}\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    let at = all.windows(4).position(|part| part == b"\r\n\r\n").map_or(all.len(), |at| at + 4);
    let body = all.split_off(at);
    (String::from_utf8(all).unwrap().to_ascii_lowercase(), body)
}

#[test]
fn content_is_the_same_from_any_offset() {
    let whole = content::bytes(9, 0, 1000);
    for (offset, len) in [(0, 1), (63, 2), (64, 64), (1, 999), (500, 0), (999, 1)] {
        assert_eq!(content::bytes(9, offset as u64, len), whole[offset..offset + len], "{offset} {len}");
    }
    assert_ne!(content::bytes(10, 0, 64), whole[..64]);
    assert_eq!(content::blake3(9, 1000), *blake3::hash(&whole).as_bytes());
    assert_eq!(content::hex(&content::sha256(9, 0))[..8], *"e3b0c442");
}

#[tokio::test]
async fn ranges_conditions_and_exact_counts() {
    let origin = Origin::start().await.unwrap();
    origin.set("/a", Resource::seeded(1, 1000).etag("\"x\""));
    let (head, body) = ask(&origin, "GET /a HTTP/1.1\r\nRange: bytes=10-19").await;
    assert!(head.starts_with("http/1.1 206") && head.contains("content-range: bytes 10-19/1000"), "{head}");
    assert_eq!(body, content::bytes(1, 10, 10));
    let (head, body) = ask(&origin, "GET /a HTTP/1.1\r\nRange: bytes=990-2000\r\nIf-Range: \"x\"").await;
    assert!(head.contains("content-range: bytes 990-999/1000"), "{head}");
    assert_eq!(body.len(), 10);
    let (head, body) = ask(&origin, "GET /a HTTP/1.1\r\nRange: bytes=10-19\r\nIf-Range: \"y\"").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(body, content::bytes(1, 0, 1000));
    assert_eq!(origin.body_bytes("/a"), 1020);
    for (condition, status) in [
        ("If-None-Match: \"x\"", 304),
        ("If-None-Match: \"y\"", 200),
        ("If-Match: \"y\"", 412),
        ("If-Match: \"x\"", 200),
        ("If-Modified-Since: Tue, 02 Jan 2024 00:00:00 GMT", 304),
        ("Range: bytes=1000-", 416),
        ("Range: bytes=-5", 206),
    ] {
        let (head, _) = ask(&origin, &format!("GET /a HTTP/1.1\r\n{condition}")).await;
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{condition}: {head}");
    }
    let (head, body) = ask(&origin, "HEAD /a HTTP/1.1").await;
    assert!(head.contains("content-length: 1000") && body.is_empty(), "{head}");
    let counters = origin.counters();
    assert_eq!((counters.requests["GET"], counters.requests["HEAD"]), (10, 1));
    assert_eq!(origin.log()[0].range.as_deref(), Some("bytes=10-19"));
    let (_, stats) = ask(&origin, "GET /_stats HTTP/1.1").await;
    assert_eq!(
        String::from_utf8(stats).unwrap(),
        counters.to_json().replace("\"connections\":11", "\"connections\":12")
    );
}

#[tokio::test]
async fn faults_on_demand() {
    let origin = Origin::start().await.unwrap();
    origin.set("/fails", Resource::seeded(1, 10).fail_first(2, 503, Some(7)));
    origin.set("/breaks", Resource::seeded(1, 1000).reset_after(100, 1));
    origin.set("/auth", Resource::bytes("secret").basic_auth("me", "pass"));
    origin.set("/changes", Resource::seeded(1, 10).change_after(1, 2, 20));
    for status in [503, 503, 200] {
        let (head, _) = ask(&origin, "GET /fails HTTP/1.1").await;
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{head}");
        assert_eq!(head.contains("retry-after: 7"), status == 503);
    }
    assert_eq!(ask(&origin, "GET /breaks HTTP/1.1").await.1.len(), 100);
    assert_eq!(ask(&origin, "GET /breaks HTTP/1.1").await.1.len(), 1000);
    assert_eq!(origin.body_bytes("/breaks"), 1100);
    assert!(ask(&origin, "GET /auth HTTP/1.1").await.0.starts_with("http/1.1 401"));
    assert_eq!(ask(&origin, "GET /auth HTTP/1.1\r\nAuthorization: Basic bWU6cGFzcw==").await.1, b"secret");
    assert_eq!(ask(&origin, "GET /changes HTTP/1.1").await.1, content::bytes(1, 0, 10));
    assert_eq!(ask(&origin, "GET /changes HTTP/1.1").await.1, content::bytes(2, 0, 20));
}

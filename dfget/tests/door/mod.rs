//! The doors of the local API: the socket's mode, the TCP door and its token, events, the document.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use dfget::client::{Client, Endpoint};
use dfget::model::{EventBody, FetchRequest, StatusBody};
use dragonfly_core::ErrorKind;
use dragonfly_testkit::Resource;
use http::Method;

use crate::harness::{Daemon, TestOrigin, dfget, run};

const NONE: Option<&()> = None;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tcp_to_who_has_the_token() {
    let daemon = Daemon::with_role("peer").args(["--api-tcp", "127.0.0.1:0"]).start();
    let address = daemon.ready().api_tcp.clone().unwrap();
    let token_file = daemon.dir().join("data/api-token");
    assert_eq!(fs::metadata(&token_file).unwrap().permissions().mode() & 0o777, 0o600);
    let token = fs::read_to_string(&token_file).unwrap();
    let endpoint: Endpoint = format!("http://{address}").parse().unwrap();
    let mut client = Client::connect_to(&endpoint, Some(token.trim())).await.unwrap();
    let status: StatusBody = client.json(Method::GET, "/v1/status", NONE).await.unwrap();
    assert_eq!(status.peer_id, daemon.ready().peer_id);
    for wrong in [None, Some("wrong")] {
        let mut client = Client::connect_to(&endpoint, wrong).await.unwrap();
        let refused = client.json::<StatusBody>(Method::GET, "/v1/status", NONE).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Config);
        client.bytes(Method::GET, "/healthz", None).await.unwrap();
    }
    // Called by another name, the token does not help: so a web page that has itself resolved to here gets nothing.
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let head = format!("GET /v1/status HTTP/1.1\r\nhost: evil.example\r\nauthorization: Bearer {}\r\n", token.trim());
    tokio::io::AsyncWriteExt::write_all(&mut stream, (head + "connection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert!(!daemon.log().contains(token.trim()));
}

#[test]
fn dfget_over_tcp() {
    let origin = TestOrigin::start();
    // Who comes over TCP is no user of this machine; the daemon of the harness lets everybody fetch from loopback.
    let url = origin.set("/file", Resource::seeded(1, 1 << 20));
    let daemon = Daemon::with_role("peer").args(["--api-tcp", "127.0.0.1:0"]).start();
    let endpoint = format!("http://{}", daemon.ready().api_tcp.clone().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let token = daemon.dir().join("data/api-token");
    let done = run(dfget(dir.path()).args(["-e", &endpoint, "--api-token-file"]).arg(&token).arg(&url));
    assert!(done.is_code(0), "{done:?}");
    assert_eq!(fs::metadata(dir.path().join("file")).unwrap().len(), 1 << 20);
    let refused = run(dfget(dir.path()).args(["-e", &endpoint, &url, "-O", "other"]));
    assert!(refused.is_code(2) && refused.stderr.contains("--api-token-file"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_all_and_of_one() {
    let origin = dragonfly_testkit::Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(1, 1 << 20));
    let daemon = Daemon::with_role("peer").start();
    let mut all = daemon.client().await.events(None).await.unwrap();
    let request = FetchRequest { url: origin.url("/file"), ..FetchRequest::default() };
    let mut client = daemon.client().await;
    let mut content = client.fetch(&request).await.unwrap();
    while content.chunk().await.unwrap().is_some() {}
    let receipt = content.receipt().unwrap();
    loop {
        let event = all.next().await.unwrap().unwrap();
        assert_eq!(event.task.as_ref(), Some(&receipt.task));
        if let EventBody::Receipt(told) = event.what {
            assert_eq!(told.length, 1 << 20);
            break;
        }
    }
    // A failure is told as well, and one task's listener hears only of it.
    let mut one = daemon.client().await.events(Some(&receipt.task)).await.unwrap();
    let none = FetchRequest { url: origin.url("/none"), ..FetchRequest::default() };
    assert!(client.fetch(&none).await.is_err());
    let event = all.next().await.unwrap().unwrap();
    assert!(matches!(&event.what, EventBody::Failed(error) if error.kind == "not_found"), "{event:?}");
    drop(client.fetch(&request).await.unwrap());
    assert_eq!(one.next().await.unwrap().unwrap().task, Some(receipt.task));
    // Listeners do not keep the daemon from stopping.
    let stopped = tokio::task::spawn_blocking(|| daemon.stop());
    while let Ok(Some(_)) = one.next().await {}
    assert_eq!(stopped.await.unwrap().0.code(), Some(0));
}

/// Every path and method of the document is served, and every path that is served is in the document.
#[tokio::test]
async fn the_document_is_about_this_server() {
    let daemon = Daemon::with_role("peer").start();
    let mut client = daemon.client().await;
    let text = client.bytes(Method::GET, "/v1/openapi.yaml", None).await.unwrap();
    let document: serde_json::Value = serde_yaml_ng::from_slice(&text).unwrap();
    let mut paths = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        paths.insert(path.clone());
        for method in operations.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            let method: Method = method.to_ascii_uppercase().parse().unwrap();
            let mut client = daemon.client().await;
            let answer = client.send(method.clone(), &path.replace("{id}", "x"), None).await.unwrap();
            // Of a path that is not there the daemon says so; an `x` that is no task is another error.
            assert!(!matches!(answer.status().as_u16(), 404 | 405), "{method} {path}: {}", answer.status());
        }
    }
    let source = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/api/mod.rs")).unwrap();
    let admin = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/api/admin.rs")).unwrap();
    let served: BTreeSet<String> =
        (source + &admin).split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect();
    assert_eq!(served, paths);
}

#[test]
fn the_mode_of_the_socket_is_what_was_asked() {
    let group = rustix::process::getegid().as_raw().to_string();
    let daemon = Daemon::with_role("peer").args(["--api-mode", "0660", "--api-group", &group]).start();
    assert_eq!(fs::metadata(daemon.socket()).unwrap().permissions().mode() & 0o777, 0o660);
}

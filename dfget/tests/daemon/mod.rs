//! The daemon's life: start, doors, token, stop.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use dfget::model::{StatusBody, TasksBody, TokenBody, TokenRequest};
use dragonfly_core::ErrorKind;
use http::Method;

use crate::harness::{Daemon, dfdaemon, get, run};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn starts_tells_where_it_is_and_stops_in_order() {
    let daemon = Daemon::with_role("peer").start();
    let ready = daemon.ready();
    assert_eq!(ready.pid, daemon.child().id());
    assert!(!ready.listen.is_empty() && ready.listen.iter().all(|a| a.ends_with(&ready.peer_id)), "{:?}", ready.listen);
    assert!(ready.join.starts_with("df1:"));
    for (path, wanted) in [("ready.json", 0o600), ("api.sock", 0o600), ("data", 0o700)] {
        assert_eq!(mode(&daemon.dir().join(path)), wanted, "{path}");
    }
    assert!(!daemon.log().contains(&ready.join), "a token is no business of the log's");
    let (ready_file, socket) = (daemon.dir().join("ready.json"), daemon.socket());
    let (status, log) = daemon.stop();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!ready_file.exists() && !socket.exists());
}

#[test]
fn a_second_one_on_the_same_directory_is_refused() {
    let daemon = Daemon::with_role("peer").start();
    let args = ["--data-dir", "data", "--listen", "/ip4/127.0.0.1/tcp/0", "--api", "unix:other.sock"];
    let second = run(dfdaemon(daemon.dir()).args(args));
    assert!(!second.is_code(0) && format!("{second:?}").contains("is used by another process"), "{second:?}");
    // The first one is none the worse.
    let (status, log) = daemon.stop();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[tokio::test]
async fn the_api_answers_and_refuses() {
    let daemon = Daemon::with_role("peer").start();
    let mut client = daemon.client().await;
    let none = None::<&()>;
    let status: StatusBody = client.json(Method::GET, "/v1/status", none).await.unwrap();
    assert_eq!((status.peer_id.as_str(), status.ready), (daemon.ready().peer_id.as_str(), true));
    let tasks: TasksBody = client.json(Method::GET, "/v1/tasks?max=1", none).await.unwrap();
    assert!(tasks.tasks.len() <= 1);
    let cases = [
        (Method::GET, "/v1/nothing", None, ErrorKind::NotFound),
        (Method::GET, "/v1/tasks/xyz", None, ErrorKind::InvalidInput),
        (Method::GET, "/v1/tasks?after=xyz", None, ErrorKind::InvalidInput),
        (Method::GET, "/v1/scheduler", None, ErrorKind::Config),
        (Method::POST, "/v1/preheat", Some("{\"url\":\"http://h/\"}"), ErrorKind::Config),
        (Method::POST, "/v1/fetch", Some("nonsense"), ErrorKind::InvalidInput),
        (Method::POST, "/v1/fetch", Some("{\"url\":\"http://h/\",\"output\":\"/x\"}"), ErrorKind::InvalidInput),
        (Method::POST, "/v1/token", Some("{\"roles\":\"boss\"}"), ErrorKind::InvalidInput),
        (Method::POST, "/v1/fetch", Some("{\"url\":\"file:///etc/hostname\"}"), ErrorKind::InvalidInput),
    ];
    for (method, path, body, kind) in cases {
        let error = client.bytes(method, path, body.map(|b| b.as_bytes().to_vec())).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{path}: {error:?}");
    }
    // The rest of a body that is too long is not read: the connection may end with the answer.
    let long = vec![b' '; (1 << 20) + 1];
    assert!(client.bytes(Method::POST, "/v1/fetch", Some(long)).await.is_err());
    let mut client = daemon.client().await;
    assert_eq!(&client.bytes(Method::GET, "/healthz", None).await.unwrap()[..], b"ok\n");
}

#[test]
fn metrics_and_health_over_tcp_and_nothing_else() {
    let daemon = Daemon::with_role("peer").start();
    let address = daemon.ready().metrics.clone().unwrap();
    assert!(get(&address, "/metrics").contains("dragonfly_store_bytes 0"));
    assert!(get(&address, "/healthz").starts_with("HTTP/1.1 200"));
    assert!(get(&address, "/readyz").starts_with("HTTP/1.1 200"));
    assert!(get(&address, "/v1/status").starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn a_token_comes_from_the_daemon_or_from_its_directory() {
    let daemon = Daemon::with_role("peer").start();
    let asked = daemon.token("peer");
    assert!(asked.starts_with("df1:"));
    let request = TokenRequest { expires_s: Some(60), ..TokenRequest::default() };
    let token: TokenBody = daemon.client().await.json(Method::POST, "/v1/token", Some(&request)).await.unwrap();
    assert!(token.token.starts_with("df1:"));
    let kept = tempfile::tempdir().unwrap();
    let data = kept.path().join("data");
    fs::rename(daemon.dir().join("data"), &data).unwrap();
    drop(daemon);
    let done = run(dfdaemon(kept.path()).args(["token", "--data-dir", "data", "--address", "/ip4/10.0.0.1/tcp/1"]));
    assert!(done.is_code(0) && done.text().starts_with("df1:") && done.text().lines().count() == 1, "{done:?}");
}

#[test]
fn a_second_daemon_on_the_socket_is_refused() {
    let daemon = Daemon::with_role("peer").start();
    let api = format!("unix:{}", daemon.socket().display());
    let other = tempfile::tempdir().unwrap();
    let done = run(dfdaemon(other.path()).args(["--data-dir", "data", "--api", &api]));
    assert!(done.is_code(2) && done.stderr.contains("another daemon"), "{done:?}");
    let (status, log) = daemon.stop();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn starts_again_after_it_was_killed() {
    let daemon = Daemon::with_role("peer").start();
    let peer_id = daemon.ready().peer_id.clone();
    let again = daemon.kill_and_restart();
    assert_eq!(again.ready().peer_id, peer_id);
    let (status, log) = again.stop();
    assert_eq!(status.code(), Some(0), "{log}");
}

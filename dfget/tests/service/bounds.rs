//! Every bound that `docs/design/limits.md` names of the daemon and of its gateway is in `/metrics`, and no other; that of
//! the local API is kept.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use rustix::process::Signal;

use crate::harness::{Daemon, get, signal, wait_for};

const LIMITS: &str = include_str!("../../../docs/design/limits.md");

/// The metrics that the last column of a chapter's table names. A dash is for what no daemon can show.
fn documented(chapter: &str) -> BTreeSet<String> {
    let part = LIMITS.split_once(chapter).unwrap().1.split("\n## ").next().unwrap();
    let rows = part.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what"));
    let mut all = BTreeSet::new();
    for row in rows {
        let last = row.trim_matches('|').rsplit('|').next().unwrap();
        let names: Vec<_> = last.split('`').skip(1).step_by(2).collect();
        assert!(last.trim() == "-" || !names.is_empty(), "no metric shows: {row}");
        all.extend(names.into_iter().map(|name| format!("dragonfly_{name}")));
    }
    all
}

#[test]
fn bounds_are_shown_as_they_are_documented() {
    let config = tempfile::tempdir().unwrap();
    let path = config.path().join("c.toml");
    fs::write(&path, "client-timeout = '77s'\n").unwrap();
    let daemon = Daemon::with_role("peer,gateway");
    let daemon = daemon.args(["--gateway", "127.0.0.1:0", "--config", path.to_str().unwrap()]).start();
    let text = get(daemon.ready().metrics.as_deref().unwrap(), "/metrics");
    let shown: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert_eq!(shown.iter().collect::<BTreeSet<_>>().len(), shown.len(), "each name once");
    let (clients, gateway) = (documented("## Clients, the end, and traces"), documented("## The gateway"));
    let is_there = |name: &&String| cfg!(feature = "otlp") || !name.starts_with("dragonfly_traces_");
    for name in clients.iter().chain(&gateway).filter(is_there) {
        assert!(shown.contains(&name.as_str()), "{name} is not shown");
    }
    assert!(clients.len() >= 9 && gateway.len() >= 10, "{clients:?} {gateway:?}");
    // What is shown of the daemon's own is documented, too.
    let own = ["dragonfly_api_", "dragonfly_traces_", "dragonfly_drain_", "dragonfly_engine_stop_"];
    for name in shown.iter().filter(|name| name.ends_with("_limit") && own.iter().any(|own| name.starts_with(own))) {
        assert!(clients.contains(*name), "{name} is not documented");
    }
    for name in ["dragonfly_api_client_silence_seconds_limit", "dragonfly_gateway_client_silence_seconds_limit"] {
        assert_eq!(daemon.metric(name), 77, "{name}");
    }
    // They follow what changes while it runs.
    assert_eq!(daemon.metric("dragonfly_drain_seconds_limit"), 20);
    fs::write(&path, "client-timeout = '77s'\ndrain-timeout = '7s'\n").unwrap();
    signal(daemon.child(), Signal::HUP);
    wait_for("the other bound", || (daemon.metric("dragonfly_drain_seconds_limit") == 7).then_some(()));
}

/// As many as there are places begin a request and say no more. Who comes next has an answer once their time is up.
#[test]
fn who_says_nothing_keeps_no_place() {
    const PLACES: usize = 256;
    let daemon = Daemon::with_role("peer").start();
    let connect = || UnixStream::connect(daemon.socket()).unwrap();
    let mut silent: Vec<UnixStream> = (0..PLACES).map(|_| connect()).collect();
    for stream in &mut silent {
        stream.write_all(b"GET /v1/sta").unwrap();
        stream.set_nonblocking(true).unwrap();
    }
    let mut next = connect();
    next.write_all(b"GET /v1/status HTTP/1.1\r\nhost: daemon\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    next.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let is_over = |stream: &mut UnixStream| stream.read(&mut [0; 512]).is_ok();
    assert!(silent.iter_mut().any(is_over), "there was a place although all were taken");
    for mut stream in silent {
        wait_for("a silent one to be let go", || is_over(&mut stream).then_some(()));
    }
}

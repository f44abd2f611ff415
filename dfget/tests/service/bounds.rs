//! Every bound that `docs/design/limits.md` names of the daemon and of its gateway is in `/metrics`, and no other.

use std::collections::BTreeSet;
use std::fs;

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

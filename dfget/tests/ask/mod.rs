//! `dfget stat|ls|rm|pin|unpin|preheat|tasks|peers|top`, with a daemon that does something.

use std::process::Stdio;

use dragonfly_testkit::Resource;
use serde_json::Value;

use crate::harness::{Daemon, Done, TestOrigin, wait_for};

const LENGTH: u64 = 1 << 20;

fn json(done: &Done) -> Vec<Value> {
    assert!(done.is_code(0), "{done:?}");
    done.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_is_held_is_listed_pinned_and_removed() {
    let origin = TestOrigin::start();
    let daemon = Daemon::with_role("peer").start();
    let urls: Vec<_> = ["/a", "/b"].map(|path| origin.set(path, Resource::seeded(1, LENGTH))).into();
    assert!(daemon.dfget(["ls"]).text().is_empty());
    let fetched = daemon.dfget([urls[0].as_str(), urls[1].as_str(), "-q"]);
    assert!(fetched.is_code(0), "{fetched:?}");
    let listed = json(&daemon.dfget(["ls", "--json"]));
    assert_eq!(listed.len(), 2);
    let task = listed[0]["task"].as_str().unwrap().to_owned();
    // By id and by URL it is the same.
    let by_id = json(&daemon.dfget(["stat", &task, "--json"]));
    let label = by_id[0]["label"].as_str().unwrap();
    let url = urls.iter().find(|url| label.contains(url.as_str())).unwrap();
    assert_eq!(json(&daemon.dfget(["stat", url, "--json"])), by_id);
    assert_eq!((by_id[0]["complete"].as_bool(), by_id[0]["length"].as_u64()), (Some(true), Some(LENGTH)));
    // A tag is other content.
    let other = daemon.dfget(["stat", url, "--tag", "x"]);
    assert!(other.is_code(1) && other.stderr.contains("hint:"), "{other:?}");
    for (command, pinned) in [("pin", true), ("unpin", false)] {
        let done = daemon.dfget([command, url.as_str()]);
        assert!(done.is_code(0) && done.text().contains("pinned"), "{done:?}");
        let told = json(&daemon.dfget([command, url.as_str(), "--json"]));
        assert_eq!(told, [serde_json::json!({"pinned": pinned, "what": url})]);
        assert_eq!(json(&daemon.dfget(["stat", &task, "--json"]))[0]["pinned"], pinned);
    }
    // One that is not there does not keep the other from being removed.
    let removed = daemon.dfget(["rm", "http://127.0.0.1:9/none", "not-a-task", url.as_str()]);
    assert!(removed.text().contains("1.0 MiB freed") && removed.stderr.contains("not-a-task"), "{removed:?}");
    assert!(removed.is_code(2), "{removed:?}");
    let left = json(&daemon.dfget(["ls", "--json"]));
    assert_eq!(left.len(), 1);
    assert!(daemon.dfget(["ls"]).text().contains("1.0 MiB"));
    let task = left[0]["task"].as_str().unwrap();
    let told = json(&daemon.dfget(["rm", "--json", task]));
    assert_eq!(told, [serde_json::json!({"bytes_freed": LENGTH, "what": task})]);
}

#[test]
fn a_capability_is_not_listed() {
    let origin = TestOrigin::start();
    let daemon = Daemon::with_role("peer").start();
    let url = origin.set("/secret", Resource::seeded(1, LENGTH).require_header("authorization", "Bearer hunter2"));
    let header = ["-H", "Authorization: Bearer hunter2"];
    let done = daemon.dfget([url.as_str(), "-q"].iter().chain(&header));
    assert!(done.is_code(0), "{done:?}");
    let named = daemon.dfget(["stat", url.as_str(), "--json"].iter().chain(&header));
    let task = json(&named)[0]["task"].as_str().unwrap().to_owned();
    for command in [&["ls", "--json"][..], &["ls"], &["tasks", "--json"], &["tasks"], &["top", "--json"], &["top"]] {
        let done = daemon.dfget(command);
        assert!(done.is_code(0) && !done.text().contains(&task), "{command:?}: {done:?}");
    }
    assert!(json(&daemon.dfget(["ls", "--json"])).is_empty());
    // A page of none but such content ends the listing, too.
    assert!(!daemon.log().contains("hunter2") && !daemon.log().contains(&task));
}

#[test]
fn preheated_content_reaches_a_peer_and_both_show_it() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(2, 4 * LENGTH));
    let seed = Daemon::with_role("scheduler,seed").start();
    let peer = Daemon::with_role("peer").join(&seed).start();
    let done = seed.dfget(["preheat", url.as_str()]);
    assert!(done.is_code(0) && done.text().contains("from the origin"), "{done:?}");
    let started = seed.dfget(["preheat", "--no-wait", "--json", url.as_str()]);
    assert!(json(&started)[0]["task"].is_string(), "{started:?}");
    let refused = peer.dfget(["preheat", url.as_str()]);
    assert!(refused.is_code(2) && refused.stderr.contains("role seed"), "{refused:?}");
    let fetched = peer.dfget([url.as_str(), "--json", "-O", "out"]);
    let last = json(&fetched).pop().unwrap();
    assert_eq!(last["bytes_from_peers"], 4 * LENGTH, "{fetched:?}");
    assert_eq!(origin.origin.body_bytes("/file"), 4 * LENGTH);
    let hosts = json(&peer.dfget(["peers", "--json"]));
    assert_eq!(hosts[0]["peer"], seed.ready().peer_id, "{hosts:?}");
    assert!(peer.dfget(["peers"]).text().contains(&seed.ready().peer_id));
    let active = json(&peer.dfget(["tasks", "--json"]));
    assert_eq!((active.len(), &active[0]["bytes_from_peers"]), (1, &Value::from(4 * LENGTH)));
    let text = peer.dfget(["tasks"]).text();
    assert!(text.contains("100%") && text.contains("/file"), "{text}");
    let top = peer.dfget(["top", "-n", "2", "-d", "1ms"]).text();
    assert!(top.contains("NEIGHBOURS") && top.lines().all(|line| line.chars().count() <= 80), "{top}");
    assert_eq!(json(&peer.dfget(["top", "--json"])).len(), 1);
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let origin = TestOrigin::start();
    let daemon = Daemon::with_role("peer").start();
    let urls: Vec<_> = (0..40).map(|n| origin.set(&format!("/{n}"), Resource::seeded(n, 1000))).collect();
    assert!(daemon.dfget(urls.iter().map(String::as_str).chain(["-q"])).is_code(0));
    let mut child = daemon.dfget_command(["ls"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let status = wait_for("the end of ls", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

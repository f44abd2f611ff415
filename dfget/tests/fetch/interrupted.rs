//! What was interrupted goes on where it stopped.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use dragonfly_testkit::{Resource, content};
use rustix::process::Signal;

use crate::harness::{Daemon, Done, TestOrigin, dfget, names, run, signal, wait_for};

/// Pieces of 64 KiB: many of them.
const LENGTH: u64 = 16 << 20;
const RATE: u64 = 8 << 20;

/// Starts a download and interrupts it when a third is there.
fn interrupt(command: &mut Command, which: Signal) -> Child {
    let mut child = command.arg("--json").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in lines {
        let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        if line["bytes"].as_u64() > Some(LENGTH / 3) {
            break;
        }
    }
    signal(&child, which);
    child
}

fn exit_code(child: &mut Child) -> Option<i32> {
    wait_for("the end of dfget", || child.try_wait().unwrap()).code()
}

#[test]
fn alone_it_goes_on_after_ctrl_c() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(1, LENGTH).rate(RATE));
    let dir = tempfile::tempdir().unwrap();
    let mut child = interrupt(dfget(dir.path()).arg(&url), Signal::INT);
    assert_eq!(exit_code(&mut child), Some(130));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut text).unwrap();
    assert!(text.contains("are kept") && text.contains("dfget: interrupted"), "{text}");
    assert_eq!(names(dir.path()), [".file.dfget"]);
    let done = run(dfget(dir.path()).args([&url, "--json"]));
    assert!(done.is_code(0), "{done:?}");
    assert_eq!(blake3::hash(&fs::read(dir.path().join("file")).unwrap()).as_bytes(), &content::blake3(1, LENGTH));
    let last: serde_json::Value = serde_json::from_str(done.text().lines().last().unwrap()).unwrap();
    assert!(last["bytes_held"].as_u64() > Some(LENGTH / 4), "{last}");
    assert_eq!(names(dir.path()), ["file"]);
    // Twice at most what was under way when it was interrupted.
    assert!(origin.origin.body_bytes("/file") < LENGTH + LENGTH / 2);
}

#[test]
fn alone_it_goes_on_after_it_was_killed() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(1, LENGTH).rate(RATE));
    let dir = tempfile::tempdir().unwrap();
    let mut child = interrupt(dfget(dir.path()).arg(&url), Signal::KILL);
    assert_eq!(exit_code(&mut child), None);
    let done = run(dfget(dir.path()).args([&url, "-q"]));
    assert!(done.is_code(0), "{done:?}");
    assert_eq!(blake3::hash(&fs::read(dir.path().join("file")).unwrap()).as_bytes(), &content::blake3(1, LENGTH));
    assert_eq!(names(dir.path()), ["file"]);
}

#[test]
fn content_that_changed_meanwhile_is_not_mixed() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(1, LENGTH).rate(RATE).etag("\"one\""));
    let dir = tempfile::tempdir().unwrap();
    let mut child = interrupt(dfget(dir.path()).arg(&url), Signal::INT);
    assert_eq!(exit_code(&mut child), Some(130));
    origin.set("/file", Resource::seeded(2, LENGTH).etag("\"two\""));
    let done = run(dfget(dir.path()).args([&url, "-q"]));
    assert!(done.is_code(0), "{done:?}");
    assert_eq!(blake3::hash(&fs::read(dir.path().join("file")).unwrap()).as_bytes(), &content::blake3(2, LENGTH));
}

#[test]
fn the_daemon_keeps_what_a_client_left() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(1, LENGTH).rate(RATE));
    let daemon = Daemon::with_role("peer").start();
    let mut child = interrupt(&mut daemon.dfget_command([&url]), Signal::INT);
    assert_eq!(exit_code(&mut child), Some(130));
    assert!(!names(daemon.dir()).iter().any(|name| name.contains("file")), "{:?}", names(daemon.dir()));
    let done = daemon.dfget([url.as_str(), "--json"]);
    assert!(done.is_code(0), "{done:?}");
    let last: serde_json::Value = serde_json::from_str(done.text().lines().last().unwrap()).unwrap();
    assert!(last["bytes_held"].as_u64() > Some(LENGTH / 4), "{last}");
}

/// A daemon that is stopped holds its connections, and says nothing.
#[test]
fn a_daemon_that_is_frozen_is_not_waited_for_for_ever() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(1, LENGTH).stall_after(LENGTH / 2, u64::MAX));
    let daemon = Daemon::with_role("peer").start();
    let client = daemon.dfget_command([url.as_str(), "-O", "out"]).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the download to be under way", || (origin.origin.body_bytes("/file") > 0).then_some(()));
    signal(daemon.child(), Signal::STOP);
    let done = Done::of(client.wait_with_output().unwrap());
    assert!(done.is_code(1) && done.stderr.contains("the daemon answers nothing any more"), "{done:?}");
    assert!(done.stderr.contains("hint: ") && !daemon.dir().join("out").exists(), "{done:?}");
    signal(daemon.child(), Signal::CONT);
}

//! What makes content another task, and what bounds its download.

use std::path::Path;
use std::process::Stdio;

use dragonfly_testkit::Resource;
use serde_json::Value;

use super::{LENGTH, both};
use crate::harness::{Done, TestOrigin, run};

/// Fetches with each of these options in turn; how many copies left the origin.
fn copies(dfget: &dyn Fn() -> std::process::Command, origin: &TestOrigin, fetches: &[(&str, &[&str])]) -> u64 {
    let before = origin.origin.body_bytes("/file");
    for (url, options) in fetches {
        let done = run(dfget().arg(url).args(["-O", "output", "--overwrite"]).args(*options));
        assert!(done.is_code(0), "{options:?}: {done:?}");
    }
    (origin.origin.body_bytes("/file") - before) / LENGTH
}

/// Through a daemon, which remembers.
fn through_a_daemon(check: impl Fn(&Path, &dyn Fn() -> std::process::Command)) {
    let daemon = crate::harness::Daemon::with_role("peer").start();
    check(daemon.dir(), &|| daemon.dfget_command([] as [&str; 0]));
}

#[test]
fn a_tag_or_an_application_makes_another_task() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(1, LENGTH).header("cache-control", "max-age=3600"));
    through_a_daemon(|_, dfget| {
        let plain = (url.as_str(), &[][..]);
        assert_eq!(copies(dfget, &origin, &[plain, plain]), 1);
        let tagged = (url.as_str(), &["--tag", "one"][..]);
        assert_eq!(copies(dfget, &origin, &[tagged, tagged, plain]), 1);
        let applied = (url.as_str(), &["--application", "one"][..]);
        assert_eq!(copies(dfget, &origin, &[applied, applied, tagged, plain]), 1);
    });
}

#[test]
fn filtered_parameters_make_no_other_task() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(2, LENGTH).header("cache-control", "max-age=3600"));
    let (one, two) = (format!("{url}?a=1&token=one"), format!("{url}?a=1&token=two"));
    through_a_daemon(|_, dfget| {
        let options = &["--filtered-query-param", "token"][..];
        assert_eq!(copies(dfget, &origin, &[(&one, options), (&two, options)]), 1);
        assert_eq!(copies(dfget, &origin, &[(&one, &[]), (&two, &[])]), 2);
    });
}

/// It can take longer, and never less.
#[test]
fn a_rate_is_kept_to() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(3, LENGTH));
    both(|_, dfget| {
        let done = run(dfget().args([&url, "--limit-rate", "2MiB", "--json"]));
        assert!(done.is_code(0), "{done:?}");
        let last: Value = serde_json::from_str(done.text().lines().last().unwrap()).unwrap();
        // 3 MiB, of which a part may go at once.
        assert!(last["elapsed_ms"].as_u64() >= Some(1000), "{last}");
    });
}

/// Every ten seconds a line, where there is no terminal, and one at the end; the former can be left out.
#[test]
fn progress_is_a_line_now_and_then_or_left_out() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(5, LENGTH).rate(LENGTH / 11));
    both(|_, dfget| {
        let start = |args: &[&str]| {
            let mut command = dfget();
            command.args([&url, "-O"]).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let children = [start(&["told"]), start(&["silent", "--no-progress"])];
        let [told, silent] = children.map(|child| Done::of(child.wait_with_output().unwrap()));
        for (done, name, lines) in [(told, "told", 1..), (silent, "silent", 0..)] {
            assert!(done.is_code(0) && done.stdout.is_empty(), "{done:?}");
            let said: Vec<_> = done.stderr.lines().collect();
            let (last, before) = said.split_last().unwrap();
            assert!(last.starts_with(&format!("dfget: {name}: 3.0 MiB in ")), "{done:?}");
            assert!(before.len() >= lines.start && (lines.start > 0 || before.is_empty()), "{done:?}");
            assert!(before.iter().all(|line| line.contains('%') && !line.contains('\x1b')), "{done:?}");
        }
    });
}

#[test]
fn a_piece_length_is_no_ones_to_choose() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(6, LENGTH));
    both(|_, dfget| {
        let done = run(dfget().args([&url, "--piece-length", "4MiB"]));
        assert!(done.is_code(0) && done.stderr.contains("--piece-length has no effect"), "{done:?}");
        let quiet = run(dfget().args([&url, "--piece-length", "4MiB", "-q", "--overwrite"]));
        assert!(quiet.is_code(0) && quiet.stderr.is_empty(), "{quiet:?}");
    });
}

#[test]
fn retries_are_told() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(7, LENGTH).rate(LENGTH).reset_after(1 << 20, 1));
    both(|_, dfget| {
        // Once for each of the two; slow enough that there is something to tell.
        origin.set("/file", Resource::seeded(7, LENGTH).rate(LENGTH).reset_after(1 << 20, 1));
        let done = run(dfget().args([&url, "--json"]));
        assert!(done.is_code(0), "{done:?}");
        let events = done.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
        assert!(events.iter().any(|e| e["event"] == "trouble" && e["retries"].as_u64() >= Some(1)), "{events:?}");
    });
}

#[test]
fn without_the_origin_only_what_is_held_comes() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(4, LENGTH).header("cache-control", "max-age=3600"));
    through_a_daemon(|dir, dfget| {
        let lone = run(dfget().args([&url, "-O", "one", "--disable-back-to-source", "--timeout", "2s"]));
        assert!(lone.is_code(1) && !dir.join("one").exists(), "{lone:?}");
        assert_eq!(origin.origin.body_bytes("/file"), 0);
        assert_eq!(copies(dfget, &origin, &[(&url, &[]), (&url, &["--disable-back-to-source"])]), 1);
    });
}

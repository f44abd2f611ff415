//! What is below a directory of a web server, by its index pages.

use std::path::PathBuf;

use rustix::process::Signal;

use super::*;
use crate::harness::signal;

/// A directory `d` of two levels: `a.bin`, `b.txt`, `sub/c.bin`, `sub/d.txt`, each of `LENGTH` bytes.
fn site(origin: &TestOrigin, slow: &str) -> String {
    let page = |names: &[&str]| {
        let links: String = names.iter().map(|name| format!("<a href=\"{name}\">{name}</a>\r\n")).collect();
        Resource::bytes(format!(
            "<html><head><title>Index of /d/</title></head><body><pre>\r\n{links}</pre></body></html>"
        ))
        .header("content-type", "text/html")
    };
    origin.set("/d/", page(&["../", "a.bin", "b.txt", "sub/"]));
    origin.set("/d/sub/", page(&["../", "c.bin", "d.txt"]));
    for (seed, name) in FILES.iter().enumerate() {
        let resource = Resource::seeded(seed as u64, LENGTH);
        origin.set(&format!("/d/{name}"), if *name == slow { resource.rate(LENGTH / 16) } else { resource });
    }
    origin.origin.url("/d/")
}

const FILES: [&str; 4] = ["a.bin", "b.txt", "sub/c.bin", "sub/d.txt"];

/// Which of them are there, whole and right.
fn there(dir: &Path) -> Vec<&'static str> {
    let is_right = |(seed, name): &(usize, &&str)| {
        fs::read(dir.join(name)).is_ok_and(|bytes| {
            assert!(bytes == whole(*seed as u64), "{name} has {} bytes, or others", bytes.len());
            true
        })
    };
    FILES.iter().enumerate().filter(is_right).map(|(_, name)| *name).collect()
}

#[test]
fn what_is_wanted_of_a_directory_is_fetched_and_shown() {
    let origin = TestOrigin::start();
    let url = site(&origin, "");
    both(|dir, dfget| {
        let get = |out: &str, args: &[&str]| run(dfget().args(["--recursive", &url, "-O", out]).args(args));
        let sent = || origin.origin.counters().body_bytes_total();
        let before = sent();
        let done = get("shown", &["--dry-run"]);
        assert!(done.is_code(0), "{done:?}");
        let mut lines: Vec<String> = done.text().lines().map(str::to_owned).collect();
        lines.sort();
        let mut expected = FILES.map(|name| format!("-\tshown/{name}\t{url}{name}"));
        expected.sort();
        assert_eq!(lines, expected);
        assert!(done.stderr.contains("4 files"), "{done:?}");
        assert!(sent() - before < LENGTH, "pages of the index alone");
        for (out, args, files) in [
            ("some", &["--include", "*.bin"][..], &["a.bin", "sub/c.bin"][..]),
            ("others", &["--exclude", "*.bin"], &["b.txt", "sub/d.txt"]),
            ("one", &["--include", "sub/**", "--exclude", "*.txt"], &["sub/c.bin"]),
            ("all", &["--max-files", "4"], &FILES),
        ] {
            let done = get(out, args);
            assert!(done.is_code(0), "{done:?}");
            assert_eq!(there(&dir.join(out)), files, "{args:?}");
        }
        for args in [&["--max-files", "3"][..], &["--include", "*.none"], &["--digest", "md5:00", "--dry-run"]] {
            let done = get("none", args);
            assert!(!done.is_code(0), "{done:?}");
            assert!(!done.stderr.contains("panicked"), "{done:?}");
        }
        for out in ["shown", "none"] {
            assert!(!dir.join(out).exists(), "{out}: nothing is written");
        }
    });
}

/// Of what was there nothing is fetched once more, and of what was on its way no more than that.
#[test]
fn a_directory_that_was_interrupted_goes_on() {
    for killed in [Signal::INT, Signal::KILL] {
        let origin = TestOrigin::start();
        let url = site(&origin, "sub/d.txt");
        let dir = tempfile::tempdir().unwrap();
        let args = ["--recursive", &url, "-O", "out", "-q"];
        let mut child = dfget(dir.path()).args(args).stderr(Stdio::null()).spawn().unwrap();
        let out: PathBuf = dir.path().join("out");
        wait_for("all but the slow one, and some of that", || {
            let rest = FILES[..3].iter().all(|name| out.join(name).exists());
            (rest && origin.origin.body_bytes("/d/sub/d.txt") > LENGTH / 8).then_some(())
        });
        signal(&child, killed);
        wait_for("the end of dfget", || child.try_wait().unwrap());
        assert_eq!(there(&out), FILES[..3]);
        // It is as it was, and faster.
        origin.set("/d/sub/d.txt", Resource::seeded(3, LENGTH));
        let done = run(dfget(dir.path()).args(args));
        assert!(done.is_code(0), "{done:?}");
        assert_eq!(there(&out), FILES);
        let slow = origin.origin.body_bytes("/d/sub/d.txt");
        assert!((LENGTH..LENGTH * 2).contains(&slow), "{slow}");
        for name in &FILES[..3] {
            assert_eq!(origin.origin.body_bytes(&format!("/d/{name}")), LENGTH, "{name}");
        }
    }
}

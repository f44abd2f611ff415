//! Outputs that cannot be, or that somebody else wants as well: one line that says which and why, a hint, nothing left,
//! and nothing fetched in vain.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use dragonfly_testkit::Resource;

use super::{LENGTH, both, in_one_line, whole};
use crate::harness::{Done, TestOrigin, run};

fn refused(done: &Done, text: &str) {
    assert!(done.is_code(2), "{done:?}");
    in_one_line(&done.stderr, text, "");
}

#[test]
fn names_and_places_that_cannot_be() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(1, LENGTH));
    both(|dir, dfget| {
        let before = fs::read_dir(dir).unwrap().count();
        let long = "a".repeat(300);
        refused(&run(dfget().args([&url, "-O", &long])), "File name too long");
        refused(&run(dfget().args([&url, "-O", "none/file"])), "cannot write into none: No such file");
        refused(&run(dfget().args([&url, "-O", "none/"])), "none/ is not a directory");
        // Not even root makes files there.
        refused(&run(dfget().args([&url, "-O", "/sys/file"])), "cannot write into /sys: ");
        assert_eq!(fs::read_dir(dir).unwrap().count(), before, "nothing is left");
    });
    assert_eq!(origin.origin.body_bytes("/file"), 0);
}

/// A command like this one that has no more rights to files than their modes give, whoever runs the test.
fn as_an_ordinary_user(inner: &Command, dir: &Path) -> Command {
    let program = inner.get_program();
    let mut command = if rustix::process::geteuid().is_root() {
        // Root without the right to pass over modes: another user might not even reach the program.
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-dac_override,-dac_read_search"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.args(inner.get_args()).current_dir(dir).env("HOME", dir).env("XDG_RUNTIME_DIR", dir.join("run"));
    command.stdin(Stdio::null());
    command
}

#[test]
fn without_the_right_to_write_or_read() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(1, LENGTH));
    both(|dir, dfget| {
        let locked = dir.join("locked");
        fs::create_dir(&locked).unwrap();
        fs::set_permissions(&locked, Permissions::from_mode(0o555)).unwrap();
        let refused_to = |args: &[&str], text: &str| {
            refused(&run(as_an_ordinary_user(&dfget(), dir).args(args)), text);
        };
        refused_to(&[&url, "-O", "locked/file"], "cannot write into locked: Permission denied");
        assert_eq!(fs::read_dir(&locked).unwrap().count(), 0);
        let list = dir.join("list");
        fs::write(&list, &url).unwrap();
        fs::set_permissions(&list, Permissions::from_mode(0o200)).unwrap();
        refused_to(&["-i", "list"], "list: Permission denied");
    });
    assert_eq!(origin.origin.body_bytes("/file"), 0);
}

/// Two at once: one has it, the other is told that it exists, or replaces it if it may.
#[test]
fn two_onto_one_output() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(8, LENGTH).rate(LENGTH));
    both(|dir, dfget| {
        for overwrite in [false, true] {
            let start = || {
                let mut command = dfget();
                command.args([&url, "-O", "out", "-q"]).args(overwrite.then_some("--overwrite"));
                command.stderr(Stdio::piped()).spawn().unwrap()
            };
            let ends = [start(), start()].map(|child| child.wait_with_output().unwrap());
            let done = ends.iter().filter(|end| end.status.success()).count();
            assert_eq!(done, if overwrite { 2 } else { 1 }, "{ends:?}");
            for end in ends.iter().filter(|end| !end.status.success()) {
                in_one_line(&String::from_utf8_lossy(&end.stderr), "out exists", "--overwrite");
            }
            assert_eq!(fs::read(dir.join("out")).unwrap(), whole(8));
        }
    });
}

/// Needs the right to mount, in a name space of its own.
#[test]
#[ignore = "mounts a file system: run with --ignored where unshare may"]
fn onto_a_read_only_file_system() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(1, LENGTH));
    both(|dir, dfget| {
        fs::create_dir(dir.join("disk")).unwrap();
        let inner = dfget();
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", "mount -t tmpfs -o ro none disk && exec \"$@\"", "sh"]);
        command.arg(inner.get_program()).args(inner.get_args()).args([&url, "-O", "disk/file"]);
        command.current_dir(dir).env("HOME", dir).env("XDG_RUNTIME_DIR", dir);
        refused(&run(&mut command), "cannot write into disk: Read-only file system");
    });
}

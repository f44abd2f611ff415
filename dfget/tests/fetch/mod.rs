//! Downloads as people and scripts make them.

#[cfg(feature = "storages")]
mod images;
mod interrupted;
#[cfg(feature = "storages")]
mod models;
mod options;
mod outputs;
mod recursive;

use std::fs;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;

use dragonfly_testkit::{Resource, content};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::Value;

use crate::harness::{Daemon, TestOrigin, dfget, names, run, wait_for};

const LENGTH: u64 = 3 << 20;

fn whole(seed: u64) -> Vec<u8> {
    content::bytes(seed, 0, LENGTH as usize).to_vec()
}

/// Runs a check through a daemon and in the process alone.
fn both(check: impl Fn(&Path, &dyn Fn() -> std::process::Command)) {
    let daemon = Daemon::with_role("peer").start();
    let dir = tempfile::tempdir().unwrap();
    check(dir.path(), &|| {
        let mut command = daemon.dfget_command([] as [&str; 0]);
        command.current_dir(dir.path());
        command
    });
    let dir = tempfile::tempdir().unwrap();
    check(dir.path(), &|| dfget(dir.path()));
}

#[test]
fn several_urls_and_a_list() {
    let origin = TestOrigin::start();
    let urls: Vec<_> = (1..=4).map(|n| origin.set(&format!("/file{n}"), Resource::seeded(n, LENGTH))).collect();
    both(|dir, dfget| {
        fs::write(dir.join("list"), format!("# comment\n{}\n\n  {}\n", urls[2], urls[3])).unwrap();
        fs::create_dir(dir.join("out")).unwrap();
        let done = run(dfget().args([&urls[0], &urls[1], "-i", "list", "-O", "out"]));
        assert!(done.is_code(0), "{done:?}");
        for n in 1..=4 {
            assert_eq!(fs::read(dir.join(format!("out/file{n}"))).unwrap(), whole(n));
            assert!(done.stderr.contains(&format!("dfget: file{n}: 3.0 MiB in ")), "{done:?}");
        }
        assert_eq!(names(&dir.join("out")).len(), 4);
    });
}

#[test]
fn one_that_fails_does_not_keep_the_others_from_coming() {
    let origin = TestOrigin::start();
    let good = origin.set("/good", Resource::seeded(1, LENGTH));
    let none = origin.origin.url("/none");
    both(|dir, dfget| {
        let done = run(dfget().args([none.as_str(), &good, "--json"]));
        assert!(done.is_code(1), "{done:?}");
        assert!(done.stderr.contains("/none") && done.stderr.contains("hint: check the URL"), "{done:?}");
        assert_eq!(fs::read(dir.join("good")).unwrap(), whole(1));
        let events: Vec<Value> = done.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of = |url: &str, event: &str| events.iter().any(|line| line["url"] == url && line["event"] == event);
        assert!(of(&good, "described") && of(&good, "receipt") && of(&none, "failed"), "{events:?}");
    });
}

#[test]
fn several_into_one_stream_come_in_order() {
    let origin = TestOrigin::start();
    let urls: Vec<_> = [5, 6].map(|n| origin.set(&format!("/{n}"), Resource::seeded(n, LENGTH))).into();
    both(|dir, dfget| {
        let done = run(dfget().args([&urls[0], &urls[1], "-O", "-"]));
        assert!(done.is_code(0) && done.stderr.is_empty(), "{:?}", done.stderr);
        assert!(done.stdout == [whole(5), whole(6)].concat());
        assert!(names(dir).is_empty());
    });
}

#[test]
fn a_list_from_standard_input() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(1, LENGTH));
    let dir = tempfile::tempdir().unwrap();
    let mut child = dfget(dir.path()).args(["-i", "-", "-q"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(url.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), whole(1));
    let mut child = dfget(dir.path()).args(["-i", "-"]).stderr(Stdio::piped()).spawn().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2));
}

#[test]
fn parts_of_content() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(7, LENGTH));
    let all = whole(7);
    both(|dir, dfget| {
        for (range, part, shown) in [
            ("0-0", 0..1, "0-0"),
            ("1000000-1999999", 1_000_000..2_000_000, "1000000-1999999"),
            ("3145000-", 3_145_000..all.len(), "3145000-3145727"),
            ("-5", all.len() - 5..all.len(), "3145723-3145727"),
        ] {
            let done = run(dfget().args([&url, "--range", range, "-O", "part", "--overwrite", "--json"]));
            assert!(done.is_code(0), "{done:?}");
            assert!(fs::read(dir.join("part")).unwrap() == all[part], "{range}");
            let last: Value = serde_json::from_str(done.text().lines().last().unwrap()).unwrap();
            assert_eq!(last["range"], format!("{shown}/{LENGTH}"), "{last}");
            assert!(last.get("blake3").is_none(), "{last}");
        }
        let done = run(dfget().args([&url, "-r", "0-9", "-O", "-"]));
        assert!(done.is_code(0) && done.stdout == all[..10], "{done:?}");
        let beyond = run(dfget().args([&url, "-r", "9999999-", "-O", "none"]));
        assert!(beyond.is_code(2) && beyond.stderr.contains("9999999"), "{beyond:?}");
        assert_eq!(names(dir), ["part"]);
    });
}

#[test]
fn what_is_held_is_passed_as_a_descriptor() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(8, LENGTH));
    let daemon = Daemon::with_role("peer").start();
    assert!(daemon.dfget([url.as_str(), "-O", "first"]).is_code(0));
    // A stream and a descriptor yield the same.
    for (args, name) in [(&["-O", "second"][..], "second"), (&["-O", "third", "--limit-rate", "1GiB"], "third")] {
        let digest = format!("sha256:{}", content::hex(&content::sha256(8, LENGTH)));
        let done = daemon.dfget([url.as_str(), "--digest", &digest].iter().chain(args));
        assert!(done.is_code(0), "{done:?}");
        assert_eq!(fs::read(daemon.dir().join(name)).unwrap(), whole(8));
    }
    let json = daemon.dfget([url.as_str(), "-O", "fourth", "--json"]).text();
    let last: Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert!(matches!(last["exported"].as_str(), Some("copy" | "reflink")), "{last}");
    // What the client does to its copy is its own business.
    fs::write(daemon.dir().join("second"), "changed").unwrap();
    assert!(daemon.dfget([url.as_str(), "-O", "fifth"]).is_code(0));
    assert_eq!(fs::read(daemon.dir().join("fifth")).unwrap(), whole(8));
    let wrong = daemon.dfget([url.as_str(), "-O", "sixth", "--digest", &format!("sha256:{}", "0".repeat(64))]);
    assert!(wrong.is_code(1) && !daemon.dir().join("sixth").exists(), "{wrong:?}");
}

/// The descriptor is of the daemon's own file, so that nothing is sent, and can only be read.
#[test]
fn the_descriptor_is_read_only() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(8, LENGTH));
    let daemon = Daemon::with_role("peer").start();
    assert!(daemon.dfget([url.as_str(), "-O", "first"]).is_code(0));
    let body = serde_json::json!({ "url": url }).to_string();
    let stream = UnixStream::connect(daemon.socket()).unwrap();
    let head = "POST /v1/fetch HTTP/1.1\r\nhost: d\r\ncontent-type: application/json\r\ndragonfly-passing: descriptor";
    let request = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    (&stream).write_all(request.as_bytes()).unwrap();
    let mut answer = [0; 16 << 10];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(&stream, &mut [IoSliceMut::new(&mut answer)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let text = String::from_utf8_lossy(&answer[..got.bytes]);
    assert!(text.starts_with("HTTP/1.1 200 ") && text.contains("dragonfly-passing: descriptor"), "{text}");
    let passed = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let mut file = fs::File::from(passed.expect("a descriptor"));
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    assert!(bytes == whole(8));
    let refused = (&file).write(b"x").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(rustix::io::Errno::BADF.raw_os_error()), "{refused}");
}

/// What comes is copied as it comes: half of it is in the output's place while the other half is not there yet.
#[test]
fn the_output_is_made_while_pieces_come() {
    use std::os::unix::fs::MetadataExt;
    let origin = TestOrigin::start();
    // The second half waits for good.
    let half = LENGTH / 2;
    let url = origin.set("/file", Resource::seeded(8, LENGTH).stall_after(half, u64::MAX));
    let daemon = Daemon::with_role("peer").start();
    // Another file system, so that blocks are not shared at the end.
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut command = daemon.dfget_command([url.as_str(), "-q", "-O", "out", "--timeout", "120s"]);
    let mut client = command.current_dir(memory.path()).spawn().unwrap();
    let copied = wait_for("half of the output", || {
        let name = names(memory.path()).into_iter().find(|name| name.starts_with(".out.dfget-"))?;
        let copied = fs::metadata(memory.path().join(name)).ok()?.blocks() * 512;
        (copied > half - (1 << 20)).then_some(copied)
    });
    assert!(copied < LENGTH, "what is not there is not copied");
    crate::harness::signal(&client, rustix::process::Signal::INT);
    assert_eq!(client.wait().unwrap().code(), Some(130));
    assert!(names(memory.path()).is_empty());
}

/// It shares a file with other small content, so that there is no descriptor to pass: it is sent instead.
#[test]
fn small_content_that_is_held_is_sent() {
    let origin = TestOrigin::start();
    let url = origin.set("/small", Resource::seeded(8, 1000));
    let daemon = Daemon::with_role("peer").start();
    for name in ["first", "second"] {
        let done = daemon.dfget([url.as_str(), "-O", name]);
        assert!(done.is_code(0), "{done:?}");
        assert_eq!(fs::read(daemon.dir().join(name)).unwrap(), content::bytes(8, 0, 1000));
    }
    assert_eq!(origin.origin.body_bytes("/small"), 1000);
}

#[test]
fn the_daemon_tells_where_bytes_come_from() {
    let origin = TestOrigin::start();
    // Slow enough that there is something to tell.
    let url = origin.set("/file", Resource::seeded(9, 2 * LENGTH).rate(LENGTH));
    let daemon = Daemon::with_role("peer").start();
    let done = daemon.dfget([url.as_str(), "--json"]);
    let lines: Vec<Value> = done.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let progress = |line: &&Value| line["event"] == "progress" && line["bytes_from_origin"].as_u64() > Some(0);
    assert!(lines.iter().any(|line| progress(&line)), "{done:?}");
}

/// What helps is told the same whether the daemon or this process could not reach it.
#[test]
fn an_origin_that_cannot_be_reached_has_its_hint() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let private = TestOrigin::start_tls();
    let unknown = private.set("/file", Resource::seeded(1, 1000));
    let origin = TestOrigin::start();
    let broken = origin.set("/file", Resource::seeded(1, LENGTH).hang_up_first(u64::MAX));
    both(|_, dfget| {
        for (url, hint) in [
            (format!("http://{nobody}/file"), "hint: check the URL and that its server runs"),
            ("http://no.such.host.invalid/file".to_owned(), "hint: check the name in the URL"),
            (unknown.clone(), "hint: name the authority that signed the origin's certificate with --ca-cert"),
            (broken.clone(), "hint: try again"),
        ] {
            let done = run(dfget().args([&url, "-O", "none"]));
            assert!(done.is_code(1) && done.stderr.contains(hint), "{url}: {done:?}");
        }
    });
}

/// As cron starts programs: no HOME, no terminal, next to no environment.
#[test]
fn in_cron() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(1, LENGTH));
    let dir = tempfile::tempdir().unwrap();
    let cron = |args: &[&str]| {
        let mut command = dfget(dir.path());
        command.env_clear().env("PATH", "/usr/bin:/bin").args(args);
        run(&mut command)
    };
    let done = cron(&["-q", &url]);
    assert!(done.is_code(0) && done.stdout.is_empty() && done.stderr.is_empty(), "{done:?}");
    assert_eq!(names(dir.path()), ["file"]);
    let daemon = Daemon::with_role("peer").start();
    let endpoint = format!("unix:{}", daemon.socket().display());
    let through = cron(&["-q", &url, "-e", &endpoint, "-O", "through"]);
    assert!(through.is_code(0) && through.stdout.is_empty() && through.stderr.is_empty(), "{through:?}");
    assert_eq!(names(dir.path()), ["file", "through"]);
    let again = cron(&["-q", &url]);
    assert!(again.is_code(2) && again.stderr.contains("--overwrite"), "{again:?}");
    let told = cron(&[&url, "--overwrite"]);
    assert!(told.is_code(0) && told.stderr.lines().count() == 1 && !told.stderr.contains('\x1b'), "{told:?}");
}

#[test]
fn in_a_pipe() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(1, 64 << 20));
    both(|dir, dfget| {
        let mut child = dfget().args([&url, "-O", "-"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut some = vec![0; 1000];
        let mut out = child.stdout.take().unwrap();
        out.read_exact(&mut some).unwrap();
        drop(out);
        let status = wait_for("the end of dfget", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0));
        assert!(some == content::bytes(1, 0, 1000)[..]);
        assert!(names(dir).is_empty());
    });
}

/// What was said is one line with this text and a hint with that one; what is kept may follow.
fn in_one_line(said: &str, text: &str, hint: &str) {
    let lines: Vec<&str> = said.lines().collect();
    let [error, next, ..] = lines[..] else { panic!("{said}") };
    assert!(error.starts_with("dfget: ") && error.contains(text), "{said}");
    assert!(next.starts_with("hint: ") && next.contains(hint), "{said}");
}

#[test]
fn onto_a_full_device() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(1, LENGTH));
    both(|_, dfget| {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let done = dfget().args([&url, "-O", "-"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
        let text = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{text}");
        in_one_line(&text, "No space left", "free some space");
    });
}

/// A disk of 2 MiB. Needs the right to mount, in a name space of its own.
#[test]
#[ignore = "mounts a file system: run with --ignored where unshare may"]
fn onto_a_full_disk() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(1, LENGTH));
    both(|dir, dfget| {
        let disk = dir.join("disk");
        fs::create_dir(&disk).unwrap();
        let inner = dfget();
        let mut command = std::process::Command::new("unshare");
        let script = "mount -t tmpfs -o size=2m none disk && \"$@\"; code=$?; ls -A disk >left; exit $code";
        command.args(["-m", "sh", "-c", script, "sh"]).arg(inner.get_program()).args(inner.get_args());
        command.args([&url, "-O", "disk/file"]).current_dir(dir).env("HOME", dir).env("XDG_RUNTIME_DIR", dir);
        let done = run(&mut command);
        assert!(done.is_code(1), "{done:?}");
        in_one_line(&done.stderr, "No space left", "free some space");
        let left = fs::read_to_string(dir.join("left")).unwrap();
        assert!(!left.lines().any(|name| name == "file"), "{left}");
    });
}

#[test]
fn says_which_way_it_goes() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(1, 1000));
    let daemon = Daemon::with_role("peer").start();
    let through = daemon.dfget([url.as_str(), "-v", "-O", "a"]);
    assert!(through.stderr.contains("fetching through the daemon at unix:"), "{through:?}");
    let alone = run(dfget(daemon.dir()).args([url.as_str(), "-v", "-O", "b"]));
    assert!(alone.is_code(0) && alone.stderr.contains("fetching in this process"), "{alone:?}");
}

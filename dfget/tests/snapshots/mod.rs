//! What the programs print, whole: help, the usual successes, and every class of error. A change shows in the diff of
//! a file; `INSTA_UPDATE=always cargo test -p dfget snapshots` writes them anew.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;

use dragonfly_testkit::Resource;
use rustix::process::Signal;

use crate::harness::{Daemon, Done, TestOrigin, dfdaemon, dfget, run, signal, wait_for};

/// What differs from run to run is given a name.
fn assert_done(name: &str, done: &Done, dir: &Path) {
    let text = format!(
        "code: {}\n--- stdout\n{}--- stderr\n{}",
        done.status.code().map_or("none".to_owned(), |code| code.to_string()),
        done.text(),
        done.stderr
    );
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_snapshot_path("../snapshots/files");
    settings.set_omit_expression(true);
    settings.add_filter(&format!("(/private)?{}", dir.display()), "DIR");
    settings.add_filter(r"127\.0\.0\.1:\d+", "HOST:PORT");
    settings.add_filter(r"up \d+ s", "up TIME");
    settings.add_filter(r"in \d+\.\d s", "in TIME");
    settings.add_filter(r#""elapsed_ms":\d+"#, r#""elapsed_ms":0"#);
    settings.add_filter(r"/tcp/\d{2,}", "/tcp/PORT");
    settings.add_filter(r"12D3KooW\w+", "PEER");
    settings.add_filter(r#""generation":"\w+""#, r#""generation":"GENERATION""#);
    settings.add_filter(r#""task":"\w+""#, r#""task":"TASK""#);
    settings.add_filter(r"(task|generation)  (\s*)[a-z0-9]{40,}", "$1  ${2}ID");
    settings.add_filter(r"(?m)^(\s+\S+ [KMGT]?i?B\s+\S+ [KMGT]?i?B \S+\s+)[a-z0-9]{40,}", "${1}ID");
    settings.add_filter(r"(?m)^(\s+all\s+\S+ [KMGT]?i?B \S+\s+)[a-z0-9]{40,}", "${1}ID");
    settings.add_filter(r"network(\s+)[0-9a-f]{16}", "network${1}NETWORK");
    settings.add_filter(r"df1:[A-Za-z0-9_-]{40,}", "TOKEN");
    settings.add_filter(r"pid \d+", "pid PID");
    settings.add_filter(r" +\d+(\.\d+)? ([KMG]i?)?B/s", " RATE");
    settings.add_filter(r" +\d+(\.\d+)? ([KMG]|B)/s", " RATE");
    settings.add_filter(r"grep \d+", "grep PORT");
    settings.add_filter(r"resolving DNS: .*", "resolving DNS: WHY");
    settings.add_filter(r"(?m)^(ok  |WARN) (clock|descriptors|disk) .*\n(\s+hint: .*\n)?", "STATE $2\n");
    // Whether a lane still has the task depends on when it is asked.
    settings.add_filter(r"(?m)^lane +\d+ +\S+ +\S+  PEER$", "lane TASKS DOWN UP  PEER");
    settings.add_filter(r"(?m)^lane +\S+ +\S+ +\d+ \w{12}$", "lane DOWN UP TASKS SHORT");
    settings.add_filter(r"(?m)^(serve .*) \d+ ~", "$1 HOSTS ~");
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn help() {
    let dir = tempfile::tempdir().unwrap();
    for command in ["", "stat", "ls", "rm", "pin", "unpin", "preheat", "tasks", "peers", "top"] {
        let args: Vec<_> = [command].into_iter().filter(|command| !command.is_empty()).collect();
        let done = run(dfget(dir.path()).args(&args).arg("--help"));
        assert_done(&format!("help_dfget{}{command}", if command.is_empty() { "" } else { "_" }), &done, dir.path());
    }
    for command in ["", "init", "token", "join", "status", "doctor"] {
        let args: Vec<_> = [command].into_iter().filter(|command| !command.is_empty()).collect();
        let done = run(dfdaemon(dir.path()).args(&args).arg("--help"));
        let name = format!("help_dfdaemon{}{command}", if command.is_empty() { "" } else { "_" });
        assert_done(&name, &done, dir.path());
    }
}

#[test]
fn successes() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(1, 100_000));
    let daemon = Daemon::with_role("scheduler,seed,peer").start();
    let dir = daemon.dir();
    let alone = run(dfget(dir).args([url.as_str(), "-O", "alone"]));
    assert_done("ok_alone", &alone, dir);
    // Its seed, which is asked for it, too, may have it first.
    let first = daemon.dfget([url.as_str(), "-O", "one"]);
    let first = Done { stderr: first.stderr.replace("held already", "from the origin"), ..first };
    assert_done("ok_through_the_daemon", &first, dir);
    assert_done("ok_again", &daemon.dfget([url.as_str(), "-O", "two"]), dir);
    assert_done("ok_range", &daemon.dfget([url.as_str(), "-O", "three", "-r", "0-999"]), dir);
    assert_done("ok_quiet", &daemon.dfget([url.as_str(), "-O", "four", "-q"]), dir);
    let json = daemon.dfget([url.as_str(), "-O", "five", "--json"]);
    let last = Done { stdout: json.text().lines().last().unwrap().as_bytes().to_vec(), ..json };
    assert_done("ok_json_receipt", &last, dir);
    assert_done("ok_stat", &daemon.dfget(["stat", &url]), dir);
    assert_done("ok_ls", &daemon.dfget(["ls"]), dir);
    assert_done("ok_tasks", &daemon.dfget(["tasks"]), dir);
    assert_done("ok_peers", &daemon.dfget(["peers"]), dir);
    assert_done("ok_top", &daemon.dfget(["top"]), dir);
    assert_done("ok_pin", &daemon.dfget(["pin", &url]), dir);
    assert_done("ok_unpin", &daemon.dfget(["unpin", &url]), dir);
    assert_done("ok_rm", &daemon.dfget(["rm", &url]), dir);
    assert_done("ok_preheat", &daemon.dfget(["preheat", &url]), dir);
}

/// Several at once, a list, a stream; and what another host makes of it.
#[test]
fn successes_of_several() {
    let origin = TestOrigin::start();
    let urls = [1, 2].map(|n| origin.set(&format!("/file{n}"), Resource::seeded(n, 100_000)));
    let text = origin.set("/text", Resource::bytes("some text\n"));
    let seed = Daemon::with_role("scheduler,seed,peer").start();
    let daemon = Daemon::with_role("peer").join(&seed).start();
    let dir = daemon.dir();
    assert!(seed.dfget(["preheat", &urls[0], &urls[1], "-q"]).is_code(0));
    // The end of either may come first.
    let sorted = |done: Done| {
        let mut lines: Vec<_> = done.stderr.lines().collect();
        lines.sort_unstable();
        Done { stderr: lines.join("\n") + "\n", ..done }
    };
    assert_done("ok_peers", &seed.dfget(["peers"]), dir);
    assert_done("ok_one_from_peers", &daemon.dfget([urls[0].as_str(), "-q"]), dir);
    assert_done("ok_peers_met", &daemon.dfget(["peers"]), dir);
    assert_done("ok_top_met", &daemon.dfget(["top"]), dir);
    assert_done("ok_several", &sorted(daemon.dfget([urls[0].as_str(), &urls[1], "--overwrite"])), dir);
    std::fs::write(dir.join("list"), format!("# both\n{}\n{}\n", urls[0], urls[1])).unwrap();
    assert_done("ok_list", &sorted(daemon.dfget(["-i", "list", "--overwrite"])), dir);
    assert_done("ok_stdout", &daemon.dfget([text.as_str(), "-O", "-"]), dir);
}

#[test]
fn daemon_successes() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = |name: &str, args: &[&str]| {
        let done = run(dfdaemon(dir.path()).args(args));
        assert_done(name, &done, dir.path());
        done
    };
    daemon("ok_daemon_init", &["init", "--data-dir", "first"]);
    let token = daemon("ok_daemon_token", &["token", "--data-dir", "first"]);
    std::fs::write(dir.path().join("token"), token.stdout).unwrap();
    daemon("ok_daemon_join", &["join", "@token", "--data-dir", "second"]);
    daemon("ok_daemon_check_config", &["--data-dir", "first", "--check-config"]);
    daemon("ok_daemon_print_config", &["--data-dir", "first", "--quota", "1GiB", "--print-config"]);
    let running = Daemon::with_role("scheduler,peer").start();
    for command in ["status", "doctor"] {
        let done = run(dfdaemon(running.dir()).args([command, "--data-dir", "data"]));
        assert_done(&format!("ok_daemon_{command}"), &done, running.dir());
    }
}

/// One of each kind that a user can meet.
#[test]
fn error_classes() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(1, 100_000));
    let dir = tempfile::tempdir().unwrap();
    let fails = |name: &str, args: &[&str]| assert_done(name, &run(dfget(dir.path()).args(args)), dir.path());
    fails("error_usage", &["--no-such-option"]);
    fails("error_invalid_input", &[&url, "-H", "no colon"]);
    fails("error_misspelt", &["tsaks"]);
    fails("error_config", &[&url, "-e", "unix:none.sock"]);
    fails("error_no_daemon", &["ls"]);
    fails("error_io", &[&url, "-O", "none/file"]);
    std::fs::write(dir.path().join("there"), "").unwrap();
    fails("error_exists", &[&url, "-O", "there"]);
    fails("error_not_found", &[&origin.origin.url("/none"), "-O", "a"]);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    fails("error_connect", &[&format!("http://{nobody}/file"), "-O", "a"]);
    fails("error_name", &["http://no.such.host.invalid/file"]);
    let private = TestOrigin::start_tls();
    fails("error_tls", &[&private.set("/file", Resource::seeded(1, 1000))]);
    let forbidden = origin.set("/forbidden", Resource::seeded(1, 1000).fail_first(1000, 403, None));
    fails("error_forbidden", &[&forbidden]);
    let refused = origin.set("/refused", Resource::seeded(1, 1000).fail_first(1000, 400, None));
    fails("error_origin", &[&refused]);
    let wrong = "crc32c:00000000";
    fails("error_digest_mismatch", &[&url, "-O", "b", "--digest", wrong]);
    let stalled = origin.set("/stalled", Resource::seeded(1, 9 << 20).stall_after(0, 100));
    fails("error_timeout", &[&stalled, "--timeout", "1s"]);
    let unending = origin.set("/unending", Resource::seeded(1, 9 << 20).stall_after(0, 100));
    let mut interrupted = dfget(dir.path());
    let interrupted = interrupted.arg(&unending).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the request", || origin.origin.log().iter().any(|logged| logged.path == "/unending").then_some(()));
    signal(&interrupted, Signal::INT);
    assert_done("error_cancelled", &Done::of(interrupted.wait_with_output().unwrap()), dir.path());
    let token = Daemon::with_role("peer").start().token("peer");
    fails("error_network", &[&url, "-O", "c", "--disable-back-to-source", "--timeout", "2s", "--join", &token]);
    let socket = UnixListener::bind(dir.path().join("s")).unwrap();
    let daemon = std::thread::spawn(move || {
        let (mut stream, _) = socket.accept().unwrap();
        // The request first: an answer before it is no answer to it.
        stream.read_exact(&mut [0; 64]).unwrap();
        stream.write_all(b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n").unwrap();
        // Until the client has read it.
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
    });
    fails("error_internal", &[&url, "-O", "d", "-e", "unix:s"]);
    daemon.join().unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = dfget(dir.path());
    let done = command.args([&url, "-O", "-"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_done("error_full", &Done::of(done), dir.path());
    let daemon = |name: &str, args: &[&str]| assert_done(name, &run(dfdaemon(dir.path()).args(args)), dir.path());
    daemon("error_daemon_usage", &["--role", "boss"]);
    std::fs::write(dir.path().join("c.toml"), "lisen = 'x'\n").unwrap();
    daemon("error_daemon_config", &["--config", "c.toml"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    std::fs::write(dir.path().join("taken.toml"), format!("listen = '/ip4/127.0.0.1/tcp/{port}'\n")).unwrap();
    daemon("error_daemon_doctor", &["doctor", "--data-dir", "none", "--config", "taken.toml"]);
    daemon("error_daemon_status", &["status", "--data-dir", "none"]);
}

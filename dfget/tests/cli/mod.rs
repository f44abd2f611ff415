//! What the programs do with their command lines, without any engine.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::harness::{Done, dfdaemon, dfget, run, wait_for};

const URL: &str = "http://user:hunter2@127.0.0.1:9/file?signature=hunter2";

fn fetch(dir: &Path, args: &[&str]) -> Done {
    run(dfget(dir).args(args))
}

/// Nothing is left in the directory but these.
fn assert_only(dir: &Path, names: &[&str]) {
    let mut found: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    assert_eq!(found, names);
}

#[test]
fn help_and_version() {
    let dir = tempfile::tempdir().unwrap();
    for arg in ["--help", "--version"] {
        for command in [&mut dfget(dir.path()), &mut dfdaemon(dir.path())] {
            let done = run(command.arg(arg).env("DRAGONFLY_JOIN", "df1:hunter2"));
            assert!(done.is_code(0) && done.stderr.is_empty(), "{done:?}");
            assert!(!done.stdout.is_empty() && !done.text().contains("hunter2"), "{done:?}");
        }
    }
    assert_only(dir.path(), &[]);
}

#[test]
fn usage_errors_exit_2_and_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&[], "<URL>"),
        (&[URL, "--no-such-option"], "--no-such-option"),
        (&[URL, "--digest", "sha256:00"], "64 hexadecimal digits"),
        (&[URL, "--digest", "crc64:00"], "not a digest"),
        (&[URL, "--priority", "8"], "0..=7"),
        (&[URL, "--timeout", "soon"], "--timeout"),
        (&[URL, "-H", "no colon hunter2"], "-H number 1"),
        (&[URL, "-H", "Ok: 1", "-H", "Bad name: hunter2"], "-H number 2"),
        (&[URL, "--ca-cert", "none.pem"], "none.pem"),
        (&[URL, "-e", "tcp:1"], "unix:PATH"),
        (&[URL, "-e", "unix:x", "--standalone"], "--standalone"),
        (&[URL, "--bootstrap", "/ip4/1.2.3.4/tcp/1"], "/p2p"),
        (&[URL, "--bootstrap", "/ip4/1.2.3.4/tcp/1", "-e", "unix:x"], "--endpoint"),
        (&[URL, "-e", "http://nothing"], "http://HOST:PORT"),
        (&[URL, "--range", "5-2"], "ends before it starts"),
        (&[URL, "--range", "0-5", "--digest", "crc32c:92c80a31"], "--digest"),
        (&[URL, "--limit-rate", "1"], "64KiB"),
        (&[URL, "http://127.0.0.1:9/b/file"], "two URLs"),
        (&[URL, "http://127.0.0.1:9/b", "-O", "one"], "two URLs"),
        (&[URL, "http://127.0.0.1:9/b", "--digest", "crc32c:92c80a31"], "--digest"),
        (&["-i", "none"], "none"),
        (&["tsaks"], "dfget tasks"),
        (&["stat", "no-task"], "no daemon answers"),
        (&["ls", "--nonsense"], "--nonsense"),
        (&[URL, "--json", "-O", "-"], "standard output"),
        (&["not a url"], "not a URL"),
        (&["file:///etc/hostname"], "file:"),
        (&["http://127.0.0.1:9/"], "-O"),
        (&[URL, "-O", "no/such/"], "not a directory"),
    ];
    for (args, why) in cases {
        let done = fetch(dir.path(), args);
        assert!(done.is_code(2), "{args:?}: {done:?}");
        // One line that names what failed and why, and one with what to do.
        let said: Vec<&str> = done.stderr.lines().collect();
        let [error, hint] = said[..] else { panic!("{args:?}: {done:?}") };
        assert!(error.starts_with("dfget: ") && error.contains(why), "{args:?}: {done:?}");
        assert!(hint.starts_with("hint: "), "{args:?}: {done:?}");
        assert!(!done.stderr.contains("hunter2") && done.stdout.is_empty(), "{args:?}: {done:?}");
    }
    assert_only(dir.path(), &[]);
}

#[test]
fn what_is_mistyped_is_shown_how_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    for (args, hint) in [
        (&["example.org/file"][..], "hint: write it in full and in quotes"),
        (&[URL, "--digest", "sha256:00"], "hint: write the algorithm, a colon"),
        (&[URL, "--digset", "sha256:00"], "hint: a similar argument exists: '--digest'"),
    ] {
        let done = fetch(dir.path(), args);
        assert!(done.is_code(2) && done.stderr.contains(hint), "{args:?}: {done:?}");
    }
}

#[test]
fn an_existing_output_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "mine").unwrap();
    for args in [&[URL][..], &[URL, "-O", "."], &[URL, "-O", "file"]] {
        let done = fetch(dir.path(), args);
        assert!(done.is_code(2) && done.stderr.contains("hint: ") && done.stderr.contains("--overwrite"), "{done:?}");
    }
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"mine");
    assert_only(dir.path(), &["file"]);
}

#[test]
fn a_named_daemon_must_answer() {
    let dir = tempfile::tempdir().unwrap();
    drop(UnixListener::bind(dir.path().join("dead.sock")).unwrap());
    fs::write(dir.path().join("plain"), "").unwrap();
    for path in ["none.sock", "dead.sock", "plain"] {
        let done = fetch(dir.path(), &[URL, "-e", &format!("unix:{path}")]);
        assert!(done.is_code(2) && done.stderr.contains(path), "{done:?}");
        assert!(done.stderr.contains("http://127.0.0.1:9/file?...") && !done.stderr.contains("hunter2"), "{done:?}");
    }
    assert_only(dir.path(), &["dead.sock", "plain"]);
}

/// Answers one request with these bytes, then closes.
fn answer_once(listener: UnixListener, answer: Vec<u8>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut request, mut chunk) = (Vec::new(), [0; 4096]);
        // The body is JSON and follows at once: it ends with the brace that closes it.
        while !request.ends_with(b"}") {
            let n = stream.read(&mut chunk).unwrap();
            assert!(n > 0, "the client closed");
            request.extend_from_slice(&chunk[..n]);
        }
        // The client may close before it has read everything.
        let _ = stream.write_all(&answer);
        String::from_utf8(request).unwrap()
    })
}

#[test]
fn a_daemon_that_breaks_off_leaves_no_output() {
    let head = "HTTP/1.1 200 OK\r\ndragonfly-length: 4\r\ntransfer-encoding: chunked\r\n\r\n";
    let receipt = r#"{"task":"t","generation":"g","length":4,"blake3":"b","proof":"verified","bytes_from_origin":0,"bytes_from_peers":0,"bytes_held":4,"elapsed_ms":0}"#;
    let error = r#"{"kind":"origin","temporary":true,"message":"it failed"}"#;
    let cases = [
        (String::new(), "lost the connection"),
        ("not HTTP".into(), "lost the connection"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabcd".into(), "no length"),
        ("HTTP/1.1 500 Oh\r\ncontent-length: 2\r\n\r\nno".into(), "500"),
        (head.into(), "lost the connection"),
        (head.replace("dragonfly-length", "dragonfly-passing: pieces\r\ndragonfly-length"), "without its descriptor"),
        (format!("{head}2\r\nab\r\n"), "lost the connection"),
        (format!("{head}4\r\nabcd\r\n0\r\n\r\n"), "without a receipt"),
        (format!("{head}2\r\nab\r\n0\r\ndragonfly-error: {error}\r\n\r\n"), "it failed"),
        (format!("{head}2\r\nab\r\n0\r\ndragonfly-receipt: {receipt}\r\n\r\n"), "2 bytes came"),
        (format!("{head}4\r\nabcd\r\n0\r\ndragonfly-receipt: {{}}\r\n\r\n"), "not understood"),
    ];
    for (answer, why) in cases {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixListener::bind(dir.path().join("s")).unwrap();
        let daemon = answer_once(socket, answer.clone().into_bytes());
        let done = fetch(dir.path(), &[URL, "-e", "unix:s"]);
        daemon.join().unwrap();
        assert!(done.is_code(1) && done.stderr.contains(why), "{answer:?}: {done:?}");
        assert_only(dir.path(), &["s"]);
    }
}

/// What is asked of the daemon is what was said: 4 unless another was.
#[test]
fn a_priority_reaches_the_daemon() {
    for (args, priority) in [(&[][..], 4), (&["-p", "0"], 0), (&["--priority", "7"], 7)] {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixListener::bind(dir.path().join("s")).unwrap();
        let daemon = answer_once(socket, b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n".to_vec());
        assert!(fetch(dir.path(), &[&[URL, "-e", "unix:s"], args].concat()).is_code(1));
        let request = daemon.join().unwrap();
        let body: serde_json::Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(body["priority"], priority, "{args:?}: {body}");
    }
}

#[test]
fn a_whole_answer_is_a_file_and_the_digest_must_have_been_checked() {
    let digest = "crc32c:92c80a31";
    let receipt = |digest: &str| {
        format!(
            r#"{{"task":"t","generation":"g","length":4,"blake3":"b",{digest}"proof":"verified","bytes_from_origin":0,"bytes_from_peers":0,"bytes_held":4,"elapsed_ms":0}}"#
        )
    };
    let cases = [
        (None, "", 0),
        (Some(digest), "\"digest\":\"crc32c:92C80A31\",", 0),
        (Some(digest), "", 1),
        (Some(digest), "\"digest\":\"crc32c:00000000\",", 1),
    ];
    for (wanted, said, code) in cases {
        let dir = tempfile::tempdir().unwrap();
        let head = "HTTP/1.1 200 OK\r\ndragonfly-length: 4\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n";
        let answer = format!("{head}dragonfly-receipt: {}\r\n\r\n", receipt(said));
        let daemon = answer_once(UnixListener::bind(dir.path().join("s")).unwrap(), answer.into_bytes());
        let mut args = vec![URL, "-e", "unix:s", "--json"];
        args.extend(wanted.iter().flat_map(|wanted| ["--digest", wanted]));
        let done = fetch(dir.path(), &args);
        let request = daemon.join().unwrap();
        assert!(request.starts_with("POST /v1/fetch ") && request.contains("te: trailers"), "{request}");
        assert!(done.is_code(code), "{done:?}");
        if code == 0 {
            assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"abcd");
            let last: serde_json::Value = serde_json::from_str(done.text().lines().last().unwrap()).unwrap();
            assert_eq!((last["event"].as_str(), last["output"].as_str()), (Some("receipt"), Some("file")));
        } else {
            assert_only(dir.path(), &["s"]);
        }
    }
}

#[test]
fn an_interrupted_fetch_leaves_nothing_and_exits_130() {
    use rustix::process::Signal;
    for which in [Signal::INT, Signal::TERM] {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixListener::bind(dir.path().join("s")).unwrap();
        let mut child = dfget(dir.path()).args([URL, "-e", "unix:s"]).spawn().unwrap();
        let (mut stream, _) = socket.accept().unwrap();
        stream.read_exact(&mut [0; 64]).unwrap();
        // It has asked, so its signals are watched and its temporary exists.
        crate::harness::signal(&child, which);
        let status = wait_for("the end of dfget", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(130));
        assert_only(dir.path(), &["s"]);
    }
}

#[test]
fn daemon_usage_errors_exit_2() {
    let dir = tempfile::tempdir().unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["--role", "boss"], "--role"),
        (&["--listen", "127.0.0.1:1"], "--listen"),
        (&["--api", "tcp:1"], "unix:PATH"),
        (&["--quota", "much"], "--quota"),
        (&["--log-format", "xml"], "--log-format"),
        (&["--data-dir", "d", "--api", "none", "--join", "hunter2"], "--join"),
        (&["--data-dir", "d", "--api", "none", "--join", "@none"], "none"),
        (&["token", "--data-dir", "d", "--role", "boss"], "--role"),
        (&["token", "--data-dir", "d", "--expires", "0s"], "--expires"),
        (&["token", "--data-dir", "nothing"], "nothing"),
        (&["token", "--api", "unix:none.sock"], "none.sock"),
    ];
    for (args, why) in cases {
        let done = run(dfdaemon(dir.path()).args(*args));
        assert!(done.is_code(2) && done.stderr.contains(why), "{args:?}: {done:?}");
        assert!(!done.stderr.contains("hunter2"), "{args:?}: {done:?}");
    }
}

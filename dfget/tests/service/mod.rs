//! The daemon as a service: settings, reload, what the service manager is told, init, join, status and doctor.

mod bounds;
mod ca;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use dragonfly_testkit::Resource;
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Daemon, TestOrigin, dfdaemon, get, names, run, signal, wait_for};

#[test]
fn settings_come_from_flag_environment_and_file_in_this_order() {
    let dir = tempfile::tempdir().unwrap();
    let toml = "role = ['seed', 'peer']\nquota = '5GiB'\ndrain-timeout = '7s'\nlisten = ['/ip4/127.0.0.1/tcp/0']\n\
                [log]\nlevel = 'info,swarm=debug'\n";
    fs::write(dir.path().join("c.toml"), toml).unwrap();
    let mut command = dfdaemon(dir.path());
    command.args(["--config", "c.toml", "--print-config", "--quota", "6GiB"]).env("DFDAEMON_DRAIN_TIMEOUT", "8s");
    let done = run(command.env("DRAGONFLY_JOIN", "df1:hunter2"));
    assert!(done.is_code(0) && !done.text().contains("hunter2"), "{done:?}");
    for line in [
        "role = \"seed,peer\" # file",
        "quota = \"6GiB\" # flag",
        "drain-timeout = \"8s\" # environment",
        "listen = [\"/ip4/127.0.0.1/tcp/0\"] # file",
        "log-level = \"info,swarm=debug\" # file",
        "upload-slots = \"8\" # default",
        "# join is set (environment) and not shown: it may be a secret",
    ] {
        assert!(done.text().lines().any(|found| found == line), "{line}: {done:?}");
    }
    // What is printed is a configuration that says the same.
    fs::write(dir.path().join("printed.toml"), &done.stdout).unwrap();
    let again = run(dfdaemon(dir.path()).args(["--config", "printed.toml", "--print-config"]));
    let values = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.rsplit_once(" # ").unwrap().0.to_owned()).collect()
    };
    assert_eq!(values(&again.text()), values(&done.text()));
    let yaml = "role: [seed, peer]\nlog: {level: debug}\n";
    fs::write(dir.path().join("c.yaml"), yaml).unwrap();
    let done = run(dfdaemon(dir.path()).args(["--config", "c.yaml", "--check-config"]));
    assert!(done.is_code(0) && done.text() == "the configuration is sound\n", "{done:?}");
    assert_eq!(names(dir.path()), ["c.toml", "c.yaml", "printed.toml"]);
}

#[test]
fn a_wrong_configuration_is_refused_by_file_and_key() {
    let dir = tempfile::tempdir().unwrap();
    for (text, why) in [
        ("lisen = 'x'", "unknown key `lisen`; did you mean `listen`?"),
        ("quota = 'much'", "c.toml: `quota`: "),
        ("log-level = 'info,swam=debug'", "swarm"),
        ("api-group = 'no-such-group'", "no-such-group"),
        ("scheduler = '/ip4/1.2.3.4/tcp/1'", "/p2p"),
        ("allow-loopback-origins = 'maybe'", "true or false"),
        ("quota = ", "line 1"),
    ] {
        fs::write(dir.path().join("c.toml"), text).unwrap();
        let done = run(dfdaemon(dir.path()).args(["--config", "c.toml", "--check-config"]));
        assert!(done.is_code(2) && done.stderr.contains(why) && done.stderr.contains("hint: "), "{text}: {done:?}");
    }
    fs::write(dir.path().join("c.toml"), "join = 'hunter2'").unwrap();
    let done = run(dfdaemon(dir.path()).args(["--config", "c.toml", "--check-config"]));
    assert!(done.is_code(2) && !done.stderr.contains("hunter2"), "{done:?}");
    let done = run(dfdaemon(dir.path()).args(["--config", "none.toml"]));
    assert!(done.is_code(2) && done.stderr.contains("none.toml"), "{done:?}");
}

#[test]
fn sighup_applies_what_it_can_and_names_what_it_cannot() {
    let config = tempfile::tempdir().unwrap();
    let path = config.path().join("c.toml");
    fs::write(&path, "log-level = 'info'\n").unwrap();
    let daemon = Daemon::with_role("peer").args(["--config", path.to_str().unwrap()]).start();
    let hangup = |text: &str, wanted: &str| {
        fs::write(&path, text).unwrap();
        signal(daemon.child(), Signal::HUP);
        wait_for(wanted, || daemon.log().contains(wanted).then_some(()));
    };
    hangup("log-level = 'info,peer=debug'\n", "changed: log-level");
    let levels = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let levels: Value = runtime
            .block_on(async { daemon.client().await.json(http::Method::GET, "/v1/log", None::<&()>).await.unwrap() });
        levels["levels"].as_str().unwrap().to_owned()
    };
    assert_eq!(levels(), "info,peer=debug");
    hangup("log-level = 'info'\nupload-slots = 3\ndownload-limit = '10MiB'\n", "restart makes it so: upload-slots");
    assert!(daemon.log().contains("changed: download-limit, log-level"), "{}", daemon.log());
    // A limit that was changed is the one that is kept to. It can take longer, and never less.
    hangup("log-level = 'info'\nupload-slots = 3\ndownload-limit = '2MiB'\n", "changed: download-limit\n");
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(1, 4 << 20));
    let done = daemon.dfget([url.as_str(), "-O", "limited", "--json"]);
    let last: Value = serde_json::from_str(done.text().lines().last().unwrap()).unwrap();
    assert!(last["elapsed_ms"].as_u64() >= Some(1000), "{last}");
    hangup("nonsense = 1\n", "unknown key `nonsense`");
    assert_eq!(levels(), "info");
    let (status, log) = daemon.stop();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn levels_change_at_run_time() {
    let daemon = Daemon::with_role("peer").start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut client = daemon.client().await;
        let set = |levels: &str| Some(dfget::model::LogBody { levels: levels.to_owned() });
        let put = http::Method::PUT;
        let answer: Value = client.json(put.clone(), "/v1/log", set("debug,swarm=off").as_ref()).await.unwrap();
        assert_eq!(answer["levels"], "debug,swarm=off");
        let refused = client.json::<Value>(put, "/v1/log", set("swam=debug").as_ref()).await.unwrap_err();
        assert!(refused.to_string().contains("meant \"swarm\""), "{refused}");
    });
}

/// Not only the setting: what is written changes, and of the room that is named alone.
#[test]
fn a_level_changes_what_is_logged() {
    let origin = TestOrigin::start();
    let daemon = Daemon::with_role("peer").args(["--log-format", "json"]).start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let logged = |levels: &str, path: &str| -> Vec<Value> {
        let set = dfget::model::LogBody { levels: levels.to_owned() };
        runtime.block_on(async {
            let mut client = daemon.client().await;
            client.json::<Value>(http::Method::PUT, "/v1/log", Some(&set)).await.unwrap()
        });
        let before = daemon.log().len();
        let url = origin.set(path, Resource::seeded(1, 3 << 20));
        assert!(daemon.dfget([url.as_str(), "-q"]).is_code(0));
        daemon.log()[before..].lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let of = |lines: &[Value], level: &str, room: &str| {
        let target = format!("dragonfly_core::{room}");
        lines.iter().any(|l| l["level"] == level && l["target"].as_str().is_some_and(|t| t.starts_with(&target)))
    };
    let quiet = logged("info", "/a");
    assert!(!of(&quiet, "TRACE", "") && !of(&quiet, "DEBUG", ""), "{quiet:?}");
    let peer = logged("info,peer=trace", "/b");
    assert!(of(&peer, "TRACE", "peer") && !of(&peer, "TRACE", "store") && !of(&peer, "TRACE", "net"), "{peer:?}");
    assert!(logged("off", "/c").is_empty());
}

/// It says what it is, where it is, and how to join: what an operator asks of a log first.
#[test]
fn the_first_lines_tell_what_it_is() {
    let daemon = Daemon::with_role("scheduler,peer").start();
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains("serves as")).unwrap();
    let data = daemon.dir().join("data");
    for wanted in [
        "dfdaemon 0.1.0 serves as peer,scheduler",
        &format!("peer {}", daemon.ready().peer_id),
        &format!("listening at {}", daemon.ready().listen[0]),
        &format!("API at {}", daemon.ready().api.as_deref().unwrap()),
        &format!("metrics at {}", daemon.ready().metrics.as_deref().unwrap()),
        &format!("--join \"$(dfdaemon token --data-dir '{}')\"", data.display()),
    ] {
        assert!(line.contains(wanted), "{wanted}: {line}");
    }
}

#[test]
fn json_logs_are_json() {
    let daemon = Daemon::with_role("peer").args(["--log-format", "json"]).start();
    let (_, log) = daemon.stop();
    assert!(log.lines().count() >= 2);
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["level"].is_string() && line["fields"]["message"].is_string(), "{line}");
    }
}

#[test]
fn the_service_manager_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let told = |wanted: &str| {
        let mut buffer = [0; 4096];
        loop {
            let n = socket.recv(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
            if text.contains(wanted) {
                return text;
            }
        }
    };
    let notify = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "200000")];
    let daemon = Daemon::with_role("scheduler,peer").env(notify).start();
    assert!(told("READY=1").contains("STATUS=serves as"));
    told("WATCHDOG=1");
    told("WATCHDOG=1");
    signal(daemon.child(), Signal::HUP);
    assert!(told("RELOADING=1").contains("MONOTONIC_USEC="));
    told("READY=1");
    let stopped = std::thread::spawn(move || daemon.stop());
    told("STOPPING=1");
    assert_eq!(stopped.join().unwrap().0.code(), Some(0));
}

#[test]
fn what_is_under_way_is_finished_before_the_daemon_ends() {
    let origin = TestOrigin::start();
    const LENGTH: u64 = 8 << 20;
    let url = origin.set("/file", Resource::seeded(1, LENGTH).rate(LENGTH));
    let daemon = Daemon::with_role("peer").start();
    let client =
        daemon.dfget_command([url.as_str(), "-O", "out"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    wait_for("the download to be under way", || (origin.origin.body_bytes("/file") > LENGTH / 8).then_some(()));
    // The directory of the daemon goes with it: the output is looked at before.
    signal(daemon.child(), Signal::TERM);
    // Whoever sends it work learns that it takes none, while its metrics can still be read.
    let metrics = daemon.ready().metrics.clone().unwrap();
    wait_for("not to be ready", || get(&metrics, "/readyz").starts_with("HTTP/1.1 503").then_some(()));
    assert!(get(&metrics, "/metrics").contains("dragonfly_ready 0"));
    assert!(get(&metrics, "/healthz").starts_with("HTTP/1.1 200"));
    let done = client.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(0), "{}\n{}", String::from_utf8_lossy(&done.stderr), daemon.log());
    assert_eq!(fs::metadata(daemon.dir().join("out")).unwrap().len(), LENGTH);
    let (status, log) = daemon.wait();
    assert!(status.code() == Some(0) && log.contains("stopped"), "{log}");
}

/// It holds a connection and what it reads; it is told off, and what it has is not taken for the whole.
#[test]
fn a_client_that_takes_nothing_is_let_go() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(1, 16 << 20));
    let daemon = Daemon::with_role("peer").args(["--client-timeout", "1s"]).start();
    let mut client = daemon.dfget_command([url.as_str(), "-q", "-O", "-"]);
    let client = client.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let told = "a client took nothing of what it asked for, for 1s: its connection is closed";
    wait_for("the daemon to let it go", || daemon.log().contains(told).then_some(()));
    let done = client.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(1), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(done.stdout.len() < 16 << 20);
    // Who takes what it asked for is served.
    assert!(daemon.dfget([url.as_str(), "-O", "out"]).is_code(0));
}

#[test]
fn what_takes_longer_than_the_bound_is_not_waited_for() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(1, 8 << 20).stall_after(1 << 20, 1));
    let daemon = Daemon::with_role("peer").args(["--drain-timeout", "1s"]).start();
    let mut client = daemon.dfget_command([url.as_str(), "-q", "-O", "out"]).spawn().unwrap();
    wait_for("the download to be under way", || (origin.origin.body_bytes("/file") > 0).then_some(()));
    let (status, log) = daemon.stop();
    assert!(status.code() == Some(0) && log.contains("not done within 750ms"), "{log}");
    let code = wait_for("the end of dfget", || client.try_wait().unwrap()).code();
    assert_eq!(code, Some(1));
}

#[test]
fn init_token_join_and_status() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = |args: &[&str]| run(dfdaemon(dir.path()).args(args));
    let founded = daemon(&["init", "--data-dir", "one", "--write-config", "one.toml", "--origin-trust", "seeds"]);
    assert!(founded.is_code(0) && founded.text().contains("Founded a network"), "{founded:?}");
    assert!(founded.text().contains("dfdaemon token --data-dir 'one'"), "{founded:?}");
    let again = daemon(&["init", "--data-dir", "one"]);
    assert!(again.is_code(0) && again.text().contains("already, founded here"), "{again:?}");
    let twice = daemon(&["init", "--data-dir", "one", "--write-config", "one.toml"]);
    assert!(twice.is_code(2) && twice.stderr.contains("one.toml"), "{twice:?}");
    let checked = daemon(&["--config", "one.toml", "--check-config", "--data-dir", "one"]);
    assert!(checked.is_code(0), "{checked:?}");
    let token = daemon(&["token", "--data-dir", "one", "--address", "/ip4/127.0.0.1/tcp/1"]);
    assert!(token.is_code(0), "{token:?}");
    fs::write(dir.path().join("token"), &token.stdout).unwrap();
    let joined = daemon(&["join", "@token", "--data-dir", "two"]);
    assert!(joined.is_code(0) && joined.text().contains("Joined the network"), "{joined:?}");
    let other = daemon(&["init", "--data-dir", "three"]);
    assert!(other.is_code(0));
    let refused = daemon(&["join", "@token", "--data-dir", "three"]);
    assert!(refused.is_code(2) && refused.stderr.contains("another network"), "{refused:?}");
    let none = daemon(&["status", "--data-dir", "two"]);
    assert!(none.is_code(2) && none.stderr.contains("no daemon runs"), "{none:?}");
    let running = Daemon::with_role("scheduler,seed,peer").args(["--quota", "1GiB"]).start();
    let status = run(dfdaemon(running.dir()).args(["status", "--data-dir", "data"]));
    for wanted in [&running.ready().peer_id, "ready", "peer,scheduler,seed", "of 1.0 GiB", "/ip4/127.0.0.1/tcp/"] {
        assert!(status.text().contains(wanted), "{wanted}: {status:?}");
    }
    let json = run(dfdaemon(running.dir()).args(["status", "--json", "--data-dir", "data"]));
    assert_eq!(serde_json::from_slice::<Value>(&json.stdout).unwrap()["ready"], true);
    fs::write(running.dir().join("token"), &token.stdout).unwrap();
    let busy = run(dfdaemon(running.dir()).args(["join", "@token", "--data-dir", "data"]));
    assert!(busy.is_code(2) && busy.stderr.contains("a daemon runs there"), "{busy:?}");
}

#[test]
fn the_doctor_says_what_is_amiss_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let doctor = |args: &[&str]| run(dfdaemon(dir.path()).args(["doctor"]).args(args));
    let check = |done: &crate::harness::Done, name: &str| -> Vec<Value> {
        let checks: Vec<Value> = serde_json::from_slice(&done.stdout).unwrap();
        checks.into_iter().filter(|check| check["name"] == name).collect()
    };
    // Somebody else has the port.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    fs::write(dir.path().join("c.toml"), format!("listen = '/ip4/127.0.0.1/tcp/{port}'")).unwrap();
    let done = doctor(&["--data-dir", "none", "--config", "c.toml", "--json"]);
    assert!(done.is_code(1), "{done:?}");
    assert_eq!(check(&done, "port")[0]["state"], "fail");
    assert!(check(&done, "port")[0]["hint"].as_str().unwrap().contains("ss -lnp"), "{done:?}");
    assert_eq!(check(&done, "membership")[0]["state"], "warn");
    assert_eq!(names(dir.path()), ["c.toml"], "looking makes nothing");
    fs::write(dir.path().join("bad.toml"), "lisen = 1").unwrap();
    let done = doctor(&["--data-dir", "none", "--config", "bad.toml", "--json"]);
    assert_eq!(check(&done, "configuration")[0]["state"], "fail");
    // A coordinator that does not answer.
    let running = Daemon::with_role("scheduler,seed,peer").start();
    fs::write(dir.path().join("token"), running.token("peer")).unwrap();
    assert!(run(dfdaemon(dir.path()).args(["join", "@token", "--data-dir", "joined"])).is_code(0));
    let reached = doctor(&["--data-dir", "joined", "--json"]);
    assert_eq!(check(&reached, "coordinator")[0]["state"], "ok", "{reached:?}");
    let healthy = run(dfdaemon(running.dir()).args(["doctor", "--data-dir", "data"]));
    assert!(healthy.is_code(0) && healthy.text().contains("accepts connections"), "{healthy:?}");
    assert!(healthy.text().contains("runs as peer,scheduler,seed"), "{healthy:?}");
    drop(running);
    let lost = doctor(&["--data-dir", "joined", "--json"]);
    assert!(lost.is_code(1), "{lost:?}");
    assert_eq!(check(&lost, "coordinator")[0]["state"], "fail");
    let text = doctor(&["--data-dir", "joined"]).text();
    assert!(text.contains("FAIL coordinator") && text.contains("hint:"), "{text}");
}

/// Whom the configuration names is tried like whom a token names.
#[test]
fn the_doctor_tries_whom_the_configuration_names() {
    let dir = tempfile::tempdir().unwrap();
    let running = Daemon::with_role("scheduler,seed").start();
    let place = running.ready().listen[0].clone();
    for (key, state) in [("scheduler", "ok"), ("bootstrap", "ok"), ("bootstrap", "fail")] {
        // The last of them is where nobody is: a port that was free a moment ago.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = match state {
            "ok" => place.clone(),
            _ => format!("/ip4/127.0.0.1/tcp/{free}/p2p/{}", running.ready().peer_id),
        };
        fs::write(dir.path().join("c.toml"), format!("{key} = '{at}'\nlisten = '/ip4/127.0.0.1/tcp/{free}'")).unwrap();
        let done = run(dfdaemon(dir.path()).args(["doctor", "--data-dir", "none", "--config", "c.toml", "--json"]));
        let checks: Vec<Value> = serde_json::from_slice(&done.stdout).unwrap();
        let tried: Vec<_> = checks.iter().filter(|check| check["name"] == "coordinator").collect();
        assert!(tried.len() == 1 && tried[0]["state"] == state, "{key}: {done:?}");
        assert!(done.is_code(i32::from(state == "fail")), "{done:?}");
    }
}

/// A neighbour that was met and is gone is a warning, and names the port.
#[test]
fn the_doctor_names_a_neighbour_that_is_gone() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(1, 3 << 20));
    let seed = Daemon::with_role("scheduler,seed,peer").start();
    let peer = Daemon::with_role("peer").join(&seed).start();
    let other = Daemon::with_role("peer").join(&seed).start();
    assert!(other.dfget([url.as_str(), "-q", "-O", "a"]).is_code(0));
    assert!(peer.dfget([url.as_str(), "-q", "-O", "a"]).is_code(0));
    let gone = seed.ready().peer_id.clone();
    drop(seed);
    let doctor = || run(dfdaemon(peer.dir()).args(["doctor", "--data-dir", "data", "--json"]));
    let found = wait_for("the warning", || {
        let checks: Vec<Value> = serde_json::from_slice(&doctor().stdout).unwrap();
        let told = |check: &&Value| check["name"] == "neighbour" && check["found"].as_str().unwrap().contains(&gone);
        checks.iter().find(told).cloned()
    });
    assert!(found["state"] == "warn" && found["hint"].as_str().unwrap().contains("open its port"), "{found}");
}

#[test]
fn metrics_tell_of_requests_and_fetches() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(1, 100_000));
    let daemon = Daemon::with_role("peer").args(["--quota", "1GiB"]).start();
    assert!(daemon.dfget([url.as_str(), "-q"]).is_code(0));
    assert!(daemon.dfget([origin.origin.url("/none").as_str(), "-q"]).is_code(1));
    // It is known, and nothing of it comes.
    let stalled = origin.set("/stalled", Resource::seeded(2, 3 << 20).stall_after(0, u64::MAX));
    assert!(daemon.dfget([stalled.as_str(), "-q", "--timeout", "1s"]).is_code(1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let text =
        runtime.block_on(async { daemon.client().await.bytes(http::Method::GET, "/metrics", None).await.unwrap() });
    let text = String::from_utf8(text.to_vec()).unwrap();
    for line in [
        "dragonfly_build_info{version=\"0.1.0\",roles=\"peer\"} 1",
        "dragonfly_ready 1",
        "dragonfly_fetches_total{result=\"done\"} 1",
        "dragonfly_fetches_total{result=\"not_found\"} 1",
        "dragonfly_fetches_total{result=\"timeout\"} 1",
        "dragonfly_fetches_active 0",
        "dragonfly_fetched_bytes_total 100000",
        "dragonfly_store_quota_bytes 1073741824",
        "dragonfly_origin_bytes_total 100000",
        "dragonfly_api_requests_total{method=\"POST\",route=\"/v1/fetch\",code=\"200\"} 1",
        "dragonfly_api_requests_total{method=\"POST\",route=\"/v1/fetch\",code=\"404\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

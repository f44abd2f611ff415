//! Starts the programs, and ends them with the test.
//!
//! ```ignore
//! let seed = Daemon::with_role("scheduler,seed").start();
//! let peer = Daemon::with_role("peer").join(&seed).start();
//! let done = peer.dfget(["http://127.0.0.1:1/file", "-O", "out"]);
//! assert!(done.is_code(0), "{done:?}");
//! ```

// The harness offers more than the tests at hand use.
#![allow(dead_code)]

pub(crate) mod link;

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use dfget::client::{Client, parse_endpoint};
use dfget::model::ReadyFile;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The most that a program may take to start or stop, on a loaded machine; beyond it, it hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(5);

/// `dfget` with an environment of its own: no daemon and no token of the user's is found.
pub(crate) fn dfget(dir: &Path) -> Command {
    isolated(env!("CARGO_BIN_EXE_dfget"), dir)
}

/// `dfdaemon`, likewise.
pub(crate) fn dfdaemon(dir: &Path) -> Command {
    isolated(env!("CARGO_BIN_EXE_dfdaemon"), dir)
}

fn isolated(program: &str, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir).env("HOME", dir).env("XDG_RUNTIME_DIR", dir.join("run")).stdin(Stdio::null());
    for name in [
        "DRAGONFLY_JOIN",
        "RUNTIME_DIRECTORY",
        "STATE_DIRECTORY",
        "XDG_DATA_HOME",
        "XDG_CONFIG_HOME",
        "DOCKER_CONFIG",
        "REGISTRY_AUTH_FILE",
        "RUST_LOG",
        "NOTIFY_SOCKET",
        "DRAGONFLY_ENDPOINT",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_SDK_DISABLED",
        "OTEL_SERVICE_NAME",
        "OTEL_TRACES_EXPORTER",
        "OTEL_TRACES_SAMPLER",
    ] {
        command.env_remove(name);
    }
    command
}

/// A program that has ended.
pub(crate) struct Done {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn of(output: Output) -> Self {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Self { status: output.status, stdout: output.stdout, stderr }
    }

    pub(crate) fn is_code(&self, code: i32) -> bool {
        self.status.code() == Some(code)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start: String = self.text().chars().take(2000).collect();
        write!(f, "{}\nstdout: {start}\nstderr: {}", self.status, self.stderr)
    }
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command) -> Done {
    Done::of(command.output().unwrap())
}

/// Waits until `found` has something; fails the test with `what` if that takes too long.
pub(crate) fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(LOOK);
    }
}

/// Sends a signal to a child.
pub(crate) fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_child(child);
    kill_process(pid, signal).unwrap();
}

/// A daemon to be started.
pub(crate) struct DaemonBuilder {
    role: String,
    dir: TempDir,
    command: Command,
}

impl DaemonBuilder {
    /// More options.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Variables of its environment.
    pub(crate) fn env<const N: usize>(mut self, variables: [(&str, &str); N]) -> Self {
        self.command.envs(variables);
        self
    }

    /// In a network namespace, with the addresses that it has there to listen on.
    pub(crate) fn at(mut self, place: &link::Place) -> Self {
        let mut inside = place.command(self.command.get_program());
        for arg in self.command.get_args() {
            let loopback = arg == "/ip4/127.0.0.1/tcp/0";
            inside.arg(if loopback { OsStr::new(place.listen()) } else { arg });
        }
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside.current_dir(self.dir.path()).stdin(Stdio::null());
        self.command = inside;
        self
    }

    /// Joins the network of this token.
    pub(crate) fn token(mut self, token: &str) -> Self {
        self.command.env("DRAGONFLY_JOIN", token);
        self
    }

    /// Joins the network of another daemon, which also tells where it is.
    pub(crate) fn join(mut self, other: &Daemon) -> Self {
        self.command.env("DRAGONFLY_JOIN", other.token("scheduler,seed,peer"));
        self
    }

    /// Starts it and waits until every engine serves.
    pub(crate) fn start(mut self) -> Daemon {
        let child = spawn(&mut self.command, self.dir.path());
        let mut daemon = Daemon { child, ready: None, role: self.role, dir: self.dir, command: self.command };
        daemon.wait_until_ready();
        daemon
    }
}

/// Starts a daemon whose log goes into `dir`.
fn spawn(command: &mut Command, dir: &Path) -> Child {
    command.stderr(File::options().create(true).append(true).open(dir.join("log")).unwrap()).spawn().unwrap()
}

/// A daemon that serves; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    ready: Option<ReadyFile>,
    role: String,
    dir: TempDir,
    command: Command,
}

impl Daemon {
    /// A daemon with these roles (`scheduler,seed,peer`) on ports that the system chooses, with a data directory,
    /// an API and metrics of its own, that may fetch from a test's origin.
    pub(crate) fn with_role(role: &str) -> DaemonBuilder {
        let dir = tempfile::tempdir().unwrap();
        let mut command = dfdaemon(dir.path());
        command.args(["--role", role, "--listen", "/ip4/127.0.0.1/tcp/0", "--data-dir", "data"]);
        command.args(["--metrics", "127.0.0.1:0", "--ready-file", "ready.json", "--allow-loopback-origins"]);
        command.arg("--api").arg(format!("unix:{}", dir.path().join("api.sock").display()));
        DaemonBuilder { role: role.to_owned(), dir, command }
    }

    pub(crate) fn ready(&self) -> &ReadyFile {
        self.ready.as_ref().unwrap()
    }

    /// Its own directory: working directory of its commands, with `data`, `log` and `api.sock`.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        parse_endpoint(self.ready().api.as_deref().unwrap()).unwrap()
    }

    pub(crate) fn child(&self) -> &Child {
        &self.child
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir().join("log")).unwrap()
    }

    /// A token of its network, as `dfdaemon token` prints it.
    pub(crate) fn token(&self, roles: &str) -> String {
        let done = run(dfdaemon(self.dir()).args(["token", "--data-dir", "data", "--role", roles]));
        assert!(done.is_code(0), "{done:?}");
        done.text().trim().to_owned()
    }

    /// Whether clients can fetch through it.
    pub(crate) fn is_peer(&self) -> bool {
        self.role.contains("peer")
    }

    /// One of its metrics now.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let text = runtime.block_on(async {
            let mut client = self.client().await;
            client.bytes(http::Method::GET, "/metrics", None).await.unwrap()
        });
        let text = String::from_utf8(text.to_vec()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no metric {name} in {text}")).parse().unwrap()
    }

    /// A connection to its API.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.socket()).await.unwrap()
    }

    /// `dfget` through this daemon, to be run or spawned.
    pub(crate) fn dfget_command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = dfget(self.dir());
        command.arg("-e").arg(format!("unix:{}", self.socket().display())).args(args);
        command
    }

    /// Runs `dfget` through this daemon.
    pub(crate) fn dfget<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Done {
        run(&mut self.dfget_command(args))
    }

    /// Kills it without warning; its directory stays.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Kills it without warning and starts it again with the same options and directory.
    pub(crate) fn kill_and_restart(mut self) -> Self {
        self.kill();
        fs::remove_file(self.dir().join("ready.json")).unwrap();
        self.child = spawn(&mut self.command, self.dir.path());
        self.wait_until_ready();
        self
    }

    /// The same, listening where it listened: whoever knew its address finds it again.
    pub(crate) fn kill_and_restart_in_place(mut self) -> Self {
        for listener in self.ready().listen.clone() {
            let address = listener.split("/p2p/").next().unwrap();
            self.command.args(["--listen", address]);
        }
        self.kill_and_restart()
    }

    fn wait_until_ready(&mut self) {
        let path = self.dir().join("ready.json");
        let ready = wait_for("the ready file", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the daemon ended at once: {status}");
            }
            fs::read(&path).ok()
        });
        self.ready = Some(serde_json::from_slice(&ready).unwrap());
    }

    /// Asks it to stop and waits for it; what it logged comes along.
    pub(crate) fn stop(self) -> (ExitStatus, String) {
        signal(&self.child, Signal::TERM);
        self.wait()
    }

    /// Waits for its end, once it was asked to stop.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let status = wait_for("the end of the daemon", || self.child.try_wait().unwrap());
        (status, self.log())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of {}:\n{}", self.dir().display(), self.log());
        }
    }
}

/// An origin on a runtime of its own, for tests that only run programs.
pub(crate) struct TestOrigin {
    runtime: tokio::runtime::Runtime,
    pub(crate) origin: dragonfly_testkit::Origin,
}

impl TestOrigin {
    pub(crate) fn start() -> Self {
        Self::of(dragonfly_testkit::Origin::builder())
    }

    /// One that speaks TLS, with an authority of its own.
    pub(crate) fn start_tls() -> Self {
        Self::of(dragonfly_testkit::Origin::builder().tls())
    }

    fn of(builder: dragonfly_testkit::Builder) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let origin = runtime.block_on(builder.start()).unwrap();
        Self { runtime, origin }
    }

    /// Serves this under a path, and says where.
    pub(crate) fn set(&self, path: &str, resource: dragonfly_testkit::Resource) -> String {
        let _guard = self.runtime.enter();
        self.origin.set(path, resource);
        self.origin.url(path)
    }
}

/// What an address answers to `GET`: head and body.
pub(crate) fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Everything in a directory, sorted.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

//! Real daemons of this build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use dfget::client::{Client, parse_endpoint};
use dfget::model::ReadyFile;
use tempfile::TempDir;

/// Between two looks at a process daemon.
const LOOK: Duration = Duration::from_millis(5);

/// A program of the same build as the bench.
///
/// # Errors
/// It was not built.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.with_file_name(name);
    if !path.exists() {
        bail!("{} is not there; hint: cargo build --release -p dfget", path.display());
    }
    Ok(path)
}

/// A process that ends with its owner.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A daemon that serves; killed when dropped.
pub struct Daemon {
    process: Process,
    dir: TempDir,
    ready: ReadyFile,
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The ready file holds a token.
        f.debug_struct("Daemon").field("peer", &self.ready.peer_id).finish_non_exhaustive()
    }
}

impl Daemon {
    /// Starts a daemon on ports that the system chooses, with a directory of its own; with `join` as a member of
    /// another one's network. Comes back when every engine serves.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(role: &str, join: Option<&Daemon>) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut command = Command::new(program("dfdaemon")?);
        command.args(["--role", role, "--listen", "/ip4/127.0.0.1/tcp/0", "--data-dir", "data"]);
        command.args(["--ready-file", "ready.json", "--allow-loopback-origins", "--api"]);
        command.arg(format!("unix:{}", dir.path().join("api.sock").display()));
        command.current_dir(dir.path()).env("HOME", dir.path()).env_remove("DRAGONFLY_JOIN");
        if let Some(other) = join {
            command.env("DRAGONFLY_JOIN", &other.ready.join);
        }
        command.stdin(Stdio::null()).stderr(fs::File::create(dir.path().join("log"))?);
        let mut process = Process(command.spawn()?);
        let path = dir.path().join("ready.json");
        let ready = loop {
            if let Ok(ready) = fs::read(&path) {
                break serde_json::from_slice(&ready)?;
            }
            if let Some(status) = process.0.try_wait()? {
                bail!("the daemon ended: {status}\n{}", fs::read_to_string(dir.path().join("log"))?);
            }
            tokio::time::sleep(LOOK).await;
        };
        Ok(Self { process, dir, ready })
    }

    /// Its own directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its endpoint, `unix:PATH`.
    ///
    /// # Errors
    /// It has none.
    pub fn endpoint(&self) -> anyhow::Result<&str> {
        self.ready.api.as_deref().context("a daemon without an API")
    }

    /// A connection to its API.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn client(&self) -> anyhow::Result<Client> {
        let path = parse_endpoint(self.endpoint()?).map_err(anyhow::Error::msg)?;
        Ok(Client::connect(&path).await?)
    }

    /// The most that it ever had resident so far, in bytes (`VmHWM`).
    ///
    /// # Errors
    /// The system does not tell.
    pub fn peak_resident(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
    }
}

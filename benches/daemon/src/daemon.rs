//! Real daemons of this build.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use dfget::client::{Client, parse_endpoint};
use dfget::model::ReadyFile;
use rustix::process::{Pid, Signal, kill_process};
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

/// A directory of a daemon that has ended, for the next one.
#[derive(Debug)]
pub struct Home(TempDir);

impl Daemon {
    /// Starts a daemon on ports that the system chooses, with a directory of its own; with `join` as a member of
    /// another one's network. Comes back when every engine serves.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(role: &str, join: Option<&Daemon>) -> anyhow::Result<Self> {
        Self::start_in(None, role, join.map(Self::token), &[]).await
    }

    /// The same in the directory of one that has ended, or in a new one, with a token and more options.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start_in(
        home: Option<Home>,
        role: &str,
        token: Option<&str>,
        options: &[String],
    ) -> anyhow::Result<Self> {
        let dir = home.map_or_else(tempfile::tempdir, |home| Ok(home.0))?;
        let mut command = Command::new(program("dfdaemon")?);
        command.args(["--role", role, "--data-dir", "data"]);
        command.args(["--ready-file", "ready.json", "--allow-loopback-origins", "--api"]);
        command.arg(format!("unix:{}", dir.path().join("api.sock").display())).args(options);
        if !options.iter().any(|option| option == "--listen") {
            command.args(["--listen", "/ip4/127.0.0.1/tcp/0"]);
        }
        command.current_dir(dir.path()).env("HOME", dir.path()).env_remove("DRAGONFLY_JOIN");
        if let Some(token) = token {
            command.env("DRAGONFLY_JOIN", token);
        }
        let log = fs::File::options().create(true).append(true).open(dir.path().join("log"))?;
        let mut process = Process(command.stdin(Stdio::null()).stderr(log).spawn()?);
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

    /// Kills it without a word; its directory stays.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(mut self) -> anyhow::Result<Home> {
        self.process.0.kill()?;
        self.process.0.wait()?;
        self.leave()
    }

    /// Asks it to end and waits until it has; its directory stays.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn stop(mut self) -> anyhow::Result<(ExitStatus, Home)> {
        kill_process(Pid::from_child(&self.process.0), Signal::TERM)?;
        let status = loop {
            if let Some(status) = self.process.0.try_wait()? {
                break status;
            }
            tokio::time::sleep(LOOK).await;
        };
        Ok((status, self.leave()?))
    }

    fn leave(self) -> anyhow::Result<Home> {
        let path = self.dir.path().join("ready.json");
        // One that was asked to end has taken it away itself.
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e.into()),
            _ => Ok(Home(self.dir)),
        }
    }

    /// Its own directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What it, and those before it in its directory, have logged.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn log(&self) -> io::Result<String> {
        fs::read_to_string(self.dir.path().join("log"))
    }

    /// A token for others that may have these roles, as `dfdaemon token` prints it.
    ///
    /// # Errors
    /// This one may not have all of them.
    pub fn token_for(&self, roles: &str) -> anyhow::Result<String> {
        let mut command = Command::new(program("dfdaemon")?);
        let output = command.args(["token", "--data-dir", "data", "--role", roles]).current_dir(self.dir()).output()?;
        if !output.status.success() {
            bail!("dfdaemon token: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// A token for others that may have the roles of this one.
    pub fn token(&self) -> &str {
        &self.ready.join
    }

    /// Where it listens.
    pub fn listen(&self) -> &[String] {
        &self.ready.listen
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
        self.memory("VmHWM:")
    }

    /// What it has resident, in bytes (`VmRSS`).
    ///
    /// # Errors
    /// The system does not tell.
    pub fn resident(&self) -> anyhow::Result<u64> {
        self.memory("VmRSS:")
    }

    /// How many file descriptors it has open.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn descriptors(&self) -> anyhow::Result<u64> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.process.0.id()))?.count() as u64)
    }

    /// How many of its descriptors are files of its data directory, and how many are anything else.
    ///
    /// # Errors
    /// The process is gone.
    pub fn descriptor_kinds(&self) -> anyhow::Result<(u64, u64)> {
        let (mut files, mut others) = (0, 0);
        for entry in fs::read_dir(format!("/proc/{}/fd", self.process.0.id()))? {
            // One may be closed meanwhile.
            let Ok(target) = fs::read_link(entry?.path()) else { continue };
            if target.starts_with(self.dir.path()) {
                files += 1;
            } else {
                others += 1;
            }
        }
        Ok((files, others))
    }

    /// What its data directory takes on the disk, in bytes: blocks, not lengths, as its files are sparse.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn disk(&self) -> anyhow::Result<u64> {
        Ok(disk_use(&self.dir.path().join("data"))?)
    }

    fn memory(&self, field: &str) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
    }
}

fn disk_use(dir: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        // What is evicted goes away while it is counted.
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        sum += metadata.blocks() * 512;
        if metadata.is_dir() {
            sum += match disk_use(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
                other => other?,
            };
        }
    }
    Ok(sum)
}

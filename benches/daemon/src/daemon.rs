//! Real daemons of this build.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, bail};
use dfget::client::{Client, parse_endpoint};
use dfget::model::ReadyFile;
use tempfile::TempDir;

use crate::processor::memory_of;
use crate::{Place, Running};

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

/// A daemon that serves; killed when dropped.
pub struct Daemon {
    process: Running,
    dir: TempDir,
    ready: ReadyFile,
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The ready file holds a token.
        f.debug_struct("Daemon").field("peer", &self.ready.peer_id).finish_non_exhaustive()
    }
}

/// What a daemon counts, in Prometheus' text format.
#[derive(Clone, Debug)]
pub struct Metrics(String);

impl Metrics {
    /// The metric of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn get(&self, name: &str) -> anyhow::Result<u64> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("no metric {name}"))?.trim().parse()?)
    }
}

/// A directory of a daemon that has ended, for the next one.
#[derive(Debug)]
pub struct Home(TempDir);

/// How a daemon is started.
#[derive(Debug, Default)]
pub struct Launch<'a> {
    /// The directory of one that has ended, in place of a new one.
    pub home: Option<Home>,
    /// Its roles, separated by commas.
    pub role: &'a str,
    /// The network that it joins, in place of one of its own.
    pub token: Option<&'a str>,
    /// More options.
    pub options: &'a [String],
    /// Where it is, in place of the loopback of this machine.
    pub place: Option<&'a Place>,
    /// Where its directory is made, in place of the system's place for temporary files.
    pub within: Option<&'a Path>,
}

impl Launch<'_> {
    /// Starts it; comes back when every engine serves.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(self) -> anyhow::Result<Daemon> {
        let dir = match (self.home, self.within) {
            (Some(home), _) => home.0,
            (None, Some(within)) => tempfile::tempdir_in(within)?,
            (None, None) => tempfile::tempdir()?,
        };
        let program = program("dfdaemon")?;
        let mut command = self.place.map_or_else(|| Command::new(&program), |place| place.command(&program));
        command.args(["--role", self.role, "--data-dir", "data"]);
        command.args(["--ready-file", "ready.json", "--allow-loopback-origins", "--api"]);
        command.arg(format!("unix:{}", dir.path().join("api.sock").display())).args(self.options);
        if !self.options.iter().any(|option| option == "--listen") {
            let address = self.place.map_or(Ipv4Addr::LOCALHOST, Place::address);
            command.args(["--listen", &format!("/ip4/{address}/tcp/0")]);
        }
        if self.place.is_some() {
            // Many hosts on one machine: each is as if it had one processor.
            command.env("TOKIO_WORKER_THREADS", "1");
        }
        command.current_dir(dir.path()).env("HOME", dir.path()).env_remove("DRAGONFLY_JOIN");
        if let Some(token) = self.token {
            command.env("DRAGONFLY_JOIN", token);
        }
        let log = fs::File::options().create(true).append(true).open(dir.path().join("log"))?;
        let mut process = Running::start(command.stderr(log))?;
        let path = dir.path().join("ready.json");
        let ready = loop {
            if let Ok(ready) = fs::read(&path) {
                break serde_json::from_slice(&ready)?;
            }
            if let Some(status) = process.ended()? {
                bail!("the daemon ended: {status}\n{}", fs::read_to_string(dir.path().join("log"))?);
            }
            tokio::time::sleep(LOOK).await;
        };
        Ok(Daemon { process, dir, ready })
    }
}

impl Daemon {
    /// Starts a daemon on ports that the system chooses, with a directory of its own; with `join` as a member of
    /// another one's network. Comes back when every engine serves.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(role: &str, join: Option<&Daemon>) -> anyhow::Result<Self> {
        Launch { role, token: join.map(Self::token), ..Launch::default() }.start().await
    }

    /// Kills it without a word; its directory stays.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(mut self) -> anyhow::Result<Home> {
        self.process.kill()?;
        self.leave()
    }

    /// Asks it to end and waits until it has; its directory stays.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn stop(mut self) -> anyhow::Result<(ExitStatus, Home)> {
        self.process.terminate()?;
        let status = loop {
            if let Some(status) = self.process.ended()? {
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
        Ok(fs::read_dir(format!("/proc/{}/fd", self.process.id()))?.count() as u64)
    }

    /// How many of its descriptors are files of its data directory, and how many are anything else.
    ///
    /// # Errors
    /// The process is gone.
    pub fn descriptor_kinds(&self) -> anyhow::Result<(u64, u64)> {
        let (mut files, mut others) = (0, 0);
        for entry in fs::read_dir(format!("/proc/{}/fd", self.process.id()))? {
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

    /// Processor time that it has used, in seconds.
    ///
    /// # Errors
    /// The process is gone.
    pub fn processor(&self) -> anyhow::Result<f64> {
        self.process.processor()
    }

    /// Its metrics as they stand; over a connection of its own, as the daemon closes idle ones.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn metrics(&self) -> anyhow::Result<Metrics> {
        let text = self.client().await?.bytes(http::Method::GET, "/metrics", None).await?;
        Ok(Metrics(String::from_utf8(text.into())?))
    }

    /// What its data directory takes on the disk, in bytes: blocks, not lengths, as its files are sparse.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn disk(&self) -> anyhow::Result<u64> {
        Ok(disk_use(&self.dir.path().join("data"))?)
    }

    fn memory(&self, field: &str) -> anyhow::Result<u64> {
        memory_of(self.process.id(), field)
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

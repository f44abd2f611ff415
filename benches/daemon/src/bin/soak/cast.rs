//! Who takes part: daemons that live as long as the run, and daemons that come and go.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use dfget::client::parse_endpoint;
use dragonfly_bench::{Daemon, Home, Launch};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Where a daemon's API is for those who fetch through it, and how often the daemon behind it has gone.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) name: String,
    socket: Mutex<Option<PathBuf>>,
    lost: AtomicU64,
    pub(crate) comes_and_goes: bool,
}

impl Door {
    fn new(name: &str, daemon: &Daemon, comes_and_goes: bool) -> anyhow::Result<Arc<Self>> {
        let door = Self { name: name.to_owned(), socket: Mutex::default(), lost: AtomicU64::default(), comes_and_goes };
        door.open(daemon)?;
        Ok(Arc::new(door))
    }

    fn open(&self, daemon: &Daemon) -> anyhow::Result<()> {
        let path = parse_endpoint(daemon.endpoint()?).map_err(anyhow::Error::msg)?;
        *self.socket.lock().unwrap_or_else(PoisonError::into_inner) = Some(path);
        Ok(())
    }

    fn shut(&self) {
        *self.socket.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.lost.fetch_add(1, Ordering::SeqCst);
    }

    /// The socket, unless nobody is behind the door just now.
    pub(crate) fn socket(&self) -> Option<PathBuf> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A number that changes before the daemon behind the door ends.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::SeqCst)
    }
}

/// A daemon that lives as long as the run.
#[derive(Debug)]
pub(crate) struct Lasting {
    pub(crate) name: &'static str,
    pub(crate) daemon: Daemon,
}

/// Everyone.
#[derive(Debug)]
pub(crate) struct Cast {
    pub(crate) lasting: Vec<Lasting>,
    pub(crate) doors: Vec<Arc<Door>>,
    passing: Vec<Passing>,
    token: String,
    options: Vec<String>,
}

#[derive(Debug)]
struct Passing {
    role: &'static str,
    daemon: Daemon,
    door: Arc<Door>,
}

/// What happened to those who come and go.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Churn {
    pub(crate) killed: u64,
    pub(crate) stopped: u64,
    /// Of all: those whose place was taken by a new host, with nothing of what the other held.
    pub(crate) replaced: u64,
}

impl Cast {
    /// Starts everyone; `quota` is what each may keep.
    pub(crate) async fn start(quota: &str) -> anyhow::Result<Self> {
        let options = ["--quota", quota].map(str::to_owned).to_vec();
        let scheduler = start(None, "scheduler", None, &options).await?;
        let token = scheduler.token_for("scheduler,seed,peer")?;
        let mut cast = Self { lasting: Vec::new(), doors: Vec::new(), passing: Vec::new(), token, options };
        cast.lasting.push(Lasting { name: "scheduler", daemon: scheduler });
        for (name, role) in [("seed", "seed"), ("peer 1", "peer"), ("peer 2", "peer")] {
            let daemon = start(None, role, Some(&cast.token), &cast.options).await?;
            if role == "peer" {
                cast.doors.push(Door::new(name, &daemon, false)?);
            }
            cast.lasting.push(Lasting { name, daemon });
        }
        for (name, role) in [("passing scheduler", "scheduler"), ("passing seed", "seed"), ("passing peer 1", "peer")]
            .into_iter()
            .chain([("passing peer 2", "peer")])
        {
            let daemon = start(None, role, Some(&cast.token), &cast.options).await?;
            let door = Door::new(name, &daemon, true)?;
            if role == "peer" {
                cast.doors.push(door.clone());
            }
            cast.passing.push(Passing { role, daemon, door });
        }
        Ok(cast)
    }

    /// Splits into who is measured and who comes and goes.
    pub(crate) fn split(self) -> (Vec<Lasting>, Comings) {
        let Self { lasting, passing, token, options, .. } = self;
        (lasting, Comings { passing, token, options })
    }
}

/// Lets daemons come and go.
#[derive(Debug)]
pub(crate) struct Comings {
    passing: Vec<Passing>,
    token: String,
    options: Vec<String>,
}

impl Comings {
    /// Every so often kills one, half of the time, or asks it to end, and starts the next in its place. Ends when
    /// `until` says so.
    pub(crate) async fn run(mut self, every: Duration, seed: u64, until: &AtomicBool) -> anyhow::Result<Churn> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut churn = Churn::default();
        while !until.load(Ordering::SeqCst) {
            tokio::time::sleep(every).await;
            let victim = self.passing.remove(random.random_range(0..self.passing.len()));
            let Passing { role, daemon, door } = victim;
            door.shut();
            let listen = daemon.listen().first().cloned();
            let home = if random.random_bool(0.5) {
                churn.killed += 1;
                daemon.kill()?
            } else {
                churn.stopped += 1;
                let (status, home) = daemon.stop().await?;
                if !status.success() {
                    bail!("{} ended with {status}", door.name);
                }
                home
            };
            let mut options = self.options.clone();
            let home = if random.random_bool(0.5) {
                // Who comes back is where it was, as machines are.
                options.extend(listen.into_iter().flat_map(|address| ["--listen".to_owned(), address]));
                Some(home)
            } else {
                churn.replaced += 1;
                None
            };
            let token = Some(self.token.as_str());
            let daemon = start(home, role, token, &options).await.context(door.name.clone())?;
            door.open(&daemon)?;
            self.passing.push(Passing { role, daemon, door });
        }
        Ok(churn)
    }
}

async fn start(home: Option<Home>, role: &str, token: Option<&str>, options: &[String]) -> anyhow::Result<Daemon> {
    Launch { home, role, token, options, ..Launch::default() }.start().await
}

/// Lines of a daemon's log that speak of a fault of its own.
pub(crate) fn complaints(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains("panicked") || line.contains("ERROR")).collect()
}

/// The end of a log, for a message.
pub(crate) fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

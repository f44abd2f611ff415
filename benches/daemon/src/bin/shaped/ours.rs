//! Daemons of this build.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use dragonfly_bench::{Daemon, Launch, Machine, Network, Running, payload, program};
use dragonfly_testkit::content;
use http::Method;

use crate::curve::{Curve, Sample};
use crate::report::Report;
use crate::{Args, Case};

/// Of the content of the file, whoever brings it.
pub(crate) const SEED: u64 = 17;
const PATH: &str = "/file";
/// Between two looks at processes.
const LOOK: Duration = Duration::from_millis(2);
/// Between two looks at what everyone has sent and taken in.
const SAMPLE: Duration = Duration::from_millis(100);
const ORIGIN: &str = "dragonfly_origin_bytes_total";
const SENT: &str = "dragonfly_peer_sent_bytes_total";
const RECEIVED: &str = "dragonfly_peer_received_bytes_total";
const REPEATED: &str = "dragonfly_pieces_repeated_total";

/// Who takes part, on a network of its own. The first hosts want the file; the next one has the seed, the last the origin.
struct Fleet<'a> {
    args: &'a Args,
    network: Network,
    url: String,
    hosts: Vec<Daemon>,
    seed: Option<Daemon>,
    /// Ends with the fleet.
    _origin: Running,
}

pub(crate) async fn run(args: &Args, case: Case, dir: &Path) -> anyhow::Result<Report> {
    let fleet = Fleet::start(args, case, dir).await?;
    if let (Case::Warm, Some(seed)) = (case, &fleet.seed) {
        let body = serde_json::json!({ "url": fleet.url }).to_string();
        seed.client().await?.bytes(Method::POST, "/v1/preheat", Some(body.into_bytes())).await?;
        while seed.metrics().await?.get(ORIGIN)? < args.length() {
            tokio::time::sleep(SAMPLE).await;
        }
    }
    for place in fleet.network.places() {
        place.shape(args.rate(), args.rate())?;
    }
    // What starts from here is the file: everyone is a member, and has found the others where nobody introduces them.
    met(&fleet.hosts, if fleet.seed.is_some() { 1 } else { args.hosts - 1 }).await?;
    let report = fleet.fetch().await?;
    check(fleet.hosts.iter().map(|host| host.dir().join("out")), args.length())?;
    Ok(report)
}

impl<'a> Fleet<'a> {
    async fn start(args: &'a Args, case: Case, dir: &Path) -> anyhow::Result<Self> {
        let network = Network::lay(args.hosts + 2)?;
        let (origin_place, seed_place) = (&network.places()[args.hosts + 1], &network.places()[args.hosts]);
        let address = format!("{}:8000", origin_place.address());
        let mut command = origin_place.command(program("testkit-origin")?);
        command.args(["--address", &address]).stdout(Stdio::null());
        command.arg(format!("{PATH}={},seed={SEED},cache-control=max-age=3600", args.length()));
        let origin = Running::start(&mut command)?;

        let mut options = Vec::new();
        if let Some(name) = &args.congestion {
            options.extend(["--lane-congestion".to_owned(), name.clone()]);
        }
        let options = &options[..];
        let launch = Launch { options, within: Some(dir), ..Launch::default() };
        let seed = match case {
            Case::Alone => None,
            _ => Some(Launch { role: "scheduler,seed", place: Some(seed_place), ..launch }.start().await?),
        };
        let mut hosts: Vec<Daemon> = Vec::new();
        for place in &network.places()[..args.hosts] {
            let token = seed.as_ref().or(hosts.first()).map(Daemon::token);
            let launch = Launch { role: "peer", token, options, place: Some(place), within: Some(dir), home: None };
            let host = launch.start().await?;
            hosts.push(host);
        }
        Ok(Self { args, url: format!("http://{address}{PATH}"), network, hosts, seed, _origin: origin })
    }

    /// The seed last.
    fn all(&self) -> impl Iterator<Item = &Daemon> {
        self.hosts.iter().chain(&self.seed)
    }

    fn processor(&self) -> anyhow::Result<f64> {
        self.all().map(Daemon::processor).sum()
    }

    async fn sample(&self, begun: Instant) -> anyhow::Result<Sample> {
        let mut sample = Sample { seconds: begun.elapsed().as_secs_f64(), ..Sample::default() };
        for daemon in self.all() {
            let metrics = daemon.metrics().await?;
            sample.sent.push(metrics.get(SENT)?);
            sample.received.push(metrics.get(RECEIVED)? + metrics.get(ORIGIN)?);
            sample.origin += metrics.get(ORIGIN)?;
            sample.repeated += metrics.get(REPEATED)?;
        }
        Ok(sample)
    }

    /// Everyone fetches at once.
    async fn fetch(&self) -> anyhow::Result<Report> {
        let (before, machine) = (self.processor()?, Machine::now()?);
        let begun = Instant::now();
        let mut fetching = Vec::new();
        for (host, place) in self.hosts.iter().zip(self.network.places()) {
            let mut command = place.command(program("dfget")?);
            command.args(["-q", "-e", host.endpoint()?, "-O", "out", &self.url]).current_dir(host.dir());
            fetching.push(Some(Running::start(&mut command)?));
        }
        let mut done = vec![f64::NAN; self.args.hosts];
        let (mut looked, mut samples, mut clients) = (begun, Vec::new(), 0.0);
        while fetching.iter().any(Option::is_some) {
            for (slot, done) in fetching.iter_mut().zip(&mut done) {
                let Some(running) = slot else { continue };
                let used = running.processor().unwrap_or_default();
                let Some(status) = running.ended()? else { continue };
                ensure!(status.success(), "dfget: {status}");
                *done = begun.elapsed().as_secs_f64();
                clients += used;
                *slot = None;
            }
            if looked.elapsed() >= SAMPLE {
                looked = Instant::now();
                samples.push(self.sample(begun).await?);
            }
            tokio::time::sleep(LOOK).await;
        }
        let busy = Machine::now()?.busy_since(machine);
        let processor = (self.processor()? - before + clients) / self.all().count() as f64;
        let last = self.sample(begun).await?;
        let length = self.args.length() as f64;
        // A piece holds its default length: a 1024th of the file, but no less than 64 KiB.
        let repeated = last.repeated as f64 * (length / 1024.0).max(65536.0);
        let mut report = Report {
            done,
            processor,
            busy,
            origin: Some(last.origin as f64 / length),
            repeated: Some(repeated / (length * self.args.hosts as f64)),
            ..Report::default()
        };
        let curve = Curve { length: self.args.length(), samples };
        if self.seed.is_some() {
            report.injected = last.sent.last().map(|sent| *sent as f64 / length);
            report.injector_use = curve.one_copy().map(|seconds| length / (payload(self.args.rate()) * seconds));
        }
        report.curve = Some(curve);
        Ok(report)
    }
}

/// Everyone has the origin's bytes.
pub(crate) fn check(files: impl Iterator<Item = PathBuf>, length: u64) -> anyhow::Result<()> {
    let want = content::blake3(SEED, length);
    for file in files {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(std::fs::File::open(file)?)?;
        ensure!(*hasher.finalize().as_bytes() == want, "other bytes came");
    }
    Ok(())
}

/// Waits until each of the hosts knows this many other members.
async fn met(hosts: &[Daemon], members: usize) -> anyhow::Result<()> {
    let begun = Instant::now();
    for host in hosts {
        loop {
            let known = host.metrics().await?.get("dragonfly_members")? as usize;
            if known >= members {
                break;
            }
            if begun.elapsed() > Duration::from_secs(30) {
                bail!("a host knows {known} of {members} members; its log ends with\n{}", host.log()?);
            }
            tokio::time::sleep(SAMPLE).await;
        }
    }
    Ok(())
}

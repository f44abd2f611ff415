//! Other systems on the same network.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use dragonfly_bench::{Machine, Network};
use dragonfly_testkit::content;
use serde::Deserialize;

use crate::Args;
use crate::ours::{SEED, check};
use crate::report::Report;

const SCRIPT: &str = include_str!("torrent.py");

/// What a host of libtorrent says at its end.
#[derive(Debug, Deserialize)]
struct Said {
    sent: u64,
    twice: u64,
    /// Of the processor.
    seconds: f64,
}

/// One host.
struct Host {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Host {
    fn start(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("its output")?);
        Ok(Self { child, input, output })
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        ensure!(self.output.read_line(&mut line)? > 0, "a host of libtorrent ended: is it installed for --python?");
        Ok(line)
    }

    fn hears(&mut self, line: &str) -> anyhow::Result<()> {
        Ok(self.input.as_mut().context("its input")?.write_all(line.as_bytes())?)
    }

    fn end(mut self) -> anyhow::Result<Said> {
        drop(self.input.take());
        let said = serde_json::from_str(&self.line()?)?;
        self.child.wait()?;
        Ok(said)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// libtorrent, one seed, everyone connected to everyone.
pub(crate) fn libtorrent(args: &Args, dir: &Path) -> anyhow::Result<Report> {
    let network = Network::lay(args.hosts + 1)?;
    let script = dir.join("torrent.py");
    std::fs::write(&script, SCRIPT)?;
    let addresses: Vec<_> = network.places().iter().map(|place| place.address().to_string()).collect();
    let mut hosts = Vec::new();
    // The seed first: it makes the torrent.
    for number in (0..=args.hosts).rev() {
        let role = if number == args.hosts { "seed" } else { "peer" };
        let home = dir.join(number.to_string());
        std::fs::create_dir(&home)?;
        let file = home.join("file");
        if role == "seed" {
            write(&file, args.length())?;
        }
        let mut command = network.places()[number].command(&args.python);
        command.args(["-W", "ignore"]).arg(&script).arg(role).arg(&file).arg(&addresses[number]);
        command.env("TORRENT", dir.join("torrent"));
        command.args(addresses.iter().skip(number + 1));
        let mut host = Host::start(&mut command)?;
        ensure!(host.line()?.trim() == "ready", "a host of libtorrent did not start");
        hosts.push(host);
    }
    for place in network.places() {
        place.shape(args.rate(), args.rate())?;
    }
    let (machine, begun) = (Machine::now()?, Instant::now());
    let mut waiting = Vec::new();
    for (number, mut host) in hosts.into_iter().enumerate() {
        host.hears("go\n")?;
        waiting.push(std::thread::spawn(move || {
            // The first one has everything from the start.
            ensure!(host.line()?.trim() == "done", "a host of libtorrent failed");
            anyhow::Ok((host, (number > 0).then(|| begun.elapsed().as_secs_f64())))
        }));
    }
    let ended = waiting.into_iter().map(|thread| thread.join().unwrap_or_else(|_| anyhow::bail!("a thread failed")));
    let ended = ended.collect::<anyhow::Result<Vec<_>>>()?;
    let busy = Machine::now()?.busy_since(machine);
    let done = ended.iter().filter_map(|(_, done)| *done).collect();
    let said = ended.into_iter().map(|(host, _)| host.end()).collect::<anyhow::Result<Vec<_>>>()?;
    let homes = (0..args.hosts).map(|number| dir.join(number.to_string()));
    check(homes.map(|home| home.join("file")), args.length())?;
    let length = args.length() as f64;
    Ok(Report {
        done,
        injected: Some(said[0].sent as f64 / length),
        repeated: Some(said.iter().map(|said| said.twice as f64).sum::<f64>() / (length * args.hosts as f64)),
        processor: said.iter().map(|said| said.seconds).sum::<f64>() / said.len() as f64,
        busy,
        ..Report::default()
    })
}

fn write(path: &Path, length: u64) -> anyhow::Result<()> {
    const PART: usize = 1 << 20;
    let mut file = std::fs::File::create(path)?;
    for at in (0..length).step_by(PART) {
        let part = usize::try_from(length - at).unwrap_or(PART).min(PART);
        file.write_all(&content::bytes(SEED, at, part))?;
    }
    Ok(())
}

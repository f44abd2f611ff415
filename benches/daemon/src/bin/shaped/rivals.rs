//! libtorrent on the same network.

use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use dragonfly_bench::{Machine, Network, Torrent, TorrentPart};
use dragonfly_testkit::content;

use crate::Args;
use crate::ours::{SEED, check};
use crate::report::Report;

/// Of hosts with an address each.
pub(crate) const PORT: u16 = 6881;

/// libtorrent, one seed, everyone connected to everyone.
pub(crate) fn libtorrent(args: &Args, dir: &Path) -> anyhow::Result<Report> {
    let network = Network::lay(args.hosts + 1)?;
    let addresses: Vec<_> = network.places().iter().map(|place| place.address().to_string()).collect();
    let mut hosts = Vec::new();
    // The seed first: it makes the torrent.
    for number in (0..=args.hosts).rev() {
        let is_seed = number == args.hosts;
        let home = dir.join(number.to_string());
        std::fs::create_dir(&home)?;
        let file = home.join("file");
        if is_seed {
            write(&file, args.length())?;
        }
        let part = TorrentPart {
            is_seed,
            file: &file,
            torrent: &dir.join("torrent"),
            address: &addresses[number],
            port: PORT,
            others: &addresses[number + 1..],
        };
        hosts.push(Torrent::start(network.places()[number].command(&args.python), &part)?);
    }
    for place in network.places() {
        place.shape(args.rate(), args.rate())?;
    }
    let (machine, begun) = (Machine::now()?, Instant::now());
    let mut waiting = Vec::new();
    for (number, mut host) in hosts.into_iter().enumerate() {
        host.go()?;
        waiting.push(std::thread::spawn(move || {
            // The first one has everything from the start.
            host.done()?;
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

pub(crate) fn write(path: &Path, length: u64) -> anyhow::Result<()> {
    const PART: usize = 1 << 20;
    let mut file = std::fs::File::create(path)?;
    for at in (0..length).step_by(PART) {
        let part = usize::try_from(length - at).unwrap_or(PART).min(PART);
        file.write_all(&content::bytes(SEED, at, part))?;
    }
    Ok(())
}

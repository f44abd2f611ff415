//! aria2 on the same network: its hosts find each other by opentracker, which has no other way to be told.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use dragonfly_bench::{Machine, Network, Place, Running};

use crate::Args;
use crate::ours::check;
use crate::report::Report;
use crate::rivals::{PORT, write};

/// What has to be installed.
const PROGRAMS: [&str; 4] = ["aria2c", "opentracker", "mktorrent", "curl"];

/// Of the tracker.
const TRACKER_PORT: u16 = 6969;

/// Where a host of aria2 says how far it is: each has a loopback of its own.
const RPC: &str = "http://127.0.0.1:6800/jsonrpc";

/// The length of a piece as a power of two: 256 KiB, as libtorrent's hosts have it.
const PIECE_BITS: &str = "18";

/// Between two looks at who is done, and at the tracker.
const LOOK: Duration = Duration::from_millis(2);
const LOOK_TRACKER: Duration = Duration::from_millis(100);

/// For how long a seed may hash what it holds until it is announced.
const ANNOUNCED_MAX: Duration = Duration::from_secs(60);

/// Of each host: nobody is found but by the tracker, everyone serves as many as ask, and goes on to.
const OPTIONS: [&str; 15] = [
    "--no-conf",
    "--no-proxy=*",
    "--quiet",
    "--enable-dht=false",
    "--enable-dht6=false",
    "--bt-enable-lpd=false",
    "--enable-peer-exchange=false",
    "--seed-ratio=0",
    "--bt-max-peers=0",
    "--bt-request-peer-speed-limit=100M",
    "--bt-tracker-interval=3",
    "--file-allocation=none",
    "--disk-cache=64M",
    "--enable-rpc",
    "--rpc-listen-port=6800",
];

/// What is not installed of what this needs.
pub(crate) fn lacks() -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &str| std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    let lacking: Vec<&str> = PROGRAMS.into_iter().filter(|name| !is_there(name)).collect();
    (!lacking.is_empty()).then(|| format!("{} not installed", lacking.join(", ")))
}

/// One seed, everyone at once. A host's time begins with its process.
pub(crate) fn run(args: &Args, dir: &Path) -> anyhow::Result<Report> {
    let network = Network::lay(args.hosts + 2)?;
    let (seed_place, tracker_place) = (&network.places()[args.hosts], &network.places()[args.hosts + 1]);
    let homes: Vec<PathBuf> = (0..=args.hosts).map(|number| dir.join(number.to_string())).collect();
    homes.iter().try_for_each(std::fs::create_dir)?;
    write(&homes[args.hosts].join("file"), args.length())?;

    let tracker = format!("http://{}:{TRACKER_PORT}", tracker_place.address());
    let torrent = dir.join("torrent");
    let mut command = Command::new("mktorrent");
    command.args(["-l", PIECE_BITS, "-a", &format!("{tracker}/announce"), "-o"]).arg(&torrent);
    said(command.arg(homes[args.hosts].join("file")))?;
    let hash = info_hash(&torrent)?;
    let _tracker = track(tracker_place, dir, &hash)?;
    let seed = start(seed_place, &homes[args.hosts], &torrent, true)?;
    announced(seed_place, &tracker, &hash)?;
    for place in network.places() {
        place.shape(args.rate(), args.rate())?;
    }

    let (machine, before, begun) = (Machine::now()?, seed.processor()?, Instant::now());
    let mut hosts = Vec::new();
    for (place, home) in network.places().iter().zip(&homes[..args.hosts]) {
        hosts.push(start(place, home, &torrent, false)?);
    }
    let mut done = vec![f64::NAN; args.hosts];
    while done.iter().any(|done| done.is_nan()) {
        for ((host, home), done) in hosts.iter_mut().zip(&homes).zip(&mut done) {
            if done.is_nan() && home.join(DONE).exists() {
                *done = begun.elapsed().as_secs_f64();
            }
            ensure!(host.ended()?.is_none(), "a host of aria2 ended");
        }
        std::thread::sleep(LOOK);
    }
    let busy = Machine::now()?.busy_since(machine);
    let processor: f64 = hosts.iter().map(Running::processor).sum::<anyhow::Result<f64>>()?;
    let processor = (processor + seed.processor()? - before) / (args.hosts + 1) as f64;
    let injected = Some(uploaded(seed_place)? as f64 / args.length() as f64);
    check(homes[..args.hosts].iter().map(|home| home.join("file")), args.length())?;
    Ok(Report { done, injected, processor, busy, ..Report::default() })
}

/// What a host leaves in its directory once it has everything.
const DONE: &str = "1";

fn start(place: &Place, home: &Path, torrent: &Path, is_seed: bool) -> anyhow::Result<Running> {
    let mut command = place.command("aria2c");
    command.args(OPTIONS).arg(format!("--listen-port={PORT}"));
    command.arg(format!("--bt-external-ip={}", place.address())).arg("-d").arg(home);
    if is_seed {
        // It has to look at what it holds before it says so.
        command.arg("-V");
    } else {
        // That is called with the download's number, the number of its files, and the first one's path: it makes a file of
        // the second's name.
        command.arg("--on-bt-download-complete=touch");
    }
    command.arg(torrent).current_dir(home).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(Running::start(&mut command)?)
}

/// The tracker. Debian's serves only what its list names, and sees nothing but the directory that it is given.
fn track(place: &Place, dir: &Path, hash: &str) -> anyhow::Result<Running> {
    let home = dir.join("tracker");
    std::fs::create_dir(&home)?;
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o755))?;
    writeln!(std::fs::File::create(home.join("listed"))?, "{hash}")?;
    let (address, port) = (place.address().to_string(), TRACKER_PORT.to_string());
    let mut command = place.command("opentracker");
    command.args(["-i", &address, "-p", &port, "-P", &port, "-w", "listed", "-d"]).arg(&home);
    Ok(Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()))?)
}

fn info_hash(torrent: &Path) -> anyhow::Result<String> {
    let shown = said(Command::new("aria2c").arg("-S").arg(torrent))?;
    let shown = String::from_utf8_lossy(&shown).into_owned();
    let hash = shown.lines().find_map(|line| line.strip_prefix("Info Hash: "));
    let hash = hash.context("aria2c -S shows no hash")?.trim().to_owned();
    ensure!(hash.len() == 40 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "no hash: {hash}");
    Ok(hash)
}

/// Waits until the tracker knows the seed.
fn announced(place: &Place, tracker: &str, hash: &str) -> anyhow::Result<()> {
    let escaped: String = (0..hash.len()).step_by(2).map(|at| format!("%{}", &hash[at..at + 2])).collect();
    let begun = Instant::now();
    while begun.elapsed() < ANNOUNCED_MAX {
        let mut command = place.command("curl");
        command.args(["-s", "--noproxy", "*", &format!("{tracker}/scrape?info_hash={escaped}")]);
        // It may not listen yet.
        let answer = command.output()?.stdout;
        if answer.windows(12).any(|part| part == b"8:completei1") {
            return Ok(());
        }
        std::thread::sleep(LOOK_TRACKER);
    }
    bail!("the seed of aria2 was not announced within {ANNOUNCED_MAX:?}")
}

/// Bytes of content that a host has sent.
fn uploaded(place: &Place) -> anyhow::Result<u64> {
    let call = r#"{"jsonrpc":"2.0","id":"1","method":"aria2.tellActive","params":[["uploadLength"]]}"#;
    let answer = said(place.command("curl").args(["-sS", "--noproxy", "*", "-d", call, RPC]))?;
    let answer: serde_json::Value = serde_json::from_slice(&answer)?;
    let bytes = answer["result"][0]["uploadLength"].as_str().context("aria2 says no uploadLength")?;
    Ok(bytes.parse()?)
}

/// What a program says.
fn said(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let output = command.stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(output.stdout)
}

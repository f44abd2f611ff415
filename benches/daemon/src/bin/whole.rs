//! Whole programs side by side: `dfget` through a warm daemon against `cp`; cold against `curl` and `aria2c`; from
//! a neighbour against `curl` from nginx over HTTPS, and libtorrent; then the same way within one process, against a bare
//! program and libp2p's streams (`--bin lane`). Wall time, and the processor time of both ends.
//!
//! `cargo build --release -p dfget -p dragonfly-bench && cargo run --release -p dragonfly-bench --bin whole`; needs `nginx`
//! and `curl`. What else is not there is told.
#![allow(clippy::print_stdout, reason = "benches print what they measured")]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use clap::Parser;
use dragonfly_bench::{Daemon, Launch, Running, Torrent, TorrentPart, program};
use dragonfly_testkit::content;

const SEED: u64 = 17;

/// Bytes that are written at a time.
const CHUNK: usize = 256 << 10;

/// Measures whole programs side by side.
#[derive(Parser)]
struct Args {
    /// The content's length in MiB.
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    /// How often each is measured, in turns.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Where content and outputs are written (default: the system's place for temporary files).
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Measures the cases alone whose names contain this: held, cold, neighbour, lane.
    #[arg(long, default_value = "")]
    only: String,
    /// A Python that has libtorrent.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
}

/// One measurement: seconds on the wall and of processor time.
#[derive(Clone, Copy, Debug)]
struct Cost {
    wall: f64,
    processor: f64,
}

/// What is compared with a goal.
#[derive(Clone, Copy)]
enum By {
    Wall,
    Processor,
}

/// What was measured of one program.
struct Row {
    name: &'static str,
    costs: Vec<Cost>,
    /// What `dfget` should be of it at the most.
    goal: Option<(By, f64)>,
}

struct Bench {
    args: Args,
    dir: tempfile::TempDir,
    nginx: Nginx,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let dir = match &args.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let served = dir.path().join("served");
    fs::create_dir(&served)?;
    content_file(&served.join("file"), args.mib << 20)?;
    let nginx = Nginx::start(dir.path(), &served)?;
    let bench = Bench { args, dir, nginx };
    println!("{} MiB, median of {}", bench.args.mib, bench.args.rounds);
    if "held".contains(&bench.args.only) {
        show("held by a daemon (without it)", &bench.held().await?, bench.args.mib);
    }
    if "cold".contains(&bench.args.only) {
        show("cold, over HTTP from nginx", &bench.cold()?, bench.args.mib);
    }
    if "neighbour".contains(&bench.args.only) {
        show("from the next host, both ends", &bench.neighbour().await?, bench.args.mib);
    }
    if "lane".contains(&bench.args.only) {
        bench.lane()?;
    }
    Ok(())
}

/// The last row is ours: what it is of each other.
fn show(title: &str, rows: &[Row], mib: u64) {
    println!("{title:36} seconds  processor s/GB");
    let Some((ours, others)) = rows.split_last() else { return };
    let gigabytes = (mib << 20) as f64 / 1e9;
    for row in rows {
        println!("  {:34} {:7.2} {:15.2}", row.name, row.median(By::Wall), row.median(By::Processor) / gigabytes);
    }
    for row in others {
        let of = |by| ours.median(by) / row.median(by);
        print!("  of {}: seconds {:.2}, processor {:.2}", row.name, of(By::Wall), of(By::Processor));
        match row.goal {
            None => println!(),
            Some((by, goal)) => {
                let word = if of(by) <= goal { "met" } else { "missed" };
                let what = if matches!(by, By::Wall) { "seconds" } else { "processor" };
                println!("; goal {what} {goal:.1}: {word}");
            }
        }
    }
}

impl Bench {
    fn output(&self) -> PathBuf {
        self.dir.path().join("output")
    }

    /// Runs one program whose output must be the content.
    fn timed(&self, command: &mut Command) -> anyhow::Result<Cost> {
        let output = self.output();
        let started = Instant::now();
        command.stdout(Stdio::null()).env_remove("DRAGONFLY_JOIN").env("HOME", self.dir.path());
        let (status, processor) = Running::start(command)?.finish()?;
        let wall = started.elapsed().as_secs_f64();
        ensure!(status.success(), "{command:?}: {status}");
        ensure!(fs::metadata(&output)?.len() == self.args.mib << 20, "{command:?} left another length");
        fs::remove_file(&output)?;
        Ok(Cost { wall, processor })
    }

    fn dfget(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(program("dfget")?);
        command.args(["-q", "-O"]).arg(self.output());
        Ok(command)
    }

    async fn held(&self) -> anyhow::Result<Vec<Row>> {
        let daemon = self.daemon("peer", None).await?;
        let url = self.nginx.url();
        // What is there is copied once by each first: the page cache is warm for both.
        let dfget = || -> anyhow::Result<Cost> { self.timed(self.dfget()?.args(["-e", daemon.endpoint()?, &url])) };
        dfget()?;
        let mut copy = Row::new("cp --reflink=never").goal(By::Wall, 1.1);
        let mut ours = Row::new("dfget");
        for _ in 0..self.args.rounds {
            let from = self.dir.path().join("served/file");
            copy.costs.push(self.timed(Command::new("cp").arg("--reflink=never").arg(from).arg(self.output()))?);
            ours.costs.push(dfget()?);
        }
        Ok(vec![copy, ours])
    }

    fn cold(&self) -> anyhow::Result<Vec<Row>> {
        let url = self.nginx.url();
        let mut curl = Row::new("curl").goal(By::Wall, 1.1);
        let mut aria = Row::new("aria2c -x4").goal(By::Wall, 1.1);
        let mut ours = Row::new("dfget --standalone");
        let is_there = Command::new("aria2c").arg("--version").stdout(Stdio::null()).status().is_ok();
        if !is_there {
            println!("aria2c is not there: not measured");
        }
        for _ in 0..self.args.rounds {
            curl.costs.push(self.timed(Command::new("curl").args(["-sS", "-o"]).arg(self.output()).arg(&url))?);
            if is_there {
                let mut command = Command::new("aria2c");
                command.args(["-q", "-x4", "-s4", "--file-allocation=none", "-d"]).arg(self.dir.path());
                aria.costs.push(self.timed(command.args(["-o", "output", &url]))?);
            }
            ours.costs.push(self.timed(self.dfget()?.args(["--standalone", &url]))?);
        }
        Ok([curl, aria, ours].into_iter().filter(|row| !row.costs.is_empty()).collect())
    }

    async fn neighbour(&self) -> anyhow::Result<Vec<Row>> {
        let mut curl = Row::new("curl from nginx, HTTPS").goal(By::Processor, 1.0);
        let mut torrent = Row::new("libtorrent, not encrypted").goal(By::Processor, 0.4);
        let mut ours = Row::new("dfget, daemon and neighbour");
        let is_there = Torrent::is_there(&self.args.python);
        if !is_there {
            println!("{} has no libtorrent: not measured", self.args.python.display());
        }
        let url = self.nginx.url();
        let seed = self.daemon("scheduler,seed", None).await?;
        let holder = self.daemon("peer", Some(&seed)).await?;
        self.timed(self.dfget()?.args(["-e", holder.endpoint()?, &url]))?;
        for _ in 0..self.args.rounds {
            let before = self.nginx.process.processor()?;
            let mut command = Command::new("curl");
            command.args(["-sSk", "-o"]).arg(self.output()).arg(self.nginx.secure_url());
            let cost = self.timed(&mut command)?;
            curl.costs.push(cost.with(self.nginx.process.processor()? - before));
            if is_there {
                torrent.costs.push(self.torrent()?);
            }
            let taker = self.daemon("peer", Some(&seed)).await?;
            let ends = || -> anyhow::Result<f64> { Ok(seed.processor()? + holder.processor()? + taker.processor()?) };
            let before = ends()?;
            let cost = self.timed(self.dfget()?.args(["-e", taker.endpoint()?, &url]))?;
            ours.costs.push(cost.with(ends()? - before));
            // One that asks the server would look cheap: its processor time is not counted here.
            let from_peers = taker.metrics().await?.get("dragonfly_peer_received_bytes_total")?;
            ensure!(from_peers >= self.args.mib << 20, "{from_peers} bytes alone came from the neighbours");
        }
        Ok([curl, torrent, ours].into_iter().filter(|row| !row.costs.is_empty()).collect())
    }

    /// One host of libtorrent has everything, the other one takes it; what both used from when they met.
    fn torrent(&self) -> anyhow::Result<Cost> {
        let home = tempfile::tempdir_in(self.dir.path())?;
        let (torrent, file) = (home.path().join("torrent"), home.path().join("file"));
        let (there, here, port) = ("127.0.0.2", "127.0.0.3", free_port()?);
        let served = self.dir.path().join("served/file");
        let part = TorrentPart { is_seed: true, file: &served, torrent: &torrent, address: there, port, others: &[] };
        let mut seed = Torrent::start(Command::new(&self.args.python), &part)?;
        seed.go()?;
        seed.done()?;
        let others = [there.to_owned()];
        let part = TorrentPart { is_seed: false, file: &file, address: here, others: &others, ..part };
        let mut peer = Torrent::start(Command::new(&self.args.python), &part)?;
        let ends = |peer: &Torrent| -> anyhow::Result<f64> { Ok(seed.processor()? + peer.processor()?) };
        let (before, started) = (ends(&peer)?, Instant::now());
        peer.go()?;
        peer.done()?;
        let cost = Cost { wall: started.elapsed().as_secs_f64(), processor: ends(&peer)? - before };
        peer.end()?;
        seed.end()?;
        ensure!(fs::metadata(&file)?.len() == self.args.mib << 20, "libtorrent left another length");
        Ok(cost)
    }

    /// The same way within one process, beside a bare program and libp2p's streams.
    fn lane(&self) -> anyhow::Result<()> {
        let mut command = Command::new(program("lane")?);
        command.args(["--mib", &self.args.mib.to_string(), "--rounds", &self.args.rounds.to_string()]);
        command.arg("--dir").arg(self.dir.path());
        let status = command.status()?;
        ensure!(status.success(), "{command:?}: {status}");
        Ok(())
    }

    async fn daemon(&self, role: &str, join: Option<&Daemon>) -> anyhow::Result<Daemon> {
        let within = Some(self.dir.path());
        Launch { role, token: join.map(Daemon::token), within, ..Launch::default() }.start().await
    }
}

impl Row {
    fn new(name: &'static str) -> Self {
        Self { name, costs: Vec::new(), goal: None }
    }

    fn goal(mut self, by: By, goal: f64) -> Self {
        self.goal = Some((by, goal));
        self
    }

    fn median(&self, by: By) -> f64 {
        let of = |cost: &Cost| match by {
            By::Wall => cost.wall,
            By::Processor => cost.processor,
        };
        let mut sorted: Vec<f64> = self.costs.iter().map(of).collect();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }
}

impl Cost {
    /// With what the other end used.
    fn with(self, processor: f64) -> Self {
        Self { processor: self.processor + processor, ..self }
    }
}

fn content_file(path: &Path, length: u64) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut file = fs::File::create(path)?;
    let mut block = vec![0; CHUNK];
    for offset in (0..length).step_by(CHUNK) {
        content::fill(SEED, offset, &mut block);
        file.write_all(&block[..(length - offset).min(CHUNK as u64) as usize])?;
    }
    Ok(())
}

/// nginx, one process, with a directory at an address for HTTP and one for HTTPS.
struct Nginx {
    process: Running,
    plain: u16,
    secure: u16,
}

impl Nginx {
    fn start(dir: &Path, served: &Path) -> anyhow::Result<Self> {
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        fs::write(dir.join("certificate.pem"), key.cert.pem())?;
        fs::write(dir.join("key.pem"), key.signing_key.serialize_pem())?;
        let (plain, secure) = (free_port()?, free_port()?);
        let (at, root) = (dir.display(), served.display());
        let config = format!(
            "daemon off; master_process off; pid {at}/nginx.pid; error_log {at}/nginx.log; events {{ }}\n\
             http {{ access_log off; sendfile on; tcp_nopush on; add_header Cache-Control max-age=86400;\n\
             client_body_temp_path {at}/t1; proxy_temp_path {at}/t2; fastcgi_temp_path {at}/t3;\n\
             uwsgi_temp_path {at}/t4; scgi_temp_path {at}/t5;\n\
             server {{ listen 127.0.0.1:{plain}; listen 127.0.0.1:{secure} ssl; root {root};\n\
             ssl_certificate {at}/certificate.pem; ssl_certificate_key {at}/key.pem; ssl_protocols TLSv1.3;\n\
             ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256; }} }}\n"
        );
        let path = dir.join("nginx.conf");
        fs::write(&path, config)?;
        let mut command = Command::new("nginx");
        let process = Running::start(command.arg("-c").arg(&path).stderr(Stdio::null()))
            .context("nginx is not there, or does not start")?;
        let mut nginx = Self { process, plain, secure };
        while std::net::TcpStream::connect(("127.0.0.1", plain)).is_err() {
            ensure!(nginx.process.ended()?.is_none(), "nginx: {}", fs::read_to_string(dir.join("nginx.log"))?);
            std::thread::yield_now();
        }
        Ok(nginx)
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/file", self.plain)
    }

    fn secure_url(&self) -> String {
        format!("https://127.0.0.1:{}/file", self.secure)
    }
}

/// nginx cannot be told to take any port.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

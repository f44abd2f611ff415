//! What it costs to move content from one host to the next: processor time a gigabyte, both ends, over lanes, encrypted and
//! not, and over libp2p's streams, beside a bare program that encrypts, hashes and writes and does nothing else.
//!
//! `cargo run --release -p dragonfly-bench --bin lane`
#![allow(clippy::print_stdout, reason = "benches print what they measured")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use clap::Parser;
use dragonfly_core::net::Carrier;
use dragonfly_core::{Address, Node, Peer, Request, Scheduler, Token, TokenOptions};
use dragonfly_testkit::{Origin, Resource, content};
use rustix::time::{ClockId, clock_gettime};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};

const SEED: u64 = 11;

/// Bytes that the bare program reads, encrypts, hashes and writes at a time.
const CHUNK: usize = 256 << 10;

/// Measures the way from one host to the next.
#[derive(Parser)]
struct Args {
    /// The content's length in MiB.
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    /// How often each way is measured, in turns.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Where content and outputs are written (default: the system's place for temporary files).
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Measures the ways alone whose names contain this, to be profiled.
    #[arg(long, default_value = "")]
    only: String,
}

/// One measurement.
#[derive(Clone, Copy)]
struct Cost {
    /// Processor time of both ends, in seconds a gigabyte.
    processor: f64,
    /// Gigabytes a second.
    rate: f64,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let dir = match &args.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let length = args.mib << 20;
    let runtime = tokio::runtime::Runtime::new()?;
    let all: [(&str, Way); 5] = [
        ("bare TLS + BLAKE3 + pwrite", Way::Bare),
        ("lane", Way::Swarm { listen: "/ip4/127.0.0.1/tcp/0", lanes: Lanes::Encrypted }),
        ("lane without encryption", Way::Swarm { listen: "/ip4/127.0.0.1/tcp/0", lanes: Lanes::Plain }),
        ("libp2p stream, TCP + TLS + yamux", Way::Swarm { listen: "/ip4/127.0.0.1/tcp/0", lanes: Lanes::None }),
        ("libp2p stream, QUIC", Way::Swarm { listen: "/ip4/127.0.0.1/udp/0/quic-v1", lanes: Lanes::None }),
    ];
    let ways: Vec<_> = all.into_iter().filter(|(name, _)| name.contains(&args.only)).collect();
    ensure!(!ways.is_empty(), "there is no way of this name");
    let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); ways.len()];
    let source = dir.path().join("source");
    content_file(&source, length)?;
    for round in 0..args.rounds {
        for ((_, way), costs) in ways.iter().zip(&mut costs) {
            let place = dir.path().join("round");
            std::fs::create_dir(&place)?;
            let cost = match way {
                Way::Bare => bare(&source, &place.join("output"), length)?,
                Way::Swarm { listen, lanes } => runtime.block_on(swarm(&place, listen, *lanes, length))?,
            };
            costs.push(cost);
            std::fs::remove_dir_all(&place)?;
        }
        eprintln!("round {} of {}", round + 1, args.rounds);
    }
    println!("{} MiB, median of {}: processor seconds a GB, both ends; GB/s; against the first", args.mib, args.rounds);
    let first = median(&costs[0]);
    for ((name, _), costs) in ways.iter().zip(&costs) {
        let cost = median(costs);
        println!("{name:34} {:6.2} {:6.2} {:6.2}", cost.processor, cost.rate, cost.processor / first.processor);
    }
    Ok(())
}

enum Way {
    Bare,
    Swarm { listen: &'static str, lanes: Lanes },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lanes {
    None,
    Encrypted,
    Plain,
}

fn median(costs: &[Cost]) -> Cost {
    let mut sorted = costs.to_vec();
    sorted.sort_by(|a, b| a.processor.total_cmp(&b.processor));
    sorted[sorted.len() / 2]
}

/// Processor time that this process has used, in seconds.
fn processor() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn cost(length: u64, (started, used): (Instant, f64)) -> Cost {
    let gigabytes = length as f64 / 1e9;
    Cost { processor: (processor() - used) / gigabytes, rate: gigabytes / started.elapsed().as_secs_f64() }
}

fn content_file(path: &Path, length: u64) -> anyhow::Result<()> {
    let mut file = File::create(path)?;
    let mut block = vec![0; CHUNK];
    for offset in (0..length).step_by(CHUNK) {
        content::fill(SEED, offset, &mut block);
        let rest = (length - offset).min(CHUNK as u64) as usize;
        file.write_all(&block[..rest])?;
    }
    Ok(())
}

/// One host holds the content, another takes it from there.
async fn swarm(dir: &Path, listen: &str, lanes: Lanes, length: u64) -> anyhow::Result<Cost> {
    let origin = Origin::start().await?;
    origin.set("/file", Resource::seeded(SEED, length).header("cache-control", "max-age=3600"));
    let url = origin.url("/file");
    let (first, _) = start(dir.join("first"), listen, lanes, None).await?;
    let scheduler = Scheduler::builder(&first).start().await?;
    let token = first.token(TokenOptions::default())?;
    let (holder, holding) = start(dir.join("holder"), listen, lanes, Some(&token)).await?;
    holding.fetch(Request::new(&url)).await?;
    let (taker, taking) = start(dir.join("taker"), listen, lanes, Some(&token)).await?;

    let begun = (Instant::now(), processor());
    let output = dir.join("output");
    let receipt = taking.fetch(Request::new(&url).output(&output)).await?;
    let cost = cost(length, begun);
    ensure!(receipt.bytes_from_peers == length, "{receipt:?}");
    ensure!(receipt.blake3.bytes() == content::blake3(SEED, length), "other bytes came");
    let carriers: Vec<_> = taking.neighbours().await?.iter().filter_map(|info| info.carrier).collect();
    let wanted = match lanes {
        Lanes::None => Carrier::Muxed,
        Lanes::Encrypted => Carrier::Lane,
        Lanes::Plain => Carrier::Plain,
    };
    ensure!(!carriers.is_empty() && carriers.iter().all(|carrier| *carrier == wanted), "carried by {carriers:?}");

    for (node, peer) in [(taker, taking), (holder, holding)] {
        peer.shutdown().await?;
        node.shutdown().await?;
    }
    scheduler.shutdown().await?;
    first.shutdown().await?;
    Ok(cost)
}

async fn start(dir: PathBuf, listen: &str, lanes: Lanes, token: Option<&Token>) -> anyhow::Result<(Node, Peer)> {
    let listen: Address = listen.parse()?;
    let mut builder = Node::builder().data_dir(dir).listen(listen).allow_loopback_origins(true);
    if let Some(token) = token {
        builder = builder.join(token.clone());
    }
    builder = match lanes {
        Lanes::None => builder.no_lanes(),
        Lanes::Encrypted => builder,
        Lanes::Plain => builder.plain_lanes(true),
    };
    let node = builder.start().await?;
    let peer = Peer::builder(&node).start().await?;
    Ok((node, peer))
}

/// Two threads and a TLS connection, AES-128-GCM, between them.
fn bare(source: &Path, output: &Path, length: u64) -> anyhow::Result<Cost> {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let certificate = key.cert.der().clone();
    let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()));
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites = vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    let provider = Arc::new(provider);
    let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], secret)?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate)?;
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let source = File::open(source)?;
    let begun = (Instant::now(), processor());
    let sender = std::thread::spawn(move || -> anyhow::Result<()> {
        let (tcp, _) = listener.accept()?;
        tcp.set_nodelay(true)?;
        let mut tls = rustls::StreamOwned::new(rustls::ServerConnection::new(Arc::new(server))?, tcp);
        let mut chunk = vec![0; CHUNK];
        let mut offset = 0;
        while offset < length {
            let read = source.read_at(&mut chunk, offset)?;
            ensure!(read > 0, "the source is short");
            tls.write_all(&chunk[..read])?;
            offset += read as u64;
        }
        tls.conn.send_close_notify();
        tls.flush()?;
        Ok(())
    });
    let tcp = TcpStream::connect(address)?;
    tcp.set_nodelay(true)?;
    let session = rustls::ClientConnection::new(Arc::new(client), ServerName::try_from("localhost")?)?;
    let mut tls = rustls::StreamOwned::new(session, tcp);
    let file = File::create(output)?;
    let mut hasher = blake3::Hasher::new();
    let mut chunk = vec![0; CHUNK];
    let mut offset = 0;
    while offset < length {
        let mut filled = 0;
        while filled < CHUNK && offset + (filled as u64) < length {
            let read = tls.read(&mut chunk[filled..])?;
            ensure!(read > 0, "the sender stopped");
            hasher.update(&chunk[filled..filled + read]);
            filled += read;
        }
        file.write_all_at(&chunk[..filled], offset)?;
        offset += filled as u64;
    }
    let hash = hasher.finalize();
    let cost = cost(length, begun);
    ensure!(*hash.as_bytes() == content::blake3(SEED, length), "other bytes came");
    sender.join().ok().context("the sender panicked")??;
    Ok(cost)
}

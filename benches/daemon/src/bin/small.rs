//! What 1 KiB costs through a warm daemon when a neighbour holds it, beside the same bytes straight from their origin.
//!
//! `cargo build --release -p dfget && cargo run --release -p dragonfly-bench --bin small`
#![allow(clippy::print_stdout, reason = "benches print what they measured")]

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use clap::Parser;
use dfget::client::Client;
use dfget::model::{FetchRequest, ReceiptBody};
use dragonfly_bench::{Daemon, Times, program};
use dragonfly_testkit::{Origin, Resource, content};
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

const SEED: u64 = 5;

/// Measures small fetches through a warm daemon.
#[derive(Parser)]
struct Args {
    /// How many files are fetched, one after the other.
    #[arg(long, default_value_t = 200)]
    files: u64,
    /// Their length in bytes.
    #[arg(long, default_value_t = 1024)]
    length: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let origin = Origin::start().await?;
    for file in 0..args.files {
        // Fresh for as long as this runs, so that it measures the neighbour and not the origin.
        let resource = Resource::seeded(SEED + file, args.length).header("cache-control", "max-age=3600");
        origin.set(path(file), resource);
    }
    let seed = Daemon::start("scheduler,seed", None).await?;
    let holder = Daemon::start("peer", Some(&seed)).await?;
    let peer = Daemon::start("peer", Some(&seed)).await?;

    let mut client = holder.client().await?;
    for file in 0..args.files {
        fetch(&mut client, &origin.url(&path(file)), SEED + file).await?;
    }
    let sent = origin.counters().body_bytes.values().sum::<u64>();
    ensure!(sent == args.files * args.length, "the origin sent {sent} bytes");

    let mut client = peer.client().await?;
    let (mut direct, mut door, mut neighbour, mut held, mut whole) = Default::default();
    for file in 0..args.files {
        let started = Instant::now();
        client.bytes(Method::GET, "/healthz", None).await?;
        note(&mut door, started);
        let started = Instant::now();
        let receipt = fetch(&mut client, &origin.url(&path(file)), SEED + file).await?;
        note(&mut neighbour, started);
        ensure!(receipt.bytes_from_peers == args.length, "not from a peer: {receipt:?}");
        let started = Instant::now();
        fetch(&mut client, &origin.url(&path(file)), SEED + file).await?;
        note(&mut held, started);
    }
    ensure!(origin.counters().body_bytes.values().sum::<u64>() == sent, "the origin was asked again");
    for file in 0..args.files {
        get(&origin.url(&path(file)), &mut direct).await?;
    }
    for file in 0..args.files.min(50) {
        let mut command = Command::new(program("dfget")?);
        command.args(["-q", "--overwrite", "-e", holder.endpoint()?, "-O", "out", &origin.url(&path(file))]);
        let started = Instant::now();
        let status = tokio::task::block_in_place(|| command.current_dir(peer.dir()).stdin(Stdio::null()).status())?;
        note(&mut whole, started);
        ensure!(status.success(), "dfget: {status}");
    }
    println!("{} files of {} bytes, loopback", args.files, args.length);
    println!("a round trip to the daemon's API           {door}");
    println!("an HTTP GET from the origin, new connection {direct}");
    println!("through the daemon, a neighbour holds it    {neighbour}");
    println!("through the daemon, it holds it itself      {held}");
    println!("the whole process dfget, daemon holds it    {whole}");
    let ratio = |a: &Times, b: &Times| a.quantile(0.5).as_secs_f64() / b.quantile(0.5).as_secs_f64();
    println!("from a neighbour / HTTP GET: {:.2}", ratio(&neighbour, &direct));
    Ok(())
}

fn path(file: u64) -> String {
    format!("/{file}")
}

fn note(times: &mut Times, since: Instant) {
    times.add(since.elapsed());
}

async fn fetch(client: &mut Client, url: &str, seed: u64) -> anyhow::Result<ReceiptBody> {
    let request = serde_json::json!({ "url": url });
    let request: FetchRequest = serde_json::from_value(request)?;
    let mut content = client.fetch(&request).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = content.chunk().await? {
        bytes.extend_from_slice(&chunk);
    }
    let receipt = content.receipt()?;
    ensure!(bytes == content::bytes(seed, 0, bytes.len()), "wrong bytes");
    Ok(receipt)
}

async fn get(url: &str, times: &mut Times) -> anyhow::Result<()> {
    let uri: http::Uri = url.parse()?;
    let authority = uri.authority().context("a URL with a host")?.to_string();
    let started = Instant::now();
    let stream = TcpStream::connect(&authority).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get(uri.path()).header(header::HOST, authority).body(Empty::<Bytes>::new())?;
    sender.send_request(request).await?.into_body().collect().await?;
    note(times, started);
    Ok(())
}

//! An origin as a program, for benches between processes and hosts.
//!
//! `testkit-origin [--tls] [--address IP:PORT] [--rate BYTES_PER_S] PATH=LENGTH[,OPTION]...`
//!
//! Options: `seed=N` (default 1), `no-ranges`, `no-etag`, `etag=TAG`, `no-last-modified`, `chunked`,
//! `rate=BYTES_PER_S`, `cache-control=VALUE` (no commas), `reset-after=BYTES`. A length may end in K, M or G (powers of 1024).
//!
//! Prints one line `listening URL`, with `--tls` then the authority's PEM. `GET /_stats` answers with the counters as
//! JSON; they are printed to stdout on SIGTERM and SIGINT.

use std::process::ExitCode;

use dragonfly_testkit::{Builder, Origin, Resource};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("testkit-origin: {message}");
            ExitCode::from(2)
        }
    }
}

async fn run() -> Result<(), String> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let (builder, resources) = arguments(std::env::args().skip(1))?;
    let origin = builder.start().await.map_err(|error| format!("cannot listen: {error}"))?;
    for (path, resource) in resources {
        origin.set(path, resource);
    }
    println!("listening {}", origin.url(""));
    if let Some(pem) = origin.ca_pem() {
        print!("{pem}");
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    println!("{}", origin.counters().to_json());
    Ok(())
}

fn arguments(mut args: impl Iterator<Item = String>) -> Result<(Builder, Vec<(String, Resource)>), String> {
    let mut builder = Origin::builder();
    let mut resources = Vec::new();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--tls" => builder = builder.tls(),
            "--address" => {
                let value = value()?;
                builder = builder.address(value.parse().map_err(|_| format!("{value} is no IP:PORT"))?);
            }
            "--rate" => builder = builder.rate(size(&value()?)?),
            _ => resources.push(resource(&arg)?),
        }
    }
    Ok((builder, resources))
}

fn resource(arg: &str) -> Result<(String, Resource), String> {
    let (path, rest) = arg
        .split_once('=')
        .filter(|(path, _)| path.starts_with('/'))
        .ok_or_else(|| format!("{arg} is neither an option nor PATH=LENGTH[,OPTION]..."))?;
    let mut parts = rest.split(',');
    let length = size(parts.next().unwrap_or_default())?;
    let options: Vec<(&str, &str)> = parts.map(|part| part.split_once('=').unwrap_or((part, ""))).collect();
    let seed = options.iter().find(|(name, _)| *name == "seed").map_or(Ok(1), |(_, value)| size(value))?;
    let mut resource = Resource::seeded(seed, length);
    for (name, value) in options {
        resource = match name {
            "cache-control" => resource.header("cache-control", value),
            "chunked" => resource.chunked(),
            "etag" => resource.etag(value),
            "no-etag" => resource.no_etag(),
            "no-last-modified" => resource.no_last_modified(),
            "no-ranges" => resource.no_ranges(),
            "rate" => resource.rate(size(value)?),
            "reset-after" => resource.reset_after(size(value)?, u64::MAX),
            "seed" => resource,
            other => return Err(format!("unknown option {other}")),
        };
    }
    Ok((path.to_owned(), resource))
}

fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.chars().last() {
        Some('K') => (&text[..text.len() - 1], 10),
        Some('M') => (&text[..text.len() - 1], 20),
        Some('G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is no size"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text} is too large"))
}

//! A hub of models as a program, for real clients and for daemons.
//!
//! `testkit-hub [--address IP:PORT] [--token TOKEN] DIRECTORY`
//!
//! Serves the files below DIRECTORY, `models/OWNER/NAME/...` and of `datasets` and `spaces`, as they are when it starts.
//! Prints one line `listening URL`; SIGTERM and SIGINT end it.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use dragonfly_testkit::{Hub, HubConfig};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("testkit-hub: {message}");
            ExitCode::from(2)
        }
    }
}

async fn run() -> Result<(), String> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let (mut config, mut directory, mut args) = (HubConfig::default(), None, std::env::args().skip(1));
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--address" => {
                let value = value()?;
                config.address = value.parse().map_err(|_| format!("{value} is no IP:PORT"))?;
            }
            "--token" => config.token = Some(value()?),
            _ => directory = Some(arg),
        }
    }
    let directory = directory.ok_or("which directory?")?;
    let hub = Hub::start(config).await.map_err(|error| format!("cannot listen: {error}"))?;
    fill(&hub, Path::new(&directory), "").map_err(|error| format!("{directory}: {error}"))?;
    println!("listening {}", hub.endpoint());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(())
}

/// Puts every file below a directory; `at` is where that is below the one that is served.
fn fill(hub: &Hub, directory: &Path, at: &str) -> io::Result<()> {
    for found in std::fs::read_dir(directory)? {
        let found = found?;
        let path = format!("{at}{}", found.file_name().to_string_lossy());
        if found.file_type()?.is_dir() {
            fill(hub, &found.path(), &format!("{path}/"))?;
            continue;
        }
        let parts: Vec<&str> = path.splitn(4, '/').collect();
        if let [kind, owner, name, file] = parts[..] {
            hub.put(&format!("{kind}/{owner}/{name}"), file, std::fs::read(found.path())?);
        }
    }
    Ok(())
}

//! What happens when processes die, with real ones: everyone else finishes with the right bytes, and the origin pays
//! for one copy and what was in flight to the dead.

mod kills;
mod links;
mod no_server;

use std::fs;
use std::process::{Child, Stdio};

use dragonfly_testkit::content;
use tokio::runtime::Handle;

use crate::harness::{Daemon, wait_for};

const SEED: u64 = 23;

/// A client of a daemon that fetches `url` into `output`.
fn fetch(daemon: &Daemon, url: &str) -> Child {
    let mut command = daemon.dfget_command([url, "-O", "output", "--timeout", "120"]);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for the clients of these daemons: every one must have the right bytes.
fn all_finish(clients: Vec<(&Daemon, Child)>, length: u64) {
    for (daemon, client) in clients {
        let done = client.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(0), "{stderr}\n{}", daemon.log());
        let bytes = fs::read(daemon.dir().join("output")).unwrap();
        assert_eq!(blake3::hash(&bytes).as_bytes(), &content::blake3(SEED, length));
    }
}

/// Waits until all of a network's daemons know each other: from then on any of them may go.
fn everyone_knows_everyone(runtime: &Handle, daemons: &[&Daemon]) {
    let known = |daemon: &Daemon| -> usize {
        let metrics = runtime.block_on(async {
            let mut client = daemon.client().await;
            client.bytes(http::Method::GET, "/metrics", None).await.unwrap()
        });
        let metrics = String::from_utf8(metrics.to_vec()).unwrap();
        let line = metrics.lines().find_map(|line| line.strip_prefix("dragonfly_members "));
        line.unwrap().parse().unwrap()
    };
    wait_for("everyone to know everyone", || {
        daemons.iter().all(|daemon| known(daemon) == daemons.len() - 1).then_some(())
    });
}

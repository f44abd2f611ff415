//! What happens when processes die, with real ones: everyone else finishes with the right bytes, and the origin pays
//! for one copy and what was in flight to the dead.

mod kills;
mod no_server;

use std::fs;
use std::process::{Child, Stdio};

use dragonfly_testkit::content;

use crate::harness::Daemon;

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

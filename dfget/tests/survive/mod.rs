//! What happens when processes die, with real ones: everyone else finishes with the right bytes, and the origin pays
//! for one copy and what was in flight to the dead.

mod back;
mod kills;
mod links;
mod no_server;
mod origin;
mod origin_back;
mod several;
mod twice;

use std::fs;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use dragonfly_testkit::{Origin, content};

use crate::harness::{Daemon, wait_for};

const SEED: u64 = 23;

/// When somebody dies, of a download of `/file` by everyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Moment {
    /// Nobody may have asked anybody yet.
    AtOnce,
    /// The origin was asked, and has not answered.
    BeforeTheFirstByte,
    AtTheFirstByte,
    InTheMiddle,
}

impl Moment {
    const ALL: [Self; 4] = [Self::AtOnce, Self::BeforeTheFirstByte, Self::AtTheFirstByte, Self::InTheMiddle];

    /// Waits for it.
    fn comes(self, origin: &Origin, length: u64) {
        let sent = match self {
            Self::AtOnce => return,
            Self::BeforeTheFirstByte => {
                return wait_for("the origin to be asked", || (!origin.log().is_empty()).then_some(()));
            }
            Self::AtTheFirstByte => 1,
            Self::InTheMiddle => length / 2,
        };
        wait_for("the moment to kill", || (origin.body_bytes("/file") >= sent).then_some(()));
    }
}

/// A client of a daemon that fetches `url` into `output`.
fn fetch(daemon: &Daemon, url: &str) -> Client {
    fetch_with(daemon, url, &[])
}

/// The same with more options.
fn fetch_with(daemon: &Daemon, url: &str, args: &[&str]) -> Client {
    let mut command = daemon.dfget_command([url, "-O", "output", "--timeout", "120"]);
    let child = command.args(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    Client { child, began: Instant::now() }
}

/// A `dfget`, and when it began.
struct Client {
    child: Child,
    began: Instant,
}

/// What a client says of itself when its time is up, 120 s after it began, and no client is older than that and what it
/// takes to say so, on a busy machine.
const AGE_MAX: Duration = Duration::from_secs(150);

/// Waits for a client to end, which says little; one that outlives its bound is a failure and not waited for.
fn ended(Client { child: mut client, began }: Client) -> Output {
    while client.try_wait().unwrap().is_none() {
        if began.elapsed() > AGE_MAX {
            client.kill().unwrap();
            panic!("a client outlives its bound: {:?}", client.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    client.wait_with_output().unwrap()
}

/// The client of a daemon that was killed may have finished before; else it says that its daemon is gone.
fn is_told(done: Output, when: &str) {
    let said = String::from_utf8_lossy(&done.stderr);
    // Whether it had reached it (1) or not (2).
    let failed = matches!(done.status.code(), Some(1 | 2));
    let gone = failed && said.contains(" daemon ") && said.contains("hint: ");
    assert!(done.status.success() || gone, "{when}: {}: {said}", done.status);
}

/// Waits for the clients of these daemons: every one must have the right bytes.
fn all_finish(clients: Vec<(&Daemon, Client)>, length: u64) {
    for (daemon, client) in clients {
        let done = ended(client);
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(0), "{stderr}\n{}", daemon.log());
        let bytes = fs::read(daemon.dir().join("output")).unwrap();
        is_right(&bytes, length, daemon);
    }
}

/// Says where bytes are wrong.
fn is_right(bytes: &[u8], length: u64, daemon: &Daemon) {
    if blake3::hash(bytes).as_bytes() == &content::blake3(SEED, length) {
        return;
    }
    let right = content::bytes(SEED, 0, length as usize);
    let wrong: Vec<usize> = (0..bytes.len().min(right.len())).filter(|at| bytes[*at] != right[*at]).collect();
    let (first, last) = (wrong.first(), wrong.last());
    let blocks: std::collections::BTreeSet<usize> = wrong.iter().map(|at| at >> 16).collect();
    panic!(
        "{} bytes of {length}, {} wrong from {first:?} to {last:?}, of these blocks of 64 KiB: {blocks:?}, \
         {} zero\n{}",
        bytes.len(),
        wrong.len(),
        wrong.iter().filter(|at| bytes[**at] == 0).count(),
        daemon.log()
    );
}

/// Waits until all of a network's daemons know each other: from then on any of them may go.
fn everyone_knows_everyone(daemons: &[&Daemon]) {
    all_know(daemons, daemons.len() as u64 - 1);
}

/// Waits until each of these knows so many members.
pub(crate) fn all_know(daemons: &[&Daemon], members: u64) {
    wait_for("everyone to know everyone", || {
        daemons.iter().all(|daemon| daemon.metric("dragonfly_members") >= members).then_some(())
    });
}

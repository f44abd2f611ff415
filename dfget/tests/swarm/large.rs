//! A gibibyte: what a daemon needs for it does not grow with it.

use std::fs::{self, File};
use std::process::Stdio;

use dragonfly_testkit::{Origin, Resource, content};

use super::SEED;
use crate::harness::Daemon;
use crate::survive::all_know;

/// The most memory that a daemon may ever have had resident while it took in and served a gibibyte.
const RESIDENT_MAX: u64 = 150 << 20;

/// The most that a process ever had resident so far, in bytes.
fn peak_resident(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.child().id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

/// Two seeds, of which nobody was told to fetch anything, split a gibibyte and serve it to peers, who serve each other;
/// each stays under its bound.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_costs_one_copy_and_a_bounded_memory() {
    const LENGTH: u64 = 1 << 30;
    let origin = Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(SEED, LENGTH));
    let url = origin.url("/file");
    let work = tokio::task::spawn_blocking(move || {
        let seed = Daemon::with_role("scheduler,seed").start();
        let second = Daemon::with_role("seed").join(&seed).start();
        let peers: Vec<Daemon> = (0..2).map(|_| Daemon::with_role("peer").join(&seed).start()).collect();
        all_know(&[&seed, &second], 1);
        let spawn = |peer: &Daemon| {
            let mut command = peer.dfget_command([url.as_str(), "-O", "output", "-q"]);
            command.stderr(Stdio::piped()).spawn().unwrap()
        };
        let clients: Vec<_> = peers.iter().map(spawn).collect();
        for (client, peer) in clients.into_iter().zip(&peers) {
            let done = client.wait_with_output().unwrap();
            assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(File::open(peer.dir().join("output")).unwrap()).unwrap();
            assert_eq!(hasher.finalize().as_bytes(), &content::blake3(SEED, LENGTH));
        }
        let shares = [&seed, &second].map(|seed| seed.metric("dragonfly_origin_bytes_total"));
        println!("the seeds took {shares:?} bytes");
        assert!(shares[0].min(shares[1]) >= LENGTH / 8, "{shares:?}");
        for daemon in peers.iter().chain([&seed, &second]) {
            let peak = peak_resident(daemon);
            println!("peak resident: {} MiB", peak >> 20);
            assert!(peak < RESIDENT_MAX, "{} MiB", peak >> 20);
        }
    });
    work.await.unwrap();
    assert_eq!(origin.body_bytes("/file"), LENGTH);
}

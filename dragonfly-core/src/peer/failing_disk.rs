//! A disk that fails under a running engine: the one who waits is told what failed and where, what was held stays, and the
//! same fetch goes on from there, on the same engine and on the next one.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dragonfly_testkit::{Origin, Resource, content};
use rustix::io::Errno;
use tokio::io::AsyncReadExt as _;

use crate::node::{Node, TokenOptions};
use crate::peer::{Peer, Receipt, Request};
use crate::scheduler::Scheduler;
use crate::store::Faults;
use crate::task::{Algorithm, DigestHasher};
use crate::{Error, ErrorKind};

const SEED: u64 = 11;
const LENGTH: u64 = 6 << 20;

/// So slow that a fault falls into the download.
const RATE: u64 = 4 << 20;

/// What may have been on its way when a write failed: the pieces of one answer of the origin.
const IN_FLIGHT: u64 = 4 << 20;

const BOUND: Duration = Duration::from_secs(60);

/// A peer with a disk that fails when it is told to.
struct Host {
    node: Node,
    peer: Peer,
    faults: Arc<Faults>,
}

impl Host {
    async fn start(data: &Path) -> Self {
        Self::try_start(data).await.unwrap()
    }

    async fn try_start(data: &Path) -> crate::Result<Self> {
        let faults = Arc::new(Faults::default());
        let mut builder = Node::builder().data_dir(data);
        builder.faults = Some(Arc::clone(&faults));
        let node = builder.start().await?;
        let peer = Peer::builder(&node).start().await?;
        Ok(Self { node, peer, faults })
    }

    async fn held(&self, request: &Request) -> u64 {
        let held = self.peer.stat(self.peer.task_id(request).unwrap()).await.unwrap();
        held.iter().map(|held| held.bytes_held).sum()
    }

    async fn stop(self) {
        self.peer.shutdown().await.unwrap();
        self.node.shutdown().await.unwrap();
    }
}

struct Scene {
    origin: Origin,
    dir: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Self {
        let origin = Origin::start().await.unwrap();
        origin.set("/file", Resource::seeded(SEED, LENGTH).rate(RATE));
        Self { origin, dir: tempfile::tempdir().unwrap() }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn output(&self) -> PathBuf {
        self.dir.path().join("output")
    }

    fn request(&self) -> Request {
        Request::new(self.origin.url("/file")).output(self.output())
    }

    fn is_right(&self, receipt: &Receipt) {
        assert_eq!((receipt.length, receipt.blake3.bytes()), (LENGTH, &content::blake3(SEED, LENGTH)[..]));
        let written = std::fs::read(self.output()).unwrap();
        assert_eq!(blake3::hash(&written).as_bytes(), &content::blake3(SEED, LENGTH));
    }
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, work).await.unwrap_or_else(|_| panic!("it never came about: {what}"))
}

/// Waits until a host holds so much of what is asked for.
async fn until_held(host: &Host, request: &Request, bytes: u64) {
    within("some of it is held", async {
        while host.held(request).await < bytes {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

fn says(error: &Error, kind: ErrorKind, parts: &[&str]) {
    assert_eq!(error.kind(), kind, "{error:?}");
    let text = error.to_string();
    assert!(!text.contains('\n') && parts.iter().all(|part| text.contains(part)), "{parts:?} are not in: {text}");
}

/// In the middle of a download the disk takes nothing more. `part`: of the write that fails so many bytes were written.
async fn refuses_writes(errno: Errno, kind: ErrorKind, part: usize, same_engine: bool) {
    let scene = Scene::new().await;
    let mut host = Host::start(&scene.data()).await;
    let request = scene.request();
    let download = host.peer.fetch(request.clone());
    until_held(&host, &request, LENGTH / 4).await;
    host.faults.fail_content(errno.raw_os_error(), part);
    let error = within("it is told", download).await.unwrap_err();
    let data = scene.data().display().to_string();
    says(&error, kind, &[&data, "bytes are kept: the same fetch goes on from there"]);
    println!("{errno:?}: {error}");
    assert!(!scene.output().exists(), "nothing is under the final name");
    let held = host.held(&request).await;
    assert!((LENGTH / 4..LENGTH).contains(&held), "{held}");
    // Again while it is so: told again, and nothing of what is held is lost.
    let error = within("it is told again", host.peer.fetch(request.clone())).await.unwrap_err();
    says(&error, kind, &[&data]);
    assert_eq!(host.held(&request).await, held);
    if same_engine {
        host.faults.fail_content(0, 0);
    } else {
        host.stop().await;
        host = Host::start(&scene.data()).await;
    }
    let receipt = within("it goes on", host.peer.fetch(request)).await.unwrap();
    scene.is_right(&receipt);
    // A piece that was being written may have been held a moment later.
    assert!((held..LENGTH).contains(&receipt.bytes_held), "{} of {held}", receipt.bytes_held);
    assert_eq!(receipt.bytes_from_origin, LENGTH - receipt.bytes_held);
    let sent = scene.origin.body_bytes("/file");
    assert!(sent <= LENGTH + 2 * IN_FLIGHT, "{sent} bytes left the origin");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_becomes_full() {
    refuses_writes(Errno::NOSPC, ErrorKind::Full, 1000, true).await;
    refuses_writes(Errno::DQUOT, ErrorKind::Full, 0, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_to_write() {
    refuses_writes(Errno::IO, ErrorKind::Io, 1000, true).await;
    refuses_writes(Errno::IO, ErrorKind::Io, 0, false).await;
}

/// A reader is told which file cannot be read; when it can be again a reader has everything, and nothing was fetched anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_to_read() {
    let scene = Scene::new().await;
    let host = Host::start(&scene.data()).await;
    let request = Request::new(scene.origin.url("/file"));
    let mut reader = host.peer.open(request.clone()).await.unwrap();
    within("it is complete", reader.receipt()).await.unwrap();
    host.faults.fail_reads(Errno::IO.raw_os_error());
    let failed = within("it is told", reader.read_to_end(&mut Vec::new())).await.unwrap_err();
    let error = Error::from_read(failed);
    says(&error, ErrorKind::Io, &["cannot read", &scene.data().display().to_string()]);
    println!("{error}");
    drop(reader);
    host.faults.fail_reads(0);
    let mut reader = within("it is opened", host.peer.open(request)).await.unwrap();
    let mut bytes = Vec::new();
    within("it is read", reader.read_to_end(&mut bytes)).await.unwrap();
    assert!(bytes == content::bytes(SEED, 0, LENGTH as usize));
    assert_eq!(scene.origin.body_bytes("/file"), LENGTH);
    drop(reader);
    host.stop().await;
}

/// A neighbour that cannot read what it says it has: who asks it has it from the origin, and blames nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_neighbour_whose_disk_fails_to_read() {
    let scene = Scene::new().await;
    let loopback: crate::Address = "/ip4/127.0.0.1/tcp/0".parse().unwrap();
    let faults = Arc::new(Faults::default());
    let mut builder = Node::builder().data_dir(scene.data()).listen(loopback.clone()).allow_loopback_origins(true);
    builder.faults = Some(Arc::clone(&faults));
    let holder = builder.start().await.unwrap();
    let scheduler = Scheduler::builder(&holder).start().await.unwrap();
    let holding = Peer::builder(&holder).start().await.unwrap();
    let request = Request::new(scene.origin.url("/file"));
    within("it has it", holding.fetch(request.clone())).await.unwrap();
    faults.fail_reads(Errno::IO.raw_os_error());
    let token = holder.token(TokenOptions::default()).unwrap();
    let other = Node::builder().listen(loopback).join(token).start().await.unwrap();
    let peer = Peer::builder(&other).start().await.unwrap();
    let receipt = within("it is had elsewhere", peer.fetch(request)).await.unwrap();
    assert_eq!(receipt.blake3.bytes(), content::blake3(SEED, LENGTH));
    assert_eq!((receipt.bytes_from_peers, receipt.bytes_from_origin), (0, LENGTH));
    let text = other.metrics_text();
    assert!(text.contains("\ndragonfly_neighbours_blamed_total 0\n"), "{text}");
    println!("it took {:?}", receipt.elapsed);
    peer.shutdown().await.unwrap();
    other.shutdown().await.unwrap();
    holding.shutdown().await.unwrap();
    scheduler.shutdown().await.unwrap();
    holder.shutdown().await.unwrap();
}

/// What cannot be made durable is there for those who wait; the next life proves it before it counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_to_sync() {
    let scene = Scene::new().await;
    let host = Host::start(&scene.data()).await;
    host.faults.fail_syncs(Errno::IO.raw_os_error());
    let request = Request::new(scene.origin.url("/file"));
    let receipt = within("it is had", host.peer.fetch(request.clone())).await.unwrap();
    assert_eq!(receipt.blake3.bytes(), content::blake3(SEED, LENGTH));
    // Who stops the engine is told that the next life will have to prove what it finds.
    let told = within("it stops", host.peer.shutdown()).await.unwrap_err();
    says(&told, ErrorKind::Io, &["cannot make durable", &scene.data().display().to_string()]);
    println!("{told}");
    let _ = host.node.shutdown().await;
    drop(host);
    let host = Host::start(&scene.data()).await;
    let receipt = within("it is had", host.peer.fetch(request)).await.unwrap();
    assert_eq!(receipt.blake3.bytes(), content::blake3(SEED, LENGTH));
    assert_eq!((receipt.bytes_held, scene.origin.body_bytes("/file")), (LENGTH, LENGTH), "nothing was lost");
    host.stop().await;
}

/// In mid-download the disk answers nothing any more: who waits is told after a while, and what the disk does later is of use.
async fn does_nothing(scene: Scene, request: Request, (writes, reads): (bool, bool), told: &str) {
    let host = Host::start(&scene.data()).await;
    let download = host.peer.fetch(request.clone());
    until_held(&host, &request, LENGTH / 4).await;
    host.faults.hang(writes, reads);
    if !writes {
        // A write that takes its time beside a clock that takes none would be the one that is told of.
        until_held(&host, &request, LENGTH).await;
    }
    // From here on time passes as soon as nobody has anything to do. The threads of the disk have their own.
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let error = tokio::time::timeout(20 * BOUND, download).await.expect("it is told").unwrap_err();
    says(&error, ErrorKind::Timeout, &["the disk of this host", told]);
    println!("after {:?}: {error}", began.elapsed());
    assert!(error.is_temporary() && !scene.output().exists());
    let again = tokio::time::timeout(20 * BOUND, host.peer.fetch(request.clone())).await.expect("it is told again");
    says(&again.unwrap_err(), ErrorKind::Timeout, &["the disk of this host has done nothing for 120s"]);
    tokio::time::resume();
    host.faults.hang(false, false);
    let receipt = within("it goes on", host.peer.fetch(request.output(scene.output()))).await.unwrap();
    scene.is_right(&receipt);
    assert!(receipt.bytes_held >= LENGTH / 4, "{}", receipt.bytes_held);
    host.stop().await;
}

#[tokio::test]
async fn a_disk_that_does_nothing_any_more() {
    let scene = Scene::new().await;
    let request = scene.request();
    does_nothing(scene, request, (true, true), "bytes held").await;
}

/// What is read behind a download, to be checked with the caller's digest, does not keep it for ever either.
#[tokio::test]
async fn a_disk_that_gives_nothing_any_more() {
    let scene = Scene::new().await;
    let mut hasher = DigestHasher::new(Algorithm::Sha256);
    hasher.update(&content::bytes(SEED, 0, LENGTH as usize));
    let request = Request::new(scene.origin.url("/file")).digest(hasher.finish());
    does_nothing(scene, request, (false, true), "has done nothing for 120s").await;
}

/// Nor does a proof of what is held keep anybody for ever, or the end of an engine.
#[tokio::test]
async fn a_disk_that_does_not_prove_or_sync_any_more() {
    let scene = Scene::new().await;
    let silent = &["the disk of this host has done nothing for 120s"];
    let host = Host::start(&scene.data()).await;
    let request = Request::new(scene.origin.url("/file"));
    within("it is had", host.peer.fetch(request.clone())).await.unwrap();
    host.faults.hang(true, false);
    // What it does later it does not do well.
    host.faults.fail_syncs(Errno::IO.raw_os_error());
    tokio::time::pause();
    let told = tokio::time::timeout(20 * BOUND, host.peer.shutdown()).await.expect("it ends").unwrap_err();
    says(&told, ErrorKind::Timeout, silent);
    tokio::time::resume();
    host.faults.hang(false, false);
    let _ = within("the node ends", host.node.shutdown()).await;
    drop(host);
    // It was not stopped cleanly: what is held is proven before it is used. The directory is free once the disk has done what
    // nobody waits for any more.
    let host = within("it starts again", async {
        loop {
            match Host::try_start(&scene.data()).await {
                Ok(host) => return host,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Config, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    host.faults.hang(false, true);
    tokio::time::pause();
    let told =
        tokio::time::timeout(20 * BOUND, host.peer.fetch(request.clone())).await.expect("it is told").unwrap_err();
    says(&told, ErrorKind::Timeout, silent);
    assert!(told.is_temporary());
    tokio::time::resume();
    host.faults.hang(false, false);
    let receipt = within("it goes on", host.peer.fetch(request)).await.unwrap();
    assert_eq!((receipt.bytes_held, scene.origin.body_bytes("/file")), (LENGTH, LENGTH), "nothing was lost");
    host.stop().await;
}

/// Content of unknown length is taken in before it has a name: who waits for it is told that it is the disk, and not that somebody
/// fell silent.
#[tokio::test]
async fn a_disk_that_takes_nothing_of_what_has_no_length() {
    let scene = Scene::new().await;
    scene.origin.set("/long", Resource::seeded(SEED, LENGTH).rate(RATE).chunked());
    let request = Request::new(scene.origin.url("/long"));
    let host = Host::start(&scene.data()).await;
    let download = host.peer.fetch(request.clone());
    within("some of it is taken in", async {
        while scene.origin.body_bytes("/long") < LENGTH / 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    host.faults.hang(true, false);
    tokio::time::pause();
    let error = tokio::time::timeout(20 * BOUND, download).await.expect("it is told").unwrap_err();
    says(&error, ErrorKind::Timeout, &["the disk of this host has taken nothing for 45s", "none of which can be kept"]);
    println!("{error}");
    assert!(error.is_temporary());
    tokio::time::resume();
    host.faults.hang(false, false);
    let receipt = within("it goes on", host.peer.fetch(request)).await.unwrap();
    assert_eq!(receipt.blake3.bytes(), content::blake3(SEED, LENGTH));
    host.stop().await;
}

/// What was read once, and found to have a digest, is not read for that again while this engine has it. The next one has only
/// what is on its disk.
#[tokio::test]
async fn a_digest_is_found_out_once() {
    let scene = Scene::new().await;
    scene.origin.set("/file", Resource::seeded(SEED, LENGTH));
    let mut hasher = DigestHasher::new(Algorithm::Sha256);
    hasher.update(&content::bytes(SEED, 0, LENGTH as usize));
    let digest = hasher.finish();
    let request = Request::new(scene.origin.url("/file")).digest(digest.clone());
    let host = Host::start(&scene.data()).await;
    within("it is fetched", host.peer.fetch(request.clone())).await.unwrap();
    host.faults.fail_reads(Errno::IO.raw_os_error());
    let receipt = within("it is there", host.peer.fetch(request.clone())).await.unwrap();
    assert_eq!((receipt.digest.as_ref(), receipt.proof), (Some(&digest), crate::peer::Proof::Verified));
    host.stop().await;
    let host = Host::start(&scene.data()).await;
    host.faults.fail_reads(Errno::IO.raw_os_error());
    let error = within("it is read", host.peer.fetch(request.clone())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
    host.faults.fail_reads(0);
    within("it is read again", host.peer.fetch(request)).await.unwrap();
    host.stop().await;
}

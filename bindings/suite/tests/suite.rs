//! The behaviour suite in Rust.

#![allow(clippy::unwrap_used)]

#[path = "suite/embedder.rs"]
mod embedder;

use std::io::SeekFrom;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use dragonfly_core::log::{self, Level};
use dragonfly_core::{Address, Error, ErrorKind, Event, Node, NodeBuilder, Peer, Receipt, Request, Scheduler, Seed};
use dragonfly_suite::{Case, Row, World, crc32, given, table};
use futures::StreamExt as _;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};

/// What a descriptor was written to before it is handed over.
const BEFORE: &[u8] = b"before";

struct Runner {
    origin: String,
    token: String,
    token_all: String,
    dir: TempDir,
    peer: Peer,
    node: Node,
}

fn listen() -> Address {
    "/ip4/127.0.0.1/tcp/0".parse().unwrap()
}

async fn start(builder: NodeBuilder) -> Result<(Peer, Node), Error> {
    let node = builder.start().await?;
    Ok((Peer::builder(&node).start().await?, node))
}

async fn stop(peer: &Peer, node: &Node) -> Result<(), Error> {
    peer.shutdown().await?;
    node.shutdown().await
}

fn whole(receipt: &Receipt, length: u64) -> anyhow::Result<()> {
    let sum = receipt.bytes_from_origin + receipt.bytes_from_peers + receipt.bytes_held;
    ensure!(receipt.length == length && sum == length, "{receipt:?}, expected {length} bytes");
    Ok(())
}

fn checksum(case: &Case, bytes: &[u8]) -> anyhow::Result<()> {
    let expected = case.get("crc").context("no crc")?;
    ensure!(format!("{:08x}", crc32(bytes)) == expected, "other bytes than expected: {} of them", bytes.len());
    Ok(())
}

impl Runner {
    fn request(&self, case: &Case) -> Result<Request, Error> {
        let url = case.get("url").map_or_else(|| self.origin.clone() + case.get("path").unwrap(), str::to_owned);
        let mut request = Request::new(url);
        if let Some(digest) = case.get("digest") {
            let digest = digest.parse().map_err(|e| Error::new(ErrorKind::InvalidInput, "the digest").caused_by(e))?;
            request = request.digest(digest);
        }
        if let Some(bound) = case.get("timeout_ms") {
            request = request.timeout(Duration::from_millis(bound.parse().unwrap()));
        }
        Ok(request)
    }

    async fn fetch(&self, peer: &Peer, request: Request, output: &Path) -> anyhow::Result<(Receipt, Vec<u8>)> {
        let receipt = peer.fetch(request.output(output)).await?;
        let bytes = std::fs::read(output)?;
        whole(&receipt, bytes.len() as u64)?;
        Ok((receipt, bytes))
    }

    async fn run(&self, case: &Case) -> anyhow::Result<()> {
        let output = self.dir.path().join(case.get("dir").unwrap_or_default()).join(&case.name);
        match case.operation.as_str() {
            "fetch" => {
                if case.get("exists").is_some() {
                    std::fs::write(&output, "in the way")?;
                }
                let (_, bytes) = self.fetch(&self.peer, self.request(case)?, &output).await?;
                checksum(case, &bytes)
            }
            "stream" => self.stream(case).await,
            "descriptor" => self.descriptor(case, &output).await,
            "seek" => self.seek(case).await,
            "two" => {
                let builder = || Node::builder().listen(listen()).join(self.token.parse().unwrap());
                let (one, two) = (start(builder()).await?, start(builder()).await?);
                ensure!(one.1.peer_id() != two.1.peer_id());
                let (first, second) = (output.with_extension("1"), output.with_extension("2"));
                let (first, second) = tokio::join!(
                    self.fetch(&one.0, self.request(case)?, &first),
                    self.fetch(&two.0, self.request(case)?, &second)
                );
                let ((_, first), (_, second)) = (first?, second?);
                stop(&one.0, &one.1).await?;
                stop(&two.0, &two.1).await?;
                checksum(case, &first)?;
                checksum(case, &second)
            }
            "many" => {
                let path = self.origin.clone() + case.get("path").context("no path")?;
                let downloads = (0..case.number("count")?).map(|n| self.peer.fetch(Request::new(format!("{path}{n}"))));
                for outcome in futures::future::join_all(downloads).await {
                    whole(&outcome?, 600)?;
                }
                Ok(())
            }
            "progress" => self.progress(case).await,
            "cancel" => {
                let download = self.peer.fetch(self.request(case)?);
                let mut events = download.events();
                while !matches!(events.next().await.context("no progress")?, Event::Progress { bytes: 1.., .. }) {}
                download.cancel();
                download.await?;
                Ok(())
            }
            "cancel_read" => {
                let (peer, node) = start(Node::builder()).await?;
                let mut reader = peer.open(self.request(case)?).await?;
                reader.seek(SeekFrom::End(-1)).await?;
                let mut byte = [0];
                tokio::select! {
                    biased;
                    read = reader.read(&mut byte) => bail!("the origin stalls, but: {read:?}"),
                    () = tokio::task::yield_now() => {}
                }
                // To withdraw from a read is to drop it, as above: nobody is left to be told. Who waits when it is the
                // engine that ends is.
                let read = tokio::spawn(async move { reader.read(&mut [0]).await });
                stop(&peer, &node).await?;
                read.await?.map_err(Error::from_read)?;
                Ok(())
            }
            "store" => self.store(case).await,
            "preheat" => self.preheat(case).await,
            "own" => self.own(case, &output).await,
            "metrics" => {
                ensure!(self.node.metrics_text().contains(case.get("contains").context("contains what?")?));
                Ok(())
            }
            "identity" => embedder::identity(case).await,
            "source" => embedder::source(case).await,
            "policy" => self.policy(case).await,
            "events" => self.events(case).await,
            "log" => self.log(case).await,
            "node" => {
                let mut builder = Node::builder();
                if let Some(token) = case.get("token") {
                    builder = builder.join(token.parse().map_err(Error::from)?);
                }
                if let Some(address) = case.get("listen") {
                    builder = builder.listen(address.parse().map_err(Error::from)?);
                }
                if case.get("same_dir").is_some() {
                    builder = builder.data_dir(self.dir.path().join("node"));
                }
                let node = builder.start().await?;
                if case.get("listeners").is_some() {
                    let (listeners, peer) = (node.listeners(), node.peer_id());
                    ensure!(listeners.len() as u64 == case.number("listeners")?, "{listeners:?}");
                    ensure!(listeners.iter().all(|address| address.peer() == Some(peer)), "{listeners:?}");
                }
                node.shutdown().await?;
                Ok(())
            }
            "full" => {
                let (peer, _node) = start(Node::builder().memory_bytes(case.number("memory")?)).await?;
                peer.fetch(self.request(case)?).await?;
                Ok(())
            }
            "stopped" => {
                let (peer, node) = start(Node::builder()).await?;
                stop(&peer, &node).await?;
                peer.fetch(self.request(case)?).await?;
                Ok(())
            }
            other => bail!("nobody knows the operation {other}"),
        }
    }

    async fn stream(&self, case: &Case) -> anyhow::Result<()> {
        let mut reader = self.peer.open(self.request(case)?).await?;
        let (mut all, mut chunk) = (Vec::new(), vec![0; case.number("chunk")? as usize]);
        loop {
            let read = reader.read(&mut chunk).await.map_err(Error::from_read)?;
            if read == 0 {
                break;
            }
            all.extend_from_slice(&chunk[..read]);
        }
        ensure!(all.len() as u64 == reader.length());
        whole(&reader.receipt().await?, reader.length())?;
        checksum(case, &all)
    }

    /// In Rust what is written to is the program's own: it copies.
    async fn descriptor(&self, case: &Case, output: &Path) -> anyhow::Result<()> {
        let mut file = tokio::fs::File::create(output).await?;
        file.write_all(BEFORE).await?;
        let mut reader = self.peer.open(self.request(case)?).await?;
        let length = tokio::io::copy(&mut reader, &mut file).await.map_err(Error::from_read)?;
        file.flush().await?;
        whole(&reader.receipt().await?, length)?;
        let bytes = std::fs::read(output)?;
        checksum(case, bytes.strip_prefix(BEFORE).context("it is not behind what was there")?)
    }

    async fn seek(&self, case: &Case) -> anyhow::Result<()> {
        let mut reader = self.peer.open(self.request(case)?).await?;
        for read in case.get("reads").context("no reads")?.split(',') {
            let (place, sum) = read.split_once(':').context("no checksum")?;
            let (offset, count) = place.split_once('+').context("no length")?;
            ensure!(reader.seek(SeekFrom::Start(offset.parse()?)).await? == offset.parse::<u64>()?);
            let mut bytes = vec![0; count.parse()?];
            reader.read_exact(&mut bytes).await.map_err(Error::from_read)?;
            ensure!(format!("{:08x}", crc32(&bytes)) == sum, "{read}");
        }
        ensure!(reader.seek(SeekFrom::End(0)).await? == reader.length());
        ensure!(reader.read(&mut [0; 8]).await? == 0, "bytes beyond the end");
        Ok(())
    }

    async fn progress(&self, case: &Case) -> anyhow::Result<()> {
        let download = self.peer.fetch(self.request(case)?);
        let events: Vec<Event> = download.events().collect().await;
        let receipt = download.await?;
        let mut last = 0;
        for event in &events {
            if let Event::Progress { bytes, length, .. } = event {
                ensure!((last..=receipt.length).contains(bytes) && *length == receipt.length, "{events:?}");
                last = *bytes;
            }
        }
        ensure!(last > 0, "no progress was shown: {events:?}");
        Ok(())
    }

    async fn preheat(&self, case: &Case) -> anyhow::Result<()> {
        let builder = Node::builder().listen(listen()).allow_loopback_origins(true).join(self.token_all.parse()?);
        let node = builder.start().await?;
        let seed = Seed::builder(&node).start().await?;
        let receipt = seed.preheat(self.request(case)?).await?;
        whole(&receipt, 70_000)?;
        ensure!(seed.peer().stat(receipt.task).await?[0].complete);
        seed.shutdown().await?;
        Ok(node.shutdown().await?)
    }

    async fn own(&self, case: &Case, output: &Path) -> anyhow::Result<()> {
        let first = Node::builder().listen(listen()).allow_loopback_origins(true).start().await?;
        let scheduler = Scheduler::builder(&first).start().await?;
        let seed = Seed::builder(&first).start().await?;
        let token = first.token(Default::default())?.to_text();
        let (peer, node) = start(Node::builder().listen(listen()).join(token.parse()?)).await?;
        let (receipt, bytes) = self.fetch(&peer, self.request(case)?, output).await?;
        ensure!(receipt.bytes_from_peers == receipt.length, "{receipt:?}");
        ensure!(!scheduler.snapshot().await?.hosts.is_empty());
        stop(&peer, &node).await?;
        seed.shutdown().await?;
        scheduler.shutdown().await?;
        first.shutdown().await?;
        checksum(case, &bytes)
    }

    async fn store(&self, case: &Case) -> anyhow::Result<()> {
        let receipt = self.peer.fetch(self.request(case)?).await?;
        let task = self.peer.task_id(&self.request(case)?)?;
        ensure!(task == receipt.task);
        let held = self.peer.stat(task).await?;
        ensure!(held.len() == 1 && held[0].complete && held[0].length == receipt.length && !held[0].pinned, "{held:?}");
        let mut listed = self.peer.list(None, 1).await?;
        ensure!(listed.len() == 1);
        while !listed.iter().any(|info| info.task == task) {
            let last = listed.last().map(|info| (info.task, info.generation));
            listed = self.peer.list(last, 10).await?;
            ensure!(!listed.is_empty(), "a task that is held is not listed");
        }
        self.peer.pin(task, true).await?;
        ensure!(self.peer.stat(task).await?[0].pinned);
        ensure!(self.peer.remove(task).await? >= receipt.length);
        ensure!(self.peer.stat(task).await?.is_empty());
        let error = self.peer.pin(task, true).await.err().context("pinned what is not held")?;
        ensure!(error.kind() == ErrorKind::NotFound, "{error:?}");
        Ok(())
    }
}

fn judge(case: &Case, outcome: anyhow::Result<()>) -> Result<(), String> {
    match (case.get("error"), outcome) {
        (None, outcome) => outcome.map_err(|e| format!("{e:?}")),
        (Some(kind), Ok(())) => Err(format!("no error, expected {kind}")),
        (Some(kind), Err(failure)) => {
            let error = failure.downcast::<Error>().map_err(|e| format!("{e:?}"))?;
            let temporary = if error.is_temporary() { "yes" } else { "no" };
            let same = error.kind().name() == kind && case.get("temporary") == Some(temporary);
            if same { Ok(()) } else { Err(format!("expected {kind}, got {error:?}, temporary={temporary}")) }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_of_the_table() -> anyhow::Result<()> {
    // What the library has to say, from the level that DRAGONFLY_LOG names.
    let level = std::env::var("DRAGONFLY_LOG").ok().and_then(|level| Level::from_name(&level));
    if let Some(level) = level {
        log::set(level, |record| eprintln!("{:5} {} {}", record.level.name(), record.target, record.message))?;
    }
    let world = World::start().await?;
    let (token, token_all) = world.tokens()?;
    let dir = tempfile::tempdir()?;
    let builder = Node::builder().data_dir(dir.path().join("node")).listen(listen()).join(token.parse()?);
    let (peer, node) = start(builder).await?;
    let runner = Runner { origin: world.origin(), token, token_all, dir, peer, node };
    let only = std::env::var("DRAGONFLY_CASE").ok();
    let (mut passed, mut failed) = (0, Vec::new());
    for row in table(&given()?)? {
        let Row::Case(case) = row else { continue };
        if only.as_ref().is_some_and(|only| *only != case.name) {
            continue;
        }
        match judge(&case, runner.run(&case).await) {
            Ok(()) => passed += 1,
            Err(why) => failed.push(format!("{}: {why}", case.name)),
        }
    }
    stop(&runner.peer, &runner.node).await?;
    world.stop().await?;
    println!("{passed} passed, {} failed", failed.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

//! A fetch in this process: a node without a listener, which is gone when the file is there.

use std::path::PathBuf;
use std::time::Duration;

use dragonfly_core::node::Node;
use dragonfly_core::peer::Peer;
use dragonfly_core::{Event, Receipt, Request};
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::args::Args;
use super::{End, Job, output_failed, remote};
use crate::error::Failure;
use crate::join::read_token;
use crate::model::ReceiptBody;
use crate::output::{Target, TemporaryDir};
use crate::progress::Progress;

/// Until the engines have stopped; what they hold is given up after it.
const SHUTDOWN_MAX: Duration = Duration::from_secs(5);
/// Bytes handed on at once to a pipe.
const CHUNK: usize = 256 << 10;

/// Fetches; on a signal or a failure nothing is left behind but what `--data-dir` keeps for the next time.
pub(super) async fn run(job: Job<'_>) -> Result<ReceiptBody, End> {
    let Job { args, request, target, mut progress, mut signals } = job;
    let request = request.to_request()?;
    let temporary = match &args.data_dir {
        Some(_) => None,
        None => Some(TemporaryDir::beside(&beside(&target))?),
    };
    // After the lookups above: the temporary directory outlives the node in it.
    let result = tokio::select! {
        node = start(args, temporary.as_ref()) => Ok(node?),
        _ = signals.next() => Err(End::Interrupted),
    };
    let (node, peer) = result?;
    let result = tokio::select! {
        result = fetch(&peer, request, &target, args.overwrite, &mut progress) => result,
        _ = signals.next() => Err(End::Interrupted),
    };
    progress.clear();
    let stopped = tokio::time::timeout(SHUTDOWN_MAX, async {
        let peer = peer.shutdown().await;
        node.shutdown().await.and(peer)
    });
    match stopped.await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => tracing::warn!("the engines did not stop in order: {e:?}"),
        Err(_) => tracing::warn!("the engines did not stop within {SHUTDOWN_MAX:?}"),
    }
    let receipt = ReceiptBody::from(&result?);
    progress.receipt(&receipt).map_err(|e| output_failed(&e))?;
    Ok(receipt)
}

/// Where the temporary store goes: on the output's file system, so that the output need not be copied.
fn beside(target: &Target) -> PathBuf {
    match target {
        Target::File(path) => path.clone(),
        Target::Special(_) | Target::Stdout => std::env::temp_dir().join("store"),
    }
}

async fn start(args: &Args, temporary: Option<&TemporaryDir>) -> Result<(Node, Peer), Failure> {
    let mut builder = Node::builder();
    if let Some(dir) = args.data_dir.as_deref().or(temporary.map(TemporaryDir::path)) {
        builder = builder.data_dir(dir.to_owned());
    }
    if let Some(join) = &args.join {
        builder = builder.join(read_token(join)?);
    }
    for address in &args.scheduler {
        builder = builder.scheduler(address.clone());
    }
    for address in &args.bootstrap {
        builder = builder.bootstrap(address.clone());
    }
    let node = builder.start().await?;
    let peer = Peer::builder(&node).start().await?;
    Ok((node, peer))
}

async fn fetch(
    peer: &Peer,
    request: Request,
    target: &Target,
    overwrite: bool,
    progress: &mut Progress,
) -> Result<Receipt, End> {
    match target {
        Target::File(path) => download(peer, request.output(path).overwrite(overwrite), progress).await,
        Target::Special(path) => {
            let mut file = remote::open_special(path).await?;
            stream(peer, request, &mut file, progress).await
        }
        Target::Stdout => stream(peer, request, &mut remote::stdout()?, progress).await,
    }
}

async fn download(peer: &Peer, request: Request, progress: &mut Progress) -> Result<Receipt, End> {
    let mut download = peer.fetch(request);
    let mut events = download.events();
    let mut more = true;
    loop {
        tokio::select! {
            // Events first: they are few, and the last ones come with the receipt.
            biased;
            event = events.next(), if more => match event {
                Some(event) => progress.event(&event).map_err(|e| { download.cancel(); output_failed(&e) })?,
                None => more = false,
            },
            receipt = &mut download => return Ok(receipt?),
        }
    }
}

async fn stream(
    peer: &Peer,
    request: Request,
    out: &mut (impl AsyncWrite + Unpin),
    progress: &mut Progress,
) -> Result<Receipt, End> {
    let mut reader = peer.open(request).await?;
    let length = reader.length();
    progress.event(&Event::Described { length }).map_err(|e| output_failed(&e))?;
    let mut buffer = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        let n = reader.read(&mut buffer).await.map_err(|e| crate::api::read_failed(&e))?;
        if n == 0 {
            break;
        }
        out.write_all(&buffer[..n]).await.map_err(|e| output_failed(&e))?;
        bytes += n as u64;
        progress.bytes(bytes, length).map_err(|e| output_failed(&e))?;
    }
    let receipt = reader.receipt().await?;
    out.shutdown().await.map_err(|e| output_failed(&e))?;
    progress.event(&Event::Complete).map_err(|e| output_failed(&e))?;
    Ok(receipt)
}

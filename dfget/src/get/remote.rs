//! A fetch through the daemon: its stream goes to the output as it comes, its receipt decides.

use std::os::fd::AsFd;
use std::time::Duration;

use dragonfly_core::task::Digest;
use dragonfly_core::{ErrorKind, Event};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{End, Job, output_failed};
use crate::client::{Client, Content};
use crate::error::Failure;
use crate::model::ReceiptBody;
use crate::output::{Pending, Target};
use crate::progress::Progress;

/// The daemon keeps the time-out itself and says what happened; this much later we no longer wait for it.
const TIMEOUT_GRACE: Duration = Duration::from_secs(2);

/// Where the bytes go while they come.
enum Sink {
    File(Pending),
    Stream(Box<dyn AsyncWrite + Unpin>),
}

/// Fetches; on a signal or a failure nothing is left behind.
pub(super) async fn run(job: Job<'_>, mut client: Client) -> Result<ReceiptBody, End> {
    let Job { args, request, target, mut progress, mut signals } = job;
    let limit = args.timeout.map_or(Duration::MAX, |timeout| timeout.saturating_add(TIMEOUT_GRACE));
    let receipt = tokio::select! {
        result = fetch(&mut client, &request, &target, args.overwrite, &mut progress) => result,
        _ = signals.next() => Err(End::Interrupted),
        () = sleep(limit) => Err(Failure::new(ErrorKind::Timeout, "the daemon did not finish in time").into()),
    };
    progress.clear();
    let mut receipt = receipt?;
    if let Target::File(path) | Target::Special(path) = &target {
        receipt.output = Some(path.to_string_lossy().into_owned());
        receipt.exported = Some("copy".to_owned());
    }
    progress.receipt(&receipt).map_err(|e| output_failed(&e))?;
    Ok(receipt)
}

async fn sleep(limit: Duration) {
    match tokio::time::Instant::now().checked_add(limit) {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn fetch(
    client: &mut Client,
    request: &crate::model::FetchRequest,
    target: &Target,
    overwrite: bool,
    progress: &mut Progress,
) -> Result<ReceiptBody, End> {
    // Before anything is fetched, so that a directory that cannot be written costs no transfer.
    let mut sink = open(target).await?;
    let mut content = client.fetch(request).await?;
    let length = content.length;
    progress.event(&Event::Described { length }).map_err(|e| output_failed(&e))?;
    copy(&mut content, &mut sink, progress).await?;
    let receipt = content.receipt()?;
    check_digest(request.digest.as_deref(), &receipt)?;
    match sink {
        Sink::File(pending) => pending.finish(length, overwrite)?,
        Sink::Stream(mut stream) => stream.shutdown().await.map_err(|e| output_failed(&e))?,
    }
    progress.event(&Event::Complete).map_err(|e| output_failed(&e))?;
    Ok(receipt)
}

async fn open(target: &Target) -> Result<Sink, End> {
    Ok(match target {
        Target::File(path) => Sink::File(Pending::create(path)?),
        Target::Special(path) => Sink::Stream(Box::new(open_special(path).await?)),
        Target::Stdout => Sink::Stream(Box::new(stdout()?)),
    })
}

/// Standard output without the line buffer of the standard library, which would search the content for line ends.
pub(super) fn stdout() -> Result<File, Failure> {
    let fd = std::io::stdout().as_fd().try_clone_to_owned();
    let fd = fd.map_err(|e| Failure::io("cannot use standard output", &e))?;
    Ok(File::from_std(std::fs::File::from(fd)))
}

/// Opens a device or a pipe for writing.
pub(super) async fn open_special(path: &std::path::Path) -> Result<File, Failure> {
    let file = OpenOptions::new().write(true).open(path).await;
    file.map_err(|e| Failure::io(format_args!("cannot write {}", path.display()), &e))
}

async fn copy(content: &mut Content, sink: &mut Sink, progress: &mut Progress) -> Result<(), End> {
    let mut bytes = 0;
    while let Some(chunk) = content.chunk().await? {
        match sink {
            // Into the page cache: shorter than handing it to another thread.
            Sink::File(pending) => pending.write(&chunk)?,
            Sink::Stream(stream) => stream.write_all(&chunk).await.map_err(|e| output_failed(&e))?,
        }
        bytes += chunk.len() as u64;
        progress.bytes(bytes, content.length).map_err(|e| output_failed(&e))?;
    }
    Ok(())
}

/// The receipt has to say that the whole was checked against the digest that we gave.
fn check_digest(wanted: Option<&str>, receipt: &ReceiptBody) -> Result<(), Failure> {
    let parse = |text: &str| text.parse::<Digest>().ok();
    match wanted {
        Some(wanted) if receipt.digest.as_deref().and_then(parse) != parse(wanted) => {
            Err(Failure::new(ErrorKind::Internal, "the daemon did not check the digest"))
        }
        _ => Ok(()),
    }
}

//! A fetch through the daemon, whose receipt decides. An output that is a file is made from the daemon's own, of which it
//! passes a descriptor: piece by piece as they come, so that nothing is left to be done at the end. Into a stream bytes
//! go in order, as the daemon sends them.

use std::fs::File as StdFile;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use dragonfly_core::ErrorKind;
use dragonfly_core::task::Digest;
use http::Method;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::args::Fetch;
use super::door::Door;
use super::jobs::Job;
use super::{End, output_failed};
use crate::client::{Content, Fetched, Pieces};
use crate::error::Failure;
use crate::model::{EventBody, ReceiptBody};
use crate::output::{Pending, Target};
use crate::progress::FileProgress;

/// The daemon keeps the time-out itself and says what happened; this much later we no longer wait for it.
const TIMEOUT_GRACE: Duration = Duration::from_secs(2);
/// Between two questions to the daemon how it is.
const HEALTH_EVERY: Duration = Duration::from_secs(30);
/// For the answer: a daemon on a loaded machine may be late.
const HEALTH_MAX: Duration = Duration::from_secs(30);
/// Bytes that are copied between two looks at signals.
const COPY: usize = 16 << 20;
/// Events that wait; more are dropped.
const EVENTS_MAX: usize = 64;

/// Where the bytes go while they come.
enum Sink {
    File(Pending),
    Stream(Box<dyn AsyncWrite + Unpin>),
}

/// Fetches; dropped or failed, it leaves nothing behind. The daemon keeps what it has, for the next time.
pub(super) async fn run(
    args: &Fetch,
    job: &Job,
    door: &Door,
    shown: &FileProgress,
    watched: bool,
) -> Result<ReceiptBody, End> {
    let started = Instant::now();
    let fetching = async {
        tokio::select! {
            fetched = fetch(args, job, door, shown, watched) => fetched,
            failure = frozen(door) => Err(failure.into()),
        }
    };
    let mut receipt = match args.timeout.and_then(|timeout| timeout.checked_add(TIMEOUT_GRACE)) {
        None => fetching.await?,
        Some(limit) => tokio::time::timeout(limit, fetching)
            .await
            .unwrap_or_else(|_| Err(Failure::new(ErrorKind::Timeout, "the daemon did not finish in time").into()))?,
    };
    // As this program sees it: the daemon may have had all of it long before.
    receipt.elapsed_ms = started.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
    if let Target::File(path) | Target::Special(path) = &job.target {
        receipt.output = Some(path.to_string_lossy().into_owned());
        receipt.exported.get_or_insert_with(|| "copy".to_owned());
    }
    Ok(receipt)
}

/// Resolves once the daemon answers nothing at all any more: a download may take its time, that question may not.
async fn frozen(door: &Door) -> Failure {
    loop {
        tokio::time::sleep(HEALTH_EVERY).await;
        let asked = async { door.connect().await?.bytes(Method::GET, "/healthz", None).await.map_err(Failure::from) };
        // One that is gone has closed the connection of the download: that says so by itself.
        if tokio::time::timeout(HEALTH_MAX, asked).await.is_err() {
            let message = format!("the daemon answers nothing any more, not even within {HEALTH_MAX:?} how it is");
            return Failure::new(ErrorKind::Timeout, message)
                .hint("see whether it is stopped or its machine overloaded, or fetch without it with --standalone");
        }
    }
}

async fn fetch(args: &Fetch, job: &Job, door: &Door, shown: &FileProgress, watched: bool) -> Result<ReceiptBody, End> {
    // Before anything is fetched, so that a directory that cannot be written costs no transfer.
    let mut sink = open(&job.target).await?;
    let mut client = door.connect().await?;
    // A descriptor has no rate.
    let passing = matches!(sink, Sink::File(_)) && args.limit_rate.is_none();
    let fetched = if passing {
        client.fetch_or_descriptor(&job.request).await?
    } else {
        Fetched::Content(client.fetch(&job.request).await?)
    };
    let describe = |length| shown.event(&EventBody::Described { length }).map_err(|e| output_failed(&e));
    let receipt = match fetched {
        Fetched::File { file, mut receipt } => {
            describe(receipt.length)?;
            let Sink::File(pending) = &mut sink else {
                return Err(Failure::new(ErrorKind::Internal, "a descriptor for what is no file").into());
            };
            receipt.exported = Some(take(&file, pending, receipt.length, shown).await?.to_owned());
            receipt
        }
        Fetched::Pieces(mut pieces) => {
            describe(pieces.length())?;
            let Sink::File(pending) = &mut sink else {
                return Err(Failure::new(ErrorKind::Internal, "a descriptor for what is no file").into());
            };
            let events = if watched { follow(door, pieces.task()).await } else { None };
            // Shared blocks are for the end: a file that is written to still would have them copied then.
            let shares = pending.may_reflink(&pieces.file);
            gather(&mut pieces, pending, shares, shown, events).await?;
            let mut receipt = pieces.receipt()?;
            let how = if shares { take(&pieces.file, pending, receipt.length, shown).await? } else { "copy" };
            receipt.exported = Some(how.to_owned());
            receipt
        }
        Fetched::Content(mut content) => {
            describe(content.length)?;
            let events = if watched { follow(door, &content.task).await } else { None };
            copy(&mut content, &mut sink, shown, events, args.limit_rate).await?;
            content.receipt()?
        }
    };
    check_digest(job.request.digest.as_deref(), &receipt)?;
    match sink {
        Sink::File(pending) => pending.finish(receipt.length, job.overwrite)?,
        Sink::Stream(mut stream) => stream.flush().await.map_err(|e| output_failed(&e))?,
    }
    shown.event(&EventBody::Complete).map_err(|e| output_failed(&e))?;
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

/// Makes the output from the daemon's file; how.
async fn take(from: &StdFile, pending: &mut Pending, length: u64, shown: &FileProgress) -> Result<&'static str, End> {
    if pending.reflink(from, length) {
        return Ok("reflink");
    }
    let mut bytes = 0;
    while bytes < length {
        let most = COPY.min(usize::try_from(length - bytes).unwrap_or(COPY));
        let n = pending.copy_from(from, most)?;
        if n == 0 {
            break;
        }
        bytes += n as u64;
        shown.bytes(bytes, length).map_err(|e| output_failed(&e))?;
        tokio::task::yield_now().await;
    }
    Ok("copy")
}

/// Copies from the daemon's file what comes to be there, unless its blocks are to be shared at the end.
async fn gather(
    pieces: &mut Pieces,
    pending: &mut Pending,
    shares: bool,
    shown: &FileProgress,
    mut events: Option<mpsc::Receiver<EventBody>>,
) -> Result<(), End> {
    let mut bytes = 0;
    loop {
        let range = tokio::select! {
            range = pieces.next() => match range? {
                Some(range) => range,
                None => return Ok(()),
            },
            event = told(&mut events) => {
                show(event, &mut events, shown)?;
                continue;
            }
        };
        let mut at = range.start;
        while at < range.end && !shares {
            let most = COPY.min(usize::try_from(range.end - at).unwrap_or(COPY));
            match pending.copy_at(&pieces.file, at, most)? {
                0 => return Err(Failure::new(ErrorKind::Internal, "the daemon's file is too short").into()),
                n => at += n as u64,
            }
            tokio::task::yield_now().await;
        }
        bytes += range.end - range.start;
        shown.bytes(bytes, pieces.length()).map_err(|e| output_failed(&e))?;
    }
}

/// The next thing that the daemon tells, for ever nothing if it tells nothing more.
async fn told(events: &mut Option<mpsc::Receiver<EventBody>>) -> Option<EventBody> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

fn show(
    event: Option<EventBody>,
    events: &mut Option<mpsc::Receiver<EventBody>>,
    shown: &FileProgress,
) -> Result<(), End> {
    match event {
        Some(event) => shown.told(&event).map_err(|e| output_failed(&e)),
        None => {
            *events = None;
            Ok(())
        }
    }
}

/// What the daemon tells of the fetch; nothing if it does not want to.
async fn follow(door: &Door, task: &str) -> Option<mpsc::Receiver<EventBody>> {
    let mut events = door.connect().await.ok()?;
    let (told, receiver) = mpsc::channel(EVENTS_MAX);
    let task = task.to_owned();
    tokio::spawn(async move {
        let Ok(mut stream) = events.events(Some(&task)).await else { return };
        while let Ok(Some(event)) = stream.next().await {
            // What does not fit is progress that is overtaken already.
            if let Err(mpsc::error::TrySendError::Closed(_)) = told.try_send(event.what) {
                return;
            }
        }
    });
    Some(receiver)
}

async fn copy(
    content: &mut Content,
    sink: &mut Sink,
    shown: &FileProgress,
    mut events: Option<mpsc::Receiver<EventBody>>,
    limit: Option<u64>,
) -> Result<(), End> {
    let (mut bytes, started) = (0_u64, Instant::now());
    loop {
        let chunk = tokio::select! {
            chunk = content.chunk() => match chunk? {
                Some(chunk) => chunk,
                None => return Ok(()),
            },
            event = told(&mut events) => {
                show(event, &mut events, shown)?;
                continue;
            }
        };
        match sink {
            // Into the page cache: shorter than handing it to another thread.
            Sink::File(pending) => pending.write(&chunk)?,
            Sink::Stream(stream) => stream.write_all(&chunk).await.map_err(|e| output_failed(&e))?,
        }
        bytes += chunk.len() as u64;
        shown.bytes(bytes, content.length).map_err(|e| output_failed(&e))?;
        if let Some(limit) = limit.filter(|limit| *limit > 0) {
            let due = Duration::from_secs_f64(bytes as f64 / limit as f64);
            tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
        }
    }
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

//! Fetches in this process: a node without a listener, which is gone when the files are there.

use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use dragonfly_core::node::Node;
use dragonfly_core::peer::Peer;
use dragonfly_core::{Events, Reader, Receipt, Request};
use futures::StreamExt;
use std::io::SeekFrom;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWrite, AsyncWriteExt};

use super::args::Fetch;
use super::jobs::Job;
use super::{End, output_failed, remote};
use crate::error::Failure;
use crate::join::read_token;
use crate::model::{EventBody, ReceiptBody, part_receipt};
use crate::output::{Pending, Target, WorkDir};
use crate::progress::FileProgress;
use crate::range::ByteRange;

/// Until the engines have stopped; what they hold is given up after it.
const SHUTDOWN_MAX: Duration = Duration::from_secs(5);
/// Bytes handed on at once to a pipe.
const CHUNK: usize = 256 << 10;
/// Slower than this a piece of 4 MiB takes so long that the fetch counts as stalled.
const LIMIT_MIN: u64 = 64 << 10;

/// The node of this process, and where it keeps what it has.
pub(super) struct Alone {
    node: Node,
    peer: Peer,
    /// Dropped after the node in it; none where the user named a directory.
    work: Option<WorkDir>,
}

/// Where the bytes of a part go.
enum PartSink {
    File(Pending),
    Stream(Box<dyn AsyncWrite + Unpin>),
}

impl Alone {
    pub(super) async fn start(args: &Fetch, jobs: &[Job]) -> Result<Self, Failure> {
        if args.limit_rate.is_some_and(|limit| limit < LIMIT_MIN) {
            return Err(Failure::usage("--limit-rate: at least 64KiB when fetching in this process"));
        }
        let work = match &args.data_dir {
            Some(_) => None,
            None => Some(work_dir(jobs)?),
        };
        let mut builder = Node::builder();
        if let Some(dir) = args.data_dir.as_deref().or(work.as_ref().map(WorkDir::path)) {
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
        #[cfg(feature = "storages")]
        {
            builder = builder.storage(crate::storages::config(&args.storage)?);
        }
        let node = builder.start().await?;
        node.set_download_limit(args.limit_rate);
        let peer = Peer::builder(&node).start().await?;
        Ok(Self { node, peer, work })
    }

    /// Fetches one URL.
    pub(super) async fn run(&self, args: &Fetch, job: &Job, shown: &FileProgress) -> Result<ReceiptBody, End> {
        let request = job.request.to_request()?;
        if let Some(range) = args.range {
            return self.part(job, request, range, shown).await;
        }
        let receipt = match &job.target {
            Target::File(path) => self.download(request.output(path).overwrite(job.overwrite), shown).await,
            Target::Special(path) => self.stream(request, &mut remote::open_special(path).await?, shown).await,
            Target::Stdout => self.stream(request, &mut remote::stdout()?, shown).await,
        };
        Ok(ReceiptBody::from(&receipt?))
    }

    async fn download(&self, request: Request, shown: &FileProgress) -> Result<Receipt, End> {
        let mut download = self.peer.fetch(request);
        let mut events = download.events();
        let mut more = true;
        loop {
            tokio::select! {
                // Events first: they are few, and the last ones come with the receipt.
                biased;
                event = events.next(), if more => match event {
                    Some(event) => {
                        if let Some(event) = EventBody::of(&event) {
                            shown.event(&event).map_err(|e| { download.cancel(); output_failed(&e) })?;
                        }
                    }
                    None => more = false,
                },
                receipt = &mut download => return Ok(receipt?),
            }
        }
    }

    async fn stream(
        &self,
        request: Request,
        out: &mut (impl AsyncWrite + Unpin),
        shown: &FileProgress,
    ) -> Result<Receipt, End> {
        let mut reader = self.peer.open(request).await?;
        let length = reader.length();
        shown.event(&EventBody::Described { length }).map_err(|e| output_failed(&e))?;
        let (mut events, mut buffer, mut bytes) = (reader.events(), vec![0; CHUNK], 0);
        loop {
            let n = read(&mut reader, &mut events, &mut buffer, shown).await?;
            if n == 0 {
                break;
            }
            out.write_all(&buffer[..n]).await.map_err(|e| output_failed(&e))?;
            bytes += n as u64;
            shown.bytes(bytes, length).map_err(|e| output_failed(&e))?;
        }
        let receipt = reader.receipt().await?;
        out.flush().await.map_err(|e| output_failed(&e))?;
        shown.event(&EventBody::Complete).map_err(|e| output_failed(&e))?;
        Ok(receipt)
    }

    /// A part of the content; the rest is waited for where the whole is held to a digest.
    async fn part(
        &self,
        job: &Job,
        request: Request,
        range: ByteRange,
        shown: &FileProgress,
    ) -> Result<ReceiptBody, End> {
        let started = Instant::now();
        let mut sink = match &job.target {
            Target::File(path) => PartSink::File(Pending::create(path)?),
            Target::Special(path) => PartSink::Stream(Box::new(remote::open_special(path).await?)),
            Target::Stdout => PartSink::Stream(Box::new(remote::stdout()?)),
        };
        let mut reader = self.peer.open(request).await?;
        let part: Range<u64> = range.within(reader.length())?;
        let length = part.end - part.start;
        shown.event(&EventBody::Described { length }).map_err(|e| output_failed(&e))?;
        reader.seek(SeekFrom::Start(part.start)).await.map_err(|e| crate::api::read_failed(&e))?;
        let (mut events, mut buffer, mut bytes) = (reader.events(), vec![0; CHUNK], 0);
        // A digest is of the whole: of no byte is it known to be right before.
        let proven = match reader.digest() {
            Some(_) => Some(whole(&mut reader, &mut events, shown).await?),
            None => None,
        };
        while bytes < length {
            let most = usize::try_from(length - bytes).unwrap_or(CHUNK).min(CHUNK);
            let n = read(&mut reader, &mut events, &mut buffer[..most], shown).await?;
            if n == 0 {
                break;
            }
            match &mut sink {
                PartSink::File(pending) => pending.write(&buffer[..n])?,
                PartSink::Stream(stream) => stream.write_all(&buffer[..n]).await.map_err(|e| output_failed(&e))?,
            }
            bytes += n as u64;
            shown.bytes(bytes, length).map_err(|e| output_failed(&e))?;
        }
        let mut receipt = part_receipt(&reader, &part, proven.as_ref(), started.elapsed());
        match sink {
            PartSink::File(pending) => pending.finish(length, job.overwrite)?,
            PartSink::Stream(mut stream) => stream.flush().await.map_err(|e| output_failed(&e))?,
        }
        if let Target::File(path) | Target::Special(path) = &job.target {
            receipt.output = Some(path.to_string_lossy().into_owned());
            receipt.exported = Some("copy".to_owned());
        }
        Ok(receipt)
    }

    /// Stops the engines. With `keep`, what they hold stays for the same command given again; how many bytes that is.
    pub(super) async fn stop(&mut self, keep: bool) -> u64 {
        let held = self.node.usage().bytes;
        let stopped = tokio::time::timeout(SHUTDOWN_MAX, async {
            let peer = self.peer.shutdown().await;
            self.node.shutdown().await.and(peer)
        });
        match stopped.await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => tracing::warn!("the engines did not stop in order: {e:?}"),
            Err(_) => tracing::warn!("the engines did not stop within {SHUTDOWN_MAX:?}"),
        }
        let Some(work) = &mut self.work else { return 0 };
        if keep && held > 0 && work.keep() { held } else { 0 }
    }
}

/// Does `work`, and shows meanwhile what the download behind it tells: where bytes come from, what went wrong.
async fn meanwhile<T>(work: impl Future<Output = T>, events: &mut Events, shown: &FileProgress) -> Result<T, End> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            Some(event) = events.next() => {
                if let Some(event) = EventBody::of(&event) {
                    shown.told(&event).map_err(|e| output_failed(&e))?;
                }
            }
            done = &mut work => return Ok(done),
        }
    }
}

/// Waits for the whole.
async fn whole(reader: &mut Reader, events: &mut Events, shown: &FileProgress) -> Result<Receipt, End> {
    Ok(meanwhile(reader.receipt(), events, shown).await??)
}

/// Reads on.
async fn read(reader: &mut Reader, events: &mut Events, buffer: &mut [u8], shown: &FileProgress) -> Result<usize, End> {
    meanwhile(reader.read(buffer), events, shown).await?.map_err(|e| crate::api::read_failed(&e).into())
}

/// Beside the first file: what goes into files of other file systems is copied.
fn work_dir(jobs: &[Job]) -> Result<WorkDir, Failure> {
    let mut files = jobs.iter().filter_map(|job| match &job.target {
        Target::File(path) => Some(path),
        Target::Special(_) | Target::Stdout => None,
    });
    let Some(first) = files.next() else { return WorkDir::temporary() };
    let more = files.count();
    let mut beside: PathBuf = first.clone();
    if more > 0 {
        let name = first.file_name().unwrap_or_default().to_string_lossy();
        beside.set_file_name(format!("{name}+{more}"));
    }
    WorkDir::beside(&beside)
}

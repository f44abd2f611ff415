//! A download under way.

use std::fs::File;
use std::io::Write as _;

use dragonfly_core::{Download, Error, ErrorKind, Event, Events, Peer, Receipt, Request, Result, Runtime};
use futures::future::{BoxFuture, Shared};
use futures::{FutureExt as _, StreamExt as _};
use tokio::io::AsyncReadExt as _;

use crate::args;
use crate::boundary::{free, run};
use crate::callback::{Watch, dragonfly_watch};
use crate::cancel::{Patience, dragonfly_cancel};
use crate::engine::On;
use crate::error::{dragonfly_error, dragonfly_status};
use crate::receipt::dragonfly_receipt;
use crate::request::{self, dragonfly_request};
use crate::table::{self, Handle, handle};

/// A download under way. It runs whether or not anyone looks. Freed with `dragonfly_download_free`, which detaches from
/// it; `dragonfly_download_cancel` withdraws.
pub struct dragonfly_download {
    _private: [u8; 0],
}

/// A download, as C holds it.
pub struct DownloadObject {
    download: Download,
    /// Ends with the download, or with the copy of its bytes.
    outcome: Shared<BoxFuture<'static, Result<Receipt>>>,
    events: tokio::sync::Mutex<Events>,
    runtime: Runtime,
}

handle!(dragonfly_download, DownloadObject, "download");

/// What kind of progress it is.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dragonfly_event_type {
    /// No event: the download has ended.
    DRAGONFLY_EVENT_END = 0,
    /// The length is known (again, should the origin's content have changed).
    DRAGONFLY_EVENT_DESCRIBED = 1,
    /// More bytes are held.
    DRAGONFLY_EVENT_PROGRESS = 2,
    /// Every byte is held; digest and output remain.
    DRAGONFLY_EVENT_COMPLETE = 3,
}

/// Progress of a download. The caller sets `size` before the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dragonfly_event {
    /// `sizeof(dragonfly_event)`.
    pub size: usize,
    /// A `dragonfly_event_type`; programs must expect ones that this header does not name.
    pub r#type: i32,
    /// Hosts that pieces are exchanged with.
    pub neighbours: u32,
    /// Bytes held and proven.
    pub bytes: u64,
    /// Bytes in all.
    pub length: u64,
    /// Of the bytes held, from the origin by this host.
    pub from_origin: u64,
    /// Of the bytes held, from peers.
    pub from_peers: u64,
}

crate::args::sized! { dragonfly_event, "event"; }

impl dragonfly_event {
    fn of(event: Option<&Event>) -> Option<Self> {
        use dragonfly_event_type as Type;
        let plain = |kind: Type| Self {
            size: size_of::<Self>(),
            r#type: kind as i32,
            neighbours: 0,
            bytes: 0,
            length: 0,
            from_origin: 0,
            from_peers: 0,
        };
        Some(match event {
            None => plain(Type::DRAGONFLY_EVENT_END),
            Some(Event::Described { length }) => Self { length: *length, ..plain(Type::DRAGONFLY_EVENT_DESCRIBED) },
            Some(Event::Progress { bytes, length, from_origin, from_peers, neighbours }) => Self {
                bytes: *bytes,
                length: *length,
                from_origin: *from_origin,
                from_peers: *from_peers,
                neighbours: *neighbours,
                ..plain(Type::DRAGONFLY_EVENT_PROGRESS)
            },
            Some(Event::Complete) => plain(Type::DRAGONFLY_EVENT_COMPLETE),
            // One that this version of the ABI has no words for.
            Some(_) => return None,
        })
    }
}

impl DownloadObject {
    pub(crate) fn of(download: Download, runtime: Runtime) -> Self {
        let outcome = download.clone().boxed().shared();
        let events = tokio::sync::Mutex::new(download.events());
        Self { download, outcome, events, runtime }
    }

    /// Also writes the bytes to `file`, in order, as they are proven.
    pub(crate) fn copying(peer: Peer, request: Request, file: File, runtime: Runtime) -> Self {
        let download = peer.fetch(request.clone());
        let whole = download.clone();
        let copied = runtime.handle().spawn(async move {
            let copied = copy(&peer, request, file, failure(whole.clone())).await;
            if copied.is_err() {
                // Nobody waits for the rest.
                whole.cancel();
            }
            copied?;
            whole.await
        });
        let outcome = async move {
            copied.await.unwrap_or_else(|e| Err(Error::new(ErrorKind::Cancelled, "the runtime stopped").caused_by(e)))
        };
        let events = tokio::sync::Mutex::new(download.events());
        Self { download, outcome: outcome.boxed().shared(), events, runtime }
    }
}

/// Why a download ended, should it end without success.
async fn failure(download: Download) -> Error {
    match download.await {
        Ok(_) => std::future::pending().await,
        Err(error) => error,
    }
}

/// Writes content to a file from where the file is, unless the download fails or is withdrawn from. Nothing is written
/// any more when it is over.
async fn copy(peer: &Peer, request: Request, file: File, failure: impl Future<Output = Error>) -> Result<()> {
    const CHUNK: usize = 256 << 10;
    let mut failure = std::pin::pin!(failure);
    let mut reader = tokio::select! {
        opened = peer.open(request) => opened?,
        error = &mut failure => return Err(error),
    };
    let mut file = Some(file);
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        let read = tokio::select! {
            read = reader.read_buf(&mut chunk) => read.map_err(Error::from_read)?,
            error = &mut failure => return Err(error),
        };
        if read == 0 {
            return Ok(());
        }
        let Some(mut target) = file.take() else { return Ok(()) };
        let written = tokio::task::spawn_blocking(move || target.write_all(&chunk).map(|()| target)).await;
        let written = written.unwrap_or_else(|e| Err(std::io::Error::other(e)));
        let failed = |e| Error::new(ErrorKind::Io, "cannot write to the descriptor").caused_by(e);
        file = Some(written.map_err(failed)?);
    }
}

/// Starts a download with an engine.
///
/// # Safety
/// As every function's of the ABI.
pub(crate) unsafe fn begin<H, T>(
    engine: *const H,
    request: *const dragonfly_request,
    place: *mut *mut dragonfly_download,
    error: *mut *mut dragonfly_error,
    start: impl FnOnce(&T, Request) -> Download,
) -> dragonfly_status
where
    H: Handle<Object = On<T>>,
{
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        run(error, || {
            args::wanted(place, "download")?;
            let engine = table::get(engine)?;
            let started = start(&engine.it, request::read(request)?);
            place.write(table::insert::<dragonfly_download>(DownloadObject::of(started, engine.runtime.clone())));
            Ok(())
        })
    }
}

/// Waits until it has ended. The outcome stays: it can be asked for again.
///
/// `receipt` may be NULL.
///
/// Any thread, several at a time; blocks, for at most `timeout_ms` (negative: for as long as it takes; 0: not at all)
/// and until `cancel` (or NULL) is fired. Neither withdraws from the download.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_download_wait(
    download: *const dragonfly_download,
    timeout_ms: i64,
    cancel: *const dragonfly_cancel,
    receipt: *mut dragonfly_receipt,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        run(error, || {
            let object = table::get(download)?;
            let ended = Patience::of(timeout_ms, cancel)?.wait(&object.runtime, object.outcome.clone())?;
            if receipt.is_null() { Ok(()) } else { args::write_sized(receipt, &dragonfly_receipt::from(&ended)) }
        })
    }
}

/// The next event; `DRAGONFLY_EVENT_END` once the download has ended. Lossy: who asks seldom misses some.
///
/// Any thread (several take turns); blocks, for at most `timeout_ms` (negative: for as long as it takes; 0: not at all)
/// and until `cancel` (or NULL) is fired.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_download_next_event(
    download: *const dragonfly_download,
    timeout_ms: i64,
    cancel: *const dragonfly_cancel,
    event: *mut dragonfly_event,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        run(error, || {
            args::wanted(event, "event")?;
            let object = table::get(download)?;
            let next = async {
                let mut events = object.events.lock().await;
                loop {
                    if let Some(event) = dragonfly_event::of(events.next().await.as_ref()) {
                        return Ok(event);
                    }
                }
            };
            let next = Patience::of(timeout_ms, cancel)?.wait(&object.runtime, next)?;
            args::write_sized(event, &next)
        })
    }
}

/// Has the library call when there is progress and when the download ends. May be done several times. Callbacks stay
/// registered when the download's handle is freed; if the node's threads end first, `on_done` gets
/// `DRAGONFLY_CANCELLED`. If this function fails, no callback is ever called, `drop` included.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_download_watch(
    download: *const dragonfly_download,
    watch: *const dragonfly_watch,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        run(error, || {
            let given = args::read_sized(watch)?;
            let object = table::get(download)?;
            let (events, outcome) = (object.download.events(), object.outcome.clone());
            object.runtime.handle().spawn(tell(Watch::new(given), given.on_event.is_some(), events, outcome));
            Ok(())
        })
    }
}

/// Calls back. Each call is on a thread that may be blocked.
async fn tell(watch: Watch, progress: bool, events: Events, outcome: Shared<BoxFuture<'static, Result<Receipt>>>) {
    let mut place = Some(watch);
    // Without a callback for progress there is nothing to wait for but the end.
    let mut events = if progress { events.left_stream() } else { futures::stream::empty().right_stream() };
    while let Some(event) = events.next().await {
        let Some(event) = dragonfly_event::of(Some(&event)) else { continue };
        let Some(watch) = place.take() else { return };
        let called = tokio::task::spawn_blocking(move || {
            watch.event(&event);
            watch
        });
        // A closure that was never run has dropped what it held, which told the program the end.
        let Ok(watch) = called.await else { return };
        place = Some(watch);
    }
    let outcome = outcome.await;
    let _ = tokio::task::spawn_blocking(move || {
        if let Some(mut watch) = place {
            watch.done(&outcome);
        }
    })
    .await;
}

/// Withdraws this caller's interest; others who fetch the same content go on. The download then ends with
/// `DRAGONFLY_CANCELLED` unless it was done before.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_download_cancel(
    download: *const dragonfly_download,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        run(error, || {
            table::get(download)?.download.cancel();
            Ok(())
        })
    }
}

/// Frees the handle; the download goes on. NULL is fine.
///
/// Any thread, but no callback of a policy or of the log; does not block, unless it was the last that used a node's own
/// threads: see `dragonfly_node_free`.
#[unsafe(no_mangle)]
pub extern "C" fn dragonfly_download_free(download: *mut dragonfly_download) {
    free(download);
}

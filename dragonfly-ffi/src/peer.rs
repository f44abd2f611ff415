//! The Peer engine.

use std::ffi::{c_char, c_int};
use std::fs::File;
use std::os::fd::{BorrowedFd, RawFd};

use dragonfly_core::{Generation, Peer, Result, TaskId};

use crate::boundary::{free, run};
use crate::cancel::dragonfly_cancel;
use crate::download::{self, DownloadObject, dragonfly_download};
use crate::engine::{self, On, ask};
use crate::error::{dragonfly_error, dragonfly_status};
use crate::node::dragonfly_node;
use crate::reader::{ReaderObject, dragonfly_reader};
use crate::request::{self, dragonfly_request};
use crate::table::{self, handle};
use crate::tasks::dragonfly_tasks;
use crate::text::dragonfly_text;
use crate::{args, tasks};

/// The Peer engine of a node: it downloads, stores, and serves what it holds to its neighbours. Freed with
/// `dragonfly_peer_free`; the engine stops with the last handle, download and reader of it.
pub struct dragonfly_peer {
    _private: [u8; 0],
}

handle!(dragonfly_peer, On<Peer>, "peer");

/// # Safety
/// As [`args::text`].
unsafe fn task_of(given: *const c_char) -> Result<TaskId> {
    // SAFETY: the caller's promise.
    let text = unsafe { args::text(given, "task") }?;
    text.parse().map_err(|e| args::invalid("the task").caused_by(e))
}

/// Starts the peer of a node. A node has one: starting it again gives another handle of it.
///
/// Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
/// fired.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_peer_start(
    node: *const dragonfly_node,
    timeout_ms: i64,
    cancel: *const dragonfly_cancel,
    peer: *mut *mut dragonfly_peer,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe { engine::start(node, timeout_ms, cancel, peer, error, async |node| Peer::builder(node).start().await) }
}

/// Fetches content: into the store and, if the request names one, to an output that appears under its name only when it
/// is complete and verified. Several fetches of one task share it. What is wrong with the request is told by the
/// download.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_peer_fetch(
    peer: *const dragonfly_peer,
    request: *const dragonfly_request,
    download: *mut *mut dragonfly_download,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe { download::begin(peer, request, download, error, Peer::fetch) }
}

/// Fetches content and writes it to a descriptor, in order, from where the descriptor is, as it is proven: what was
/// written is right as far as it goes, but only the end of the download says that the whole has the digest of the
/// request. The descriptor is duplicated: the caller may close its own at once. The request must not name an output. When
/// the download has ended nothing is written any more: its end waits for a write that waits, as a full pipe's does.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_peer_fetch_to_fd(
    peer: *const dragonfly_peer,
    request: *const dragonfly_request,
    fd: c_int,
    download: *mut *mut dragonfly_download,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        run(error, || {
            args::wanted(download, "download")?;
            let peer = table::get(peer)?;
            let wanted = request::read(request)?;
            let file = duplicate(fd)?;
            let object = DownloadObject::copying(peer.it.clone(), wanted, file, peer.runtime.clone());
            download.write(table::insert::<dragonfly_download>(object));
            Ok(())
        })
    }
}

fn duplicate(fd: RawFd) -> Result<File> {
    if fd < 0 {
        return Err(args::invalid("not a descriptor"));
    }
    // SAFETY: it is used for the duplication only, which fails for what is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let owned = borrowed.try_clone_to_owned();
    owned.map(File::from).map_err(|e| args::invalid("the descriptor").caused_by(e))
}

/// Opens content as a stream of proven bytes, before it is complete. An output in the request is ignored.
///
/// Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
/// fired.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_peer_open(
    peer: *const dragonfly_peer,
    request: *const dragonfly_request,
    timeout_ms: i64,
    cancel: *const dragonfly_cancel,
    reader: *mut *mut dragonfly_reader,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        run(error, || {
            args::wanted(reader, "reader")?;
            let runtime = table::get(peer)?.runtime.clone();
            let wanted = request::read(request)?;
            let opened = ask(peer, timeout_ms, cancel, async |peer: &Peer| peer.open(wanted).await)?;
            reader.write(table::insert::<dragonfly_reader>(ReaderObject::new(opened, runtime)));
            Ok(())
        })
    }
}

/// The id of the task that a request names, as text to be freed.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_peer_task_id(
    peer: *const dragonfly_peer,
    request: *const dragonfly_request,
    task: *mut *mut dragonfly_text,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        engine::tell(peer, task, "task", error, |peer| Ok(peer.it.task_id(&request::read(request)?)?.to_string()))
    }
}

/// What the store holds of a task, the newest version first; an empty list if nothing. A list to be freed.
///
/// Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
/// fired.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_peer_stat(
    peer: *const dragonfly_peer,
    task: *const c_char,
    timeout_ms: i64,
    cancel: *const dragonfly_cancel,
    found: *mut *mut dragonfly_tasks,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        run(error, || {
            args::wanted(found, "found")?;
            table::get(peer)?;
            let task = task_of(task)?;
            let listed = ask(peer, timeout_ms, cancel, async |peer: &Peer| peer.stat(task).await)?;
            found.write(tasks::give(listed));
            Ok(())
        })
    }
}

/// What the store holds, in the order of ids, at most `max` (and at most 1000) at a time: from after the task and the
/// generation that were listed last, or from the start if both are NULL (one alone must not be). A list to be freed.
///
/// Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
/// fired.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_peer_list(
    peer: *const dragonfly_peer,
    after_task: *const c_char,
    after_generation: *const c_char,
    max: usize,
    timeout_ms: i64,
    cancel: *const dragonfly_cancel,
    found: *mut *mut dragonfly_tasks,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        run(error, || {
            args::wanted(found, "found")?;
            table::get(peer)?;
            let after = match args::optional_text(after_generation, "after_generation")? {
                // Half a place would be the start again, and a program that pages would never come to an end.
                None if !after_task.is_null() => {
                    return Err(args::invalid("after_generation is NULL, but not after_task"));
                }
                None => None,
                Some(generation) => {
                    let generation: Generation =
                        generation.parse().map_err(|e| args::invalid("the generation").caused_by(e))?;
                    Some((task_of(after_task)?, generation))
                }
            };
            let listed = ask(peer, timeout_ms, cancel, async |peer: &Peer| peer.list(after, max).await)?;
            found.write(tasks::give(listed));
            Ok(())
        })
    }
}

/// Removes a task from the store, pinned or not; `freed` (or NULL) gets how many bytes that freed.
///
/// Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
/// fired.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_peer_remove(
    peer: *const dragonfly_peer,
    task: *const c_char,
    timeout_ms: i64,
    cancel: *const dragonfly_cancel,
    freed: *mut u64,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        run(error, || {
            table::get(peer)?;
            let task = task_of(task)?;
            args::write(freed, ask(peer, timeout_ms, cancel, async |peer: &Peer| peer.remove(task).await)?);
            Ok(())
        })
    }
}

/// Keeps a task whatever the quota says, or no longer.
///
/// Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
/// fired.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_peer_pin(
    peer: *const dragonfly_peer,
    task: *const c_char,
    pinned: bool,
    timeout_ms: i64,
    cancel: *const dragonfly_cancel,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        run(error, || {
            table::get(peer)?;
            let task = task_of(task)?;
            ask(peer, timeout_ms, cancel, async |peer: &Peer| peer.pin(task, pinned).await)
        })
    }
}

/// Stops the engine: downloads end with `DRAGONFLY_CANCELLED`, what is held is made durable. The handle stays valid until
/// it is freed; doing it again does nothing.
///
/// Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
/// fired.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_peer_shutdown(
    peer: *const dragonfly_peer,
    timeout_ms: i64,
    cancel: *const dragonfly_cancel,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe { run(error, || ask(peer, timeout_ms, cancel, async |peer: &Peer| peer.shutdown().await)) }
}

/// Frees the handle. NULL is fine.
///
/// Any thread, but no callback of a policy or of the log. Waits for the node's own threads, at most 2 seconds, if nothing
/// else uses them; not in a callback, which is on one of them.
#[unsafe(no_mangle)]
pub extern "C" fn dragonfly_peer_free(peer: *mut dragonfly_peer) {
    free(peer);
}

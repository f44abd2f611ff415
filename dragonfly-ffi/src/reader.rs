//! Content as a stream.

use std::io::SeekFrom;
use std::mem::MaybeUninit;
use std::pin::Pin;

use dragonfly_core::{Error, ErrorKind, Reader, Result, Runtime};
use tokio::io::{AsyncRead as _, AsyncSeekExt as _, ReadBuf};
use tokio_util::sync::CancellationToken;

use crate::args;
use crate::boundary::{free, run, run_or};
use crate::cancel::{Patience, dragonfly_cancel};
use crate::error::{dragonfly_error, dragonfly_status};
use crate::receipt::dragonfly_receipt;
use crate::table::{self, handle};
use crate::text::{dragonfly_text, give};

/// Proven bytes of one piece of content, from any place, before the whole is complete. Freed with
/// `dragonfly_reader_free`, which withdraws its interest in the content.
pub struct dragonfly_reader {
    _private: [u8; 0],
}

/// A reader, as C holds it.
pub struct ReaderObject {
    reader: tokio::sync::Mutex<Reader>,
    length: u64,
    task: String,
    closed: CancellationToken,
    runtime: Runtime,
}

handle!(dragonfly_reader, ReaderObject, "reader");

impl ReaderObject {
    pub(crate) fn new(reader: Reader, runtime: Runtime) -> Self {
        let (length, task) = (reader.length(), reader.task().to_string());
        Self { reader: tokio::sync::Mutex::new(reader), length, task, closed: CancellationToken::new(), runtime }
    }

    /// Does something with the reader, unless it is or gets closed.
    async fn unless_closed<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.closed.cancelled() => Err(Error::new(ErrorKind::Cancelled, "the reader is closed")),
            outcome = work => outcome,
        }
    }
}

/// The content's length in bytes; 0 for what is no reader.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub extern "C" fn dragonfly_reader_length(reader: *const dragonfly_reader) -> u64 {
    run_or(0, || Ok(table::get(reader)?.length))
}

/// The id of its task, as text to be freed.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_reader_task(
    reader: *const dragonfly_reader,
    task: *mut *mut dragonfly_text,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        run(error, || {
            args::wanted(task, "task")?;
            task.write(give(&table::get(reader)?.task));
            Ok(())
        })
    }
}

/// Reads from where the reader is: at least one byte and at most `room`, 0 at the end of the content. Waits for the
/// pieces that it needs, which are fetched first. Neither time-out nor cancel loses bytes: the next read goes on.
///
/// Any thread (several take turns); blocks, for at most `timeout_ms` (negative: for as long as it takes) and until
/// `cancel` (or NULL) is fired.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_reader_read(
    reader: *const dragonfly_reader,
    buffer: *mut u8,
    room: usize,
    timeout_ms: i64,
    cancel: *const dragonfly_cancel,
    read: *mut usize,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        run(error, || {
            args::wanted(read, "read")?;
            if buffer.is_null() && room > 0 {
                return Err(Error::new(ErrorKind::InvalidInput, "buffer is NULL"));
            }
            let object = table::get(reader)?;
            let slice = match room {
                0 => &mut [][..],
                _ => std::slice::from_raw_parts_mut(buffer.cast::<MaybeUninit<u8>>(), room),
            };
            let mut target = ReadBuf::uninit(slice);
            let work = object.unless_closed(async {
                let mut reader = object.reader.lock().await;
                std::future::poll_fn(|cx| Pin::new(&mut *reader).poll_read(cx, &mut target))
                    .await
                    .map_err(Error::from_read)
            });
            Patience::of(timeout_ms, cancel)?.wait(&object.runtime, work)?;
            read.write(target.filled().len());
            Ok(())
        })
    }
}

/// From where `dragonfly_reader_seek` counts.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dragonfly_whence {
    /// From the start.
    DRAGONFLY_SEEK_SET = 0,
    /// From where the reader is.
    DRAGONFLY_SEEK_CUR = 1,
    /// From the end.
    DRAGONFLY_SEEK_END = 2,
}

/// Moves the reader. Beyond the end is allowed: reads there give 0 bytes.
///
/// `whence`: a `dragonfly_whence`. `position` (or NULL) gets the place, counted from the start.
///
/// Any thread; does not block, unless another thread waits for a read or a receipt with this reader: then for as long as
/// that one does, whose time-out and cancel handle bound both, as `dragonfly_reader_close` does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_reader_seek(
    reader: *const dragonfly_reader,
    offset: i64,
    whence: i32,
    position: *mut u64,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        run(error, || {
            let object = table::get(reader)?;
            let invalid = |what: &str| Error::new(ErrorKind::InvalidInput, what);
            let to = match whence {
                0 => SeekFrom::Start(u64::try_from(offset).map_err(|_| invalid("seek to before the start"))?),
                1 => SeekFrom::Current(offset),
                2 => SeekFrom::End(offset),
                _ => return Err(invalid("whence is none of DRAGONFLY_SEEK_*")),
            };
            let work = object.unless_closed(async {
                let mut reader = object.reader.lock().await;
                reader.seek(to).await.map_err(|e| invalid(&e.to_string()))
            });
            let place = object.runtime.block_on(work)?;
            args::write(position, place);
            Ok(())
        })
    }
}

/// Waits until every piece is held and the whole was checked against the digest of the request, if it named one. Reads
/// by other threads wait meanwhile.
///
/// `receipt` may be NULL.
///
/// Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
/// fired.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_reader_receipt(
    reader: *const dragonfly_reader,
    timeout_ms: i64,
    cancel: *const dragonfly_cancel,
    receipt: *mut dragonfly_receipt,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        run(error, || {
            let object = table::get(reader)?;
            let work = object.unless_closed(async { object.reader.lock().await.receipt().await });
            let ended = Patience::of(timeout_ms, cancel)?.wait(&object.runtime, work)?;
            if receipt.is_null() { Ok(()) } else { args::write_sized(receipt, &dragonfly_receipt::from(&ended)) }
        })
    }
}

/// Closes the reader: reads of other threads end with `DRAGONFLY_CANCELLED`, now and from now on. The handle is still to
/// be freed. Doing it again does nothing.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_reader_close(
    reader: *const dragonfly_reader,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        run(error, || {
            table::get(reader)?.closed.cancel();
            Ok(())
        })
    }
}

/// Frees the handle. A read that another thread has under way goes on; close the reader first to end it. NULL is fine.
///
/// Any thread, but no callback of a policy or of the log; does not block, unless it was the last that used a node's own
/// threads: see `dragonfly_node_free`.
#[unsafe(no_mangle)]
pub extern "C" fn dragonfly_reader_free(reader: *mut dragonfly_reader) {
    free(reader);
}

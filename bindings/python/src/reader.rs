//! Content as a stream.

use std::io::SeekFrom;
use std::pin::Pin;
use std::sync::Arc;

use dragonfly_core::{Error, ErrorKind, Reader, Result};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncSeekExt as _, ReadBuf};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::convert::raise;
use crate::engines::OnRuntime;
use crate::fork::Owned;
use crate::op::{Op, SIGNALS, Value};

/// A stream of proven bytes.
#[pyclass(frozen, module = "dragonfly._native")]
pub(crate) struct NativeReader {
    inner: Owned<OnRuntime<Arc<Mutex<Option<Reader>>>>>,
    closed: CancellationToken,
    length: u64,
    task: String,
}

impl NativeReader {
    pub(crate) fn new(on: OnRuntime<Reader>) -> Self {
        let (length, task) = (on.value.length(), on.value.task().to_string());
        let inner = OnRuntime { value: Arc::new(Mutex::new(Some(on.value))), runtime: on.runtime };
        Self { inner: Owned::new(inner), closed: CancellationToken::new(), length, task }
    }
}

/// Does something with a reader, unless it is or gets closed.
async fn unless_closed<T>(token: &CancellationToken, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        () = token.cancelled() => Err(closed()),
        outcome = work => outcome,
    }
}

/// What there is to read from, until it is closed.
fn open(reader: &mut Option<Reader>) -> Result<&mut Reader> {
    reader.as_mut().ok_or_else(closed)
}

fn closed() -> Error {
    Error::new(ErrorKind::Cancelled, "the reader is closed")
}

#[pymethods]
impl NativeReader {
    /// The content's length in bytes.
    #[getter]
    fn length(&self) -> u64 {
        self.length
    }

    /// The id of its task.
    #[getter]
    fn task(&self) -> String {
        self.task.clone()
    }

    /// Reads into a buffer: at least one byte, 0 at the end. The interpreter's lock is released while it waits.
    fn readinto(&self, py: Python<'_>, target: &Bound<'_, PyAny>) -> PyResult<usize> {
        let on = self.inner.get(py)?;
        let buffer = PyBuffer::<u8>::get(target)?;
        if buffer.readonly() || !buffer.is_c_contiguous() {
            return Err(PyBufferError::new_err("expected a writable, contiguous buffer of bytes"));
        }
        let (place, room) = (buffer.buf_ptr().addr(), buffer.len_bytes());
        let start = buffer.buf_ptr().cast::<u8>();
        debug_assert_eq!(start.addr(), place);
        let start = std::sync::atomic::AtomicPtr::new(start);
        loop {
            let outcome = py.detach(|| {
                let start = start.load(std::sync::atomic::Ordering::Relaxed);
                // SAFETY: the exporter keeps the memory in place while `buffer` is held, and it is written to only
                // within this call; that other threads do not use it meanwhile is their promise, as for any readinto.
                let slice = match room {
                    0 => &mut [][..],
                    _ => unsafe { std::slice::from_raw_parts_mut(start.cast::<std::mem::MaybeUninit<u8>>(), room) },
                };
                let mut into = ReadBuf::uninit(slice);
                let read = async {
                    let mut reader = on.value.lock().await;
                    let reader = open(&mut reader)?;
                    std::future::poll_fn(|cx| Pin::new(&mut *reader).poll_read(cx, &mut into))
                        .await
                        .map_err(Error::from_read)
                };
                let waited = on
                    .runtime
                    .block_on(async { tokio::time::timeout(SIGNALS, unless_closed(&self.closed, read)).await });
                waited.ok().map(|outcome| outcome.map(|()| into.filled().len()))
            });
            match outcome {
                Some(Ok(read)) => return Ok(read),
                Some(Err(error)) => return Err(raise(py, &error)),
                // A read that was given up loses nothing: the next one goes on.
                None => py.check_signals()?,
            }
        }
    }

    /// Reads at most `room` bytes; the operation gives bytes, none at the end.
    fn read(&self, py: Python<'_>, room: usize) -> PyResult<Op> {
        let (on, closed) = (self.inner.get(py)?, self.closed.clone());
        let reader = Arc::clone(&on.value);
        Ok(Op::start(&on.runtime, async move {
            let read = async {
                let mut bytes = Vec::with_capacity(room.min(1 << 20));
                let mut reader = reader.lock().await;
                let limited = &mut open(&mut reader)?.take(room as u64);
                limited.read_buf(&mut bytes).await.map_err(Error::from_read)?;
                Ok(Value::Bytes(bytes))
            };
            unless_closed(&closed, read).await
        }))
    }

    /// Moves; gives the place, from the start.
    fn seek(&self, py: Python<'_>, offset: i64, whence: i32) -> PyResult<u64> {
        let on = self.inner.get(py)?;
        let invalid = |what: &str| raise(py, &Error::new(ErrorKind::InvalidInput, what));
        let to = match whence {
            0 => SeekFrom::Start(u64::try_from(offset).map_err(|_| invalid("seek to before the start"))?),
            1 => SeekFrom::Current(offset),
            2 => SeekFrom::End(offset),
            _ => return Err(invalid("whence is none of 0, 1, 2")),
        };
        let seek = async {
            let mut reader = on.value.lock().await;
            open(&mut reader)?.seek(to).await.map_err(|e| Error::new(ErrorKind::InvalidInput, e.to_string()))
        };
        py.detach(|| on.runtime.block_on(unless_closed(&self.closed, seek))).map_err(|e| raise(py, &e))
    }

    /// The whole, checked; the operation gives a receipt.
    fn receipt(&self, py: Python<'_>) -> PyResult<Op> {
        let (on, closed) = (self.inner.get(py)?, self.closed.clone());
        let reader = Arc::clone(&on.value);
        Ok(Op::start(&on.runtime, async move {
            let whole = async { open(&mut *reader.lock().await)?.receipt().await };
            unless_closed(&closed, whole).await.map(|receipt| Value::Receipt(Box::new(receipt)))
        }))
    }

    /// Closes it, and withdraws its interest in the content; reads under way end with CancelledError.
    fn close(&self, py: Python<'_>) {
        self.closed.cancel();
        // In a child made by fork(2) there is nothing to withdraw from.
        if let Ok(on) = self.inner.get(py) {
            let reader = Arc::clone(&on.value);
            // What is under way lets go of it now.
            on.runtime.handle().spawn(async move { reader.lock().await.take() });
        }
    }
}

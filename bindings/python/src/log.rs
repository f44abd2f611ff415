//! What the library has to say.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use dragonfly_core::log::{self, Level};
use dragonfly_core::{Error, ErrorKind};
use pyo3::prelude::*;

use crate::convert::raise;

/// How many records wait for Python. More are dropped: the library does not wait for it.
const QUEUE_MAX: usize = 1024;

/// How long a callback that is under way is waited for where nothing more is to be told.
const END_MAX: Duration = Duration::from_secs(2);

/// The thread that tells.
struct Teller {
    thread: ThreadId,
    /// It is to tell nothing more.
    over: Arc<AtomicBool>,
    /// Closed when it has ended.
    ended: Receiver<()>,
}

static TELLER: Mutex<Option<Teller>> = Mutex::new(None);

/// Has `callback(level, target, message)` called for every record, from a thread of its own; None: for none, and when
/// this returns none is called any more.
///
/// Records go through a queue: the threads that have something to say may hold what a thread of Python waits for.
#[pyfunction]
pub(crate) fn log_set(py: Python<'_>, level: &str, callback: Option<Py<PyAny>>) -> PyResult<()> {
    let invalid = || raise(py, &Error::new(ErrorKind::InvalidInput, format!("{level} is no level of a log")));
    let level = Level::from_name(level).ok_or_else(invalid)?;
    let Some(callback) = callback else {
        py.detach(|| {
            log::unset();
            replace(None);
        });
        return Ok(());
    };
    let (told, heard) = sync_channel::<(&'static str, String, String)>(QUEUE_MAX);
    let over = Arc::new(AtomicBool::new(false));
    let (end, ended) = channel::<()>();
    let stop = Arc::clone(&over);
    let listening = std::thread::Builder::new().name("dragonfly-log".to_owned()).spawn(move || {
        let _end = end;
        while let Ok(record) = heard.recv() {
            if stop.load(Ordering::Acquire) {
                return;
            }
            let called = Python::try_attach(|py| {
                if let Err(error) = callback.call1(py, record) {
                    error.write_unraisable(py, None);
                }
            });
            // The interpreter is on its way out.
            if called.is_none() {
                return;
            }
        }
    });
    let listening =
        listening.map_err(|e| raise(py, &Error::new(ErrorKind::Config, "cannot start a thread").caused_by(e)))?;
    let teller = Teller { thread: listening.thread().id(), over, ended };
    let tell = move |record: &log::Record<'_>| {
        let _ = told.try_send((record.level.name(), record.target.to_owned(), record.message.to_owned()));
    };
    py.detach(|| {
        log::set(level, tell)?;
        replace(Some(teller));
        Ok(())
    })
    .map_err(|e: Error| raise(py, &e))
}

/// Has the one before tell nothing more, and waits until it does not: a thread that prints while the interpreter ends
/// aborts the process.
fn replace(teller: Option<Teller>) {
    let before = std::mem::replace(&mut *TELLER.lock().unwrap_or_else(PoisonError::into_inner), teller);
    if let Some(before) = before {
        before.over.store(true, Ordering::Release);
        // Its queue is closed by now. It does not wait for itself.
        if before.thread != std::thread::current().id() {
            let _ = before.ended.recv_timeout(END_MAX);
        }
    }
}

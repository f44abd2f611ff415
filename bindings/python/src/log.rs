//! What the library has to say.

use std::sync::mpsc::sync_channel;

use dragonfly_core::log::{self, Level};
use dragonfly_core::{Error, ErrorKind};
use pyo3::prelude::*;

use crate::convert::raise;

/// How many records wait for Python. More are dropped: the library does not wait for it.
const QUEUE_MAX: usize = 1024;

/// Has `callback(level, target, message)` called for every record, from a thread of its own; None: for none.
///
/// Records go through a queue: the threads that have something to say may hold what a thread of Python waits for.
#[pyfunction]
pub(crate) fn log_set(py: Python<'_>, level: &str, callback: Option<Py<PyAny>>) -> PyResult<()> {
    let invalid = || raise(py, &Error::new(ErrorKind::InvalidInput, format!("{level} is no level of a log")));
    let level = Level::from_name(level).ok_or_else(invalid)?;
    let Some(callback) = callback else {
        py.detach(log::unset);
        return Ok(());
    };
    let (told, heard) = sync_channel::<(&'static str, String, String)>(QUEUE_MAX);
    let listening = std::thread::Builder::new().name("dragonfly-log".to_owned()).spawn(move || {
        while let Ok(record) = heard.recv() {
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
    listening.map_err(|e| raise(py, &Error::new(ErrorKind::Config, "cannot start a thread").caused_by(e)))?;
    let tell = move |record: &log::Record<'_>| {
        let _ = told.try_send((record.level.name(), record.target.to_owned(), record.message.to_owned()));
    };
    py.detach(|| log::set(level, tell)).map_err(|e| raise(py, &e))
}

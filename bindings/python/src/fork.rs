//! Objects that belong to the process that made them.

use std::mem::ManuallyDrop;

use dragonfly_core::{Error, ErrorKind};
use pyo3::prelude::*;

use crate::convert::raise;

/// A value with threads behind it, which a child made by fork(2) does not have.
pub(crate) struct Owned<T: Send> {
    process: u32,
    value: ManuallyDrop<T>,
}

impl<T: Send> Owned<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { process: std::process::id(), value: ManuallyDrop::new(value) }
    }

    /// The value, in the process that it belongs to.
    pub(crate) fn get(&self, py: Python<'_>) -> PyResult<&T> {
        if self.process == std::process::id() {
            return Ok(&self.value);
        }
        let text = "this object was made before a fork: make a new Node in the child process";
        Err(raise(py, &Error::new(ErrorKind::Config, text)))
    }
}

impl<T: Send> Drop for Owned<T> {
    fn drop(&mut self) {
        // In a child, the threads that its destructor would talk to are not there: it is left as it is.
        if self.process != std::process::id() {
            return;
        }
        // SAFETY: it is used no more.
        let value = unsafe { ManuallyDrop::take(&mut self.value) };
        let mut value = Some(value);
        // Its end may wait for threads that wait for the interpreter. Without an interpreter there is nothing to release.
        let released = Python::try_attach(|py| {
            let value = value.take();
            py.detach(move || drop(value));
        });
        if released.is_none() {
            drop(value);
        }
    }
}

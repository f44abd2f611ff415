//! What the handles of nodes and engines have in common: something of the library's with the threads that it runs on,
//! ways to ask it, and its end.

use dragonfly_core::{Node, Result, Runtime};

use crate::args;
use crate::boundary::run;
use crate::cancel::{Patience, dragonfly_cancel};
use crate::error::{dragonfly_error, dragonfly_status};
use crate::node::dragonfly_node;
use crate::table::{self, Handle};
use crate::text::{dragonfly_text, give};

/// Something of the library's and the threads that it runs on. The order matters: the threads go last.
pub(crate) struct On<T> {
    pub(crate) it: T,
    pub(crate) runtime: Runtime,
}

impl<T> On<T> {
    /// Something else on the same threads.
    pub(crate) fn with<U>(&self, it: U) -> On<U> {
        On { it, runtime: self.runtime.clone() }
    }
}

/// Asks what is behind a handle for something, and blocks the calling thread until it is there, time is up or the
/// caller withdraws.
pub(crate) fn ask<H, T, O>(
    handle: *const H,
    timeout_ms: i64,
    cancel: *const dragonfly_cancel,
    work: impl AsyncFnOnce(&T) -> Result<O>,
) -> Result<O>
where
    H: Handle<Object = On<T>>,
{
    let on = table::get(handle)?;
    Patience::of(timeout_ms, cancel)?.wait(&on.runtime, work(&on.it))
}

/// Starts an engine on a node.
///
/// # Safety
/// As every function's of the ABI.
pub(crate) unsafe fn start<H, T>(
    node: *const dragonfly_node,
    timeout_ms: i64,
    cancel: *const dragonfly_cancel,
    place: *mut *mut H,
    error: *mut *mut dragonfly_error,
    begin: impl AsyncFnOnce(&Node) -> Result<T>,
) -> dragonfly_status
where
    H: Handle<Object = On<T>>,
{
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        run(error, || {
            args::wanted(place, H::NAME)?;
            let node = table::get(node)?;
            let started = Patience::of(timeout_ms, cancel)?.wait(&node.runtime, begin(&node.it))?;
            place.write(table::insert::<H>(node.with(started)));
            Ok(())
        })
    }
}

/// Gives text about what is behind a handle.
///
/// # Safety
/// As every function's of the ABI.
pub(crate) unsafe fn tell<H: Handle>(
    handle: *const H,
    place: *mut *mut dragonfly_text,
    name: &str,
    error: *mut *mut dragonfly_error,
    read: impl FnOnce(&H::Object) -> Result<String>,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        run(error, || {
            args::wanted(place, name)?;
            let text = read(&*table::get(handle)?)?;
            place.write(give(&text));
            Ok(())
        })
    }
}

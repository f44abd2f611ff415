//! Withdrawing from calls that block.

use std::time::Duration;

use dragonfly_core::{Error, ErrorKind, Result, Runtime};
use tokio_util::sync::CancellationToken;

use crate::args;
use crate::boundary::{free, run};
use crate::error::{dragonfly_error, dragonfly_status};
use crate::table::{self, handle};

/// What calls that block are withdrawn with, from another thread or a signal handler's helper. One may be given to any
/// number of calls; once fired it stays so. Freed with `dragonfly_cancel_free`.
pub struct dragonfly_cancel {
    _private: [u8; 0],
}

handle!(dragonfly_cancel, CancellationToken, "cancel");

/// Makes a cancel handle.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_cancel_new(
    cancel: *mut *mut dragonfly_cancel,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        run(error, || {
            args::wanted(cancel, "cancel")?;
            cancel.write(table::insert::<dragonfly_cancel>(CancellationToken::new()));
            Ok(())
        })
    }
}

/// Fires it: calls that it was given to answer `DRAGONFLY_CANCELLED`, now and from now on.
///
/// Any thread, but not in a signal handler itself; does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_cancel_fire(
    cancel: *const dragonfly_cancel,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        run(error, || {
            table::get(cancel)?.cancel();
            Ok(())
        })
    }
}

/// Frees it. Calls that it was given to go on. NULL is fine.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub extern "C" fn dragonfly_cancel_free(cancel: *mut dragonfly_cancel) {
    free(cancel);
}

/// How long the caller of a blocking function waits, and what withdraws it.
pub(crate) struct Patience {
    bound: Option<Duration>,
    cancel: Option<CancellationToken>,
}

impl Patience {
    /// From the arguments that every blocking function has.
    pub(crate) fn of(timeout_ms: i64, cancel: *const dragonfly_cancel) -> Result<Self> {
        let cancel = if cancel.is_null() { None } else { Some((*table::get(cancel)?).clone()) };
        Ok(Self { bound: u64::try_from(timeout_ms).ok().map(Duration::from_millis), cancel })
    }

    /// Blocks the calling thread until `work` is done, time is up or the caller withdraws.
    pub(crate) fn wait<T>(&self, runtime: &Runtime, work: impl Future<Output = Result<T>>) -> Result<T> {
        let withdrawn = async {
            match &self.cancel {
                Some(cancel) => cancel.cancelled().await,
                None => std::future::pending().await,
            }
        };
        let bounded = async {
            match self.bound {
                None => work.await,
                Some(bound) => tokio::time::timeout(bound, work).await.unwrap_or_else(|_| {
                    Err(Error::new(ErrorKind::Timeout, format!("not done after {bound:?}")).temporary(true))
                }),
            }
        };
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = withdrawn => Err(Error::new(ErrorKind::Cancelled, "the caller withdrew")),
                outcome = bounded => outcome,
            }
        })
    }
}

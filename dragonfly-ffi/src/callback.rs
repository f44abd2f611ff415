//! Calls from the library into the program.

use std::ffi::c_void;

use dragonfly_core::{Error, ErrorKind, Receipt, Result};

use crate::download::dragonfly_event;
use crate::error::dragonfly_error;
use crate::receipt::dragonfly_receipt;
use crate::table;

/// Progress. `event` lives for the call.
pub type dragonfly_watch_event_fn = Option<unsafe extern "C" fn(ctx: *mut c_void, event: *const dragonfly_event)>;

/// The end: `receipt` on success, else `error`; the other one is NULL. Both live for the call.
pub type dragonfly_watch_done_fn =
    Option<unsafe extern "C" fn(ctx: *mut c_void, receipt: *const dragonfly_receipt, error: *const dragonfly_error)>;

/// The last call with this `ctx`: it can be freed.
pub type dragonfly_watch_drop_fn = Option<unsafe extern "C" fn(ctx: *mut c_void)>;

/// Callbacks of a download. They are called one at a time, from threads of the library's: progress any number of times,
/// then `on_done` once, then `drop` once. They may call any function of the library, also those that block, and
/// free any handle; while they run they hold up this download's progress only. They must not throw or jump out.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dragonfly_watch {
    /// `sizeof(dragonfly_watch)`.
    pub size: usize,
    /// Progress, or NULL. It is lossy: a slow one misses some, never the end.
    pub on_event: dragonfly_watch_event_fn,
    /// The end, or NULL.
    pub on_done: dragonfly_watch_done_fn,
    /// Handed to each.
    pub ctx: *mut c_void,
    /// Called when `ctx` is used no more, or NULL.
    pub drop: dragonfly_watch_drop_fn,
}

crate::args::sized! { dragonfly_watch, "watch"; }

/// Callbacks that are owed their end.
pub(crate) struct Watch {
    given: dragonfly_watch,
    done: bool,
}

// SAFETY: the program promises that its callbacks may be called from any thread, one at a time.
unsafe impl Send for Watch {}

impl Watch {
    pub(crate) fn new(given: dragonfly_watch) -> Self {
        Self { given, done: false }
    }

    pub(crate) fn event(&self, event: &dragonfly_event) {
        if let Some(call) = self.given.on_event {
            // SAFETY: as the program registered it.
            unsafe { call(self.given.ctx, event) };
        }
    }

    pub(crate) fn done(&mut self, outcome: &Result<Receipt>) {
        self.done = true;
        let Some(call) = self.given.on_done else { return };
        match outcome {
            Ok(receipt) => {
                let receipt = dragonfly_receipt::from(receipt);
                // SAFETY: as the program registered it.
                unsafe { call(self.given.ctx, &raw const receipt, std::ptr::null()) };
            }
            Err(error) => {
                let error = table::insert::<dragonfly_error>(error.clone().into());
                // SAFETY: as the program registered it.
                unsafe { call(self.given.ctx, std::ptr::null(), error) };
                table::free(error);
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.done {
            self.done(&Err(Error::new(ErrorKind::Cancelled, "the threads of the node ended")));
        }
        if let Some(call) = self.given.drop {
            // SAFETY: as the program registered it.
            unsafe { call(self.given.ctx) };
        }
    }
}

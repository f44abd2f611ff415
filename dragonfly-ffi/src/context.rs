//! What belongs to callbacks that outlive the call which registered them.

use std::ffi::c_void;
use std::sync::{PoisonError, RwLock};

/// The last call with this `ctx`: it can be freed. From any thread.
pub type dragonfly_drop_fn = Option<unsafe extern "C" fn(ctx: *mut c_void)>;

/// The program's `ctx`, and what ends it. Callbacks are called through it.
///
/// The rule of the ABI: where registering fails, no callback is called any more, and neither is `drop`; else `drop` is
/// called once, after the last callback has returned.
pub(crate) struct Context {
    ctx: *mut c_void,
    drop: dragonfly_drop_fn,
    /// Read for as long as a callback runs.
    registered: RwLock<bool>,
}

// SAFETY: the program promises that its callbacks may be called with its `ctx` from any thread.
unsafe impl Send for Context {}
// SAFETY: as above, several at once.
unsafe impl Sync for Context {}

impl Context {
    pub(crate) fn new(ctx: *mut c_void, drop: dragonfly_drop_fn) -> Self {
        Self { ctx, drop, registered: RwLock::new(true) }
    }

    /// Calls back; `None` once it was withdrawn.
    pub(crate) fn call<T>(&self, call: impl FnOnce(*mut c_void) -> T) -> Option<T> {
        let registered = self.registered.read().unwrap_or_else(PoisonError::into_inner);
        registered.then(|| call(self.ctx))
    }

    /// Registering failed: `ctx` is the program's again. Waits for callbacks that run.
    pub(crate) fn withdraw(&self) {
        *self.registered.write().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let registered = *self.registered.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(call) = self.drop.filter(|_| registered) {
            // SAFETY: as the program registered it, and it is the last call.
            unsafe { call(self.ctx) };
        }
    }
}

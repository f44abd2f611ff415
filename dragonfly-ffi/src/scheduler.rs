//! The Scheduler engine.

use dragonfly_core::{Error, ErrorKind, Scheduler};

use crate::args;
use crate::boundary::{free, run};
use crate::cancel::dragonfly_cancel;
use crate::engine::{self, On, ask};
use crate::error::{dragonfly_error, dragonfly_status};
use crate::node::dragonfly_node;
use crate::table::handle;
use crate::text::{dragonfly_text, give};

/// The Scheduler engine of a node: it pairs the members that want a task and leases the origin to them. Freed with
/// `dragonfly_scheduler_free`.
pub struct dragonfly_scheduler {
    _private: [u8; 0],
}

handle!(dragonfly_scheduler, On<Scheduler>, "scheduler");

/// Starts the scheduler of a node. The node's token must carry the role.
///
/// Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
/// fired.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_scheduler_start(
    node: *const dragonfly_node,
    timeout_ms: i64,
    cancel: *const dragonfly_cancel,
    scheduler: *mut *mut dragonfly_scheduler,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        engine::start(node, timeout_ms, cancel, scheduler, error, async |node| Scheduler::builder(node).start().await)
    }
}

/// What it knows now, as JSON: an object with "hosts" and "tasks". Text to be freed.
///
/// Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
/// fired.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_scheduler_snapshot(
    scheduler: *const dragonfly_scheduler,
    timeout_ms: i64,
    cancel: *const dragonfly_cancel,
    json: *mut *mut dragonfly_text,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        run(error, || {
            args::wanted(json, "json")?;
            let snapshot = ask(scheduler, timeout_ms, cancel, async |it: &Scheduler| it.snapshot().await)?;
            let text = serde_json::to_string(&snapshot)
                .map_err(|e| Error::new(ErrorKind::Internal, "a snapshot is no JSON").caused_by(e))?;
            json.write(give(&text));
            Ok(())
        })
    }
}

/// Ends its sessions and stops. Members go on with what they have and turn to the next scheduler.
///
/// Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
/// fired.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_scheduler_shutdown(
    scheduler: *const dragonfly_scheduler,
    timeout_ms: i64,
    cancel: *const dragonfly_cancel,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe { run(error, || ask(scheduler, timeout_ms, cancel, async |it: &Scheduler| it.shutdown().await)) }
}

/// Frees the handle. NULL is fine.
///
/// Any thread, but no callback of a policy or of the log. Waits for the node's own threads, at most 2 seconds, if nothing
/// else uses them; not in a callback, which is on one of them.
#[unsafe(no_mangle)]
pub extern "C" fn dragonfly_scheduler_free(scheduler: *mut dragonfly_scheduler) {
    free(scheduler);
}

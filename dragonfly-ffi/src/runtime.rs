//! The threads that engines run on.

use dragonfly_core::Runtime;

use crate::args;
use crate::boundary::{free, run};
use crate::error::{dragonfly_error, dragonfly_status};
use crate::table::{self, handle};

/// Threads for one node or several. Freed with `dragonfly_runtime_free`; the threads end when nothing uses them.
pub struct dragonfly_runtime {
    _private: [u8; 0],
}

handle!(dragonfly_runtime, Runtime, "runtime");

/// Starts threads to share among nodes. A node that is given none starts its own.
///
/// `workers`: how many threads carry the network and the engines; 0 is 2. Disk work and callbacks have threads beside
/// them.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_runtime_new(
    workers: u32,
    runtime: *mut *mut dragonfly_runtime,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        run(error, || {
            args::wanted(runtime, "runtime")?;
            runtime.write(table::insert::<dragonfly_runtime>(start(workers)?));
            Ok(())
        })
    }
}

/// The threads of a node that brings none.
pub(crate) fn start(workers: u32) -> dragonfly_core::Result<Runtime> {
    const WORKERS: usize = 2;
    Runtime::new(if workers == 0 { WORKERS } else { workers as usize })
}

/// Frees it. Nodes that run on it go on. NULL is fine.
///
/// Any thread, but no callback of a policy or of the log. Waits for the threads, at most 2 seconds, if nothing else
/// uses them; not in a callback, which is on one of them.
#[unsafe(no_mangle)]
pub extern "C" fn dragonfly_runtime_free(runtime: *mut dragonfly_runtime) {
    free(runtime);
}

//! The Seed engine.

use dragonfly_core::Seed;

use crate::args;
use crate::boundary::{free, run};
use crate::cancel::dragonfly_cancel;
use crate::download::{self, dragonfly_download};
use crate::engine::{self, On, ask};
use crate::error::{dragonfly_error, dragonfly_status};
use crate::node::dragonfly_node;
use crate::peer::dragonfly_peer;
use crate::request::dragonfly_request;
use crate::table::{self, handle};

/// The Seed engine of a node: a peer that is expected to go to the origin, and that is preheated. Freed with
/// `dragonfly_seed_free`.
pub struct dragonfly_seed {
    _private: [u8; 0],
}

handle!(dragonfly_seed, On<Seed>, "seed");

/// Starts the seed of a node; before its peer, on a node that is to be both. The node's token must carry the role.
///
/// Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
/// fired.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_seed_start(
    node: *const dragonfly_node,
    timeout_ms: i64,
    cancel: *const dragonfly_cancel,
    seed: *mut *mut dragonfly_seed,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe { engine::start(node, timeout_ms, cancel, seed, error, async |node| Seed::builder(node).start().await) }
}

/// Fetches content before anyone asks for it, and keeps it to be served.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_seed_preheat(
    seed: *const dragonfly_seed,
    request: *const dragonfly_request,
    download: *mut *mut dragonfly_download,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe { download::begin(seed, request, download, error, Seed::preheat) }
}

/// The peer that it is: a handle of its own, to be freed.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_seed_peer(
    seed: *const dragonfly_seed,
    peer: *mut *mut dragonfly_peer,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        run(error, || {
            args::wanted(peer, "peer")?;
            let seed = table::get(seed)?;
            peer.write(table::insert::<dragonfly_peer>(seed.with(seed.it.peer().clone())));
            Ok(())
        })
    }
}

/// Stops the engine, as `dragonfly_peer_shutdown` does.
///
/// Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
/// fired.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_seed_shutdown(
    seed: *const dragonfly_seed,
    timeout_ms: i64,
    cancel: *const dragonfly_cancel,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe { run(error, || ask(seed, timeout_ms, cancel, async |seed: &Seed| seed.shutdown().await)) }
}

/// Frees the handle. NULL is fine.
///
/// Any thread, but no callback of a policy or of the log. Waits for the node's own threads, at most 2 seconds, if nothing
/// else uses them; not in a callback, which is on one of them.
#[unsafe(no_mangle)]
pub extern "C" fn dragonfly_seed_free(seed: *mut dragonfly_seed) {
    free(seed);
}

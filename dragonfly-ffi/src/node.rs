//! The node.

use std::ffi::c_char;
use std::time::{Duration, UNIX_EPOCH};

use dragonfly_core::{Node, TokenOptions};

use crate::args;
use crate::boundary::{free, run};
use crate::cancel::{Patience, dragonfly_cancel};
use crate::engine::{self, On, ask};
use crate::error::{dragonfly_error, dragonfly_status};
use crate::options::{self, Configured, addresses, dragonfly_node_options};
use crate::table::{self, handle};
use crate::text::dragonfly_text;

/// A host as a member of its network: engines are started on it. Freed with `dragonfly_node_free`.
pub struct dragonfly_node {
    _private: [u8; 0],
}

handle!(dragonfly_node, On<Node>, "node");

/// What a token is to allow. Zero is the default of every field but `size`: a plain peer's, for ever.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dragonfly_token_options {
    /// `sizeof(dragonfly_token_options)`.
    pub size: usize,
    /// What its bearers may be, such as "peer,seed,scheduler"; NULL: "peer".
    pub roles: *const c_char,
    /// When it ends, in seconds since 1970; 0: never.
    pub not_after: u64,
    /// Where its bearers find the network, at most 16; none: this node's own addresses.
    pub addresses: *const *const c_char,
    /// How many.
    pub addresses_length: usize,
}

crate::args::sized! { dragonfly_token_options, "token options"; }

/// Starts a node: takes the directory, loads or makes its identity, joins or founds a network, listens. If it fails, no
/// callback of its sources and its policy is called any more, `drop` included.
///
/// Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
/// fired.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_node_start(
    options: *const dragonfly_node_options,
    timeout_ms: i64,
    cancel: *const dragonfly_cancel,
    node: *mut *mut dragonfly_node,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        run(error, || {
            args::wanted(node, "node")?;
            let Configured { builder, runtime, contexts } = options::read(options)?;
            let started =
                Patience::of(timeout_ms, cancel).and_then(|patience| patience.wait(&runtime, builder.start()));
            if started.is_err() {
                contexts.iter().for_each(|context| context.withdraw());
            }
            node.write(table::insert::<dragonfly_node>(On { it: started?, runtime }));
            Ok(())
        })
    }
}

fn lines<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Who this host is: its peer id, as text to be freed.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_node_peer_id(
    node: *const dragonfly_node,
    peer_id: *mut *mut dragonfly_text,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe { engine::tell(node, peer_id, "peer_id", error, |node| Ok(node.it.peer_id().to_string())) }
}

/// Where it listens, one address a line, each with /p2p/PEER at its end: what another node can dial. Empty without a
/// listener. Text to be freed.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_node_listeners(
    node: *const dragonfly_node,
    addresses: *mut *mut dragonfly_text,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe { engine::tell(node, addresses, "addresses", error, |node| Ok(lines(&node.it.listeners()))) }
}

/// The members that are connected now, one peer id a line, in no order. Text to be freed.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_node_peers(
    node: *const dragonfly_node,
    peers: *mut *mut dragonfly_text,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe { engine::tell(node, peers, "peers", error, |node| Ok(lines(&node.it.peers()))) }
}

/// A token with which others join this node's network. It is a secret: whoever has it can join. Text to be freed.
///
/// `options` may be NULL.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_node_token(
    node: *const dragonfly_node,
    options: *const dragonfly_token_options,
    token: *mut *mut dragonfly_text,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        engine::tell(node, token, "token", error, |node| {
            let mut wanted = TokenOptions::default();
            if !options.is_null() {
                let given = args::read_sized(options)?;
                if let Some(roles) = args::optional_text(given.roles, "roles")? {
                    wanted.roles = roles.parse().map_err(|e| args::invalid("the token's roles").caused_by(e))?;
                }
                if given.not_after > 0 {
                    wanted.not_after = UNIX_EPOCH.checked_add(Duration::from_secs(given.not_after));
                }
                wanted.addresses = addresses(args::texts(given.addresses, given.addresses_length, "addresses")?)?;
            }
            Ok(node.it.token(wanted)?.to_text())
        })
    }
}

/// Its metrics in the Prometheus text format. Text to be freed.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_node_metrics(
    node: *const dragonfly_node,
    metrics: *mut *mut dragonfly_text,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe { engine::tell(node, metrics, "metrics", error, |node| Ok(node.it.metrics_text())) }
}

/// Closes listeners and connections and makes the store durable. Shut down the engines on it first. The handle stays
/// valid until it is freed; doing it again does nothing.
///
/// Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
/// fired.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_node_shutdown(
    node: *const dragonfly_node,
    timeout_ms: i64,
    cancel: *const dragonfly_cancel,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe { run(error, || ask(node, timeout_ms, cancel, async |node: &Node| node.shutdown().await)) }
}

/// Frees the handle. Engines on the node go on until they are freed. NULL is fine.
///
/// Any thread, but no callback of a policy or of the log. Waits for the node's own threads, at most 2 seconds, if nothing
/// else uses them; not in a callback, which is on one of them.
#[unsafe(no_mangle)]
pub extern "C" fn dragonfly_node_free(node: *mut dragonfly_node) {
    free(node);
}

//! The node.

use std::ffi::c_char;
use std::time::{Duration, UNIX_EPOCH};

use dragonfly_core::{Address, Error, ErrorKind, Node, OriginTrust, Result, Runtime, Token, TokenOptions};

use crate::boundary::{run, run_or};
use crate::cancel::{Patience, dragonfly_cancel};
use crate::error::{dragonfly_error, dragonfly_status};
use crate::runtime::dragonfly_runtime;
use crate::table::{self, handle};
use crate::text::{dragonfly_text, give};
use crate::{args, runtime};

/// A host as a member of its network: engines are started on it. Freed with `dragonfly_node_free`.
pub struct dragonfly_node {
    _private: [u8; 0],
}

/// A node and the threads that it runs on. The order matters: the threads go last.
#[derive(Clone)]
pub struct NodeObject {
    pub(crate) node: Node,
    pub(crate) runtime: Runtime,
}

handle!(dragonfly_node, NodeObject, "node");

/// How a node is configured. Zero is the default of every field but `size`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dragonfly_node_options {
    /// `sizeof(dragonfly_node_options)`.
    pub size: usize,
    /// Where identity, membership and content are kept; NULL: in memory, gone with the node. One process at a time may
    /// use a directory.
    pub data_dir: *const c_char,
    /// How many bytes of content a node without a directory may hold; 0: 256 MiB.
    pub memory_bytes: u64,
    /// How many bytes of content the directory may hold; 0: no bound but the disk's.
    pub quota_bytes: u64,
    /// Addresses to listen on, such as "/ip4/0.0.0.0/tcp/0"; none: it does not listen.
    pub listen: *const *const c_char,
    /// How many.
    pub listen_length: usize,
    /// The token of the network to join; NULL: the one that the directory is a member of, or a new one.
    pub token: *const c_char,
    /// Schedulers, each with /p2p/PEER at its end; none: those of the token.
    pub schedulers: *const *const c_char,
    /// How many.
    pub schedulers_length: usize,
    /// Members to turn to where there is no scheduler, each with /p2p/PEER at its end; none: those of the token.
    pub bootstrap: *const *const c_char,
    /// How many.
    pub bootstrap_length: usize,
    /// How many neighbours are served at a time; 0: 8.
    pub upload_slots: u16,
    /// Never sends a piece to others.
    pub no_uploads: bool,
    /// Lets fetches that no local caller asked for reach origins on loopback.
    pub allow_loopback_origins: bool,
    /// In a network that this node founds, only seeds may say what an origin said (default: any member).
    pub trust_seeds_only: bool,
    /// The threads to run on; NULL: its own.
    pub runtime: *const dragonfly_runtime,
}

crate::args::sized! { dragonfly_node_options, "node options"; }

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

fn addresses(texts: Vec<&str>) -> Result<Vec<Address>> {
    texts.into_iter().map(|text| text.parse().map_err(Error::from)).collect()
}

/// Starts a node: takes the directory, loads or makes its identity, joins or founds a network, listens.
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
            let options = args::read_sized(options)?;
            let mut builder = Node::builder().allow_loopback_origins(options.allow_loopback_origins);
            if let Some(dir) = args::optional_text(options.data_dir, "data_dir")? {
                builder = builder.data_dir(dir);
            }
            if options.memory_bytes > 0 {
                builder = builder.memory_bytes(options.memory_bytes);
            }
            if options.quota_bytes > 0 {
                builder = builder.quota_bytes(options.quota_bytes);
            }
            for address in addresses(args::texts(options.listen, options.listen_length, "listen")?)? {
                builder = builder.listen(address);
            }
            if let Some(token) = args::optional_text(options.token, "token")? {
                builder = builder.join(token.parse::<Token>()?);
            }
            for address in addresses(args::texts(options.schedulers, options.schedulers_length, "schedulers")?)? {
                builder = builder.scheduler(address);
            }
            for address in addresses(args::texts(options.bootstrap, options.bootstrap_length, "bootstrap")?)? {
                builder = builder.bootstrap(address);
            }
            if options.no_uploads {
                builder = builder.upload_slots(0);
            } else if options.upload_slots > 0 {
                builder = builder.upload_slots(options.upload_slots);
            }
            if options.trust_seeds_only {
                builder = builder.origin_trust(OriginTrust::Seeds);
            }
            let patience = Patience::of(timeout_ms, cancel)?;
            let runtime = match options.runtime.is_null() {
                true => runtime::start(0)?,
                false => (*table::get(options.runtime)?).clone(),
            };
            let started = patience.wait(&runtime, builder.start())?;
            node.write(table::insert::<dragonfly_node>(NodeObject { node: started, runtime }));
            Ok(())
        })
    }
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
    unsafe {
        run(error, || {
            args::wanted(peer_id, "peer_id")?;
            let id = table::get(node)?.node.peer_id();
            peer_id.write(give(&id.to_string()));
            Ok(())
        })
    }
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
    unsafe {
        run(error, || {
            args::wanted(addresses, "addresses")?;
            let lines: Vec<_> = table::get(node)?.node.listeners().iter().map(ToString::to_string).collect();
            addresses.write(give(&lines.join("\n")));
            Ok(())
        })
    }
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
    unsafe {
        run(error, || {
            args::wanted(peers, "peers")?;
            let lines: Vec<_> = table::get(node)?.node.peers().iter().map(ToString::to_string).collect();
            peers.write(give(&lines.join("\n")));
            Ok(())
        })
    }
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
        run(error, || {
            args::wanted(token, "token")?;
            let mut wanted = TokenOptions::default();
            if !options.is_null() {
                let given = args::read_sized(options)?;
                if let Some(roles) = args::optional_text(given.roles, "roles")? {
                    wanted.roles = roles
                        .parse()
                        .map_err(|e| Error::new(ErrorKind::InvalidInput, "the token's roles").caused_by(e))?;
                }
                if given.not_after > 0 {
                    wanted.not_after = UNIX_EPOCH.checked_add(Duration::from_secs(given.not_after));
                }
                wanted.addresses = addresses(args::texts(given.addresses, given.addresses_length, "addresses")?)?;
            }
            let made = table::get(node)?.node.token(wanted)?;
            token.write(give(&made.to_text()));
            Ok(())
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
    unsafe {
        run(error, || {
            args::wanted(metrics, "metrics")?;
            metrics.write(give(&table::get(node)?.node.metrics_text()));
            Ok(())
        })
    }
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
    unsafe {
        run(error, || {
            let object = table::get(node)?;
            Patience::of(timeout_ms, cancel)?.wait(&object.runtime, object.node.shutdown())
        })
    }
}

/// Frees the handle. Engines on the node go on until they are freed. NULL is fine.
///
/// Any thread but a callback's. Waits for the node's own threads, at most 2 seconds, if nothing else uses them.
#[unsafe(no_mangle)]
pub extern "C" fn dragonfly_node_free(node: *mut dragonfly_node) {
    engine::free(node);
}

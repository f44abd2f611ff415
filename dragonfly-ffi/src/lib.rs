//! The C ABI of Dragonfly: `libdragonfly`, its header `include/dragonfly.h`, and what a build system needs to find them.
//!
//! For programs in C and C++, and for bindings that go through C (Go does). It is a thin skin over `dragonfly-core`:
//! what the functions do is said there and in the header; this room owns how they are called. The rules, which the
//! header states for its readers:
//!
//! - **Handles** are opaque and checked: a handle is a name in a table, never an address. NULL, a handle that was
//!   freed, and a handle of another type are answered with an error, from any thread, at any time. Freeing twice does
//!   nothing.
//! - **Errors** are a status (the kind of error, 0 for none) and, for who wants it, an object with the message.
//! - **A panic** never crosses: it is answered as `DRAGONFLY_INTERNAL`.
//! - **Options and results** are structs that carry their size, so that either side may be the newer one. Zero is the
//!   default of every field.
//! - **Blocking functions** take a time-out and a cancel handle; the functions that start something do not block.
//!
//! The header is generated from these sources: `DRAGONFLY_BLESS=1 cargo test -p dragonfly-ffi --test header` writes it,
//! the same test without the variable compares.

#![allow(non_camel_case_types, reason = "types have their C names, so that sources and header read alike")]
#![allow(
    clippy::missing_safety_doc,
    reason = "what C callers owe is said once, in the preamble of the header, and per function where it differs"
)]

mod args;
mod boundary;
mod callback;
mod cancel;
mod context;
mod download;
mod engine;
mod error;
mod events;
mod log;
mod node;
mod once;
mod options;
mod peer;
mod policy;
mod reader;
mod receipt;
mod request;
mod runtime;
mod scheduler;
mod seed;
mod source;
mod table;
mod tasks;
mod text;
mod version;

pub use callback::{dragonfly_watch, dragonfly_watch_done_fn, dragonfly_watch_drop_fn, dragonfly_watch_event_fn};
pub use cancel::*;
pub use context::dragonfly_drop_fn;
pub use download::*;
pub use error::*;
pub use events::*;
pub use log::*;
pub use node::*;
pub use once::*;
pub use options::{DRAGONFLY_IDENTITY_LENGTH, dragonfly_node_options};
pub use peer::*;
pub use policy::{
    DRAGONFLY_PEER_ROOM, dragonfly_admit_peer_fn, dragonfly_admit_request_fn, dragonfly_member, dragonfly_peer_request,
    dragonfly_peer_request_type, dragonfly_policy,
};
pub use reader::*;
pub use receipt::*;
pub use request::*;
pub use runtime::*;
pub use scheduler::*;
pub use seed::*;
pub use source::{
    DRAGONFLY_MESSAGE_ROOM, DRAGONFLY_VERSION_ROOM, dragonfly_source, dragonfly_source_close_fn,
    dragonfly_source_content, dragonfly_source_failure, dragonfly_source_open_fn, dragonfly_source_read_fn,
    dragonfly_source_request,
};
pub use table::dragonfly_live_handles;
pub use tasks::*;
pub use text::*;
pub use version::*;

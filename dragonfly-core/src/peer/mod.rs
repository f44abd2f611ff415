//! The Peer engine: download, serve, open as a stream.

mod receipt;
mod request;

pub use receipt::{Event, Exported, Proof, Receipt};
pub use request::Request;

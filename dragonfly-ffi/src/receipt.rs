//! The outcome of a download.

use std::ffi::c_char;

use dragonfly_core::{Exported, Proof, Receipt};

/// The room for an id as text: 66 digits and a NUL.
pub const DRAGONFLY_ID_ROOM: usize = 72;

/// The room for a BLAKE3 digest as text: "blake3:", 64 digits and a NUL.
pub const DRAGONFLY_DIGEST_ROOM: usize = 80;

/// How an output came under its name.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dragonfly_exported {
    /// There was none.
    DRAGONFLY_EXPORTED_NONE = 0,
    /// Its bytes were copied.
    DRAGONFLY_EXPORTED_COPY = 1,
    /// It is a hard link to the store's file.
    DRAGONFLY_EXPORTED_HARD_LINK = 2,
    /// It shares the store's blocks until either is written.
    DRAGONFLY_EXPORTED_REFLINK = 3,
}

/// The outcome of a finished download. The caller sets `size` before the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dragonfly_receipt {
    /// `sizeof(dragonfly_receipt)`.
    pub size: usize,
    /// The task.
    pub task: [c_char; DRAGONFLY_ID_ROOM],
    /// The version of its content.
    pub generation: [c_char; DRAGONFLY_ID_ROOM],
    /// The BLAKE3 digest of the whole, "blake3:...".
    pub blake3: [c_char; DRAGONFLY_DIGEST_ROOM],
    /// The length in bytes.
    pub length: u64,
    /// Bytes that this host took from the origin for this download.
    pub bytes_from_origin: u64,
    /// Bytes that it took from peers.
    pub bytes_from_peers: u64,
    /// Bytes that were in the store already.
    pub bytes_held: u64,
    /// From the call to the end, in microseconds.
    pub elapsed_us: u64,
    /// How the output came under its name: a `dragonfly_exported`.
    pub exported: i32,
    /// Whether the whole matches a digest that the caller gave, or one that the task's coordinator or a seed has sealed,
    /// or came from the origin to this host alone. Otherwise every piece matches what the host that fetched it signed.
    pub verified: bool,
}

crate::args::sized! { dragonfly_receipt, "receipt"; }

/// Text in a fixed room, which it fits.
pub(crate) fn room<const N: usize>(text: &str) -> [c_char; N] {
    let mut room = [0; N];
    for (place, byte) in room.iter_mut().zip(text.bytes().take(N - 1)) {
        *place = byte as c_char;
    }
    room
}

impl From<&Receipt> for dragonfly_receipt {
    fn from(receipt: &Receipt) -> Self {
        use dragonfly_exported as Way;
        let exported = match receipt.output.as_ref().map(|(_, exported)| exported) {
            None => Way::DRAGONFLY_EXPORTED_NONE,
            Some(Exported::Copy) => Way::DRAGONFLY_EXPORTED_COPY,
            Some(Exported::HardLink) => Way::DRAGONFLY_EXPORTED_HARD_LINK,
            Some(Exported::Reflink) => Way::DRAGONFLY_EXPORTED_REFLINK,
        };
        Self {
            size: size_of::<Self>(),
            task: room(&receipt.task.to_string()),
            generation: room(&receipt.generation.to_string()),
            blake3: room(&receipt.blake3.to_string()),
            length: receipt.length,
            bytes_from_origin: receipt.bytes_from_origin,
            bytes_from_peers: receipt.bytes_from_peers,
            bytes_held: receipt.bytes_held,
            elapsed_us: receipt.elapsed.as_micros().try_into().unwrap_or(u64::MAX),
            exported: exported as i32,
            verified: receipt.proof == Proof::Verified,
        }
    }
}

//! What is said of a finished download.

use std::ops::Range;
use std::time::Duration;

use dragonfly_core::{Event, Exported, Proof, Reader, Receipt};
use serde::{Deserialize, Serialize};

/// A finished download.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptBody {
    /// The task's id; in an event it is the event's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub task: String,
    /// The version of its content.
    pub generation: String,
    /// Bytes that were delivered: all of the content, or of the range.
    pub length: u64,
    /// `FIRST-LAST/LENGTH` where a range was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<String>,
    /// `blake3:hex` of the whole; empty for a range.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub blake3: String,
    /// The caller's digest, or its URL's, which the whole has been checked against; absent for a range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// `attested` or `verified`; a range is verified where the whole has the digest that it is held to.
    pub proof: String,
    /// Body bytes that this host took from the origin.
    pub bytes_from_origin: u64,
    /// Bytes that this host took from peers.
    pub bytes_from_peers: u64,
    /// Bytes that were in the store already.
    pub bytes_held: u64,
    /// From the call to the end, in milliseconds.
    pub elapsed_ms: u64,
    /// The path of the output, where this program wrote one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// `copy`, `hard_link` or `reflink`: how the output came to its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exported: Option<String>,
}

impl From<&Receipt> for ReceiptBody {
    fn from(receipt: &Receipt) -> Self {
        let output = receipt.output.as_ref();
        Self {
            task: receipt.task.to_string(),
            generation: receipt.generation.to_string(),
            length: receipt.length,
            range: None,
            blake3: receipt.blake3.to_string(),
            digest: receipt.digest.as_ref().map(ToString::to_string),
            proof: proof_name(receipt.proof).to_owned(),
            bytes_from_origin: receipt.bytes_from_origin,
            bytes_from_peers: receipt.bytes_from_peers,
            bytes_held: receipt.bytes_held,
            elapsed_ms: u64::try_from(receipt.elapsed.as_millis()).unwrap_or(u64::MAX),
            output: output.map(|(path, _)| path.to_string_lossy().into_owned()),
            exported: output.map(|(_, how)| exported_name(*how).to_owned()),
        }
    }
}

/// The receipt of a part of content: every piece of it is proven, the rest need not be there, unless the whole is held to a
/// digest: then all of it was proven before, and `receipt` says so.
pub(crate) fn part_receipt(
    reader: &Reader,
    part: &Range<u64>,
    receipt: Option<&Receipt>,
    elapsed: Duration,
) -> ReceiptBody {
    let whole = reader.length();
    let length = part.end - part.start;
    let (from_origin, from_peers) = match reader.progress() {
        Event::Progress { from_origin, from_peers, .. } => (from_origin, from_peers),
        _ => (0, 0),
    };
    ReceiptBody {
        task: reader.task().to_string(),
        generation: reader.generation().to_string(),
        length,
        range: Some(format!("{}-{}/{whole}", part.start, part.end.saturating_sub(1))),
        // Of the whole, which is not what was asked for.
        blake3: String::new(),
        digest: None,
        proof: receipt.map_or("attested", |receipt| proof_name(receipt.proof)).to_owned(),
        bytes_from_origin: from_origin,
        bytes_from_peers: from_peers,
        bytes_held: length.saturating_sub(from_origin.saturating_add(from_peers)),
        elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        output: None,
        exported: None,
    }
}

const fn proof_name(proof: Proof) -> &'static str {
    match proof {
        Proof::Attested => "attested",
        Proof::Verified => "verified",
    }
}

const fn exported_name(exported: Exported) -> &'static str {
    match exported {
        Exported::Copy => "copy",
        Exported::HardLink => "hard_link",
        Exported::Reflink => "reflink",
    }
}

#![allow(clippy::unwrap_used)]
//! One body of tests for both stores, and what only the one on disk can do.

mod conformance;
mod costs;
mod crash;
mod disk;
mod filesystems;
mod model;
mod output;

use std::sync::Arc;

use super::*;
use crate::task::{Class, Generation, Layout, PieceHash, TaskId, hash_piece};

/// Lengths at which something changes: nothing, one byte, the slab's bound, one piece and its neighbours.
const LENGTHS: [u64; 11] =
    [0, 1, 65_535, 65_536, 65_537, 131_071, 131_072, 131_073, 1 << 20, (1 << 20) + 1, 300 * 65_536 + 7];

fn key(seed: u8, generation: u8) -> EntryKey {
    EntryKey {
        network: [7; 32],
        tenant: "acme".into(),
        task: TaskId::from_hash([seed; 32]),
        class: Class::Public,
        generation: Generation::from_hash([generation; 32]),
    }
}

fn described(length: u64) -> Described {
    Described {
        layout: Layout::new(length, 64 << 10).unwrap(),
        validator: None,
        splittable: true,
        label: format!("https://example.org/{length}"),
        spec: None,
        fixed: false,
    }
}

/// Bytes that no two pieces share.
fn content(length: u64, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; length as usize];
    blake3::Hasher::new_derive_key("test content").update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

fn piece<'a>(layout: &Layout, content: &'a [u8], index: u32) -> &'a [u8] {
    let range = layout.range_of(index).unwrap();
    &content[range.start as usize..range.end as usize]
}

fn value(layout: &Layout, content: &[u8], index: u32) -> PieceHash {
    hash_piece(layout, index, piece(layout, content, index)).unwrap()
}

fn values(layout: &Layout, content: &[u8]) -> Vec<PieceHash> {
    (0..layout.pieces()).map(|index| value(layout, content, index)).collect()
}

fn write(entry: &dyn Entry, content: &[u8], index: u32) -> Result<bool, StoreError> {
    let layout = entry.described().layout;
    entry.write_piece(index, piece(&layout, content, index), &value(&layout, content, index))
}

fn write_all(entry: &dyn Entry, content: &[u8]) {
    for index in 0..entry.described().layout.pieces() {
        assert!(write(entry, content, index).unwrap(), "piece {index}");
    }
}

fn read_all(entry: &dyn Entry) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![0; entry.described().layout.length() as usize];
    entry.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// A complete entry and its content.
fn complete(store: &dyn Store, seed: u8, length: u64) -> (Arc<dyn Entry>, Vec<u8>) {
    let entry = store.open(&key(seed, 1), &described(length)).unwrap();
    let bytes = content(length, seed);
    write_all(&*entry, &bytes);
    (entry, bytes)
}

/// A store on disk that only a call writes to: no batch comes in between.
fn quiet(directory: &std::path::Path) -> FileStore {
    try_quiet(directory).unwrap()
}

fn try_quiet(directory: &std::path::Path) -> Result<FileStore, StoreError> {
    FileStore::open(
        directory,
        FileOptions { index_interval: std::time::Duration::from_secs(3600), ..FileOptions::default() },
    )
}

/// A store whose disk fails as `faults` says, and that only a call writes the index of.
fn faulty(faults: &Arc<faults::Faults>) -> FileOptions {
    FileOptions {
        index_interval: std::time::Duration::from_secs(3600),
        faults: Some(Arc::clone(faults)),
        ..FileOptions::default()
    }
}

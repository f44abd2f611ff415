//! How an entry is written in the index.

use std::collections::BTreeMap;

use bytes::Bytes;
use minicbor::{Decode, Encode};

use super::{Described, EntryKey};
use crate::task::{Class, Generation, HaveMap, Layout, PieceHash, PieceIndex, TaskId, TaskSpec, Validator};

/// The short name of an entry: the hash of its key. It names its rows in the index and its data file.
pub(super) type EntryId = [u8; 32];

/// Pieces whose values share a row of the index: a change of one piece rewrites at most 8 KiB.
pub(super) const PIECES_PER_ROW: u32 = 256;

/// What the index says of an entry apart from its pieces and its evidence.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub(super) struct Header {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    network: [u8; 32],
    #[n(1)]
    tenant: String,
    #[n(2)]
    task: TaskId,
    #[n(3)]
    class: Class,
    #[n(4)]
    generation: Generation,
    #[n(5)]
    length: u64,
    #[n(6)]
    piece_length: u64,
    #[n(7)]
    validator: Option<Validator>,
    #[n(8)]
    splittable: bool,
    #[n(9)]
    label: String,
    #[n(10)]
    spec: Option<TaskSpec>,
    #[n(11)]
    fixed: bool,
    #[n(12)]
    pub(super) marks: Marks,
}

/// The part of a [`Header`] that changes.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
pub(super) struct Marks {
    #[n(0)]
    pub(super) pinned: bool,
    #[n(1)]
    pub(super) created: u64,
    #[n(2)]
    pub(super) used: u64,
    /// Bytes held, so that the quota can be counted without reading the pieces.
    #[n(3)]
    pub(super) held: u64,
    /// The run of the store in which what is held was made or last proven.
    #[n(4)]
    pub(super) proven: u64,
    #[n(5)]
    #[cbor(with = "minicbor::bytes")]
    pub(super) seal: Option<Vec<u8>>,
    /// The times of the data file when it was last linked to an output.
    #[n(6)]
    pub(super) linked: Option<Times>,
    /// Bytes of the index for the entry, so that the quota can be counted without reading its rows.
    #[n(7)]
    #[cbor(default)]
    pub(super) indexed: u64,
}

/// The times of a data file, each in seconds and nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Times {
    /// Of the last change of anything about it, its links included.
    #[n(0)]
    pub(super) changed: (i64, i64),
    /// Of the last change of its content.
    #[n(1)]
    pub(super) modified: (i64, i64),
}

impl Header {
    pub(super) fn new(key: &EntryKey, described: &Described, marks: Marks) -> Self {
        Self {
            network: key.network,
            tenant: key.tenant.clone(),
            task: key.task,
            class: key.class,
            generation: key.generation,
            length: described.layout.length(),
            piece_length: described.layout.piece_length(),
            validator: described.validator.clone(),
            splittable: described.splittable,
            label: described.label.clone(),
            spec: described.spec.clone(),
            fixed: described.fixed,
            marks,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("writing to a vector does not fail")
    }

    /// Reads a row; `None` if it is no valid header.
    pub(super) fn decode(row: &[u8]) -> Option<(EntryKey, Described, Marks)> {
        let header: Self = minicbor::decode(row).ok()?;
        let layout = Layout::new(header.length, header.piece_length).ok()?;
        let key = EntryKey {
            network: header.network,
            tenant: header.tenant,
            task: header.task,
            class: header.class,
            generation: header.generation,
        };
        let described = Described {
            layout,
            validator: header.validator,
            splittable: header.splittable,
            label: header.label,
            spec: header.spec,
            fixed: header.fixed,
        };
        Some((key, described, header.marks))
    }
}

/// Reads rows of the index, for the fuzzer: one of the entries, or (after a first byte of 1) one of pieces.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_rows(data: &[u8]) {
    if let Some((key, described, marks)) = Header::decode(data) {
        let again = Header::new(&key, &described, marks).encode();
        assert_eq!(Header::decode(&again).map(|(key, ..)| key), Some(key));
    }
    if let Some((1, row)) = data.split_first() {
        let (mut have, mut values) = (HaveMap::empty(2 * PIECES_PER_ROW), Values::default());
        for number in [0, 1, 2, u32::MAX] {
            values.decode_row(number, row, &mut have);
        }
        assert!(have.iter().all(|piece| values.value(piece).is_some()));
    }
}

/// Rows as this version writes them, for the fuzzer's corpus.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) fn seed_rows() -> Vec<(&'static str, Vec<u8>)> {
    let key = EntryKey {
        network: [7; 32],
        tenant: "acme".into(),
        task: TaskId::from_hash([1; 32]),
        class: Class::Public,
        generation: Generation::from_hash([2; 32]),
    };
    let described = Described {
        layout: Layout::new(1 << 20, 64 << 10).unwrap(),
        validator: Some(Validator::Etag("\"a\"".into())),
        splittable: true,
        label: "https://example.org/a".into(),
        spec: None,
        fixed: false,
    };
    let marks = Marks {
        pinned: true,
        created: 1,
        used: 2,
        held: 3,
        proven: 4,
        seal: Some(vec![5]),
        indexed: 6,
        ..Marks::default()
    };
    let (mut have, mut values) = (HaveMap::empty(PIECES_PER_ROW), Values::default());
    for piece in [0, 3, 255] {
        have.insert(piece);
        values.set(piece, [piece as u8; 32]);
    }
    let row = [&[1][..], &values.encode_row(0, &have)].concat();
    let empty = [&[1][..], &Values::default().encode_row(0, &HaveMap::empty(PIECES_PER_ROW))].concat();
    vec![("entry", Header::new(&key, &described, marks).encode()), ("pieces", row), ("no-pieces", empty)]
}

/// The short name of `key`.
pub(super) fn id_of(key: &EntryKey) -> EntryId {
    let mut hasher = blake3::Hasher::new_derive_key("dragonfly store entry v1");
    hasher.update(&key.network);
    hasher.update(&(key.tenant.len() as u64).to_le_bytes());
    hasher.update(key.tenant.as_bytes());
    hasher.update(key.task.as_bytes());
    hasher.update(&[class_byte(key.class)]);
    hasher.update(key.generation.as_bytes());
    *hasher.finalize().as_bytes()
}

const fn class_byte(class: Class) -> u8 {
    match class {
        Class::Public => 0,
        Class::Keyed => 1,
        Class::Reauth => 2,
        Class::HostLocal => 3,
    }
}

/// The values of the pieces held, in rows. Rows exist only where a piece is held, so a claimed length costs nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Values(BTreeMap<u32, Box<[PieceHash; PIECES_PER_ROW as usize]>>);

impl Values {
    /// The value last set for `index`; meaningful for held pieces only.
    pub(super) fn value(&self, index: PieceIndex) -> Option<PieceHash> {
        self.0.get(&(index / PIECES_PER_ROW)).map(|row| row[(index % PIECES_PER_ROW) as usize])
    }

    pub(super) fn set(&mut self, index: PieceIndex, value: PieceHash) {
        let row = self.0.entry(index / PIECES_PER_ROW).or_insert_with(|| Box::new([[0; 32]; PIECES_PER_ROW as usize]));
        row[(index % PIECES_PER_ROW) as usize] = value;
    }

    /// Bytes of all rows and their keys, with so many pieces held.
    pub(super) fn encoded_length(&self, held: u32) -> u64 {
        (self.0.len() * (ROW_KEY + BITS)) as u64 + 32 * u64::from(held)
    }

    /// The row's encoding: a bit per piece, then the values of those held.
    pub(super) fn encode_row(&self, row: u32, have: &HaveMap) -> Vec<u8> {
        let mut bits = [0_u8; BITS];
        let mut values = Vec::new();
        for slot in 0..PIECES_PER_ROW {
            let index = row * PIECES_PER_ROW + slot;
            if have.contains(index)
                && let Some(value) = self.value(index)
            {
                bits[(slot / 8) as usize] |= 1 << (slot % 8);
                values.extend_from_slice(&value);
            }
        }
        let mut encoded = bits.to_vec();
        encoded.append(&mut values);
        encoded
    }

    /// Adds a row as [`Values::encode_row`] wrote it; a row that is not is left out.
    pub(super) fn decode_row(&mut self, row: u32, encoded: &[u8], have: &mut HaveMap) {
        let Some((bits, values)) = encoded.split_at_checked(BITS) else { return };
        let (values, rest) = values.as_chunks::<32>();
        let count: u32 = bits.iter().map(|byte| byte.count_ones()).sum();
        if !rest.is_empty() || values.len() != count as usize {
            return;
        }
        let slots = (0..PIECES_PER_ROW).filter(|slot| bits[(slot / 8) as usize] >> (slot % 8) & 1 == 1);
        for (slot, value) in slots.zip(values) {
            let Some(index) = row.checked_mul(PIECES_PER_ROW).and_then(|first| first.checked_add(slot)) else { return };
            if have.insert(index) {
                self.set(index, *value);
            }
        }
    }
}

/// Bytes of a row's key: the entry's id and a number.
pub(super) const ROW_KEY: usize = 36;

/// Bytes of a row's bits.
const BITS: usize = PIECES_PER_ROW as usize / 8;

/// What the index keeps of an entry beside its header.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) have: HaveMap,
    pub(super) values: Values,
    pub(super) evidence: BTreeMap<u32, Bytes>,
}

/// What changed of an entry since it was last written.
#[derive(Debug)]
pub(super) struct Changes {
    pub(super) id: EntryId,
    pub(super) header: Vec<u8>,
    pub(super) rows: Vec<(u32, Vec<u8>)>,
    pub(super) evidence: Vec<(u32, Bytes)>,
    /// The content, where it lives in the index.
    pub(super) slab: Option<Bytes>,
    /// Whether `header` is the first that says that the data file has a name outside the store.
    pub(super) linked_is_new: bool,
}

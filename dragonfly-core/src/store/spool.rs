//! Content of unknown length on its way into a store.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};

use super::catalogue::{Catalogue, Medium};
use super::content::SLAB_LENGTH_MAX;
use super::entry::HeldEntry;
use super::{Described, Entry, EntryKey, Spool, StoreError, progress};
use crate::task::{Layout, PieceHash};

/// Spools open at a time: each has a descriptor, and content of unknown length in it.
pub(crate) const SPOOLS_MAX: usize = 64;

/// A place among the open spools.
struct Place(Arc<Catalogue>);

impl Place {
    fn take(catalogue: &Arc<Catalogue>) -> Result<Self, StoreError> {
        let more = |open: usize| (open < SPOOLS_MAX).then_some(open + 1);
        match catalogue.spools.fetch_update(Ordering::AcqRel, Ordering::Acquire, more) {
            Ok(_) => Ok(Self(Arc::clone(catalogue))),
            Err(_) => {
                let what = format!("more than {SPOOLS_MAX} contents of unknown length at a time");
                Err(StoreError::Full { what, source: None })
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.spools.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A spool in memory.
pub(super) struct MemorySpool {
    catalogue: Arc<Catalogue>,
    content: BytesMut,
    /// Bytes of the budget that it has taken.
    charged: u64,
    _place: Place,
}

impl MemorySpool {
    pub(super) fn new(catalogue: Arc<Catalogue>) -> Result<Self, StoreError> {
        let place = Place::take(&catalogue)?;
        Ok(Self { catalogue, content: BytesMut::new(), charged: 0, _place: place })
    }
}

impl Drop for MemorySpool {
    fn drop(&mut self) {
        self.catalogue.recharge(self.charged, 0);
    }
}

impl Spool for MemorySpool {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.catalogue.charge(bytes.len() as u64)?;
        self.charged += bytes.len() as u64;
        self.content.extend_from_slice(bytes);
        Ok(())
    }

    fn length(&self) -> u64 {
        self.content.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        check_range(offset, buf.len(), self.length())?;
        buf.copy_from_slice(&self.content[offset as usize..][..buf.len()]);
        Ok(())
    }

    fn finish(
        mut self: Box<Self>,
        key: &EntryKey,
        described: &Described,
        values: &[PieceHash],
    ) -> Result<Arc<dyn Entry>, StoreError> {
        check_fit(&described.layout, self.length(), values)?;
        let content = std::mem::take(&mut self.content).freeze();
        let entry = self.catalogue.open(key, described)?;
        let _use = entry.use_guard()?;
        if entry.claim_all() {
            entry.fill(Some(&content), values);
            self.charged = 0;
        } else {
            complete(&*entry, values, |offset, buf| {
                buf.copy_from_slice(&content[offset as usize..][..buf.len()]);
                Ok(())
            })?;
        }
        Ok(entry)
    }
}

/// A spool on disk.
pub(super) struct FileSpool {
    catalogue: Arc<Catalogue>,
    file: File,
    path: PathBuf,
    length: u64,
    charged: u64,
    _place: Place,
}

impl FileSpool {
    /// `path` is a fresh name in the store's directory.
    pub(super) fn create(catalogue: Arc<Catalogue>, path: PathBuf) -> Result<Self, StoreError> {
        let place = Place::take(&catalogue)?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(|e| StoreError::io("create", &path, e))?;
        Ok(Self { catalogue, file, path, length: 0, charged: 0, _place: place })
    }
}

impl Drop for FileSpool {
    fn drop(&mut self) {
        // Gone already where the file has become an entry's.
        let _ = fs::remove_file(&self.path);
        self.catalogue.recharge(self.charged, 0);
    }
}

impl Spool for FileSpool {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let length = bytes.len() as u64;
        self.catalogue.charge(length)?;
        // At our own offset: after a write that failed half-way the next one starts where this one did.
        let written = match &self.catalogue.medium {
            Medium::Disk(disk) => disk.write(&self.path, &self.file, bytes, self.length),
            Medium::Memory => self.file.write_all_at(bytes, self.length),
        };
        if let Err(error) = written {
            self.catalogue.recharge(length, 0);
            return Err(StoreError::io("write", &self.path, error));
        }
        self.charged += length;
        self.length += length;
        Ok(())
    }

    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        check_range(offset, buf.len(), self.length)?;
        self.file.read_exact_at(buf, offset).map_err(|e| StoreError::io("read", &self.path, e))
    }

    fn finish(
        mut self: Box<Self>,
        key: &EntryKey,
        described: &Described,
        values: &[PieceHash],
    ) -> Result<Arc<dyn Entry>, StoreError> {
        check_fit(&described.layout, self.length, values)?;
        // A write that failed half-way may have left bytes past the end.
        self.file.set_len(self.length).map_err(|e| StoreError::io("set the length of", &self.path, e))?;
        let entry = self.catalogue.open(key, described)?;
        let _use = entry.use_guard()?;
        if !entry.claim_all() {
            complete(&*entry, values, |offset, buf| self.read_at(offset, buf))?;
            return Ok(entry);
        }
        let content = self.hand_over(&entry).inspect_err(|_| entry.unclaim_all())?;
        entry.fill(content.as_ref(), values);
        self.charged = 0;
        Ok(entry)
    }
}

impl FileSpool {
    /// Puts the file in its place, or reads it where it is too small for one of its own.
    fn hand_over(&self, entry: &HeldEntry) -> Result<Option<Bytes>, StoreError> {
        if self.length <= SLAB_LENGTH_MAX {
            let mut content = vec![0; self.length as usize];
            self.read_at(0, &mut content)?;
            return Ok(Some(content.into()));
        }
        if let Medium::Disk(disk) = &self.catalogue.medium {
            disk.files.adopt(entry.id(), &self.path)?;
        }
        Ok(None)
    }
}

/// Writes the pieces that an entry lacks.
fn complete(
    entry: &dyn Entry,
    values: &[PieceHash],
    read: impl Fn(u64, &mut [u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    if entry.needs_proof() {
        entry.prove()?;
    }
    let layout = entry.described().layout;
    for (index, value) in (0..).zip(values) {
        if let (Some(range), false) = (layout.range_of(index), entry.is_held(index)) {
            let mut piece = vec![0; (range.end - range.start) as usize];
            read(range.start, &mut piece)?;
            entry.write_piece(index, &piece, value)?;
            progress::block_done();
        }
    }
    Ok(())
}

fn check_fit(layout: &Layout, length: u64, values: &[PieceHash]) -> Result<(), StoreError> {
    if layout.length() != length || values.len() != layout.pieces() as usize {
        let count = values.len();
        return Err(StoreError::Invalid(format!("{length} bytes and {count} values do not fit {layout:?}")));
    }
    Ok(())
}

fn check_range(offset: u64, count: usize, length: u64) -> Result<(), StoreError> {
    match offset.checked_add(count as u64) {
        Some(end) if end <= length => Ok(()),
        _ => Err(StoreError::Invalid(format!("cannot read {count} bytes at {offset} of {length}"))),
    }
}

//! Where the bytes of one entry are.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;

use super::StoreError;
use super::catalogue::{Disk, Medium};
use super::record::EntryId;
use crate::task::{Layout, PieceIndex};

/// Content up to this length lives in the index, not in a file of its own. It is one piece at the most.
pub(super) const SLAB_LENGTH_MAX: u64 = 64 << 10;

/// Memory for content that lives in the index and was used lately.
const SLAB_CACHE_BYTES: usize = 32 << 20;

/// Small content that may wait in memory to be written to the index; a writer beyond it writes the index itself.
pub(super) const SLAB_FRESH_BYTES_MAX: usize = 16 << 20;

/// Beyond this the index is not keeping up, and small content is refused.
pub(super) const SLAB_FRESH_BYTES_STUCK: usize = 2 * SLAB_FRESH_BYTES_MAX;

/// The bytes of one entry.
pub(super) enum Content {
    /// A sparse file of its own.
    File,
    /// Pieces in memory.
    Memory(RwLock<HashMap<PieceIndex, Bytes>>),
    /// In the index; here until it is written there.
    Slab(Mutex<Option<Bytes>>),
}

impl Content {
    pub(super) fn new(medium: &Medium, layout: &Layout) -> Self {
        match medium {
            Medium::Memory => Self::Memory(RwLock::default()),
            Medium::Disk(_) if layout.length() <= SLAB_LENGTH_MAX => Self::Slab(Mutex::default()),
            Medium::Disk(_) => Self::File,
        }
    }

    /// Whether they are in a file of their own.
    pub(super) const fn has_file(&self) -> bool {
        matches!(self, Self::File)
    }

    /// Reads bytes of held pieces.
    pub(super) fn read_at(
        &self,
        medium: &Medium,
        id: &EntryId,
        layout: &Layout,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<(), StoreError> {
        match (self, medium) {
            (Self::File, Medium::Disk(disk)) => {
                let file = disk.files.file(id, None)?;
                disk.read(&file, buf, offset).map_err(|e| StoreError::io("read", &disk.files.path(id), e))
            }
            (Self::Slab(fresh), Medium::Disk(disk)) => {
                let content = match lock(fresh).clone() {
                    Some(content) => content,
                    None => disk.slab(id)?,
                };
                let part = content.get(offset as usize..).and_then(|rest| rest.get(..buf.len()));
                buf.copy_from_slice(part.ok_or_else(|| StoreError::Invalid("a small entry lacks its content".into()))?);
                Ok(())
            }
            (Self::Memory(pieces), _) => read_pieces(pieces, layout, offset, buf),
            (_, Medium::Memory) => Err(StoreError::Invalid("no disk behind a memory store".into())),
        }
    }

    /// Has bytes of held pieces be in the page cache; the file that they are in, if they are in one.
    pub(super) fn cache(
        &self,
        medium: &Medium,
        id: &EntryId,
        offset: u64,
        length: usize,
    ) -> Result<Option<Arc<File>>, StoreError> {
        let (Self::File, Medium::Disk(disk), true) = (self, medium, length > 0) else { return Ok(None) };
        let file = disk.files.file(id, None)?;
        match disk.cache(&file, offset, length) {
            Ok(known) => Ok(known.then_some(file)),
            Err(error) => Err(StoreError::io("read", &disk.files.path(id), error)),
        }
    }

    /// Complete content that is in memory as one.
    pub(super) fn in_memory(&self, medium: &Medium, id: &EntryId) -> Option<Bytes> {
        match (self, medium) {
            (Self::Slab(fresh), Medium::Disk(disk)) => lock(fresh).clone().or_else(|| disk.cache.get(id)),
            (Self::Memory(pieces), _) => {
                let pieces = pieces.read().unwrap_or_else(PoisonError::into_inner);
                pieces.get(&0).filter(|_| pieces.len() == 1).cloned()
            }
            _ => None,
        }
    }

    /// Writes one whole piece.
    pub(super) fn write(
        &self,
        medium: &Medium,
        id: &EntryId,
        layout: &Layout,
        index: PieceIndex,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        match (self, medium) {
            (Self::File, Medium::Disk(disk)) => {
                let path = disk.files.path(id);
                let file = disk.files.file(id, Some(layout.length()))?;
                let written = disk.write(&path, &file, bytes, layout.offset(index));
                written.map_err(|e| StoreError::io("write", &path, e))
            }
            (Self::Slab(fresh), Medium::Disk(disk)) => {
                // An index that cannot be written (a full disk, say) must not fill the memory instead.
                if disk.fresh.load(Ordering::Acquire) + bytes.len() > SLAB_FRESH_BYTES_STUCK {
                    let what = "more small content than may wait for the index".to_owned();
                    return Err(StoreError::Full { what, source: None });
                }
                set_fresh(disk, fresh, Some(Bytes::copy_from_slice(bytes)));
                Ok(())
            }
            (Self::Memory(pieces), _) => {
                let mut pieces = pieces.write().unwrap_or_else(PoisonError::into_inner);
                pieces.insert(index, Bytes::copy_from_slice(bytes));
                Ok(())
            }
            (_, Medium::Memory) => Err(StoreError::Invalid("no disk behind a memory store".into())),
        }
    }

    /// Takes in every piece of content that is in memory, without copying it.
    pub(super) fn fill(&self, medium: &Medium, layout: &Layout, content: &Bytes) {
        match (self, medium) {
            (Self::Slab(fresh), Medium::Disk(disk)) => set_fresh(disk, fresh, Some(content.clone())),
            (Self::Memory(pieces), _) => {
                let mut pieces = pieces.write().unwrap_or_else(PoisonError::into_inner);
                for index in 0..layout.pieces() {
                    if let Some(range) = layout.range_of(index) {
                        pieces.insert(index, content.slice(range.start as usize..range.end as usize));
                    }
                }
            }
            _ => {}
        }
    }

    /// Forgets a piece that did not prove.
    pub(super) fn forget(&self, medium: &Medium, id: &EntryId, index: PieceIndex) {
        match (self, medium) {
            (Self::Memory(pieces), _) => {
                pieces.write().unwrap_or_else(PoisonError::into_inner).remove(&index);
            }
            (Self::Slab(fresh), Medium::Disk(disk)) => {
                set_fresh(disk, fresh, None);
                disk.cache.remove(id);
            }
            _ => {}
        }
    }

    /// The open data file, made if need be, and its path; `None` where the content has no file of its own.
    pub(super) fn file(
        &self,
        medium: &Medium,
        id: &EntryId,
        layout: &Layout,
    ) -> Result<Option<(Arc<File>, PathBuf)>, StoreError> {
        match (self, medium) {
            (Self::File, Medium::Disk(disk)) => {
                Ok(Some((disk.files.file(id, Some(layout.length()))?, disk.files.path(id))))
            }
            _ => Ok(None),
        }
    }

    /// What has to be written to the index.
    pub(super) fn fresh(&self) -> Option<Bytes> {
        match self {
            Self::Slab(fresh) => lock(fresh).clone(),
            _ => None,
        }
    }

    /// The index has `written`: it need not stay here.
    pub(super) fn written(&self, disk: &Disk, id: &EntryId, written: &Bytes) {
        if let Self::Slab(fresh) = self {
            let is_written = lock(fresh).as_ref().is_some_and(|now| now.as_ptr() == written.as_ptr());
            if is_written {
                disk.cache.insert(*id, written.clone());
                set_fresh(disk, fresh, None);
            }
        }
    }

    /// Gives everything back, save a file that is still to be removed ([`super::files::bury`]).
    pub(super) fn remove(&self, medium: &Medium, id: &EntryId) -> Result<Option<PathBuf>, StoreError> {
        match self {
            Self::File => {
                if let Medium::Disk(disk) = medium {
                    return disk.files.doom(id);
                }
            }
            Self::Memory(pieces) => pieces.write().unwrap_or_else(PoisonError::into_inner).clear(),
            Self::Slab(fresh) => {
                if let Medium::Disk(disk) = medium {
                    set_fresh(disk, fresh, None);
                    disk.cache.remove(id);
                }
            }
        }
        Ok(None)
    }
}

/// Changes small content that is not in the index yet, and how much of it there is.
fn set_fresh(disk: &Disk, fresh: &Mutex<Option<Bytes>>, content: Option<Bytes>) {
    let more = content.as_ref().map_or(0, Bytes::len);
    disk.fresh.fetch_add(more, Ordering::AcqRel);
    let less = std::mem::replace(&mut *lock(fresh), content).map_or(0, |old| old.len());
    disk.fresh.fetch_sub(less, Ordering::AcqRel);
}

fn read_pieces(
    pieces: &RwLock<HashMap<PieceIndex, Bytes>>,
    layout: &Layout,
    offset: u64,
    mut buf: &mut [u8],
) -> Result<(), StoreError> {
    let pieces = pieces.read().unwrap_or_else(PoisonError::into_inner);
    for index in layout.pieces_of(offset..offset + buf.len() as u64) {
        let skip = offset.saturating_sub(layout.offset(index)) as usize;
        let piece = pieces.get(&index).and_then(|piece| piece.get(skip..));
        let piece = piece.ok_or_else(|| StoreError::Invalid(format!("piece {index} is not in memory")))?;
        let (part, rest) = buf.split_at_mut(piece.len().min(buf.len()));
        part.copy_from_slice(&piece[..part.len()]);
        buf = rest;
    }
    Ok(())
}

/// Small content used lately, the oldest dropped first.
#[derive(Default)]
pub(super) struct SlabCache(Mutex<Cached>);

#[derive(Default)]
struct Cached {
    contents: HashMap<EntryId, Bytes>,
    order: VecDeque<EntryId>,
    bytes: usize,
}

impl SlabCache {
    pub(super) fn get(&self, id: &EntryId) -> Option<Bytes> {
        lock(&self.0).contents.get(id).cloned()
    }

    pub(super) fn insert(&self, id: EntryId, content: Bytes) {
        let mut cached = lock(&self.0);
        cached.bytes += content.len();
        match cached.contents.insert(id, content) {
            Some(old) => cached.bytes -= old.len(),
            None => cached.order.push_back(id),
        }
        while cached.bytes > SLAB_CACHE_BYTES {
            let Some(oldest) = cached.order.pop_front() else { break };
            if let Some(content) = cached.contents.remove(&oldest) {
                cached.bytes -= content.len();
            }
        }
    }

    pub(super) fn remove(&self, id: &EntryId) {
        let mut cached = lock(&self.0);
        if let Some(content) = cached.contents.remove(id) {
            cached.bytes -= content.len();
            cached.order.retain(|other| other != id);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

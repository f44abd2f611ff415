//! The index: one redb file with what is known of every entry, and the content of small ones.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use redb::{Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, StorageError, TableDefinition};

use super::record::{Changes, EntryId, Header, Loaded, Marks, ROW_KEY, Values};
use super::{Described, EntryKey, StoreError};
use crate::task::HaveMap;

const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");
const PIECES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("pieces");
const EVIDENCE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("evidence");
const SLAB: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("slab");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// Memory that redb may use for pages (its default is 1 GiB).
const CACHE_BYTES: usize = 16 << 20;

/// After an unclean stop an index up to this size is read and checked as a whole, in about a second. A larger one
/// is recovered by redb from its last commit.
const CHECK_BYTES_MAX: u64 = 256 << 20;

/// Where an index is.
pub(super) struct IndexFile {
    pub(super) path: PathBuf,
    #[cfg(test)]
    pub(super) faults: Option<std::sync::Arc<super::faults::Faults>>,
}

/// An open index.
pub(super) struct Index {
    file: IndexFile,
    /// Empty only after a reopening failed. Read-locked to read and to write (redb does both at once), write-locked to reopen.
    database: RwLock<Option<Database>>,
}

/// Which run of the store this is, and from which run on what was proven needs no new proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) current: u64,
    pub(super) floor: u64,
}

impl Index {
    /// Opens or makes the index, and counts a new run. A corrupt index is moved aside: the store starts empty.
    pub(super) fn open(file: IndexFile, clean: bool) -> Result<(Self, Run), StoreError> {
        let path = file.path.as_path();
        let database = match file.open(!clean) {
            Ok(database) => database,
            Err(error) if is_corrupt(&error) => {
                let aside = path.with_extension("corrupt");
                tracing::warn!(index = %path.display(), aside = %aside.display(), %error, "the store's index is corrupt: moved aside, the store starts empty");
                std::fs::rename(path, &aside).map_err(|e| StoreError::io("move aside", path, e))?;
                file.open(false).map_err(|e| StoreError::index("create", path, e))?
            }
            Err(error) => return Err(StoreError::index("open", path, error)),
        };
        let index = Self { file, database: RwLock::new(Some(database)) };
        let run = index.count_run(clean)?;
        Ok((index, run))
    }

    fn count_run(&self, clean: bool) -> Result<Run, StoreError> {
        self.with("write", |database| {
            let write = database.begin_write()?;
            let run = {
                let mut meta = write.open_table(META)?;
                let current = meta.get("run")?.map_or(0, |run| run.value()).saturating_add(1);
                let floor = if clean { meta.get("floor")?.map_or(0, |floor| floor.value()) } else { current };
                meta.insert("run", current)?;
                meta.insert("floor", floor)?;
                // Every table exists from here on, so that reading need not tell "none yet" from "unreadable".
                write.open_table(ENTRIES)?;
                write.open_table(PIECES)?;
                write.open_table(EVIDENCE)?;
                write.open_table(SLAB)?;
                Run { current, floor }
            };
            write.commit()?;
            Ok(run)
        })
    }

    /// Every entry. Rows that cannot be read are left out; their content is fetched again.
    pub(super) fn entries(&self) -> Result<Vec<(EntryKey, Described, Marks)>, StoreError> {
        self.with("read", |database| {
            let table = database.begin_read()?.open_table(ENTRIES)?;
            let mut entries = Vec::new();
            for row in table.iter()? {
                let (_, header) = row?;
                entries.extend(Header::decode(header.value()));
            }
            Ok(entries)
        })
    }

    /// The pieces and the evidence of one entry.
    pub(super) fn load(&self, id: &EntryId, pieces: u32) -> Result<Loaded, StoreError> {
        self.with("read", |database| {
            let read = database.begin_read()?;
            let mut loaded =
                Loaded { have: HaveMap::empty(pieces), values: Values::default(), evidence: Default::default() };
            for row in read.open_table(PIECES)?.range::<&[u8]>(&row_key(id, 0)[..]..=&row_key(id, u32::MAX)[..])? {
                let (key, values) = row?;
                if let Some(number) = row_number(key.value()) {
                    loaded.values.decode_row(number, values.value(), &mut loaded.have);
                }
            }
            for row in read.open_table(EVIDENCE)?.range::<&[u8]>(&row_key(id, 0)[..]..=&row_key(id, u32::MAX)[..])? {
                let (key, bytes) = row?;
                if let Some(number) = row_number(key.value()) {
                    loaded.evidence.insert(number, Bytes::copy_from_slice(bytes.value()));
                }
            }
            Ok(loaded)
        })
    }

    /// The content of a small entry.
    pub(super) fn slab(&self, id: &EntryId) -> Result<Option<Bytes>, StoreError> {
        self.with("read", |database| {
            let table = database.begin_read()?.open_table(SLAB)?;
            let content = table.get(&id[..])?;
            Ok(content.map(|content| Bytes::copy_from_slice(content.value())))
        })
    }

    /// Takes entries out, then writes changes, in one transaction.
    pub(super) fn write(&self, removed: &BTreeSet<EntryId>, changes: &[Changes]) -> Result<(), StoreError> {
        self.with("write", |database| {
            let mut write = database.begin_write()?;
            // After a kill the next start need not walk the whole index.
            write.set_quick_repair(true);
            {
                let mut entries = write.open_table(ENTRIES)?;
                let mut pieces = write.open_table(PIECES)?;
                let mut evidence = write.open_table(EVIDENCE)?;
                let mut slab = write.open_table(SLAB)?;
                for id in removed {
                    let (first, last) = (row_key(id, 0), row_key(id, u32::MAX));
                    entries.remove(&id[..])?;
                    pieces.retain_in::<&[u8], _>(&first[..]..=&last[..], |_, _| false)?;
                    evidence.retain_in::<&[u8], _>(&first[..]..=&last[..], |_, _| false)?;
                    slab.remove(&id[..])?;
                }
                for change in changes {
                    entries.insert(&change.id[..], &change.header[..])?;
                    for (number, row) in &change.rows {
                        pieces.insert(&row_key(&change.id, *number)[..], &row[..])?;
                    }
                    for (sequence, bytes) in &change.evidence {
                        evidence.insert(&row_key(&change.id, *sequence)[..], &bytes[..])?;
                    }
                    if let Some(content) = &change.slab {
                        slab.insert(&change.id[..], &content[..])?;
                    }
                }
            }
            write.commit()?;
            Ok(())
        })
    }

    /// Runs `f`. After an I/O error (a full disk, say) redb wants to be opened again: once per call that is tried.
    fn with<T>(&self, action: &'static str, f: impl Fn(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let failed = |error| StoreError::index(action, &self.file.path, error);
        if let Some(database) = self.database.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
            match f(database) {
                Err(redb::Error::PreviousIo) => {}
                other => return other.map_err(failed),
            }
        }
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // The old one has to let go of the file first.
        *database = None;
        let reopened = self.file.open(false).map_err(|e| StoreError::index("reopen", &self.file.path, e))?;
        f(database.insert(reopened)).map_err(failed)
    }
}

impl IndexFile {
    fn open(&self, check: bool) -> Result<Database, DatabaseError> {
        let small = std::fs::metadata(&self.path).is_ok_and(|file| file.len() <= CHECK_BYTES_MAX);
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(check && small);
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            let file = super::faults::FaultyIndex::open(faults, &self.path);
            return builder.create_with_backend(file.map_err(StorageError::Io)?);
        }
        builder.create(&self.path)
    }
}

fn is_corrupt(error: &DatabaseError) -> bool {
    match error {
        DatabaseError::Storage(StorageError::Corrupted(_)) | DatabaseError::UpgradeRequired(_) => true,
        DatabaseError::Storage(StorageError::Io(error)) => {
            matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof)
        }
        _ => false,
    }
}

/// The key of one row of an entry: rows of one entry are neighbours, in order.
fn row_key(id: &EntryId, number: u32) -> [u8; ROW_KEY] {
    let mut key = [0; ROW_KEY];
    key[..32].copy_from_slice(id);
    key[32..].copy_from_slice(&number.to_be_bytes());
    key
}

fn row_number(key: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(key.get(32..)?.try_into().ok()?))
}

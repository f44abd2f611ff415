//! A store in a directory.
//!
//! `lock` is held by the process that has it open; `index.redb` says what is held; `data/` has one sparse file per
//! generation above 64 KiB; `spool/` has content of unknown length and is emptied at start; `clean` is there after
//! a clean stop. Content is written without waiting for the disk, and the index follows in batches: after a kill
//! it may lag, but for what somebody had it [keep](Entry::keep), and pieces that it does not know are fetched again; after
//! a loss of power what it knows may not be there, and so everything is proven again unless the stop was clean.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::catalogue::{Catalogue, Disk, Medium, Policy};
use super::files::{DataFiles, OPEN_FILES_MAX};
use super::index::{Index, IndexFile};
use super::spool::FileSpool;
use super::{Described, Entry, EntryInfo, EntryKey, EvictionObserver, Spool, Store, StoreError, Usage, progress};
use crate::runtime::pipe;
use crate::task::TaskId;

/// Entries of a store on disk, unless it is said.
pub(super) const ENTRIES_MAX: usize = 1 << 18;

/// How often a flush starts again because something changed meanwhile, before it leaves the store unmarked.
const FLUSH_ROUNDS_MAX: u32 = 4;

/// Content that nobody has used for so long is not kept in the page cache, unless it is said. Who deploys to a fleet asks within
/// it; and the kernel has written by then what came in, which it does after 35 s by itself (dirty pages cannot be dropped).
const COOL_AFTER: Duration = Duration::from_secs(60);

/// How often within that time it is looked for such content.
const COOL_LOOKS: u32 = 8;

/// And at least so often, for what is noted of content that is gone.
const COOL_LOOK_MAX: Duration = Duration::from_secs(60);

/// Between two looks at a lock that another has.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// How a [`FileStore`] behaves.
#[derive(Clone, Debug)]
pub struct FileOptions {
    /// The budget for content in bytes (default: as much as the disk has).
    pub quota: Option<u64>,
    /// Above this part of the quota, eviction begins (default: 0.9).
    pub high_water: f64,
    /// Down to this part of it, eviction goes on (default: 0.8).
    pub low_water: f64,
    /// How long an entry that is not used stays (default: for ever).
    pub ttl: Option<Duration>,
    /// How many entries there may be (default: 262 144; each takes about a kilobyte of memory).
    pub entries_max: usize,
    /// How many data files are open at a time (default: 512). Those used longest ago are closed first. Content up to
    /// 64 KiB has no file of its own.
    pub open_files_max: usize,
    /// How long a change may wait to be written to the index (default: 1 s): what a kill loses, but for what
    /// [is kept](Entry::keep).
    pub index_interval: Duration,
    /// How long after the last use of content larger than 64 KiB the kernel is told that nobody is likely to want it soon, and drops
    /// what it caches of it for others' sake (default: 60 s; `None`: never). Looked at when the index is written. Content whose
    /// output is a hard link is left alone: it is somebody's file. Has an effect on Linux.
    pub cool_after: Option<Duration>,
    /// How long to wait for another that has the directory (default: not at all).
    pub lock_wait: Duration,
    #[cfg(test)]
    pub(crate) faults: Option<Arc<super::faults::Faults>>,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self {
            quota: None,
            high_water: 0.9,
            low_water: 0.8,
            ttl: None,
            entries_max: ENTRIES_MAX,
            open_files_max: OPEN_FILES_MAX,
            index_interval: Duration::from_secs(1),
            cool_after: Some(COOL_AFTER),
            lock_wait: Duration::ZERO,
            #[cfg(test)]
            faults: None,
        }
    }
}

/// A store in a directory of its own, locked against other processes.
///
/// Dropping it writes the index but is no clean stop: call [`Store::flush`] before. Entries that outlive it keep
/// the directory locked, and what is written to them then is not kept.
pub struct FileStore {
    catalogue: Arc<Catalogue>,
    directory: PathBuf,
    spools: AtomicU64,
    keeper: Option<JoinHandle<()>>,
    abandoned: AtomicBool,
}

impl FileStore {
    /// Opens the store in `directory`, which is made if need be, readable for its owner alone.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process (or another store of this one) has it, and keeps it for the
    /// [`FileOptions::lock_wait`];
    /// [`StoreError::Invalid`] unless `0 <= low_water <= high_water <= 1`; the file system's.
    pub fn open(directory: impl AsRef<Path>, options: FileOptions) -> Result<Self, StoreError> {
        let directory = directory.as_ref().to_owned();
        let FileOptions { quota, high_water, low_water, ttl, entries_max, open_files_max, .. } = options;
        let FileOptions { index_interval, cool_after, .. } = options;
        let policy = Policy { quota, high_water, low_water, ttl, entries_max };
        policy.check()?;
        make_directory(&directory)?;
        let lock = lock(&directory, options.lock_wait)?;
        let clean = take_clean_mark(&directory)?;
        for part in ["data", "spool"] {
            make_directory(&directory.join(part))?;
        }
        let index_file = IndexFile {
            path: directory.join("index.redb"),
            #[cfg(test)]
            faults: options.faults.clone(),
        };
        let (index, run) = Index::open(index_file, clean)?;
        let entries = index.entries()?;
        #[allow(unused_mut, reason = "tests give it a disk that fails")]
        let mut files = DataFiles::new(directory.join("data"), open_files_max);
        #[cfg(test)]
        files.faults.clone_from(&options.faults);
        let disk = Disk {
            files,
            index,
            cache: Default::default(),
            fresh: Default::default(),
            _lock: lock,
            #[cfg(test)]
            faults: options.faults,
        };
        let unmark = {
            let directory = directory.clone();
            Box::new(move || {
                if let Err(error) = take_clean_mark(&directory) {
                    tracing::warn!(%error, "a stop without flush would not be noticed");
                }
            })
        };
        let fresh = entries.is_empty();
        let catalogue = Catalogue::new(Medium::Disk(Box::new(disk)), run, policy, unmark);
        catalogue.restore(entries);
        if !clean || fresh {
            sweep(&catalogue, &directory);
        }
        let keeper = {
            let catalogue = catalogue.clone();
            let thread = std::thread::Builder::new().name("dragonfly-store".into());
            let thread = thread.spawn(move || {
                pipe::block();
                keep(&catalogue, index_interval, cool_after)
            });
            thread.map_err(|e| StoreError::io("start the thread that writes the index of", &directory, e))?
        };
        Ok(Self {
            catalogue,
            directory,
            spools: AtomicU64::new(0),
            keeper: Some(keeper),
            abandoned: AtomicBool::new(false),
        })
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes the index at once.
    #[cfg(test)]
    pub(super) fn write_index(&self) -> Result<(), StoreError> {
        self.catalogue.write_due()
    }

    /// Lets go cold what nobody has used for `after`, as it will be `later` from now.
    #[cfg(test)]
    pub(super) fn cool(&self, later: Duration, after: Duration) {
        self.catalogue.cool(self.catalogue.age() + later, after, || false);
    }

    /// Stops as a kill would: nothing more is written.
    #[cfg(test)]
    pub(super) fn abandon(self) {
        self.abandoned.store(true, Ordering::Release);
    }

    #[cfg(test)]
    pub(super) fn disk(&self) -> &Disk {
        match &self.catalogue.medium {
            Medium::Disk(disk) => disk,
            Medium::Memory => panic!("a file store has a disk"),
        }
    }
}

impl Drop for FileStore {
    fn drop(&mut self) {
        *self.catalogue.stopping.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.catalogue.wake.notify_all();
        if self.keeper.take().is_some_and(|keeper| keeper.join().is_err()) {
            tracing::error!("the thread that writes the store's index had failed");
        }
        if !self.abandoned.load(Ordering::Acquire)
            && let Err(error) = self.catalogue.write_due()
        {
            tracing::warn!(%error, "what was written last will be fetched again");
        }
        self.catalogue.clear();
    }
}

impl Store for FileStore {
    fn open(&self, key: &EntryKey, described: &Described) -> Result<Arc<dyn Entry>, StoreError> {
        Ok(self.catalogue.open(key, described)?)
    }

    fn find(&self, network: &[u8; 32], tenant: &str, task: &TaskId) -> Vec<Arc<dyn Entry>> {
        self.catalogue.find(network, tenant, task).into_iter().map(|entry| entry as _).collect()
    }

    fn info(&self, key: &EntryKey) -> Option<EntryInfo> {
        self.catalogue.info(key)
    }

    fn list(&self, after: Option<&EntryKey>, max: usize) -> Vec<EntryInfo> {
        self.catalogue.list(after, max)
    }

    fn remove(&self, key: &EntryKey) -> Result<bool, StoreError> {
        self.catalogue.remove(key)
    }

    fn set_pinned(&self, key: &EntryKey, pinned: bool) -> bool {
        self.catalogue.set_pinned(key, pinned)
    }

    fn spool(&self) -> Result<Box<dyn Spool>, StoreError> {
        let number = self.spools.fetch_add(1, Ordering::AcqRel);
        let path = self.directory.join("spool").join(number.to_string());
        Ok(Box::new(FileSpool::create(self.catalogue.clone(), path)?))
    }

    fn usage(&self) -> Usage {
        self.catalogue.usage()
    }

    fn evict(&self, now_unix: u64) -> u64 {
        self.catalogue.evict(now_unix)
    }

    fn on_evicted(&self, observer: EvictionObserver) {
        self.catalogue.on_evicted(observer);
    }

    fn flush(&self) -> Result<(), StoreError> {
        for _ in 0..FLUSH_ROUNDS_MAX {
            let changes = self.catalogue.change_count();
            self.catalogue.write_due()?;
            // After the index: what it says is held had been written before.
            for entry in self.catalogue.all() {
                entry.sync()?;
                progress::block_done();
            }
            if self.catalogue.mark_clean(changes, || set_clean_mark(&self.directory))? {
                return Ok(());
            }
        }
        tracing::info!(store = %self.directory.display(), "in use while it was flushed: not marked clean");
        Ok(())
    }
}

impl std::fmt::Debug for FileStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileStore").field("directory", &self.directory).field("usage", &self.usage()).finish()
    }
}

/// Writes the index at intervals until the store stops, and lets content go cold.
fn keep(catalogue: &Catalogue, interval: Duration, cool_after: Option<Duration>) {
    let is_stopping = || *catalogue.stopping.lock().unwrap_or_else(PoisonError::into_inner);
    let mut looked = Duration::ZERO;
    let mut stopping = catalogue.stopping.lock().unwrap_or_else(PoisonError::into_inner);
    while !*stopping {
        let waited = catalogue.wake.wait_timeout_while(stopping, interval, |stopping| !*stopping);
        let stop = *waited.unwrap_or_else(PoisonError::into_inner).0;
        if stop {
            return;
        }
        if let Err(error) = catalogue.write_due() {
            tracing::warn!(%error, "the store's index lags behind");
        }
        let age = catalogue.age();
        match cool_after {
            Some(after) if age.saturating_sub(looked) >= (after / COOL_LOOKS).min(COOL_LOOK_MAX) => {
                looked = age;
                catalogue.cool(age, after, is_stopping);
            }
            Some(_) => {}
            None => catalogue.forget_warmed(),
        }
        stopping = catalogue.stopping.lock().unwrap_or_else(PoisonError::into_inner);
    }
}

fn sweep(catalogue: &Catalogue, directory: &Path) {
    if let Medium::Disk(disk) = &catalogue.medium {
        let known: std::collections::BTreeSet<_> = catalogue.all().iter().map(|entry| *entry.id()).collect();
        disk.files.sweep(|id| known.contains(id));
    }
    for spool in fs::read_dir(directory.join("spool")).into_iter().flatten().flatten() {
        if let Err(error) = fs::remove_file(spool.path()) {
            tracing::warn!(file = %spool.path().display(), %error, "cannot remove a spool that was left behind");
        }
    }
}

fn make_directory(directory: &Path) -> Result<(), StoreError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|e| StoreError::io("create the directory", directory, e))
}

/// The lock on a store's directory.
pub(super) struct DirectoryLock(File);

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Closing is not enough: a child that was forked a moment ago has the descriptor, too, until it runs its
        // program. An error means that the lock is gone already.
        let _ = self.0.unlock();
    }
}

fn lock(directory: &Path, wait: Duration) -> Result<DirectoryLock, StoreError> {
    let began = Instant::now();
    let path = directory.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|e| StoreError::io("open", &path, e))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(DirectoryLock(file)),
            // The system has no wait with a bound.
            Err(TryLockError::WouldBlock) if began.elapsed() < wait => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked { dir: directory.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &path, error)),
        }
    }
}

/// Takes the clean mark away, durably; whether there was one.
fn take_clean_mark(directory: &Path) -> Result<bool, StoreError> {
    let mark = directory.join("clean");
    match fs::remove_file(&mark) {
        Ok(()) => sync_directory(directory).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::io("remove", &mark, error)),
    }
}

fn set_clean_mark(directory: &Path) -> Result<(), StoreError> {
    let mark = directory.join("clean");
    File::create(&mark).map_err(|e| StoreError::io("create", &mark, e))?;
    sync_directory(directory)
}

fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    let synced = File::open(directory).and_then(|open| open.sync_all());
    synced.map_err(|e| StoreError::io("make durable", directory, e))
}

//! Content under a name of the caller's.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use data_encoding::HEXLOWER;

use super::entry::HeldEntry;
use super::{Entry as _, StoreError, UseGuard, progress};
use crate::task::{HaveMap, PieceIndex};

/// Bytes copied at a time where the kernel does not copy by itself.
const COPY_BLOCK: usize = 256 << 10;

/// Bytes that the kernel is asked to copy at a time: it says nothing before they are.
#[cfg(target_os = "linux")]
const KERNEL_COPY_BLOCK: usize = 16 << 20;

/// Bytes of the output's name that its temporary name repeats: names have at most 255.
const NAME_BYTES_MAX: usize = 200;

/// How content may be put under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportOptions {
    /// Whether a file that is there may be replaced (default: no).
    pub overwrite: bool,
    /// Whether the output may be a hard link to the store's file, where both have the same owner (default: yes).
    /// Later writes to the output are then noticed before the content is served again.
    pub allow_hard_link: bool,
    /// Whether the output may share the store's blocks until either is written (default: yes).
    pub allow_reflink: bool,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self { overwrite: false, allow_hard_link: true, allow_reflink: true }
    }
}

/// How an output came to its name.
// Exhaustive: those are the ways that there are, and whoever shows them has a word for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exported {
    /// Its bytes were copied.
    Copy,
    /// It is a hard link to the store's file.
    HardLink,
    /// It shares the store's blocks until either is written.
    Reflink,
}

/// An output that follows its download. Dropping it leaves nothing behind.
///
/// Where the file system can share blocks or link, there is nothing to do until the end. Elsewhere a temporary
/// file beside the output takes every piece as it is proven ([`Output::piece`]), and is renamed at the end.
pub struct Output {
    entry: Arc<HeldEntry>,
    path: PathBuf,
    options: ExportOptions,
    follow: Option<Follow>,
    _guard: UseGuard,
}

struct Follow {
    temporary: Temporary,
    copied: Mutex<HaveMap>,
}

impl Output {
    pub(super) fn start(
        entry: Arc<HeldEntry>,
        guard: UseGuard,
        path: &Path,
        options: ExportOptions,
    ) -> Result<Self, StoreError> {
        refuse_existing(path, options)?;
        let follow = if shares(&entry, path, options)? {
            None
        } else {
            let temporary = Temporary::create(path)?;
            let length = entry.described().layout.length();
            temporary.file.set_len(length).map_err(|e| StoreError::io("set the length of", &temporary.path, e))?;
            let copied = Mutex::new(HaveMap::empty(entry.described().layout.pieces()));
            Some(Follow { temporary, copied })
        };
        Ok(Self { entry, path: path.to_owned(), options, follow, _guard: guard })
    }

    /// Whether there is something to do before the end.
    pub fn follows(&self) -> bool {
        self.follow.is_some()
    }

    /// Takes a piece that is held now. Nothing is done for one that was taken before.
    ///
    /// # Errors
    /// [`StoreError::NotHeld`]; [`StoreError::Full`] on the output's file system, after which the call may be
    /// repeated.
    pub fn piece(&self, index: PieceIndex) -> Result<(), StoreError> {
        let Some(follow) = &self.follow else { return Ok(()) };
        if follow.copied.lock().unwrap_or_else(PoisonError::into_inner).contains(index) {
            return Ok(());
        }
        let Some(range) = self.entry.described().layout.range_of(index) else { return Ok(()) };
        if !self.entry.is_held(index) {
            return Err(StoreError::NotHeld { generation: self.entry.key().generation, index });
        }
        copy(&self.entry, &follow.temporary, range.start, range.end)?;
        follow.copied.lock().unwrap_or_else(PoisonError::into_inner).insert(index);
        Ok(())
    }

    /// Takes every piece that is held now: for what the store had before.
    ///
    /// # Errors
    /// As for [`Output::piece`].
    pub fn catch_up(&self) -> Result<(), StoreError> {
        if self.follow.is_some() {
            for index in self.entry.have().iter() {
                self.piece(index)?;
            }
        }
        Ok(())
    }

    /// Gives the complete content its name. Pieces that were not taken yet are, but that takes its time.
    ///
    /// # Errors
    /// As for [`Entry::export`](super::Entry::export). Nothing is left under a temporary name then.
    pub fn finish(self) -> Result<Exported, StoreError> {
        self.finish_if(&|| true)
    }

    /// The same, unless nobody wants it any more (`wanted`) by the time that it could have its name: a disk that did nothing for
    /// long may do what was asked of it when another output has that name.
    ///
    /// # Errors
    /// As above, and [`StoreError::Invalid`] where nobody wants it.
    pub fn finish_if(self, wanted: &dyn Fn() -> bool) -> Result<Exported, StoreError> {
        self.entry.refuse_incomplete()?;
        self.catch_up()?;
        match self.follow {
            None => export(&self.entry, &self.path, self.options, wanted),
            Some(follow) => {
                refuse_unwanted(&self.path, wanted)?;
                follow.temporary.publish(&self.path, self.options.overwrite)?;
                Ok(Exported::Copy)
            }
        }
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("path", &self.path).field("follows", &self.follow.is_some()).finish()
    }
}

/// Puts the complete content of `entry`, which the caller keeps in use, under `output`.
pub(super) fn export(
    entry: &HeldEntry,
    output: &Path,
    options: ExportOptions,
    wanted: &dyn Fn() -> bool,
) -> Result<Exported, StoreError> {
    refuse_existing(output, options)?;
    if let Some((file, path)) = entry.file()? {
        if options.allow_reflink {
            let temporary = Temporary::create(output)?;
            if reflink(&temporary.file, &file) {
                refuse_unwanted(output, wanted)?;
                temporary.publish(output, options.overwrite)?;
                return Ok(Exported::Reflink);
            }
        }
        if options.allow_hard_link && same_owner(&file, output) {
            // Before it is somebody's file: after a kill what he wrote to it must not be taken for damage, and mended. That the
            // change time is of before costs no more than a proof.
            entry.set_linked(&file);
            let kept = entry.keep().is_ok();
            refuse_unwanted(output, wanted)?;
            let linked = kept && entry.linking(&file, || link(&path, output, options.overwrite))?;
            if linked {
                return Ok(Exported::HardLink);
            }
        }
    }
    let temporary = Temporary::create(output)?;
    copy(entry, &temporary, 0, entry.described().layout.length())?;
    refuse_unwanted(output, wanted)?;
    temporary.publish(output, options.overwrite)?;
    Ok(Exported::Copy)
}

/// Whether a later export will share the store's blocks or its file. It is tried, not guessed.
fn shares(entry: &HeldEntry, output: &Path, options: ExportOptions) -> Result<bool, StoreError> {
    let Some((file, path)) = entry.file()? else { return Ok(false) };
    if options.allow_reflink && reflink(&Temporary::create(output)?.file, &file) {
        return Ok(true);
    }
    if !options.allow_hard_link || !same_owner(&file, output) {
        return Ok(false);
    }
    let trial = temporary_path(output)?;
    entry.linking(&file, || {
        let linked = fs::hard_link(&path, &trial).is_ok();
        if linked {
            fs::remove_file(&trial).map_err(|e| StoreError::io("remove", &trial, e))?;
        }
        Ok(linked)
    })
}

/// A clear refusal before any work is done; what appears later is refused when the name is given.
fn refuse_existing(output: &Path, options: ExportOptions) -> Result<(), StoreError> {
    match output.symlink_metadata() {
        Ok(_) if !options.overwrite => Err(StoreError::Exists { path: output.to_owned() }),
        // Too long, say.
        Err(error) if error.kind() == io::ErrorKind::InvalidFilename => Err(StoreError::io("name", output, error)),
        _ => Ok(()),
    }
}

fn refuse_unwanted(output: &Path, wanted: &dyn Fn() -> bool) -> Result<(), StoreError> {
    let gone = || StoreError::Invalid(format!("nobody wants {} any more", output.display()));
    wanted().then_some(()).ok_or_else(gone)
}

fn same_owner(file: &File, output: &Path) -> bool {
    let owners = (file.metadata(), fs::metadata(directory_of(output)));
    matches!(owners, (Ok(data), Ok(directory)) if data.uid() == directory.uid() && data.dev() == directory.dev())
}

/// Hard-links; false where that cannot be had.
fn link(data: &Path, output: &Path, overwrite: bool) -> Result<bool, StoreError> {
    if !overwrite {
        return match fs::hard_link(data, output) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(StoreError::Exists { path: output.to_owned() })
            }
            Err(_) => Ok(false),
        };
    }
    let temporary = temporary_path(output)?;
    if fs::hard_link(data, &temporary).is_err() {
        return Ok(false);
    }
    let renamed = fs::rename(&temporary, output);
    // Renaming one of two links of a file onto the other does nothing, not even remove it.
    let _ = fs::remove_file(&temporary);
    renamed.map(|()| true).map_err(|e| StoreError::io("rename to", output, e))
}

/// Copies `from..to` of held content.
fn copy(entry: &HeldEntry, to: &Temporary, from: u64, end: u64) -> Result<(), StoreError> {
    let mut offset = from;
    if let Some((file, _)) = entry.file()? {
        entry.warm();
        offset = copy_in_kernel(&file, &to.file, from, end).map_err(|e| StoreError::io("write", &to.path, e))?;
    }
    let mut block = vec![0; (end - offset).min(COPY_BLOCK as u64) as usize];
    while offset < end {
        let part = &mut block[..(end - offset).min(COPY_BLOCK as u64) as usize];
        entry.read_at(offset, part)?;
        to.file.write_all_at(part, offset).map_err(|e| StoreError::io("write", &to.path, e))?;
        offset += part.len() as u64;
        progress::block_done();
    }
    Ok(())
}

/// Copies without passing the bytes through this process, as far as that can be had: up to where.
#[cfg(target_os = "linux")]
fn copy_in_kernel(from: &File, to: &File, start: u64, end: u64) -> io::Result<u64> {
    use rustix::io::Errno;
    let (mut read, mut written) = (start, start);
    while read < end {
        let count = usize::try_from(end - read).unwrap_or(usize::MAX).min(KERNEL_COPY_BLOCK);
        match rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut written), count) {
            Ok(0) => break,
            Ok(_) => progress::block_done(),
            Err(Errno::INTR) => {}
            Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => return Err(error.into()),
            Err(_) => break,
        }
    }
    Ok(read)
}

#[cfg(not(target_os = "linux"))]
fn copy_in_kernel(_: &File, _: &File, start: u64, _: u64) -> io::Result<u64> {
    Ok(start)
}

#[cfg(target_os = "linux")]
fn reflink(to: &File, from: &File) -> bool {
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn reflink(_: &File, _: &File) -> bool {
    false
}

/// A file beside the output, removed when it is dropped.
struct Temporary {
    file: File,
    path: PathBuf,
}

impl Temporary {
    fn create(output: &Path) -> Result<Self, StoreError> {
        let path = temporary_path(output)?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        Ok(Self { file: file.map_err(|e| StoreError::io("create", &path, e))?, path })
    }

    /// Gives the file its name.
    fn publish(self, output: &Path, overwrite: bool) -> Result<(), StoreError> {
        let named = if overwrite { fs::rename(&self.path, output) } else { rename_new(&self.path, output) };
        named.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists if !overwrite => StoreError::Exists { path: output.to_owned() },
            _ => StoreError::io("rename to", output, error),
        })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Gone already where it has become the output.
        let _ = fs::remove_file(&self.path);
    }
}

/// Renames unless the new name exists, in one step.
#[cfg(target_os = "linux")]
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => link_new(from, to),
        other => Ok(other?),
    }
}

#[cfg(not(target_os = "linux"))]
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    link_new(from, to)
}

fn link_new(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to)?;
    fs::remove_file(from)
}

fn directory_of(output: &Path) -> &Path {
    output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `.NAME.dragonfly-XXXXXXXXXXXXXXXX` in the output's directory.
fn temporary_path(output: &Path) -> Result<PathBuf, StoreError> {
    let invalid = || StoreError::Invalid(format!("{} does not name a file", output.display()));
    let name = output.file_name().ok_or_else(invalid)?.as_bytes();
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|e| StoreError::Invalid(format!("no random numbers: {e}")))?;
    let mut temporary = vec![b'.'];
    temporary.extend_from_slice(&name[..name.len().min(NAME_BYTES_MAX)]);
    temporary.extend_from_slice(b".dragonfly-");
    temporary.extend_from_slice(HEXLOWER.encode(&random).as_bytes());
    Ok(directory_of(output).join(OsString::from_vec(temporary)))
}

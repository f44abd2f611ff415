//! The output of a fetch through the daemon: written beside its place, and there under its name only when it is
//! complete. A failure or an interruption removes it.

mod work;

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use dragonfly_core::ErrorKind;
use rustix::fs::{CWD, RenameFlags, copy_file_range, fstat, fstatfs, ioctl_ficlone, renameat_with};

pub(crate) use self::work::WorkDir;
use crate::error::Failure;

/// Names that are tried for a temporary: 64 random bits each, so a second one is rare.
const ATTEMPTS: usize = 8;

/// Bytes that are copied at once where the kernel does not do it.
const BUFFER: usize = 1 << 20;

/// Where the content goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A regular file that appears when complete.
    File(PathBuf),
    /// A device or a pipe that exists: written as the bytes come.
    Special(PathBuf),
    /// Standard output.
    Stdout,
}

impl Target {
    /// Whether bytes go there as they come.
    pub(crate) const fn is_stream(&self) -> bool {
        !matches!(self, Self::File(_))
    }

    /// Decides from `-O` and the URL. An existing file is refused here already unless it may be replaced, so that
    /// nothing is fetched in vain.
    pub(crate) fn resolve(option: Option<&Path>, url: &str, overwrite: bool) -> Result<Self, Failure> {
        let path = match option {
            Some(path) if path.as_os_str() == "-" => return Ok(Self::Stdout),
            Some(path) if path.is_dir() => path.join(crate::names::output_name(url)?),
            Some(path) if path.as_os_str().as_encoded_bytes().ends_with(b"/") => {
                return Err(Failure::new(ErrorKind::Io, format!("{} is not a directory", path.display())));
            }
            Some(path) => path.to_owned(),
            None => crate::names::output_name(url)?,
        };
        match fs::metadata(&path) {
            Ok(found) if found.is_dir() => {
                Err(Failure::new(ErrorKind::Exists, format!("{} is a directory", path.display())))
            }
            Ok(found) if !found.is_file() => Ok(Self::Special(path)),
            // A symbolic link counts as the file that it names, and is what --overwrite replaces.
            Ok(_) if !overwrite => Err(exists(&path)),
            // Too long, say: it would be known only when all is there.
            Err(e) if e.kind() == io::ErrorKind::InvalidFilename => {
                Err(Failure::io(format_args!("no file can have the name {}", path.display()), &e))
            }
            _ => Ok(Self::File(path)),
        }
    }
}

/// A file that is not yet under its name. Dropped before [`finish`](Self::finish), it is removed.
#[derive(Debug)]
pub(crate) struct Pending {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
    written: u64,
    finished: bool,
}

impl Pending {
    /// Creates the temporary beside the target, with the permissions of an ordinary new file.
    pub(crate) fn create(target: &Path) -> Result<Self, Failure> {
        let (temporary, file) = unique(target, |path| OpenOptions::new().write(true).create_new(true).open(path))?;
        Ok(Self { file, temporary, target: target.to_owned(), written: 0, finished: false })
    }

    /// Appends bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(|e| self.failed(&e))?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Takes the place of all the content of `from`, sharing its blocks; false where the file system cannot.
    pub(crate) fn reflink(&mut self, from: &File, length: u64) -> bool {
        let shared = ioctl_ficlone(&self.file, from).is_ok();
        if shared {
            self.written = length;
        }
        shared
    }

    /// Whether [`reflink`](Self::reflink) is likely to be possible: one file system, of a kind that has it.
    pub(crate) fn may_reflink(&self, from: &File) -> bool {
        /// XFS, Btrfs, bcachefs (`linux/magic.h`).
        const SHARING: [i64; 3] = [0x5846_5342, 0x9123_683e, 0xca45_1a4e];
        let of = |file: &File| Some((fstat(file).ok()?.st_dev, fstatfs(file).ok()?.f_type as i64));
        match (of(&self.file), of(from)) {
            (Some(here), Some(there)) => here == there && SHARING.contains(&here.1),
            _ => false,
        }
    }

    /// Appends what follows in `from`, at most `most` bytes; how many it was, 0 at the end.
    pub(crate) fn copy_from(&mut self, from: &File, most: usize) -> Result<usize, Failure> {
        self.copy_at(from, self.written, most)
    }

    /// Copies from one place in `from` to the same place, at most `most` bytes; how many it was, 0 at the end.
    pub(crate) fn copy_at(&mut self, from: &File, place: u64, most: usize) -> Result<usize, Failure> {
        let (mut at, mut to) = (place, place);
        let copied = match copy_file_range(from, Some(&mut at), &self.file, Some(&mut to), most) {
            Ok(n) => Ok(n),
            // Old kernels, or two file systems that do not do it.
            Err(
                rustix::io::Errno::XDEV
                | rustix::io::Errno::INVAL
                | rustix::io::Errno::NOSYS
                | rustix::io::Errno::NOTSUP
                | rustix::io::Errno::PERM,
            ) => self.copy_through(from, place, most),
            Err(e) => Err(e.into()),
        };
        let n = copied.map_err(|e| self.failed(&e))?;
        self.written += n as u64;
        Ok(n)
    }

    fn copy_through(&self, from: &File, place: u64, most: usize) -> io::Result<usize> {
        use std::os::unix::fs::FileExt;
        let mut buffer = vec![0; most.min(BUFFER)];
        let n = from.read_at(&mut buffer, place)?;
        self.file.write_all_at(&buffer[..n], place)?;
        Ok(n)
    }

    fn failed(&self, e: &io::Error) -> Failure {
        let failure = Failure::io(format_args!("cannot write {}", self.temporary.display()), e);
        let full = matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        if full { Failure { kind: ErrorKind::Full, ..failure } } else { failure }
    }

    /// Gives the complete file its name. Without `overwrite`, one that has come to exist meanwhile is kept.
    pub(crate) fn finish(mut self, length: u64, overwrite: bool) -> Result<(), Failure> {
        if self.written != length {
            let message = format!("{} bytes came, of {length}", self.written);
            return Err(Failure::new(ErrorKind::Network, message));
        }
        let renamed = if overwrite {
            fs::rename(&self.temporary, &self.target)
        } else {
            rename_new(&self.temporary, &self.target)
        };
        match renamed {
            Ok(()) => {
                self.finished = true;
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(exists(&self.target)),
            Err(e) => Err(Failure::io(format_args!("cannot rename the output to {}", self.target.display()), &e)),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing is left to tell about a temporary that cannot be removed.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// A directory of this process alone, removed with all it holds when dropped.
#[derive(Debug)]
pub(crate) struct TemporaryDir(PathBuf);

impl TemporaryDir {
    /// Creates it, 0700, as `.NAME.dfget-XXXX` beside `target`.
    pub(crate) fn beside(target: &Path) -> Result<Self, Failure> {
        use std::os::unix::fs::DirBuilderExt;
        let (path, ()) = unique(target, |path| fs::DirBuilder::new().mode(0o700).create(path))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Moves without replacing, also where the file system has no such call.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        result => Ok(result?),
    }
}

/// Calls `create` with fresh names beside `target` until one is new.
fn unique<T>(target: &Path, create: impl Fn(&Path) -> io::Result<T>) -> Result<(PathBuf, T), Failure> {
    let name = target.file_name().ok_or_else(|| Failure::usage(format!("{} names no file", target.display())))?;
    // The longest name of a file is 255 bytes on every file system that matters; the rest needs 23.
    let shown: String = name.to_string_lossy().chars().take(50).collect();
    for attempt in 1.. {
        let tail = random();
        let path = target.with_file_name(format!(".{shown}.dfget-{tail:016x}"));
        match create(&path) {
            Ok(made) => return Ok((path, made)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && attempt < ATTEMPTS => {}
            Err(e) => {
                let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
                let parent = parent.unwrap_or(Path::new("."));
                return Err(Failure::io(format_args!("cannot write into {}", parent.display()), &e));
            }
        }
    }
    unreachable!("the loop ends by returning")
}

/// 64 random bits: the standard library's keys of hash maps. Names need no more; creation is exclusive.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn exists(path: &Path) -> Failure {
    Failure::new(ErrorKind::Exists, format!("{} exists", path.display()))
}

#[cfg(test)]
mod tests;

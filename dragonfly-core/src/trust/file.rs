//! Files that hold secrets: mode 0600, written whole or not at all, refused when others can read them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// No file of this room is longer: revocations make up most of it.
const FILE_MAX: u64 = 1 << 20;

/// Bytes of the hash that tells a damaged file from a whole one.
const CHECK_LEN: usize = 16;

/// Why a file that holds secrets cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The content is not what was written.
    #[error("{path}: damaged or not a dragonfly {what} file (restore it, or remove it to make a new one)")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// The file system failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Group or others have access to it.
    #[error(
        "{path}: holds a secret but its mode is {mode:o}; expected 600 (hint: chmod 600, if no one else has read it)"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not a regular file, or is longer than any that we write.
    #[error("{path}: not a regular file of at most {FILE_MAX} bytes")]
    Unfit {
        /// The file.
        path: PathBuf,
    },
}

/// A kind of file: its name in the node's directory, which is also what messages call it, and its version.
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) magic: &'static [u8],
}

impl Kind {
    pub(super) fn path(&self, dir: &Path) -> PathBuf {
        dir.join(self.name)
    }

    pub(super) fn corrupt(&self, dir: &Path) -> FileError {
        FileError::Corrupt { path: self.path(dir), what: self.name }
    }

    /// The payload; `None` if there is no such file.
    pub(super) fn read(&self, dir: &Path) -> Result<Option<Vec<u8>>, FileError> {
        let path = self.path(dir);
        let io = |source| FileError::Io { path: path.clone(), source };
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits() as i32;
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
        };
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() || metadata.len() > FILE_MAX {
            return Err(FileError::Unfit { path });
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(FileError::Open { path, mode: metadata.mode() & 0o7777 });
        }
        let mut bytes = Vec::new();
        file.take(FILE_MAX).read_to_end(&mut bytes).map_err(io)?;
        self.unwrap_payload(&bytes).map(Some).ok_or_else(|| self.corrupt(dir))
    }

    fn unwrap_payload(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let (check, payload) = bytes.strip_prefix(self.magic)?.split_at_checked(CHECK_LEN)?;
        (check == &blake3::hash(payload).as_bytes()[..CHECK_LEN]).then(|| payload.to_vec())
    }

    /// Writes the file anew: after a crash there is the old one or the new one. `dir` is made (0700) if missing.
    pub(super) fn write(&self, dir: &Path, payload: &[u8]) -> Result<(), FileError> {
        let path = self.path(dir);
        let io = |source| FileError::Io { path: path.clone(), source };
        if !dir.is_dir() {
            use std::os::unix::fs::DirBuilderExt as _;
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
        }
        let unique = data_encoding::HEXLOWER.encode(&super::key::random::<8>());
        let temporary = dir.join(format!(".{}.{unique}", self.name));
        let written = self.write_temporary(&temporary, payload).and_then(|()| std::fs::rename(&temporary, &path));
        if let Err(error) = written {
            // The first error is the one to tell.
            let _ = std::fs::remove_file(&temporary);
            return Err(io(error));
        }
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)
    }

    fn write_temporary(&self, path: &Path, payload: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(self.magic)?;
        file.write_all(&blake3::hash(payload).as_bytes()[..CHECK_LEN])?;
        file.write_all(payload)?;
        file.sync_all()
    }
}

//! Where a fetch in this process keeps what it has so far: beside the output, so that the output need not be copied,
//! and under a name that the same command finds again after an interruption.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::TemporaryDir;
use crate::error::Failure;

/// The lock that says that a process works here.
const LOCK: &str = "dfget.lock";

/// A directory of this process alone; removed when dropped unless it is kept.
#[derive(Debug)]
pub(crate) enum WorkDir {
    /// Found again by the next run.
    Lasting { path: PathBuf, keep: bool, _lock: File },
    /// Where there can be no lasting one: gone with the process.
    Temporary(TemporaryDir),
}

impl WorkDir {
    /// `.NAME.dfget` beside `target`. If another process works there, or it is not ours alone, a temporary one.
    pub(crate) fn beside(target: &Path) -> Result<Self, Failure> {
        match Self::lasting(target) {
            Some(lasting) => Ok(lasting),
            None => TemporaryDir::beside(target).map(Self::Temporary),
        }
    }

    /// One that nobody finds again.
    pub(crate) fn temporary() -> Result<Self, Failure> {
        TemporaryDir::beside(&std::env::temp_dir().join("store")).map(Self::Temporary)
    }

    fn lasting(target: &Path) -> Option<Self> {
        let name = target.file_name()?;
        let shown: String = name.to_string_lossy().chars().take(60).collect();
        let path = target.with_file_name(format!(".{shown}.dfget"));
        // One that exists is looked at below.
        let _ = DirBuilder::new().mode(0o700).create(&path);
        let found = fs::symlink_metadata(&path).ok()?;
        let me = rustix::process::geteuid().as_raw();
        if !found.is_dir() || found.uid() != me || found.mode() & 0o077 != 0 {
            return None;
        }
        let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path.join(LOCK));
        let lock = open.ok()?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
        // Whoever held the lock before may have removed the directory with it.
        path.join(LOCK).exists().then_some(Self::Lasting { path, keep: false, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Lasting { path, .. } => path,
            Self::Temporary(dir) => dir.path(),
        }
    }

    /// Keeps what is in it for the next run; whether there will be one that finds it.
    pub(crate) fn keep(&mut self) -> bool {
        match self {
            Self::Lasting { keep, .. } => {
                *keep = true;
                true
            }
            Self::Temporary(_) => false,
        }
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if let Self::Lasting { path, keep: false, .. } = self {
            // Nothing is left to tell about what cannot be removed.
            let _ = fs::remove_dir_all(path);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn kept_for_the_next_run_or_gone() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("file");
        let mut work = WorkDir::beside(&target).unwrap();
        fs::write(work.path().join("piece"), "x").unwrap();
        assert!(work.keep());
        drop(work);
        let work = WorkDir::beside(&target).unwrap();
        assert_eq!(fs::read(work.path().join("piece")).unwrap(), b"x");
        drop(work);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn two_at_a_time_do_not_share_and_a_strangers_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("file");
        let first = WorkDir::beside(&target).unwrap();
        let mut second = WorkDir::beside(&target).unwrap();
        assert_ne!(first.path(), second.path());
        assert!(!second.keep());
        drop((first, second));
        let planted = dir.path().join(".file.dfget");
        fs::create_dir(&planted).unwrap();
        fs::set_permissions(&planted, fs::Permissions::from_mode(0o777)).unwrap();
        assert_ne!(WorkDir::beside(&target).unwrap().path(), planted);
        fs::remove_dir(&planted).unwrap();
        std::os::unix::fs::symlink("/", &planted).unwrap();
        assert_ne!(WorkDir::beside(&target).unwrap().path(), planted);
    }
}

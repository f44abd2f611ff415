//! The Unix socket of the local API: whom its mode lets in, and one daemon's at a time.
//!
//! A lock beside the socket says whether a daemon lives, also in the moment between its start and its first
//! `listen`; it ends with the process, however that ends. The socket is made under another name in a directory of
//! mode 0700 and moved into place with its own mode set, so that nobody can connect to it before.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use dragonfly_core::ErrorKind;
use rustix::fs::{FlockOperation, flock};
use tokio::net::UnixListener;

use super::config::Mode;
use super::files::directory;
use crate::error::Failure;
use crate::output::TemporaryDir;

/// A listening socket and the lock on its path. Dropped, the socket is gone.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    pub(super) path: Bound,
}

/// The path of a socket, removed on drop.
#[derive(Debug)]
pub(super) struct Bound {
    path: PathBuf,
    _lock: File,
}

impl Socket {
    /// Listens at `path`; replaces the socket of a dead daemon, and never anything else.
    pub(super) fn bind(path: &Path, mode: Mode, group: Option<&str>) -> Result<Self, Failure> {
        let group = group.map(group_id).transpose()?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            // Whom the mode lets in has to get there.
            directory(parent, if mode.0 & 0o077 == 0 { 0o700 } else { 0o755 })?;
        }
        let lock = lock(path)?;
        check_unused(path)?;
        let failed = |e: io::Error| Failure::io(format_args!("cannot listen at unix:{}", path.display()), &e);
        // The length of a socket's path is bounded, too: what is bound has a short name of its own.
        let private = TemporaryDir::beside(&path.with_file_name("api"))?;
        let temporary = private.path().join("s");
        let listener = UnixListener::bind(&temporary).map_err(failed)?;
        if let Some(group) = group {
            chown(&temporary, None, Some(group)).map_err(failed)?;
        }
        fs::set_permissions(&temporary, Permissions::from_mode(mode.0)).map_err(failed)?;
        fs::rename(&temporary, path).map_err(failed)?;
        Ok(Self { listener, path: Bound { path: path.to_owned(), _lock: lock } })
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // We hold the lock, so it is ours. The lock's file stays: to remove it would let two daemons lock two files.
        let _ = fs::remove_file(&self.path);
    }
}

/// The number of a group: as it is, or as /etc/group has it.
pub(super) fn group_id(group: &str) -> Result<u32, Failure> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let groups = fs::read_to_string("/etc/group").map_err(|e| Failure::io("cannot read /etc/group", &e))?;
    let number = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(group)).then(|| fields.nth(1)?.parse().ok())?
    });
    number.ok_or_else(|| Failure::usage(format!("--api-group: /etc/group has no group {group:?}; give its number")))
}

fn lock(path: &Path) -> Result<File, Failure> {
    let name = path.file_name().ok_or_else(|| Failure::usage(format!("{} names no socket", path.display())))?;
    let at = path.with_file_name(format!("{}.lock", name.to_string_lossy()));
    let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&at);
    let file = open.map_err(|e| Failure::io(format_args!("cannot open {}", at.display()), &e))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(in_use(path)),
        Err(e) => Err(Failure::io(format_args!("cannot lock {}", at.display()), &e.into())),
    }
}

/// Refuses a path that another program serves, or that is no socket.
fn check_unused(path: &Path) -> Result<(), Failure> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Failure::io(format_args!("cannot look at {}", path.display()), &e)),
        Ok(found) if !found.file_type().is_socket() => {
            Err(Failure::new(ErrorKind::Exists, format!("{} exists and is no socket", path.display())))
        }
        Ok(_) => match UnixStream::connect(path) {
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(e) => Err(Failure::io(format_args!("cannot tell whether {} is in use", path.display()), &e)),
            Ok(_) => Err(in_use(path)),
        },
    }
}

fn in_use(path: &Path) -> Failure {
    let message = format!("another daemon serves unix:{}; stop it, or give this one another --api", path.display());
    Failure::new(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests;

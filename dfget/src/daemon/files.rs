//! Small files that others read: written beside their place, with their mode from the start, then renamed.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use dragonfly_core::ErrorKind;
use serde::Serialize;

use crate::error::Failure;
use crate::output::random;

/// Writes JSON so that a reader sees all of it or nothing.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::io(format_args!("cannot write {}", path.display()), &e);
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| failed(e.into()))?;
    text.push(b'\n');
    replace(path, &text, 0o600)
}

/// Writes a file of this mode so that a reader sees all of it or what was there before.
pub(super) fn replace(path: &Path, text: &[u8], mode: u32) -> Result<(), Failure> {
    replace_of(path, text, mode, None)
}

/// The same for a file of this owner and group, as far as this process may give it to them.
pub(super) fn replace_of(path: &Path, text: &[u8], mode: u32, owner: Option<(u32, u32)>) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::io(format_args!("cannot write {}", path.display()), &e);
    let name = path.file_name().ok_or_else(|| Failure::usage(format!("{} names no file", path.display())))?;
    let temporary = path.with_file_name(format!(".{}-{:016x}", name.to_string_lossy(), random()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        if let Some((user, group)) = owner {
            // Where it may not, or the file system knows no owners, the file is this process's.
            for (user, group) in [(None, Some(group)), (Some(user), None)] {
                let _ = fchown(&file, user, group);
            }
        }
        // Whatever the mask of this process takes away.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&temporary);
        failed(e)
    })
}

/// The text of a file, with at most so many bytes. `what` it is goes into errors.
pub(super) fn read_text(file: File, path: &Path, what: &str, max: u64) -> Result<String, Failure> {
    let mut text = String::new();
    let read = file.take(max + 1).read_to_string(&mut text);
    read.map_err(|e| Failure::io(format_args!("cannot read {what} in {}", path.display()), &e))?;
    if text.len() as u64 > max {
        let message = format!("{} is too large for {what}: more than {max} bytes", path.display());
        return Err(Failure::new(ErrorKind::Config, message));
    }
    Ok(text)
}

/// Makes a directory that is its owner's alone, with its parents; one that exists stays as it is.
pub(super) fn private_dir(path: &Path) -> Result<(), Failure> {
    directory(path, 0o700)
}

/// Makes a directory of this mode, with its parents; one that exists stays as it is.
pub(super) fn directory(path: &Path, mode: u32) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|e| Failure::io(format_args!("cannot make the directory {}", path.display()), &e))
}

//! What only its owner may read: the token of the TCP API, and other small files of secrets.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use dragonfly_core::ErrorKind;

use super::files;
use crate::error::Failure;

/// The longest token.
const TOKEN_MAX: u64 = 1024;
/// Fewer characters can be guessed.
const TOKEN_MIN: usize = 16;

/// The token in the file; one is made if there is no file.
pub(super) fn read_or_create(path: &Path) -> Result<String, Failure> {
    let failed = |e: io::Error| Failure::io(format_args!("cannot use the token in {}", path.display()), &e);
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes).map_err(|e| failed(io::Error::other(e.to_string())))?;
            let token = data_encoding::HEXLOWER.encode(&bytes);
            writeln!(file, "{token}").map_err(failed)?;
            Ok(token)
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => read(path),
        Err(e) => Err(failed(e)),
    }
}

/// The token in the file.
pub(super) fn read(path: &Path) -> Result<String, Failure> {
    let text = read_private(path, "the token", TOKEN_MAX)?;
    let token = text.trim();
    if token.len() < TOKEN_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = format!("{} holds no token: at least {TOKEN_MIN} visible characters", path.display());
        return Err(Failure::new(ErrorKind::Config, message));
    }
    Ok(token.to_owned())
}

/// The text of a file that nobody but its owner can read, with at most so many bytes. `what` it is goes into errors.
pub(super) fn read_private(path: &Path, what: &str, max: u64) -> Result<String, Failure> {
    let failed = |e: io::Error| Failure::io(format_args!("cannot read {what} in {}", path.display()), &e);
    let file = std::fs::File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
        let message = format!("{} can be read by others: `chmod 600` it, and change {what}", path.display());
        return Err(Failure::new(ErrorKind::Config, message));
    }
    files::read_text(file, path, what, max)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    #[test]
    fn made_once_and_kept_to_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let token = read_or_create(&path).unwrap();
        assert_eq!(token.len(), 64);
        assert_eq!(read_or_create(&path).unwrap(), token);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(read(&path).unwrap_err().kind, ErrorKind::Config);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for short in ["", "short", "with a space in the middle"] {
            fs::write(&path, short).unwrap();
            assert_eq!(read(&path).unwrap_err().kind, ErrorKind::Config, "{short}");
        }
    }
}

//! What went wrong, for C.

use std::ffi::{CString, c_char};

use dragonfly_core::{Error, ErrorKind};

use crate::boundary::{free, run_or};
use crate::table::{self, handle};

/// How a call ended: 0 (`DRAGONFLY_OK`), or the kind of error. Programs must expect kinds that this header does not name.
pub type dragonfly_status = i32;

/// The kinds of error, the same in every language.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dragonfly_kind {
    /// No error.
    DRAGONFLY_OK = 0,
    /// The caller withdrew, or the engine shut down first.
    DRAGONFLY_CANCELLED = 1,
    /// The configuration or the environment does not allow it.
    DRAGONFLY_CONFIG = 2,
    /// The content does not have the digest that the caller gave.
    DRAGONFLY_DIGEST_MISMATCH = 3,
    /// The output exists and was not to be overwritten.
    DRAGONFLY_EXISTS = 4,
    /// The origin, or a rule of this node, refuses.
    DRAGONFLY_FORBIDDEN = 5,
    /// No space: disk, quota or memory budget.
    DRAGONFLY_FULL = 6,
    /// An argument is malformed; also NULL where it must not be, and a handle that was freed.
    DRAGONFLY_INVALID_INPUT = 7,
    /// The local file system failed.
    DRAGONFLY_IO = 8,
    /// Peers or the scheduler could not be reached.
    DRAGONFLY_NETWORK = 9,
    /// The origin has no such content, or the task is not held.
    DRAGONFLY_NOT_FOUND = 10,
    /// The origin failed in another way.
    DRAGONFLY_ORIGIN = 11,
    /// Not within the time.
    DRAGONFLY_TIMEOUT = 12,
    /// A bug or a broken invariant; please report it.
    DRAGONFLY_INTERNAL = 13,
}

/// An error: kind, whether the same call may succeed later, message. Freed with `dragonfly_error_free`.
pub struct dragonfly_error {
    _private: [u8; 0],
}

/// What is behind an error's handle.
pub struct ErrorObject {
    kind: ErrorKind,
    temporary: bool,
    message: CString,
}

handle!(dragonfly_error, ErrorObject, "error");

impl From<Error> for ErrorObject {
    fn from(error: Error) -> Self {
        Self { kind: error.kind(), temporary: error.is_temporary(), message: c_text(&error.report()) }
    }
}

/// Text for C, which cannot have a NUL in it.
pub(crate) fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()
}

/// The status that a kind is in C: its place in the list, from 1.
pub(crate) fn status_of(kind: ErrorKind) -> dragonfly_status {
    let place = ErrorKind::ALL.iter().position(|known| *known == kind);
    place.map_or(dragonfly_kind::DRAGONFLY_INTERNAL as i32, |place| place as i32 + 1)
}

/// The kind of an error; `DRAGONFLY_OK` for NULL, `DRAGONFLY_INVALID_INPUT` for one that was freed.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub extern "C" fn dragonfly_error_kind(error: *const dragonfly_error) -> dragonfly_status {
    if error.is_null() {
        return 0;
    }
    run_or(status_of(ErrorKind::InvalidInput), || Ok(status_of(table::get(error)?.kind)))
}

/// Whether the same call may succeed later; false for NULL.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub extern "C" fn dragonfly_error_is_temporary(error: *const dragonfly_error) -> bool {
    run_or(false, || Ok(table::get(error)?.temporary))
}

/// What was being done, to what, and every cause, in one line; it holds no credential. It lives as long as the error.
/// Never NULL: for NULL, and for an error that was freed, it is "".
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub extern "C" fn dragonfly_error_message(error: *const dragonfly_error) -> *const c_char {
    run_or(c"".as_ptr(), || Ok(table::get(error)?.message.as_ptr()))
}

/// Frees an error. NULL is fine.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub extern "C" fn dragonfly_error_free(error: *mut dragonfly_error) {
    free(error);
}

/// The name of a kind, such as "not_found": the same in every language. "unknown" for a number that is no kind. It is
/// never freed.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub extern "C" fn dragonfly_kind_name(kind: dragonfly_status) -> *const c_char {
    let name = match kind {
        0 => c"ok",
        1 => c"cancelled",
        2 => c"config",
        3 => c"digest_mismatch",
        4 => c"exists",
        5 => c"forbidden",
        6 => c"full",
        7 => c"invalid_input",
        8 => c"io",
        9 => c"network",
        10 => c"not_found",
        11 => c"origin",
        12 => c"timeout",
        13 => c"internal",
        _ => c"unknown",
    };
    name.as_ptr()
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    #[test]
    fn every_kind_of_the_library_has_its_number_and_name() {
        for (place, kind) in ErrorKind::ALL.iter().enumerate() {
            assert_eq!(status_of(*kind), place as i32 + 1);
            // SAFETY: a literal.
            let name = unsafe { CStr::from_ptr(dragonfly_kind_name(status_of(*kind))) };
            assert_eq!(name.to_str(), Ok(kind.name()));
        }
        assert_eq!(ErrorKind::ALL.len(), dragonfly_kind::DRAGONFLY_INTERNAL as usize);
        assert_eq!(c_text("a\0b").as_bytes(), "a\u{fffd}b".as_bytes());
    }
}

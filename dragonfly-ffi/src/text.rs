//! Text that the library gives out.

use std::ffi::{CString, c_char};

use crate::boundary::{free, run_or};
use crate::error::c_text;
use crate::table::{self, handle};

/// Text made by the library. Freed with `dragonfly_text_free`.
pub struct dragonfly_text {
    _private: [u8; 0],
}

handle!(dragonfly_text, CString, "text");

/// Makes text of the library's.
pub(crate) fn give(text: &str) -> *mut dragonfly_text {
    table::insert::<dragonfly_text>(c_text(text))
}

/// The text: UTF-8, with a NUL at its end. It lives as long as the handle. Never NULL: for NULL, and for one that was
/// freed, it is "".
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub extern "C" fn dragonfly_text_get(text: *const dragonfly_text) -> *const c_char {
    run_or(c"".as_ptr(), || Ok(table::get(text)?.as_ptr()))
}

/// Its length in bytes, without the NUL.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub extern "C" fn dragonfly_text_length(text: *const dragonfly_text) -> usize {
    run_or(0, || Ok(table::get(text)?.as_bytes().len()))
}

/// Frees it. NULL is fine.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub extern "C" fn dragonfly_text_free(text: *mut dragonfly_text) {
    free(text);
}

//! Which library this is.

use std::ffi::c_char;

/// The version of the ABI that this header describes: the first 16 bits change when something that was there changes,
/// the last 16 when something is added. A program checks at its start that
/// `dragonfly_abi_version() >> 16 == DRAGONFLY_ABI_VERSION >> 16` and
/// `dragonfly_abi_version() >= DRAGONFLY_ABI_VERSION`.
pub const DRAGONFLY_ABI_VERSION: u32 = 0x0001_0002;

/// The version of the ABI that the library at hand has.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub extern "C" fn dragonfly_abi_version() -> u32 {
    DRAGONFLY_ABI_VERSION
}

/// The version of the library at hand, such as "0.1.0". It is never freed.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub extern "C" fn dragonfly_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

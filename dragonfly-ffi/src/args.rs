//! Arguments as C gives them: text, lists, structs that carry their size.

use std::ffi::{CStr, c_char};
use std::mem::size_of;

use dragonfly_core::{Error, ErrorKind, Result};

/// A struct that both sides may know in different versions. All zeros is a valid value of it, and the default.
///
/// # Safety
/// It is `repr(C)`, its first field is its size as a `usize`, and every pattern of zeros is a value of it.
pub(crate) unsafe trait Sized: Copy {
    /// How it is called in errors.
    const NAME: &'static str;
}

/// Declares structs that carry their size.
macro_rules! sized {
    ($($name:ident, $shown:literal;)*) => {$(
        // SAFETY: `repr(C)`, the size comes first, and every field may be zero.
        unsafe impl $crate::args::Sized for $name {
            const NAME: &'static str = $shown;
        }
    )*};
}
pub(crate) use sized;

/// Everything beyond this is not a struct but a size that was never set.
const SIZE_MAX: usize = 4096;

/// A malformed argument.
pub(crate) fn invalid(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, what)
}

/// A struct with all its fields at their default, for the program to fill in or to read.
pub(crate) fn zeroed<T: Sized>() -> T {
    // SAFETY: all zeros is a value of T, and its first field is its size.
    unsafe {
        let mut value = std::mem::zeroed::<T>();
        (&raw mut value).cast::<usize>().write(size_of::<T>());
        value
    }
}

/// The size that the caller of a struct has set.
///
/// # Safety
/// `given` is NULL or points to a size at least.
pub(crate) unsafe fn size_set<T: Sized>(given: *const T) -> Result<usize> {
    if given.is_null() {
        return Err(invalid(format!("{} is NULL", T::NAME)));
    }
    // SAFETY: the first field is there at least.
    let size = unsafe { given.cast::<usize>().read() };
    if !(size_of::<usize>()..=SIZE_MAX).contains(&size) {
        return Err(invalid(format!("{}: its size is not set", T::NAME)));
    }
    Ok(size)
}

/// Reads a struct: fields that the caller does not know have their default, fields that this library does not know must
/// have theirs.
///
/// # Safety
/// `given` is NULL or points to as many readable bytes as its first field says.
pub(crate) unsafe fn read_sized<T: Sized>(given: *const T) -> Result<T> {
    // SAFETY: the caller's promise.
    let size = unsafe { size_set(given) }?;
    let known = size.min(size_of::<T>());
    // SAFETY: the caller promised `size` bytes; any that this library does not know must be zero.
    let rest = unsafe { std::slice::from_raw_parts(given.cast::<u8>().add(known), size - known) };
    if rest.iter().any(|byte| *byte != 0) {
        return Err(invalid(format!("{}: it asks for what this version of the library does not know", T::NAME)));
    }
    // SAFETY: all zeros is a value of T, and so is a prefix of a T followed by zeros.
    unsafe {
        let mut value = std::mem::zeroed::<T>();
        std::ptr::copy_nonoverlapping(given.cast::<u8>(), (&raw mut value).cast::<u8>(), known);
        Ok(value)
    }
}

/// Writes a result: as much of it as the caller knows.
///
/// # Safety
/// `place` points to as many writable bytes as its first field says.
pub(crate) unsafe fn write_sized<T: Sized>(place: *mut T, value: &T) -> Result<()> {
    // SAFETY: the caller's promise.
    let size = unsafe { size_set(place) }?;
    let header = size_of::<usize>();
    // SAFETY: at most `size` bytes, the caller's own size excepted.
    unsafe {
        let from = (value as *const T).cast::<u8>().add(header);
        std::ptr::copy_nonoverlapping(from, place.cast::<u8>().add(header), size.min(size_of::<T>()) - header);
    }
    Ok(())
}

/// Writes a result of a call.
///
/// # Safety
/// `place` is NULL or may be written to.
pub(crate) unsafe fn write<T>(place: *mut T, value: T) {
    if !place.is_null() {
        // SAFETY: the caller's promise.
        unsafe { place.write(value) };
    }
}

/// Refuses a result that has no place to go, before any work is done for it.
pub(crate) fn wanted<T>(place: *mut T, name: &str) -> Result<()> {
    if place.is_null() { Err(invalid(format!("{name} is NULL"))) } else { Ok(()) }
}

/// Text that must be there.
///
/// # Safety
/// `given` is NULL or points to text that ends in NUL and stays as it is for the call.
pub(crate) unsafe fn text<'a>(given: *const c_char, name: &str) -> Result<&'a str> {
    // SAFETY: the caller's promise.
    unsafe { optional_text(given, name) }?.ok_or_else(|| invalid(format!("{name} is NULL")))
}

/// Text, or NULL.
///
/// # Safety
/// As [`text`].
pub(crate) unsafe fn optional_text<'a>(given: *const c_char, name: &str) -> Result<Option<&'a str>> {
    if given.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(given) };
    text.to_str().map(Some).map_err(|e| invalid(format!("{name} is not UTF-8")).caused_by(e))
}

/// A list of texts.
///
/// # Safety
/// `given` points to `length` texts, or `length` is 0.
pub(crate) unsafe fn texts<'a>(given: *const *const c_char, length: usize, name: &str) -> Result<Vec<&'a str>> {
    if length == 0 {
        return Ok(Vec::new());
    }
    if given.is_null() {
        return Err(invalid(format!("{name} is NULL, but not its length")));
    }
    // SAFETY: the caller's promise.
    let list = unsafe { std::slice::from_raw_parts(given, length) };
    // SAFETY: as above, of each.
    list.iter().map(|item| unsafe { text(*item, name) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Known {
        size: usize,
        one: u32,
        two: u64,
    }
    // SAFETY: plain numbers.
    unsafe impl Sized for Known {
        const NAME: &'static str = "known";
    }

    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Newer {
        known: Known,
        three: u64,
    }

    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Older {
        size: usize,
        one: u32,
        beyond: u32,
    }

    #[test]
    fn either_side_may_be_the_newer_one() {
        let size = size_of::<usize>() + 4;
        let older = Older { size, one: 7, beyond: 9 };
        // SAFETY: a size and as many bytes.
        let read = unsafe { read_sized((&raw const older).cast::<Known>()) };
        assert!(read.is_ok_and(|known| (known.one, known.two) == (7, 0)));
        let mut newer = Newer { known: Known { size: size_of::<Newer>(), one: 1, two: 2 }, three: 0 };
        // SAFETY: as above.
        unsafe {
            assert!(read_sized(&raw const newer.known).is_ok_and(|known| (known.one, known.two) == (1, 2)));
            newer.three = 3;
            assert!(read_sized((&raw const newer).cast::<Known>()).is_err(), "what is asked for in vain is refused");
            newer.known.size = 0;
            assert!(read_sized((&raw const newer).cast::<Known>()).is_err());
        }
        let mut place = Older { size, one: 0, beyond: 9 };
        let value = Known { size: 0, one: 5, two: 6 };
        // SAFETY: a size and as many bytes.
        assert!(unsafe { write_sized((&raw mut place).cast::<Known>(), &value) }.is_ok());
        assert_eq!(place, Older { size, one: 5, beyond: 9 }, "nothing beyond the caller's struct is touched");
    }
}

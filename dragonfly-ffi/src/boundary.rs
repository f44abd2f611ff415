//! The line that no panic crosses.

use std::panic::{AssertUnwindSafe, catch_unwind};

use dragonfly_core::{Error, ErrorKind, Result};

use crate::error::{dragonfly_error, dragonfly_status, status_of};
use crate::table::{self, Handle};

/// Runs the body of an exported function and turns its outcome into a status and, where `error` is not NULL, an error
/// object (NULL on success).
///
/// # Safety
/// `error` is NULL or may be written to.
pub(crate) unsafe fn run(error: *mut *mut dragonfly_error, body: impl FnOnce() -> Result<()>) -> dragonfly_status {
    let outcome = catch(body);
    let (status, object) = match outcome {
        Ok(()) => (0, std::ptr::null_mut()),
        // Who does not look at errors is not made to free them.
        Err(failure) if error.is_null() => (status_of(failure.kind()), std::ptr::null_mut()),
        Err(failure) => (status_of(failure.kind()), table::insert::<dragonfly_error>(failure.into())),
    };
    if !error.is_null() {
        // SAFETY: the caller's promise.
        unsafe { error.write(object) };
    }
    status
}

/// Runs the body of an exported function that has no way to say what went wrong.
pub(crate) fn run_or<T>(otherwise: T, body: impl FnOnce() -> Result<T>) -> T {
    catch(body).unwrap_or(otherwise)
}

/// The body of every `dragonfly_<noun>_free`.
pub(crate) fn free<H: Handle>(handle: *mut H) {
    run_or((), || {
        table::free(handle);
        Ok(())
    });
}

fn catch<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    // What a panic leaves half done is behind locks that tell, or is dropped with the handle.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        Err(Error::new(ErrorKind::Internal, format!("a panic, which is a bug: {text}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{dragonfly_error_free, dragonfly_error_kind, dragonfly_error_message};

    #[test]
    fn a_panic_becomes_an_error() {
        let mut error = std::ptr::null_mut();
        let boom = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        // SAFETY: `error` is a local.
        let status = unsafe { run(&raw mut error, || panic!("boom {}", 7)) };
        std::panic::set_hook(boom);
        assert_eq!(status, status_of(ErrorKind::Internal));
        assert_eq!(dragonfly_error_kind(error), status);
        // SAFETY: the message of a live error.
        let message = unsafe { std::ffi::CStr::from_ptr(dragonfly_error_message(error)) };
        assert!(message.to_bytes().ends_with(b"boom 7"), "{message:?}");
        dragonfly_error_free(error);
        assert_eq!(dragonfly_error_kind(error), status_of(ErrorKind::InvalidInput), "a freed error is known as such");
        assert_eq!(run_or(7, || panic!("again")), 7);
    }
}

//! A connection that its other end has closed is an error, and no signal that ends the program.
//!
//! Programs in Rust ignore `SIGPIPE`, those in C and Go do not, and what a library beneath this one writes with `writev`
//! cannot say that it wants none. A library must not decide for a whole program how it takes a signal; it may keep one
//! from its own threads, and from a caller's while that does the library's work.

#[cfg(target_os = "linux")]
pub(crate) use linux::{Guard, block, is_ignored};
#[cfg(not(target_os = "linux"))]
pub(crate) use other::{Guard, block};

#[cfg(target_os = "linux")]
mod linux {
    use nix::sys::signal::{SigSet, Signal, raise};

    fn only() -> SigSet {
        let mut set = SigSet::empty();
        set.add(Signal::SIGPIPE);
        set
    }

    /// Whether the program ignores the signal, as programs in Rust do from their start: for calls that cannot say that they
    /// want none.
    pub(crate) fn is_ignored() -> bool {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
        ignored & 1 << (Signal::SIGPIPE as u32 - 1) != 0
    }

    /// Keeps the signal from the calling thread for good, and from what it spawns.
    pub(crate) fn block() {
        let _ = only().thread_block();
    }

    /// Keeps the signal from a thread that is not the library's until it is dropped, on that thread.
    #[must_use]
    pub(crate) struct Guard {
        /// Whether it was let through before.
        open: bool,
        _stays: std::marker::PhantomData<*const ()>,
    }

    impl Guard {
        pub(crate) fn new() -> Self {
            let open = SigSet::thread_get_mask().is_ok_and(|mask| !mask.contains(Signal::SIGPIPE));
            if open {
                block();
            }
            Self { open, _stays: std::marker::PhantomData }
        }
    }

    impl Drop for Guard {
        fn drop(&mut self) {
            if self.open {
                // One that came meanwhile waits and would be delivered now. With another beside it (they do not queue)
                // the wait for it returns at once.
                if raise(Signal::SIGPIPE).is_ok() {
                    let _ = only().wait();
                }
                let _ = only().thread_unblock();
            }
        }
    }
}

/// Elsewhere sockets are opened with `SO_NOSIGPIPE`, or there is no such signal.
#[cfg(not(target_os = "linux"))]
mod other {
    pub(crate) fn block() {}

    #[must_use]
    pub(crate) struct Guard;

    impl Guard {
        pub(crate) fn new() -> Self {
            Self
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use nix::sys::signal::{SigSet, Signal, raise};

    use super::Guard;

    fn blocked() -> bool {
        SigSet::thread_get_mask().is_ok_and(|mask| mask.contains(Signal::SIGPIPE))
    }

    #[test]
    fn a_program_in_rust_ignores_it() {
        assert!(super::is_ignored());
    }

    #[test]
    fn a_guard_leaves_the_thread_as_it_was() {
        assert!(!blocked());
        for raised in [false, true] {
            let guard = Guard::new();
            assert!(blocked());
            let inner = Guard::new();
            if raised {
                assert!(raise(Signal::SIGPIPE).is_ok());
            }
            drop(inner);
            assert!(blocked(), "the outer one still holds");
            drop(guard);
            assert!(!blocked());
        }
    }
}

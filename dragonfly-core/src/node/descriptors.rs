//! How many file descriptors the process may have, and who may use them.

use crate::net::Limits;

/// What is assumed where the system does not tell.
const DESCRIPTORS_UNKNOWN: u64 = 1024;

/// Files of content open at a time at the most: beyond it opening one anew costs nothing next to reading it.
const CONTENT_MAX: u64 = 512;

/// The descriptors that this process may have, by its soft limit.
fn allowed() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile)
        .current
        .unwrap_or(u64::MAX)
        .max(DESCRIPTORS_UNKNOWN / 16)
}

/// A quarter of them for files of content.
pub(super) fn for_content() -> usize {
    content_of(allowed())
}

/// The default limits, with at most half of the descriptors for connections. The rest is for origins, outputs and
/// the embedder.
pub(super) fn net_limits() -> Limits {
    limits_of(allowed())
}

fn content_of(allowed: u64) -> usize {
    (allowed / 4).clamp(1, CONTENT_MAX) as usize
}

fn limits_of(allowed: u64) -> Limits {
    let limits = Limits::default();
    let half = usize::try_from(allowed / 2).unwrap_or(usize::MAX).max(1);
    Limits { connections: limits.connections.min(half), ..limits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_descriptors_are_shared_out() {
        assert_eq!((content_of(1024), limits_of(1024).connections), (256, 512));
        assert_eq!((content_of(64), limits_of(64).connections), (16, 32));
        assert_eq!((content_of(u64::MAX), limits_of(u64::MAX)), (512, Limits::default()));
    }
}

//! How many file descriptors the process may have, and who may use them.

use crate::net::Limits;
use crate::scheduler::HOSTS_MAX;
use crate::{Error, ErrorKind, Result};

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

/// The default limits with so many connections, of which each takes a descriptor: at most half of these. The rest is for
/// origins, outputs and the embedder. `None`: as many as by default, and no word if there is no room for them.
///
/// # Errors
/// None, or more than a coordinator knows hosts.
pub(super) fn net_limits(connections: Option<usize>) -> Result<Limits> {
    let allowed = allowed();
    let limits = limits_of(allowed, connections)?;
    if let Some(wanted) = connections.filter(|wanted| *wanted > limits.connections) {
        tracing::warn!(
            "at most {} members can be connected at a time, not {wanted}: the process may have {allowed} descriptors \
             (RLIMIT_NOFILE), of which connections are given half; allow it {}",
            limits.connections,
            wanted as u64 * 2
        );
    }
    Ok(limits)
}

fn content_of(allowed: u64) -> usize {
    (allowed / 4).clamp(1, CONTENT_MAX) as usize
}

fn limits_of(allowed: u64, connections: Option<usize>) -> Result<Limits> {
    let limits = Limits::default();
    if connections.is_some_and(|wanted| !(1..=HOSTS_MAX).contains(&wanted)) {
        let context = format!("a node has from 1 to {HOSTS_MAX} connections: as many as a coordinator knows hosts");
        return Err(Error::new(ErrorKind::Config, context));
    }
    let half = usize::try_from(allowed / 2).unwrap_or(usize::MAX).max(1);
    Ok(Limits { connections: connections.unwrap_or(limits.connections).min(half), ..limits })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn few_descriptors_are_shared_out() {
        let connections = |allowed, wanted| limits_of(allowed, wanted).unwrap().connections;
        assert_eq!((content_of(1024), connections(1024, None)), (256, 512));
        assert_eq!((content_of(64), connections(64, None)), (16, 32));
        assert_eq!((content_of(u64::MAX), limits_of(u64::MAX, None).unwrap()), (512, Limits::default()));
    }

    #[test]
    fn so_many_connections_as_were_asked_for_if_there_are_descriptors_for_them() {
        let connections = |allowed, wanted| limits_of(allowed, Some(wanted)).unwrap().connections;
        assert_eq!(connections(u64::MAX, HOSTS_MAX), HOSTS_MAX);
        assert_eq!(
            (connections(1 << 20, 10), connections(65_536, HOSTS_MAX), connections(1024, 4096)),
            (10, 32_768, 512)
        );
        for wanted in [0, HOSTS_MAX + 1] {
            assert_eq!(limits_of(u64::MAX, Some(wanted)).unwrap_err().kind(), ErrorKind::Config);
        }
    }
}

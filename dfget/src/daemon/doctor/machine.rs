//! What can be seen of this machine without asking anyone.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use dragonfly_core::trust::{Identity, Membership};
use rustix::process::{Resource, getrlimit};

use super::Check;
use crate::daemon::init::network;
use crate::units::{age_text, size_text};

/// A clock before this, the start of 2025, was never set.
const CLOCK_MIN: u64 = 1_735_689_600;
/// Connections, lanes and open content of a busy daemon.
const DESCRIPTORS_MIN: u64 = 4096;
/// Less free space than this is used up by one model or image.
const SPACE_MIN: u64 = 5 << 30;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Credentials end by the clock.
pub(super) fn clock() -> Check {
    if now() < CLOCK_MIN {
        return Check::fail("clock", "it was never set", "set it, or start a time service: tokens end by the clock");
    }
    let marker = Path::new("/run/systemd/timesync");
    if marker.is_dir() && !marker.join("synchronized").exists() {
        let hint = "see `timedatectl timesync-status`: tokens end by the clock";
        return Check::warn("clock", "the time service has not reached a server", hint);
    }
    Check::ok("clock", "is set")
}

pub(super) fn descriptors() -> Check {
    let limit = getrlimit(Resource::Nofile).current;
    match limit {
        Some(limit) if limit < DESCRIPTORS_MIN => Check::warn(
            "descriptors",
            format!("{limit} may be open"),
            "allow 65536: LimitNOFILE= in the unit, or `ulimit -n 65536` before the start",
        ),
        Some(limit) => Check::ok("descriptors", format!("{limit} may be open")),
        None => Check::ok("descriptors", "any number may be open"),
    }
}

/// The data directory and the space that is left.
pub(super) fn data_dir(path: &Path) -> Vec<Check> {
    let mut checks = Vec::new();
    match fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let hint = "the daemon makes it at its start; `dfdaemon init` does so now";
            checks.push(Check::warn("data directory", format!("{} is not there yet", path.display()), hint));
        }
        Err(e) => {
            let hint = "run this as the daemon's user, or name another --data-dir";
            checks.push(Check::fail("data directory", format!("{}: {e}", path.display()), hint));
            return checks;
        }
        Ok(found) if !found.is_dir() => {
            let hint = "name a directory with --data-dir";
            checks.push(Check::fail("data directory", format!("{} is no directory", path.display()), hint));
            return checks;
        }
        Ok(found) => checks.push(owner(path, &found)),
    }
    // What does not exist yet is made on the file system of its parent.
    let existing = path.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    checks.push(match rustix::fs::statvfs(existing) {
        Err(e) => Check::warn("disk", format!("cannot tell the free space: {e}"), "check the file system"),
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let found = format!("{} free at {}", size_text(free), existing.display());
            if stat.f_favail == 0 && stat.f_files > 0 {
                Check::fail("disk", format!("{found}, but no inodes"), "remove small files")
            } else if free < SPACE_MIN {
                Check::warn("disk", found, "free some space, or set --quota below it")
            } else {
                Check::ok("disk", found)
            }
        }
    });
    checks
}

fn owner(path: &Path, found: &fs::Metadata) -> Check {
    let me = rustix::process::geteuid().as_raw();
    let mode = found.permissions().mode() & 0o777;
    let at = path.display();
    if found.uid() != me && me != 0 {
        let hint = "run this, and the daemon, as its owner";
        return Check::fail("data directory", format!("{at} belongs to user {}, not to {me}", found.uid()), hint);
    }
    if mode & 0o077 != 0 {
        let hint = format!("`chmod 700 '{at}'`: it holds the keys of this host");
        return Check::warn("data directory", format!("{at} has mode {mode:03o}"), hint);
    }
    Check::ok("data directory", format!("{at}, mode {mode:03o}"))
}

/// The stored membership, if it can be read.
pub(super) fn membership(data_dir: &Path, checks: &mut Vec<Check>) -> Option<Membership> {
    const NAME: &str = "membership";
    // Looking must not make an identity.
    if !data_dir.join(NAME).exists() {
        let hint =
            "`dfdaemon init` founds a network, `dfdaemon join TOKEN` joins one; a start without either founds one";
        checks.push(Check::warn(NAME, "belongs to no network yet", hint));
        return None;
    }
    let loaded = Identity::load_or_create(data_dir)
        .map_err(|e| e.to_string())
        .and_then(|identity| Membership::load(data_dir, &identity).map_err(|e| e.to_string()));
    match loaded {
        Err(e) => {
            let hint = "run this as the daemon's user; if the file is damaged, join again with a token";
            checks.push(Check::fail(NAME, e, hint));
            None
        }
        Ok(None) => None,
        Ok(Some(membership)) => {
            let claims = membership.claims();
            let found = format!("network {} as {}", network(&membership), claims.roles);
            checks.push(match claims.not_after {
                Some(end) if end <= now() => Check::fail(
                    NAME,
                    format!("{found}, ended"),
                    "join again with a new token: `dfdaemon token` prints one",
                ),
                Some(end) => {
                    let left = age_text(std::time::Duration::from_secs(end - now()));
                    Check::ok(NAME, format!("{found}, ends in {left}"))
                }
                None => Check::ok(NAME, found),
            });
            Some(membership)
        }
    }
}

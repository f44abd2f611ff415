//! The next step for each kind of failure, and the exit code. One table, so that the two programs agree.

use dragonfly_core::ErrorKind;

/// The download failed.
pub(crate) const EXIT_FAILED: u8 = 1;
/// The command line or the environment does not allow it.
pub(crate) const EXIT_USAGE: u8 = 2;
/// Stopped by a signal.
pub(crate) const EXIT_INTERRUPTED: u8 = 130;

/// What a user may try next.
pub(crate) const fn hint(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::Config => "check the options and the data directory; `--help` lists what may be set",
        ErrorKind::DigestMismatch => {
            "the origin's content is not what the digest names: check the digest, or drop --digest to take what there is"
        }
        ErrorKind::Exists => "choose another name with -O, or replace it with --overwrite",
        ErrorKind::Forbidden => {
            "the origin or a rule of the daemon refuses: give credentials with -H 'Authorization: ...', or fetch an \
             internal address with --standalone"
        }
        ErrorKind::Full => "free some space, or raise the daemon's --quota",
        ErrorKind::InvalidInput => "`--help` shows what is expected",
        ErrorKind::Io => "check that the path exists, is writable and has space",
        ErrorKind::Network => "check that the scheduler or the daemon runs, or fetch without them with --standalone",
        ErrorKind::NotFound => "check the URL",
        ErrorKind::Origin => "try again later; -v shows what the origin answered",
        ErrorKind::Timeout => "try again, or allow more time with --timeout",
        ErrorKind::Internal => "this is a fault of the program: please report it with the output of -v",
        _ => return None,
    })
}

/// What an operator may try next: as for users, but where the user's hint names options that the daemon lacks.
pub(crate) const fn daemon_hint(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::Exists => "move it away, or name another path",
        ErrorKind::Network => "check that the others run and that their ports are open: `dfdaemon doctor` tries them",
        ErrorKind::Config => "`dfdaemon --check-config` checks the settings, `dfdaemon doctor` the machine",
        _ => return hint(kind),
    })
}

/// Whether the same download may succeed later, so that what is there is worth keeping.
pub(crate) const fn is_resumable(kind: ErrorKind) -> bool {
    use ErrorKind::{Cancelled, Full, Io, Network, Origin, Timeout};
    matches!(kind, Cancelled | Full | Io | Network | Origin | Timeout)
}

/// The exit code of a failure.
pub(crate) const fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Config | ErrorKind::Exists | ErrorKind::InvalidInput | ErrorKind::Io => EXIT_USAGE,
        _ => EXIT_FAILED,
    }
}

//! The next step for each kind of failure, and the exit code. One table, so that the two programs agree.

use std::io::{self, Write};
use std::process::ExitCode;

use dragonfly_core::ErrorKind;

use crate::error::Failure;

/// The download failed.
pub(crate) const EXIT_FAILED: u8 = 1;
/// The command line or the environment does not allow it.
pub(crate) const EXIT_USAGE: u8 = 2;
/// Stopped by a signal.
pub(crate) const EXIT_INTERRUPTED: u8 = 130;

/// What a user may try next after this failure: as its kind says, but for what went wrong on the way to an origin, which
/// the message alone tells apart. It comes from a daemon just as from this process.
pub(crate) fn hint_for(failure: &Failure) -> Option<&'static str> {
    failure.hint.or_else(|| malformed(failure)).or_else(|| on_the_way(failure)).or_else(|| hint(failure.kind))
}

/// What somebody typed, and how it is written.
fn malformed(failure: &Failure) -> Option<&'static str> {
    if failure.kind != ErrorKind::InvalidInput {
        None
    } else if failure.message.contains(": not a digest: ") {
        Some("write the algorithm, a colon and every digit of it, such as sha256: and what sha256sum prints")
    } else if failure.message.contains("\" is not a URL: ") {
        Some("write it in full and in quotes, such as 'https://example.org/file'")
    } else {
        None
    }
}

/// What the library's origin says of a connection or of who asks (`dragonfly_core::source`), and what helps.
fn on_the_way(failure: &Failure) -> Option<&'static str> {
    let of_account = [": the registry ", ": the hub does not accept ", ": the repository is private, "];
    if failure.kind == ErrorKind::Forbidden && of_account.iter().any(|text| failure.message.contains(text)) {
        return Some("check the login or the --storage settings of this user, or of the daemon where one runs");
    }
    if !matches!(failure.kind, ErrorKind::Network | ErrorKind::Origin) {
        return None;
    }
    let says = |text| failure.message.contains(text);
    // A name that cannot be resolved is one way not to connect: the narrower goes first.
    if says(": TLS failed") {
        Some("name the authority that signed the origin's certificate with --ca-cert, or accept any with --insecure")
    } else if says("the host's name cannot be resolved") {
        Some("check the name in the URL, and this machine's DNS")
    } else if says(": cannot connect: ") {
        Some("check the URL and that its server runs and can be reached from here, or set HTTPS_PROXY")
    } else if says("the connection broke") {
        Some("try again: what came so far is kept where the origin tells versions apart")
    } else if failure.kind == ErrorKind::Origin && failure.temporary {
        Some("try again later")
    } else {
        None
    }
}

/// Says what clap refuses as every other failure is said: who speaks, what is wrong, what to do. Help and versions are
/// printed as they are.
pub(crate) fn refuse(program: &str, error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Standard output may be gone: then nobody wanted to read it.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let end = ["\n\nUsage:", "\n\nFor more information"].iter().filter_map(|mark| text.find(mark)).min();
    let text = &text[..end.unwrap_or(text.len())];
    let (what, tips) = text.split_once("\n\n  tip: ").unwrap_or((text, ""));
    // One line for one failure, also where what is lacking is listed.
    let what = what.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let mut said = format!("{program}: {what}\n");
    // To pass what looks like an option as a value is seldom what was meant.
    let is_of_use = |tip: &&str| !tip.is_empty() && !tip.starts_with("to pass ");
    let tips: Vec<_> = tips.split("\n  tip: ").map(str::trim).filter(is_of_use).collect();
    for tip in &tips {
        said.push_str(&format!("hint: {tip}\n"));
    }
    if tips.is_empty() {
        said.push_str(&format!("hint: `{program} --help` shows what is expected\n"));
    }
    let _ = io::stderr().lock().write_all(said.as_bytes());
    ExitCode::from(EXIT_USAGE)
}

/// What a user may try next, by the kind of failure.
const fn hint(kind: ErrorKind) -> Option<&'static str> {
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
        ErrorKind::Origin => {
            "see what the origin said, and that the URL and what is sent with it (-H) are what it wants"
        }
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

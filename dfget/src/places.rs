//! Where things are when nobody says: the data directory and the daemon's socket.

use std::env;
use std::path::PathBuf;

use crate::error::Failure;

/// The name of the daemon's socket in its directory.
const SOCKET: &str = "dfdaemon.sock";

/// The data directory: systemd's, else the system's for root, else the user's.
pub(crate) fn data_dir() -> Result<PathBuf, Failure> {
    // systemd separates several by colons; the first is the main one.
    if let Some(dir) = env_path("STATE_DIRECTORY") {
        let text = dir.to_string_lossy();
        return Ok(PathBuf::from(text.split(':').next().unwrap_or(&text)));
    }
    if is_root() {
        return Ok(PathBuf::from("/var/lib/dragonfly"));
    }
    let base = env_path("XDG_DATA_HOME").or_else(|| env_path("HOME").map(|home| home.join(".local/share")));
    base.map(|base| base.join("dragonfly"))
        .ok_or_else(|| Failure::usage("no data directory: give --data-dir, or set HOME or XDG_DATA_HOME"))
}

/// Where a daemon makes its socket: where systemd says, else with the user's own, else the system's.
pub(crate) fn api_socket() -> PathBuf {
    if let Some(dir) = env_path("RUNTIME_DIRECTORY") {
        return dir.join(SOCKET);
    }
    match env_path("XDG_RUNTIME_DIR").filter(|_| !is_root()) {
        Some(dir) => dir.join("dragonfly").join(SOCKET),
        None => system_socket(),
    }
}

/// Where a client looks for a daemon, in order: the user's own, then the system's.
pub(crate) fn api_sockets() -> Vec<PathBuf> {
    let own = env_path("XDG_RUNTIME_DIR").map(|dir| dir.join("dragonfly").join(SOCKET));
    own.into_iter().chain([system_socket()]).collect()
}

fn system_socket() -> PathBuf {
    PathBuf::from("/run/dragonfly").join(SOCKET)
}

/// A variable that holds an absolute path; others are ignored, as the XDG specification asks.
fn env_path(name: &str) -> Option<PathBuf> {
    env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

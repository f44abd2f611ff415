//! The log: to standard error, text or JSON, with a level for everything and levels for single rooms of the house,
//! which can be changed while the program runs.

use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, reload};

use crate::error::Failure;
use crate::names::nearest;
use crate::traces;

/// The rooms that have a level of their own: those of the library, and this crate's.
const ROOMS: [&str; 13] =
    ["api", "daemon", "net", "node", "peer", "scheduler", "seed", "source", "store", "swarm", "task", "trust", "wire"];
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// Levels in words: `info`, or `info,swarm=debug,store=trace`.
///
/// Of the libraries beneath only what is amiss is logged: they are chatty at every level.
fn directives(levels: &str) -> Result<String, Failure> {
    let mut directives = vec!["warn".to_owned()];
    let level = |level: &str| {
        let level = level.trim().to_ascii_lowercase();
        if LEVELS.contains(&level.as_str()) {
            return Ok(level);
        }
        Err(Failure::usage(format!("log level {level:?}: expected one of {}", LEVELS.join(", "))))
    };
    for part in levels.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let Some((room, of_room)) = part.split_once('=') else {
            let level = level(part)?;
            directives.extend([format!("dragonfly_core={level}"), format!("dfget={level}")]);
            continue;
        };
        let room = room.trim();
        if !ROOMS.contains(&room) {
            let hint = nearest(room, ROOMS.iter().copied()).map_or(String::new(), |room| format!("; meant {room:?}?"));
            return Err(Failure::usage(format!("log level: no room {room:?}{hint} There are: {}", ROOMS.join(", "))));
        }
        let crate_name = if matches!(room, "api" | "daemon") { "dfget" } else { "dragonfly_core" };
        directives.push(format!("{crate_name}::{room}={}", level(of_room)?));
    }
    Ok(directives.join(","))
}

/// Whether these are levels.
pub(crate) fn check(levels: &str) -> Result<(), Failure> {
    directives(levels).map(drop)
}

/// The subscriber below the log.
type Below = Layered<Option<traces::Layer>, Registry>;

/// Changes levels while the program runs.
#[derive(Clone, Default)]
pub(crate) struct LogControl {
    handle: Option<reload::Handle<EnvFilter, Below>>,
    levels: Arc<Mutex<String>>,
}

impl LogControl {
    /// The levels as they were set last; of a program that was started with `RUST_LOG`, what that says.
    pub(crate) fn levels(&self) -> String {
        self.levels.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets levels.
    pub(crate) fn set(&self, levels: &str) -> Result<(), Failure> {
        let filter = EnvFilter::new(directives(levels)?);
        if let Some(handle) = &self.handle {
            handle.reload(filter).map_err(|e| {
                Failure::new(dragonfly_core::ErrorKind::Internal, format!("the log's levels cannot be changed: {e}"))
            })?;
        }
        levels.clone_into(&mut self.levels.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }
}

impl std::fmt::Debug for LogControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogControl").field("levels", &self.levels).finish_non_exhaustive()
    }
}

/// Starts the log, and what hands on traces. `RUST_LOG`, in the syntax of tracing-subscriber, takes the place of `levels`.
pub(crate) fn start(levels: &str, json: bool, traces: Option<traces::Layer>) -> Result<LogControl, Failure> {
    let ours = directives(levels)?;
    let (filter, levels) = match std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty()) {
        Some(text) => match EnvFilter::try_new(&text) {
            Ok(filter) => (filter, text),
            Err(e) => return Err(Failure::usage(format!("RUST_LOG: {e}"))),
        },
        None => (EnvFilter::new(ours), levels.to_owned()),
    };
    let (filter, handle) = reload::Layer::new(filter);
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let layer = tracing_subscriber::fmt::layer().with_ansi(colour).with_writer(io::stderr).with_target(false);
    let registry = tracing_subscriber::registry().with(traces);
    // A second subscriber in one process is refused: the first stays. The levels are the log's alone.
    let started = if json {
        // For programs the room comes along, so that they can tell whose line it is, and which level to change.
        registry.with(layer.json().with_target(true).with_filter(filter)).try_init()
    } else {
        registry.with(layer.with_filter(filter)).try_init()
    };
    let levels = Arc::new(Mutex::new(levels));
    Ok(LogControl { handle: started.is_ok().then_some(handle), levels })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn levels_for_all_and_for_rooms() {
        assert_eq!(directives("info").unwrap(), "warn,dragonfly_core=info,dfget=info");
        let both = directives(" INFO , swarm=debug,api=off").unwrap();
        assert_eq!(both, "warn,dragonfly_core=info,dfget=info,dragonfly_core::swarm=debug,dfget::api=off");
        assert_eq!(directives("").unwrap(), "warn");
        for (wrong, why) in [("loud", "loud"), ("info,swam=debug", "meant \"swarm\"?"), ("swarm=loud", "loud")] {
            let failure = directives(wrong).unwrap_err();
            assert!(failure.message.contains(why), "{failure:?}");
        }
        // What is accepted is understood by the filter, too.
        EnvFilter::try_new(both).unwrap();
    }
}

//! What the library has to say, for programs that do not use `tracing`.
//!
//! A program that has a `tracing` subscriber needs none of this: it sees the library's events among its own. Any other,
//! and the bindings of other languages, can [set] one callback for the process. Nothing is logged unless asked for.

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span;
use tracing::{Event, Metadata, Subscriber};

use crate::{Error, ErrorKind, Result};

/// How much a record matters, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Level {
    /// Something failed for good.
    Error,
    /// Something is not as it should be; the library goes on.
    Warn,
    /// What an operator wants to know.
    Info,
    /// What a developer wants to know.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// Every level, the one that matters most first.
    pub const ALL: &[Self] = &[Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// The name in lower case, such as "warn".
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    /// The level with this name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|level| level.name() == name)
    }

    fn of(level: tracing::Level) -> Self {
        match level {
            tracing::Level::ERROR => Self::Error,
            tracing::Level::WARN => Self::Warn,
            tracing::Level::INFO => Self::Info,
            tracing::Level::DEBUG => Self::Debug,
            tracing::Level::TRACE => Self::Trace,
        }
    }

    const fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

/// One thing that the library has to say. It holds no credential.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Record<'a> {
    /// How much it matters.
    pub level: Level,
    /// Which part of the library says it, such as `dragonfly_core::peer`.
    pub target: &'a str,
    /// What it says, in one line, with its values behind it as `name=value`.
    pub message: &'a str,
}

type Callback = Arc<dyn Fn(&Record<'_>) + Send + Sync>;

/// The callback of the process, and from which level on it is called.
static CURRENT: RwLock<Option<(Level, Callback)>> = RwLock::new(None);

/// Whether this process's subscriber is ours. Decided once: `tracing` takes one subscriber, for good.
static OURS: OnceLock<bool> = OnceLock::new();

/// The crates whose names begin so are ours; others beneath them are heard for warnings and errors only.
const OWN: &str = "dragonfly";

thread_local! {
    /// Whether this thread is in the callback: what the library says because of it is not told, or it would not end.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Has `callback` called with what the library says, from `level` on; of the libraries beneath it, with warnings and
/// errors. It takes the place of the one that was set before, which is not called any more once it has returned from
/// calls under way.
///
/// It is called from any thread of the library's, several at once, and must not block; what the library says because
/// of it is not told.
///
/// # Errors
/// [`ErrorKind::Config`]: the process has a `tracing` subscriber already, which hears the library without this.
pub fn set(level: Level, callback: impl Fn(&Record<'_>) + Send + Sync + 'static) -> Result<()> {
    let ours = *OURS.get_or_init(|| tracing::subscriber::set_global_default(Callbacks).is_ok());
    if !ours {
        return Err(Error::new(ErrorKind::Config, "the process has a subscriber of tracing's already"));
    }
    swap(Some((level, Arc::new(callback))));
    Ok(())
}

/// Takes the callback away. Nothing is told from now on.
pub fn unset() {
    swap(None);
}

fn swap(next: Option<(Level, Callback)>) {
    let before = std::mem::replace(&mut *CURRENT.write().unwrap_or_else(PoisonError::into_inner), next);
    // Its end may call the library.
    drop(before);
    // Who asked for more or for less before is asked again.
    tracing::callsite::rebuild_interest_cache();
}

fn current() -> Option<(Level, Callback)> {
    CURRENT.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The subscriber: it hears events, and keeps no spans.
struct Callbacks;

impl Callbacks {
    fn wants(level: Level, metadata: &Metadata<'_>) -> bool {
        let own = metadata.target().starts_with(OWN);
        Level::of(*metadata.level()) <= if own { level } else { level.min(Level::Warn) }
    }
}

impl Subscriber for Callbacks {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && current().is_some_and(|(level, _)| Self::wants(level, metadata))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(current().map_or(LevelFilter::OFF, |(level, _)| level.filter()))
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let Some((_, callback)) = current().filter(|(level, _)| Self::wants(*level, event.metadata())) else { return };
        if INSIDE.replace(true) {
            return;
        }
        let _outside = Outside;
        let mut line = Line::default();
        event.record(&mut line);
        let (level, target) = (Level::of(*event.metadata().level()), event.metadata().target());
        callback(&Record { level, target, message: line.text() });
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Leaves the callback, a panic in it included.
struct Outside;

impl Drop for Outside {
    fn drop(&mut self) {
        INSIDE.set(false);
    }
}

/// An event as one line: its message, then its fields.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Line {
    fn text(&mut self) -> &str {
        let fields = std::mem::take(&mut self.fields);
        self.message.push_str(&fields);
        &self.message
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
        debug_assert!(written.is_ok(), "writing to a string does not fail");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// One test: the callback is the process's.
    #[test]
    fn the_callback_hears_what_it_asked_for() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&heard);
        let hear = move |record: &Record<'_>| {
            // Other tests of this process have things to say, too.
            if record.target == "dragonfly_core::log::tests" || record.target == "libp2p_of_tests" {
                tracing::error!("because of the callback");
                told.lock().unwrap_or_else(PoisonError::into_inner).push((record.level, record.message.to_owned()));
            }
        };
        let outcome = set(Level::Info, hear);
        assert!(outcome.is_ok(), "{outcome:?}");
        tracing::info!(bytes = 7, name = "a", "wrote");
        tracing::debug!("not asked for");
        tracing::warn!(target: "libp2p_of_tests", "from beneath");
        tracing::info!(target: "libp2p_of_tests", "from beneath, and unimportant");
        let expected = [(Level::Info, "wrote bytes=7 name=\"a\"".to_owned()), (Level::Warn, "from beneath".to_owned())];
        assert_eq!(*heard.lock().unwrap_or_else(PoisonError::into_inner), expected);
        unset();
        tracing::error!("after the end");
        // Another test's thread may be in it still.
        let dropped = (0..6000).any(|_| {
            let gone = Arc::strong_count(&heard) == 1;
            if !gone {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            gone
        });
        assert!(dropped, "the callback was dropped");
        assert!(set(Level::Debug, |_| {}).is_ok(), "it can be set again");
        unset();
        for level in Level::ALL {
            assert_eq!(Level::from_name(level.name()), Some(*level));
        }
    }
}

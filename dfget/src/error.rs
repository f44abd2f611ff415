//! What the programs say when they fail: one sentence with its causes, the kind, and so the exit code.

use std::error::Error as _;

use dragonfly_core::ErrorKind;

/// A failure as a user sees it.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) temporary: bool,
    /// The sentence, with its causes after colons. No credential, no query of a URL.
    pub(crate) message: String,
    /// The next step, where it is another than the kind's.
    pub(crate) hint: Option<&'static str>,
}

impl Failure {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, temporary: false, message: message.into(), hint: None }
    }

    /// An argument or a setting that cannot be used.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// A failed call of the operating system.
    pub(crate) fn io(doing: impl std::fmt::Display, error: &std::io::Error) -> Self {
        Self::new(ErrorKind::Io, format!("{doing}: {error}"))
    }

    /// Says what to try next, where the kind's own hint would mislead.
    #[must_use]
    pub(crate) fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    /// Puts what was being done before the message.
    #[must_use]
    pub(crate) fn while_(mut self, doing: impl std::fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }
}

impl From<dragonfly_core::Error> for Failure {
    fn from(error: dragonfly_core::Error) -> Self {
        Self { kind: error.kind(), temporary: error.is_temporary(), message: chain(&error), hint: None }
    }
}

/// The error and its causes, joined by colons; a cause that its parent repeats already is left out.
pub(crate) fn chain(error: &dragonfly_core::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

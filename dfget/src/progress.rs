//! Progress for people (bars on a terminal, plain lines elsewhere) and for programs (a line of JSON per event).
//!
//! No colours are used, so NO_COLOR has nothing to turn off here.

mod bars;

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use self::bars::{Bar, Bars};
use crate::model::{EventBody, ReceiptBody};
use crate::units::{age_text, size_text};

/// Between two lines of progress in JSON: what a log can take.
const JSON_EVERY: Duration = Duration::from_millis(200);
/// Between two plain lines, and before the first: a short download has none.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// How to show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Bars on the terminal that standard error is.
    Bar,
    /// A line of JSON per event on standard output.
    Json,
    /// Now and then a line on standard error.
    Plain,
    /// Nothing.
    Silent,
}

impl Style {
    /// What fits the options and where standard error goes.
    pub(crate) fn choose(json: bool, silent: bool) -> Self {
        match (json, silent) {
            (true, _) => Self::Json,
            (false, true) => Self::Silent,
            (false, false) if io::stderr().is_terminal() => Self::Bar,
            (false, false) => Self::Plain,
        }
    }
}

/// Shows how far all downloads are. A cheap handle.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    style: Style,
    bars: Option<Bars>,
}

impl Progress {
    /// For so many downloads.
    pub(crate) fn new(style: Style, files: usize) -> Self {
        Self { style, bars: (style == Style::Bar).then(|| Bars::new(files)) }
    }

    /// Whether anyone sees more than the end.
    pub(crate) fn is_shown(&self) -> bool {
        self.style != Style::Silent
    }

    /// One more download; `name` is for people, `url` (redacted) for programs.
    pub(crate) fn file(&self, name: &str, url: &str) -> FileProgress {
        let state = State { name: name.to_owned(), url: url.to_owned(), ..State::default() };
        let bar = self.bars.as_ref().map(|bars| bars.add(name));
        FileProgress { style: self.style, bar, state: Arc::new(Mutex::new(state)) }
    }

    /// Says a line on standard error, between the bars.
    pub(crate) fn say(&self, text: &str) {
        // Standard error may be gone; the exit code remains.
        let write = || drop(writeln!(io::stderr().lock(), "{text}"));
        match &self.bars {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }

    /// Takes the bars away.
    pub(crate) fn clear(&self) {
        if let Some(bars) = &self.bars {
            bars.clear();
        }
    }
}

/// Shows how far one download is.
#[derive(Debug)]
pub(crate) struct FileProgress {
    style: Style,
    bar: Option<Bar>,
    state: Arc<Mutex<State>>,
}

/// What is known of a download.
#[derive(Debug)]
struct State {
    name: String,
    url: String,
    started: Instant,
    last: Option<Instant>,
    bytes: u64,
    length: Option<u64>,
    shares: Shares,
}

impl Default for State {
    fn default() -> Self {
        let (name, url) = (String::new(), String::new());
        Self { name, url, started: Instant::now(), last: None, bytes: 0, length: None, shares: Shares::default() }
    }
}

/// Where the bytes come from, and what went wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shares {
    origin: u64,
    peers: u64,
    neighbours: u32,
    retries: u32,
    refuted: u32,
}

impl FileProgress {
    /// Shows an event of the fetch. Fails only where standard output does.
    pub(crate) fn event(&self, event: &EventBody) -> io::Result<()> {
        let mut state = self.state();
        match *event {
            EventBody::Described { length } => state.length = Some(length),
            EventBody::Progress { bytes, length, bytes_from_origin, bytes_from_peers, neighbours } => {
                (state.bytes, state.length) = (bytes, Some(length));
                let Shares { retries, refuted, .. } = state.shares;
                let (origin, peers) = (bytes_from_origin, bytes_from_peers);
                state.shares = Shares { origin, peers, neighbours, retries, refuted };
            }
            EventBody::Trouble { retries, refuted }
                if (state.shares.retries, state.shares.refuted) == (retries, refuted) =>
            {
                return Ok(());
            }
            EventBody::Trouble { retries, refuted } => {
                (state.shares.retries, state.shares.refuted) = (retries, refuted);
            }
            EventBody::Complete | EventBody::Receipt(_) | EventBody::Failed(_) => {}
        }
        let last = state.length == Some(state.bytes);
        let shown = !matches!(event, EventBody::Progress { .. }) || self.is_due(&mut state, last);
        self.show(&mut state, shown.then_some(event))
    }

    /// What the daemon tells of the fetch: the bytes are counted here, as they come.
    pub(crate) fn told(&self, event: &EventBody) -> io::Result<()> {
        match *event {
            EventBody::Progress { length, bytes_from_origin, bytes_from_peers, neighbours, .. } => {
                let bytes = self.state().bytes;
                self.event(&EventBody::Progress { bytes, length, bytes_from_origin, bytes_from_peers, neighbours })
            }
            EventBody::Trouble { .. } => self.event(event),
            _ => Ok(()),
        }
    }

    /// So many bytes have come, of so many.
    pub(crate) fn bytes(&self, bytes: u64, length: u64) -> io::Result<()> {
        let Shares { origin, peers, neighbours, .. } = self.state().shares;
        let (bytes_from_origin, bytes_from_peers) = (origin, peers);
        self.event(&EventBody::Progress { bytes, length, bytes_from_origin, bytes_from_peers, neighbours })
    }

    /// Ends with the receipt.
    pub(crate) fn receipt(&self, receipt: &ReceiptBody) -> io::Result<()> {
        self.end(&EventBody::Receipt(receipt.clone()))
    }

    /// Ends with a failure.
    pub(crate) fn failed(&self, event: &EventBody) -> io::Result<()> {
        self.end(event)
    }

    fn end(&self, event: &EventBody) -> io::Result<()> {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
        self.line(&self.state().url, event)
    }

    fn show(&self, state: &mut State, event: Option<&EventBody>) -> io::Result<()> {
        if let Some(bar) = &self.bar {
            bar.show(state.bytes, state.length, &state.shares);
        }
        let Some(event) = event else { return Ok(()) };
        if self.style == Style::Plain
            && matches!(event, EventBody::Progress { .. })
            && state.length != Some(state.bytes)
        {
            let _ = writeln!(io::stderr().lock(), "{}", plain(state, state.started.elapsed()));
        }
        self.line(&state.url, event)
    }

    fn is_due(&self, state: &mut State, last: bool) -> bool {
        let (every, from) = match self.style {
            Style::Json => (JSON_EVERY, state.last),
            Style::Plain => (PLAIN_EVERY, Some(state.last.unwrap_or(state.started))),
            Style::Bar | Style::Silent => return false,
        };
        let due = last || from.is_none_or(|at| at.elapsed() >= every);
        if due {
            state.last = Some(Instant::now());
        }
        due
    }

    fn line(&self, url: &str, event: &EventBody) -> io::Result<()> {
        if self.style != Style::Json {
            return Ok(());
        }
        let mut line = serde_json::to_value(event).map_err(io::Error::other)?;
        line["url"] = Value::from(url);
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")?;
        out.flush()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `file: 45% of 1.2 GiB, 10.0 MiB/s, 30 s left, 60% from peers`.
fn plain(state: &State, elapsed: Duration) -> String {
    let rate = state.bytes as f64 / elapsed.as_secs_f64().max(0.001);
    let mut text = match state.length {
        Some(length) => {
            let percent = state.bytes.saturating_mul(100).checked_div(length).unwrap_or(100);
            format!("dfget: {}: {percent}% of {}", state.name, size_text(length))
        }
        None => format!("dfget: {}: {}", state.name, size_text(state.bytes)),
    };
    text.push_str(&format!(", {}/s", size_text(rate as u64)));
    if let Some(length) = state.length.filter(|_| rate >= 1.0) {
        let left = Duration::from_secs_f64(length.saturating_sub(state.bytes) as f64 / rate);
        text.push_str(&format!(", {} left", age_text(left)));
    }
    let shares = state.shares.text();
    if !shares.is_empty() {
        text.push_str(&format!(", {shares}"));
    }
    text
}

impl Shares {
    /// `40% origin 5 peers 1 retry 1 blamed`; nothing while nothing came.
    fn text(&self) -> String {
        let all = self.origin + self.peers;
        let percent = |part: u64| part.saturating_mul(100).checked_div(all).unwrap_or(0);
        let mut parts = Vec::new();
        match (self.origin, self.peers) {
            (0, 0) => {}
            (_, 0) => parts.push("origin".to_owned()),
            (0, _) => parts.push(count(self.neighbours, "peer")),
            (origin, _) => parts.push(format!("{}% origin {}", percent(origin), count(self.neighbours, "peer"))),
        }
        if self.retries > 0 {
            parts.push(if self.retries == 1 { "1 retry".to_owned() } else { format!("{} retries", self.retries) });
        }
        if self.refuted > 0 {
            parts.push(format!("{} blamed", self.refuted));
        }
        parts.join(" ")
    }
}

fn count(n: u32, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_bytes_come_from() {
        let text =
            |origin, peers, neighbours, retries, refuted| Shares { origin, peers, neighbours, retries, refuted }.text();
        assert_eq!(text(0, 0, 3, 0, 0), "");
        assert_eq!(text(5, 0, 0, 1, 0), "origin 1 retry");
        assert_eq!(text(0, 5, 1, 0, 0), "1 peer");
        assert_eq!(text(1, 3, 5, 2, 1), "25% origin 5 peers 2 retries 1 blamed");
    }

    #[test]
    fn a_plain_line() {
        let shares = Shares { peers: 1, neighbours: 2, ..Shares::default() };
        let (name, length) = ("f".to_owned(), Some(4 << 20));
        let mut state = State { name, length, bytes: 1 << 20, shares, ..State::default() };
        let line = plain(&state, Duration::from_secs(1));
        assert_eq!(line, "dfget: f: 25% of 4.0 MiB, 1.0 MiB/s, 3 s left, 2 peers");
        (state.length, state.bytes, state.shares) = (None, 0, Shares::default());
        assert_eq!(plain(&state, Duration::from_secs(1)), "dfget: f: 0 B, 0 B/s");
        state.length = Some(0);
        assert_eq!(plain(&state, Duration::from_secs(1)), "dfget: f: 100% of 0 B, 0 B/s");
    }
}

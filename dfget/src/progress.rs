//! Progress for people (a bar on a terminal) and for programs (a line of JSON per event).

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use dragonfly_core::Event;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::model::ReceiptBody;

/// Between two lines of progress in JSON: what a log can take.
const LINE_EVERY: Duration = Duration::from_millis(200);

/// How to show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// A bar on the terminal, if standard error is one.
    Bar,
    /// A line of JSON per event on standard output.
    Json,
    /// Nothing.
    Silent,
}

/// Shows how far a fetch is.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    json: bool,
    last: Option<Instant>,
}

impl Progress {
    pub(crate) fn new(style: Style) -> Self {
        // The bar draws nothing for a small file: it is shown with the first event that leaves something to wait for.
        let bar = (style == Style::Bar && io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            let template = "{bytes} / {total_bytes} [{wide_bar}] {binary_bytes_per_sec} {eta} {msg}";
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars("=> "));
            bar
        });
        Self { bar, json: style == Style::Json, last: None }
    }

    /// Shows an event. Fails only where standard output does.
    pub(crate) fn event(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Described { length } => {
                if let Some(bar) = &self.bar {
                    bar.set_length(*length);
                }
                self.line(&json!({"event": "described", "length": length}))
            }
            Event::Progress { bytes, length, from_origin, from_peers, neighbours } => {
                if let Some(bar) = &self.bar {
                    bar.set_length(*length);
                    bar.set_position(*bytes);
                    if *neighbours > 0 {
                        bar.set_message(format!("from {neighbours} peers"));
                    }
                }
                if !self.is_due(*bytes == *length) {
                    return Ok(());
                }
                self.line(&json!({
                    "event": "progress", "bytes": bytes, "length": length, "bytes_from_origin": from_origin,
                    "bytes_from_peers": from_peers, "neighbours": neighbours,
                }))
            }
            Event::Complete => self.line(&json!({"event": "complete"})),
            _ => Ok(()),
        }
    }

    /// Shows how many bytes came through the daemon, which tells no more than that.
    pub(crate) fn bytes(&mut self, bytes: u64, length: u64) -> io::Result<()> {
        if let Some(bar) = &self.bar {
            bar.set_position(bytes);
        }
        if !self.is_due(bytes == length) {
            return Ok(());
        }
        self.line(&json!({"event": "progress", "bytes": bytes, "length": length}))
    }

    /// Ends with the receipt.
    pub(crate) fn receipt(&mut self, receipt: &ReceiptBody) -> io::Result<()> {
        self.clear();
        let mut line = serde_json::to_value(receipt).map_err(io::Error::other)?;
        line["event"] = "receipt".into();
        self.line(&line)
    }

    /// Takes the bar away.
    pub(crate) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn is_due(&mut self, last: bool) -> bool {
        if !self.json {
            return false;
        }
        let due = last || self.last.is_none_or(|at| at.elapsed() >= LINE_EVERY);
        if due {
            self.last = Some(Instant::now());
        }
        due
    }

    fn line(&self, value: &serde_json::Value) -> io::Result<()> {
        if !self.json {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        writeln!(out, "{value}")?;
        out.flush()
    }
}

//! A bar for each file, and one for all of them. They fit into 80 columns.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Shares;

/// Redraws a second.
const HZ: u8 = 10;
/// Columns of a file's name.
const NAME_MAX: usize = 12;
const TEMPLATE: &str = "{prefix:12!} {percent:>3}% [{wide_bar}] {binary_bytes_per_sec:>11} {eta:>4} {msg}";
/// Until the length is known.
const SPINNER: &str = "{prefix:12!} {spinner} {msg}";
const TOTAL: &str = "{prefix:12!} {percent:>3}% [{wide_bar}] {binary_bytes_per_sec:>11} {eta:>4} {msg}";

/// All bars.
#[derive(Clone, Debug)]
pub(super) struct Bars {
    multi: MultiProgress,
    total: Option<Arc<Total>>,
}

#[derive(Debug)]
struct Total {
    bar: ProgressBar,
    files: usize,
    done: AtomicU64,
}

/// The bar of one file.
#[derive(Debug)]
pub(super) struct Bar {
    multi: MultiProgress,
    bar: ProgressBar,
    total: Option<Arc<Total>>,
    /// The length as the total has it.
    counted: OnceLock<u64>,
    shown: AtomicU64,
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants, and a test reads them.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ").tick_chars("-\\|/ ")
}

impl Bars {
    pub(super) fn new(files: usize) -> Self {
        let multi = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(HZ));
        let total = (files > 1).then(|| {
            let bar = multi.add(ProgressBar::new(0).with_style(style(TOTAL)).with_prefix("total"));
            bar.set_message(format!("0/{files} files"));
            Arc::new(Total { bar, files, done: AtomicU64::new(0) })
        });
        Self { multi, total }
    }

    pub(super) fn add(&self, name: &str) -> Bar {
        let bar = ProgressBar::no_length().with_style(style(SPINNER)).with_prefix(short(name));
        let bar = match &self.total {
            Some(total) => self.multi.insert_before(&total.bar, bar),
            None => self.multi.add(bar),
        };
        let (multi, total) = (self.multi.clone(), self.total.clone());
        Bar { multi, bar, total, counted: OnceLock::new(), shown: AtomicU64::new(0) }
    }

    pub(super) fn suspend(&self, write: impl FnOnce()) {
        self.multi.suspend(write);
    }

    pub(super) fn clear(&self) {
        if let Some(total) = &self.total {
            total.bar.finish_and_clear();
        }
        // A terminal that is gone cannot be cleared.
        let _ = self.multi.clear();
    }
}

impl Bar {
    pub(super) fn show(&self, bytes: u64, length: Option<u64>, shares: &Shares) {
        if let Some(length) = length {
            if self.bar.length().is_none() {
                self.bar.set_style(style(TEMPLATE));
            }
            self.bar.set_length(length);
            if self.counted.set(length).is_ok()
                && let Some(total) = &self.total
            {
                total.bar.inc_length(length);
            }
        }
        self.bar.set_position(bytes);
        self.bar.set_message(shares.text());
        // An origin that changed its mind starts a file anew: the total does not go back.
        let before = self.shown.fetch_max(bytes, Ordering::Relaxed);
        if let Some(total) = &self.total {
            total.bar.inc(bytes.saturating_sub(before));
        }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
        self.multi.remove(&self.bar);
        if let Some(total) = &self.total {
            let done = total.done.fetch_add(1, Ordering::Relaxed) + 1;
            total.bar.set_message(format!("{done}/{} files", total.files));
        }
    }
}

/// The end of a name that is too long: there most names differ.
fn short(name: &str) -> String {
    let count = name.chars().count();
    if count <= NAME_MAX {
        return name.to_owned();
    }
    std::iter::once('~').chain(name.chars().skip(count - NAME_MAX + 1)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use indicatif::TermLike;
    use std::io;
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;

    #[test]
    fn long_names_keep_their_end() {
        assert_eq!(short("model.bin"), "model.bin");
        assert_eq!(short("model-00001-of-00030.safetensors"), "~safetensors");
    }

    #[test]
    fn templates_are_understood() {
        for template in [TEMPLATE, SPINNER, TOTAL] {
            ProgressStyle::with_template(template).unwrap();
        }
    }

    /// A terminal of 80 columns that keeps what is written.
    #[derive(Clone, Debug, Default)]
    struct Terminal(Arc<Mutex<String>>);

    impl TermLike for Terminal {
        fn width(&self) -> u16 {
            80
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(&format!("{text}\n"))
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            self.write_str("\n")
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn everything_fits_into_80_columns() {
        let terminal = Terminal::default();
        let bars = Bars::new(2);
        bars.multi.set_draw_target(ProgressDrawTarget::term_like(Box::new(terminal.clone())));
        let bar = bars.add("a-file-with-a-long-name.bin");
        let shares = Shares { origin: 1, peers: 3, neighbours: 12, retries: 10, refuted: 10 };
        bar.show(1 << 30, Some(4 << 30), &shares);
        // Drawing has a rate: a picture may be left out, the one after it is not.
        let drawn = (0..1000)
            .map(|_| {
                std::thread::sleep(Duration::from_millis(1));
                bar.bar.tick();
                terminal.0.lock().unwrap().clone()
            })
            .find(|drawn| drawn.contains("blamed"))
            .unwrap();
        assert!(drawn.contains("~ng-name.bin"), "{drawn}");
        assert!(drawn.contains("25% origin 12 peers 10 retries 10 blamed"), "{drawn}");
        assert!(drawn.contains("0/2 files"), "{drawn}");
        // Two bars, of which each is filled up to the last column.
        for picture in drawn.lines() {
            let of_total = picture.find("total").map_or(0, |at| picture[at..].chars().count());
            assert!(of_total <= 80 && picture.chars().count() - of_total <= 80, "{picture:?}");
        }
        bar.finish();
        bars.clear();
    }
}

//! Hosts of libtorrent, each a process of its own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use crate::processor::processor_of;

const SCRIPT: &str = include_str!("torrent.py");

/// What a host of libtorrent says at its end.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Said {
    /// Bytes of content that it sent.
    pub sent: u64,
    /// Bytes that came to it more than once.
    pub twice: u64,
    /// Of the processor, from its start.
    pub seconds: f64,
}

/// What a host is to do.
#[derive(Clone, Copy, Debug)]
pub struct TorrentPart<'a> {
    /// Whether it has the file, and makes the torrent: it is started before the others.
    pub is_seed: bool,
    /// Where the file is, or comes to be.
    pub file: &'a Path,
    /// Where the torrent is, or comes to be.
    pub torrent: &'a Path,
    /// Where it listens.
    pub address: &'a str,
    /// At which port; the same for all.
    pub port: u16,
    /// Whom it connects to.
    pub others: &'a [String],
}

/// One host; killed when dropped.
#[derive(Debug)]
pub struct Torrent {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Torrent {
    /// Whether an interpreter of Python has libtorrent.
    pub fn is_there(python: &Path) -> bool {
        let mut command = Command::new(python);
        command.args(["-W", "ignore", "-c", "import libtorrent"]).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    /// Starts it with `python`, an interpreter that has libtorrent, and waits until it listens.
    ///
    /// # Errors
    /// It does not start, or has no libtorrent.
    pub fn start(mut python: Command, part: &TorrentPart<'_>) -> anyhow::Result<Self> {
        let role = if part.is_seed { "seed" } else { "peer" };
        python.args(["-W", "ignore", "-c", SCRIPT, role]).arg(part.file).arg(part.address).args(part.others);
        python.env("TORRENT", part.torrent).env("PORT", part.port.to_string());
        let mut child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("its output")?);
        let mut host = Self { child, input, output };
        ensure!(host.line()?.trim() == "ready", "a host of libtorrent did not start");
        Ok(host)
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        ensure!(self.output.read_line(&mut line)? > 0, "a host of libtorrent ended: is it installed for --python?");
        Ok(line)
    }

    /// Has it connect to the others.
    ///
    /// # Errors
    /// It has ended.
    pub fn go(&mut self) -> anyhow::Result<()> {
        Ok(self.input.as_mut().context("its input")?.write_all(b"go\n")?)
    }

    /// Waits until it has everything.
    ///
    /// # Errors
    /// It has ended.
    pub fn done(&mut self) -> anyhow::Result<()> {
        ensure!(self.line()?.trim() == "done", "a host of libtorrent failed");
        Ok(())
    }

    /// Processor time that it has used, in seconds.
    ///
    /// # Errors
    /// It is gone.
    pub fn processor(&self) -> anyhow::Result<f64> {
        processor_of(self.child.id())
    }

    /// Ends it.
    ///
    /// # Errors
    /// It had ended.
    pub fn end(mut self) -> anyhow::Result<Said> {
        drop(self.input.take());
        let said = serde_json::from_str(&self.line()?)?;
        self.child.wait()?;
        Ok(said)
    }
}

impl Drop for Torrent {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! Other programs, and the processor time of these and of the machine.

use std::fs;
use std::io;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::Context as _;
use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// A program that ends with its owner.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Starts it, with nothing to read.
    ///
    /// # Errors
    /// It is not there, or the system refuses.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        Ok(Self(command.stdin(Stdio::null()).spawn()?))
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.0.try_wait()
    }

    /// Waits until it has ended: how, and the processor time in seconds that it took.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn finish(mut self) -> anyhow::Result<(ExitStatus, f64)> {
        // Its time is there for as long as nobody has asked how it ended.
        waitid(WaitId::Pid(Pid::from_child(&self.0)), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
        let processor = self.processor()?;
        Ok((self.0.wait()?, processor))
    }

    /// Kills it without a word.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(&mut self) -> io::Result<()> {
        self.0.kill()?;
        self.0.wait().map(|_| ())
    }

    /// Asks it to end.
    ///
    /// # Errors
    /// The system refuses.
    pub fn terminate(&self) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.0), Signal::TERM)?)
    }

    /// Processor time that it has used, in seconds.
    ///
    /// # Errors
    /// It is gone.
    pub fn processor(&self) -> anyhow::Result<f64> {
        processor_of(self.id())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.kill();
    }
}

/// Processor time that a process has used so far, all its threads, in seconds.
///
/// # Errors
/// It is gone.
pub fn processor_of(pid: u32) -> anyhow::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name stands in brackets, and may hold anything.
    let (_, rest) = text.rsplit_once(')').context("a line of /proc/PID/stat")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / clock_ticks_per_second() as f64)
}

/// The memory of a process that is in use, in bytes.
///
/// # Errors
/// It is gone.
pub fn resident_of(pid: u32) -> anyhow::Result<u64> {
    memory_of(pid, "VmRSS:")
}

/// A field of `/proc/PID/status` that is told in kB, in bytes.
pub(crate) fn memory_of(pid: u32, field: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

/// How busy the machine was, between two looks.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    all: u64,
    idle: u64,
}

impl Machine {
    /// The machine as it stands.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn now() -> anyhow::Result<Self> {
        let text = fs::read_to_string("/proc/stat")?;
        let line = text.lines().next().context("a line of /proc/stat")?;
        let times: Vec<u64> = line.split_ascii_whitespace().skip(1).take(8).filter_map(|t| t.parse().ok()).collect();
        // Idle, and waiting for a disk.
        Ok(Self { all: times.iter().sum(), idle: times.iter().skip(3).take(2).sum() })
    }

    /// The share of its processors that was busy since `earlier`, 0 to 1.
    pub fn busy_since(self, earlier: Self) -> f64 {
        let all = (self.all - earlier.all).max(1);
        1.0 - (self.idle - earlier.idle) as f64 / all as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_time_grows() {
        let before = processor_of(std::process::id()).expect("this process has a time");
        let mut sum = 0u64;
        for n in 0..200_000_000u64 {
            sum = std::hint::black_box(sum.wrapping_add(n));
        }
        assert!(processor_of(std::process::id()).expect("and still has") > before, "{sum}");
    }
}

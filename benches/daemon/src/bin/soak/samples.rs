//! What was measured over time, and whether it is flat.

use std::fmt;
use std::time::Duration;

use dragonfly_bench::Daemon;

/// What of a daemon is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    Resident,
    /// Sockets and the like. Open files follow what the store holds, which follows what is drawn: they are compared
    /// with that in the end.
    Descriptors,
    Disk,
}

impl Measure {
    pub(crate) const ALL: [Self; 3] = [Self::Resident, Self::Descriptors, Self::Disk];

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Resident => "resident memory, MiB",
            Self::Descriptors => "descriptors but files",
            Self::Disk => "disk, MiB",
        }
    }

    fn take(self, daemon: &Daemon) -> anyhow::Result<f64> {
        const MIB: f64 = (1 << 20) as f64;
        Ok(match self {
            Self::Resident => daemon.resident()? as f64 / MIB,
            Self::Descriptors => daemon.descriptor_kinds()?.1 as f64,
            Self::Disk => daemon.disk()? as f64 / MIB,
        })
    }

    /// Growth that is noise whatever the level: an allocator's arena, a burst of connections, one large file.
    const fn noise(self) -> f64 {
        match self {
            Self::Resident => 4.0,
            Self::Descriptors => 4.0,
            Self::Disk => 32.0,
        }
    }
}

/// One measure of one daemon.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) daemon: String,
    pub(crate) measure: Measure,
    /// Seconds since the start, and the value.
    pub(crate) points: Vec<(f64, f64)>,
}

/// What a series shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) first: f64,
    pub(crate) last: f64,
    pub(crate) most: f64,
    /// How much the line of least squares through the last two thirds rises over them.
    pub(crate) growth: f64,
    pub(crate) is_flat: bool,
}

/// A part of the mean: growth below it is none.
const FLAT: f64 = 0.1;

impl Series {
    pub(crate) fn new(daemon: &str, measure: Measure) -> Self {
        Self { daemon: daemon.to_owned(), measure, points: Vec::new() }
    }

    pub(crate) fn sample(&mut self, at: Duration, daemon: &Daemon) -> anyhow::Result<()> {
        self.points.push((at.as_secs_f64(), self.measure.take(daemon)?));
        Ok(())
    }

    /// Flat: over the last two thirds of the time the line of least squares rises by at most a tenth of the mean, or by
    /// what is noise whatever the mean.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        let (first, last) = (*self.points.first()?, *self.points.last()?);
        let from = first.0 + (last.0 - first.0) / 3.0;
        let late: Vec<_> = self.points.iter().copied().filter(|(at, _)| *at >= from).collect();
        let mean = late.iter().map(|(_, value)| value).sum::<f64>() / late.len() as f64;
        let growth = slope(&late) * (last.0 - from);
        let most = self.points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
        let is_flat = growth <= (mean * FLAT).max(self.measure.noise());
        Some(Verdict { first: first.1, last: last.1, most, growth, is_flat })
    }
}

/// The slope of the line of least squares; of fewer than two points, or none apart in time, 0.
fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let (sum_x, sum_y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (mean_x, mean_y) = (sum_x / n, sum_y / n);
    let (mut covariance, mut variance) = (0.0, 0.0);
    for (x, y) in points {
        covariance += (x - mean_x) * (y - mean_y);
        variance += (x - mean_x).powi(2);
    }
    if variance > 0.0 { covariance / variance } else { 0.0 }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last, most, growth, .. } = self;
        let word = if self.is_flat { "flat" } else { "GROWS" };
        write!(f, "{first:>8.1} {last:>8.1} {most:>8.1} {growth:>+8.1}  {word}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn series(measure: Measure, value: impl Fn(f64) -> f64) -> Series {
        let points = (0..=300).map(|i| (f64::from(i), value(f64::from(i)))).collect();
        Series { points, ..Series::new("test", measure) }
    }

    #[test]
    fn what_rises_and_then_stays_is_flat() {
        let warm = series(Measure::Resident, |at| if at < 90.0 { at } else { 90.0 });
        let verdict = warm.verdict().unwrap();
        assert!(verdict.is_flat && verdict.growth.abs() < 1e-6, "{verdict:?}");
        assert_eq!((verdict.first, verdict.last, verdict.most), (0.0, 90.0, 90.0));
    }

    #[test]
    fn a_leak_is_told_from_noise() {
        let saw = |at: f64| (at % 10.0) * 0.5;
        assert!(series(Measure::Resident, |at| 40.0 + saw(at)).verdict().unwrap().is_flat);
        let leak = series(Measure::Resident, |at| 40.0 + saw(at) + at / 30.0).verdict().unwrap();
        assert!(!leak.is_flat && (leak.growth - 200.0 / 30.0).abs() < 0.5, "{leak:?}");
        assert!(!series(Measure::Descriptors, |at| 20.0 + at / 10.0).verdict().unwrap().is_flat);
    }

    #[test]
    fn no_points_and_one_point() {
        assert_eq!(Series::new("test", Measure::Disk).verdict(), None);
        let one = Series { points: vec![(0.0, 7.0)], ..Series::new("test", Measure::Disk) };
        assert!(one.verdict().unwrap().is_flat);
    }
}

//! Figures from many times.

use std::fmt;
use std::time::Duration;

/// Times of one thing done again and again.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// One time more.
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The time that the fraction `rank` (0 to 1) of all stays below; zero if there is none.
    pub fn quantile(&self, rank: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        let index = ((sorted.len() as f64 * rank) as usize).min(sorted.len().saturating_sub(1));
        sorted.get(index).copied().unwrap_or_default()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (median, high) = (self.quantile(0.5), self.quantile(0.99));
        write!(f, "median {median:.2?}, p99 {high:.2?} ({} times)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_a_hundred() {
        let mut times = Times::default();
        assert_eq!(times.quantile(0.5), Duration::ZERO);
        (0..100).rev().for_each(|ms| times.add(Duration::from_millis(ms)));
        assert_eq!((times.quantile(0.0), times.quantile(0.5)), (Duration::ZERO, Duration::from_millis(50)));
        assert_eq!((times.quantile(0.99), times.quantile(1.0)), (Duration::from_millis(99), Duration::from_millis(99)));
    }
}

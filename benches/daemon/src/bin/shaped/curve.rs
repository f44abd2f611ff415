//! Who had how much, and when.

use std::fmt::Write as _;

/// One look at everyone; the injector last, if there is one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// Since all were asked.
    pub(crate) seconds: f64,
    /// Bytes of pieces that each has sent.
    pub(crate) sent: Vec<u64>,
    /// Bytes that each has taken in, from the origin too.
    pub(crate) received: Vec<u64>,
    /// Bytes that left the origin, all together.
    pub(crate) origin: u64,
    /// Pieces that came twice, all together.
    pub(crate) repeated: u64,
}

/// All looks of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Curve {
    /// Of the file.
    pub(crate) length: u64,
    pub(crate) samples: Vec<Sample>,
}

impl Curve {
    /// When the injector had sent one copy: between two looks as if it sent evenly.
    pub(crate) fn one_copy(&self) -> Option<f64> {
        let mut before = (0.0, 0);
        for sample in &self.samples {
            let sent = *sample.sent.last()?;
            if sent >= self.length {
                let share = (self.length - before.1) as f64 / (sent - before.1) as f64;
                return Some(before.0 + share * (sample.seconds - before.0));
            }
            before = (sample.seconds, sent);
        }
        None
    }

    /// When the whole file had left the origin, and when every host had taken it in, as far as the looks tell.
    pub(crate) fn stages(&self) -> (Option<f64>, Option<f64>) {
        let when = |is: &dyn Fn(&Sample) -> bool| self.samples.iter().find(|s| is(s)).map(|s| s.seconds);
        let all = |sample: &Sample| sample.received.iter().all(|bytes| *bytes >= self.length);
        (when(&|sample| sample.origin >= self.length), when(&all))
    }

    /// A line a look: seconds, the origin's and the injector's sent share of the file, and each host's share of it.
    pub(crate) fn to_csv(&self) -> String {
        let mut text = "seconds,origin,injected,hosts\n".to_owned();
        let share = |bytes: u64| bytes as f64 / self.length as f64;
        for sample in &self.samples {
            let sent = sample.sent.last().copied().unwrap_or_default();
            let _ = write!(text, "{:.3},{:.4},{:.4}", sample.seconds, share(sample.origin), share(sent));
            sample.received.iter().for_each(|bytes| {
                let _ = write!(text, ",{:.4}", share(*bytes));
            });
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_copy_is_between_two_looks() {
        let sample = |seconds, sent| Sample { seconds, sent: vec![7, sent], ..Sample::default() };
        let mut curve = Curve { length: 100, samples: vec![sample(1.0, 50), sample(2.0, 90)] };
        assert_eq!(curve.one_copy(), None);
        curve.samples.push(sample(3.0, 110));
        assert_eq!(curve.one_copy(), Some(2.5));
    }
}

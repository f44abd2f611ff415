//! What one run gave.

use dragonfly_bench::payload;

use crate::curve::Curve;
use crate::{Args, Case};

/// What the columns of [`Report::print`] are.
pub(crate) const HEAD: &str = "case         last/bound  median  first | sent by the injector  its use | from the origin | twice  | CPU s a host  machine busy";

/// What one run gave; what a system does not tell is missing.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// When each host had the file, in seconds since all were asked.
    pub(crate) done: Vec<f64>,
    /// Copies of the file that the host which has it sent.
    pub(crate) injected: Option<f64>,
    /// The share of its link that it used until it had sent one copy.
    pub(crate) injector_use: Option<f64>,
    /// Copies that left the origin.
    pub(crate) origin: Option<f64>,
    /// The share of the bytes taken in that were taken in before.
    pub(crate) repeated: Option<f64>,
    /// Processor time of one host, the mean.
    pub(crate) processor: f64,
    /// How busy the machine was.
    pub(crate) busy: f64,
    /// Who had how much, and when.
    pub(crate) curve: Option<Curve>,
}

/// The least time in seconds: each host has to take the file in once, and who has it to send it once, by runs of pieces.
pub(crate) fn bound(args: &Args) -> f64 {
    args.length() as f64 / payload(args.rate())
}

impl Report {
    pub(crate) fn print(&self, args: &Args, case: Case) {
        let mut done = self.done.clone();
        done.sort_by(f64::total_cmp);
        let at = |index: usize| done.get(index).map_or(f64::NAN, |done| done / bound(args));
        let name = case.name();
        let tell = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
        println!(
            "{name:12} {:10.3} {:7.3} {:6.3} | {:>20} {:>8} | {:>15} | {:>6} | {:12.2} {:12.0}%",
            at(done.len().wrapping_sub(1)),
            at(done.len() / 2),
            at(0),
            tell(self.injected),
            tell(self.injector_use),
            tell(self.origin),
            tell(self.repeated),
            self.processor,
            self.busy * 100.0,
        );
        if args.each {
            println!("    seconds: {}", done.iter().map(|done| format!("{done:.2}")).collect::<Vec<_>>().join(" "));
            if let Some((origin, all)) = self.curve.as_ref().map(Curve::stages) {
                println!("    the origin was done at {}, all bytes were there at {}", tell(origin), tell(all));
            }
        }
    }
}

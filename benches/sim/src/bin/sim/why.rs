//! Where the time of a run goes.

use std::time::Duration;

use dragonfly_sim::fleet::{Fleet, Report};
use dragonfly_sim::{Spread, Usage};

/// Prints what the uplinks did over time, and how fast pieces spread by when they were out.
pub(super) fn print(fleet: &Fleet, report: &Report) {
    println!("time/bound  uplinks used  served  idle: useless, unknown, elsewhere, unasked");
    let hosts = f64::from(fleet.peers + fleet.seeds);
    let mut before = Usage::default();
    for usage in &report.usages {
        let seconds = usage.at.since(before.at).as_secs_f64();
        let used = (usage.sent - before.sent) as f64 / (seconds * hosts * fleet.rate as f64);
        let Usage { served, idle, useless, unknown, elsewhere, unasked, .. } = usage;
        println!(
            "{:10.2}  {used:12.3}  {served:6.1}  {idle:.3}: {useless:.3}, {unknown:.3}, {elsewhere:.3}, {unasked:.3}",
            usage.at.0.as_secs_f64() / report.bound
        );
        before = *usage;
    }
    println!("out in tenth  first at/bound  from there, in seconds, to a tenth, half, nine tenths and all hosts");
    let mut spreads = report.spreads.clone();
    spreads.sort_unstable_by_key(|spread| spread.first);
    for (tenth, part) in (0..).zip(spreads.chunks(spreads.len().div_ceil(10).max(1))) {
        let mean = |get: fn(&Spread) -> Duration| {
            part.iter().map(|spread| get(spread).as_secs_f64()).sum::<f64>() / part.len() as f64
        };
        println!(
            "{tenth:12}  {:14.3}  {:.3} {:.3} {:.3} {:.3}",
            mean(|spread| spread.first.0) / report.bound,
            mean(|spread| spread.tenth.since(spread.first)),
            mean(|spread| spread.half.since(spread.first)),
            mean(|spread| spread.most.since(spread.first)),
            mean(|spread| spread.last.since(spread.first)),
        );
    }
}

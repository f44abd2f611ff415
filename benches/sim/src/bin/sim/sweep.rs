//! Half and double of each limit of the core, each against the default with the same seeds.

use std::time::Duration;

use dragonfly_core::swarm::Config;

use super::Fleet;

/// A limit, and how it is set to a multiple of its default (in halves).
type Limit = (&'static str, fn(&mut Config, u32));

const LIMITS: [Limit; 7] = [
    ("`neighbours_wanted`", |config, halves| config.neighbours_wanted = times(config.neighbours_wanted, halves)),
    ("`lanes_max`", |config, halves| config.lanes_max = times(config.lanes_max, halves)),
    ("`in_flight_bytes_max`", |config, halves| {
        config.in_flight_bytes_max = config.in_flight_bytes_max * u64::from(halves) / 2;
    }),
    ("`upload_slots`", |config, halves| config.upload_slots = times(config.upload_slots, halves)),
    ("`inject_children`", |config, halves| config.inject_children = times(config.inject_children, halves)),
    ("`inject_slots`", |config, halves| config.inject_slots = times(config.inject_slots, halves)),
    ("`stall`", |config, halves| config.stall = config.stall * halves / 2),
];

const fn times(value: usize, halves: u32) -> usize {
    value * halves as usize / 2
}

/// Prints the table.
pub(super) fn run(fleet: &Fleet, runs: u64) -> anyhow::Result<()> {
    println!("| limit | value | p50 | p99 | last | injected copies | injector use | bytes twice |");
    println!("|---|---|---|---|---|---|---|---|");
    row(fleet, runs, "defaults", "")?;
    for (name, set) in LIMITS {
        for (what, halves) in [("half", 1), ("double", 4)] {
            let mut fleet = fleet.clone();
            set(&mut fleet.config, halves);
            let value = value(name, &fleet.config);
            row(&fleet, runs, name, &format!("{what}: {value}"))?;
        }
    }
    Ok(())
}

fn value(name: &str, config: &Config) -> String {
    let Config {
        neighbours_wanted,
        lanes_max,
        in_flight_bytes_max,
        upload_slots,
        inject_children,
        inject_slots,
        stall,
        ..
    } = config;
    match name.trim_matches('`') {
        "neighbours_wanted" => neighbours_wanted.to_string(),
        "lanes_max" => lanes_max.to_string(),
        "in_flight_bytes_max" => format!("{} MiB", in_flight_bytes_max >> 20),
        "upload_slots" => upload_slots.to_string(),
        "inject_slots" => inject_slots.to_string(),
        "inject_children" => inject_children.to_string(),
        _ => format!("{:?}", Duration::from_millis(stall.as_millis() as u64)),
    }
}

/// The means over the seeds, and for the times the least and the most.
fn row(fleet: &Fleet, runs: u64, name: &str, value: &str) -> anyhow::Result<()> {
    let reports: Vec<_> = (0..runs)
        .map(|run| Fleet { seed: fleet.seed + run, ..fleet.clone() }.play(&mut |_| ()))
        .collect::<Result<_, _>>()?;
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let spread = |values: Vec<f64>| {
        let (least, most) = values.iter().fold((f64::MAX, 0f64), |(a, b), value| (a.min(*value), b.max(*value)));
        format!("{:.3} ({least:.3}-{most:.3})", mean(&values))
    };
    let of = |get: fn(&dragonfly_sim::fleet::Report) -> f64| reports.iter().map(get).collect::<Vec<f64>>();
    println!(
        "| {name} | {value} | {} | {} | {} | {:.3} | {:.3} | {:.4} |",
        spread(of(|report| report.p50)),
        spread(of(|report| report.p99)),
        spread(of(|report| report.last)),
        mean(&of(|report| report.injected.unwrap_or(0.0))),
        mean(&of(|report| report.injector_use.unwrap_or(0.0))),
        mean(&of(|report| report.twice)),
    );
    Ok(())
}

//! Fleets of unequal hosts, and what befalls them: what must never be is looked for while they run, everybody has
//! everything in the end, and nobody is far from the least time. A failing run says how to see it again.

use std::time::Duration;

use dragonfly_sim::fleet::{Fleet, Report};
use dragonfly_sim::{Sharing, Thin};

/// Seeds that every change is tried with.
const SEEDS: u64 = 2;

fn small() -> Fleet {
    Fleet { peers: 24, pieces: 128, piece_length: 64 << 10, rate: 2_500_000, check_every: 512, ..Fleet::default() }
}

/// Plays a fleet with each seed.
fn play(fleet: &Fleet) -> Vec<Report> {
    let play = |seed| {
        let fleet = Fleet { seed, ..fleet.clone() };
        let report = fleet.play(&mut |_| ()).unwrap_or_else(|failed| panic!("{failed}"));
        println!("{fleet}\n  {report:?}");
        report
    };
    (1..=SEEDS).map(play).collect()
}

#[test]
fn equal_hosts_come_near_the_least_time_and_the_seed_sends_each_piece_once() {
    for report in play(&small()) {
        assert!(report.last < 1.5, "{report:?}");
        assert!(report.injected.is_some_and(|copies| copies < 1.02), "{report:?}");
        assert!(report.twice < 0.03, "{report:?}");
    }
}

#[test]
fn asymmetric_slow_and_fast_hosts_all_finish() {
    // An injector that waits for its slow children took nine times the least time here.
    for report in play(&Fleet { asymmetry: 2, slow: 2, fast: 2, is_unfair: true, ..small() }) {
        assert!(report.finished == 24 && report.p50 < 2.5, "{report:?}");
    }
}

#[test]
fn hosts_that_never_upload_are_served_and_do_not_hold_up_the_others() {
    for report in play(&Fleet { peers: 16, freeloaders: 4, ..small() }) {
        assert!(report.last < 1.6, "{report:?}");
    }
}

#[test]
fn late_joiners_find_everybody_and_lost_coordinators_are_replaced() {
    let at = Some(Duration::from_millis(1500));
    for report in play(&Fleet { late: 50, coordinator_dies: at, ..small() }) {
        assert!(report.p50 < 2.0, "{report:?}");
    }
}

#[test]
fn a_seed_that_dies_half_way_costs_the_origin_no_more_than_what_it_alone_held() {
    for report in play(&Fleet { seed_dies: Some(Duration::from_millis(1800)), ..small() }) {
        assert!(report.finished == 24 && report.origin < 0.9 && report.origin > 0.0, "{report:?}");
    }
}

#[test]
fn churn_costs_the_origin_no_more_than_what_was_lost() {
    // Two fifths a minute, for the run is short.
    let fleet = Fleet { peers: 40, seeds: 0, churn: 40, piece_length: 512 << 10, check_every: 512, ..small() };
    for report in play(&fleet) {
        assert!(report.origin <= 1.0 + report.lost + 1e-9, "{report:?}");
    }
}

#[test]
fn a_seed_that_is_played_again_does_the_same() {
    let thin = Some(Thin { rate: 500_000, latency: Duration::from_millis(10) });
    for sharing in [Sharing::Exact, Sharing::Chunks] {
        let fleet = Fleet { sharing, churn: 60, sites: 2, thin, late: 20, is_unfair: true, is_traced: true, ..small() };
        let trace =
            |seed| Fleet { seed, ..fleet.clone() }.play(&mut |_| ()).map(|report| (report.trace, report.events));
        assert_eq!(trace(5), trace(5));
        assert_ne!(trace(5), trace(6));
    }
}

#[test]
fn the_cheap_share_is_near_the_exact_one() {
    let medians = |sharing| {
        let reports = play(&Fleet { peers: 60, sharing, check_every: 0, ..small() });
        reports.iter().map(|report| report.p50).sum::<f64>() / reports.len() as f64
    };
    let (exact, chunks) = (medians(Sharing::Exact), medians(Sharing::Chunks));
    assert!((chunks / exact - 1.0).abs() < 0.08, "{exact} {chunks}");
}

#[test]
fn a_thousand_hosts_finish() {
    let fleet = Fleet { sharing: Sharing::Chunks, chunk: 128 << 10, ..Fleet::default() };
    let report = fleet.play(&mut |_| ()).unwrap_or_else(|failed| panic!("{failed}"));
    println!("{report:?}");
    assert!(report.finished == 1000 && report.last < 1.7, "{report:?}");
    assert!(report.injected.is_some_and(|copies| copies <= 1.01), "{report:?}");
}

//! Sites with a thin link between: a piece crosses once as long as all is well, and whatever is wrong with hosts of one's own
//! site costs a bounded time. Checks run throughout.

use std::time::Duration;

use dragonfly_core::swarm::{Config, HostKey, TaskKey};
use dragonfly_core::task::Layout;
use dragonfly_sim::fleet::{Fleet, Report};
use dragonfly_sim::{HostOptions, Link, Sharing, Thin, World};

const TASK: TaskKey = TaskKey(0);
const MIB: u64 = 1 << 20;
/// 20 Mbit/s.
const RATE: u64 = 2_500_000;
/// Between sites.
const THIN: Thin = Thin { rate: 500_000, latency: Duration::from_millis(10) };
/// Of the content: 128 pieces of 64 KiB.
const LENGTH: u64 = 8 * MIB;
const LIMIT: Duration = Duration::from_secs(600);

/// Seeds that every change is tried with.
const SEEDS: u64 = 3;

const PEER: HostOptions = HostOptions {
    link: Link { up: RATE, down: RATE, latency: Duration::from_millis(5) },
    is_seed: false,
    may_lease: false,
    is_corrupt: false,
    is_mute: false,
    site: 0,
    named: Some(0),
};

const fn here(site: u8) -> HostOptions {
    HostOptions { site, named: Some(site), ..PEER }
}

fn fleet() -> Fleet {
    let small = Fleet { pieces: 128, piece_length: 64 << 10, rate: RATE, check_every: 512, ..Fleet::default() };
    Fleet { peers: 15, sites: 2, thin: Some(THIN), ..small }
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

/// A world in which these hosts join one task in turn, `upload`: whether they serve.
struct Sites {
    world: World,
    keys: Vec<HostKey>,
}

impl Sites {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed, RATE);
        world.network.sharing = Sharing::Exact;
        world.network.set_thin(THIN);
        world.check_every = 512;
        world.add_task(TASK, Layout::new(LENGTH, 64 << 10).expect("a valid layout"), false);
        Self { world, keys: Vec::new() }
    }

    fn join(&mut self, options: HostOptions) -> HostKey {
        self.join_with(Config::default(), options)
    }

    fn join_with(&mut self, config: Config, options: HostOptions) -> HostKey {
        let key = self.world.add_host(config, options);
        self.world.join(key, TASK, 3);
        self.keys.push(key);
        key
    }

    /// A host that holds everything and says so.
    fn join_complete(&mut self, options: HostOptions) -> HostKey {
        let key = self.world.add_host(Config::default(), options);
        self.world.join_complete(key, TASK, 3);
        key
    }

    /// The time until all have all over F/thin, and copies that crossed.
    fn finish(&mut self) -> (f64, f64) {
        assert!(self.world.run(LIMIT), "not done {}", self.world.why());
        let took = self.world.now().0.as_secs_f64() / (LENGTH as f64 / THIN.rate as f64);
        let crossed = self.world.network.crossed as f64 / LENGTH as f64;
        println!("{took:.3} of F/thin, {crossed:.3} copies crossed");
        (took, crossed)
    }
}

#[test]
fn between_two_sites_a_piece_crosses_once() {
    for report in play(&fleet()) {
        assert!(report.finished == 15 && report.last <= 1.15, "{report:?}");
        assert!((1.0..=1.15).contains(&report.crossed), "{report:?}");
    }
    // Each flow has half a megabyte under way, more than all that is asked for across: what takes longer than a stall is asked
    // for again.
    for report in play(&Fleet { sharing: Sharing::Chunks, ..fleet() }) {
        assert!(report.finished == 15 && (1.0..2.5).contains(&report.crossed), "{report:?}");
    }
}

#[test]
fn into_each_of_three_sites_a_piece_crosses_about_once() {
    for report in play(&Fleet { peers: 23, sites: 3, ..fleet() }) {
        assert!(report.finished == 23 && (2.0..=2.5).contains(&report.crossed), "{report:?}");
    }
}

#[test]
fn late_joiners_get_it_in_their_own_site() {
    for report in play(&Fleet { peers: 31, late: 50, ..fleet() }) {
        assert!(report.finished == 31 && (1.0..=1.3).contains(&report.crossed), "{report:?}");
    }
}

#[test]
fn whoever_names_the_same_site_as_all_or_none_does_the_same() {
    let trace = |names, sites| {
        let fleet = Fleet { names, sites, thin: None, is_traced: true, late: 20, churn: 60, ..fleet() };
        fleet.play(&mut |_| ()).map(|report| (report.trace, report.events))
    };
    assert_eq!(trace(true, 1), trace(false, 1));
    assert_ne!(trace(true, 2), trace(false, 2));
}

#[test]
fn a_holder_in_ones_own_site_that_trickles_or_sends_nothing_costs_a_bounded_time() {
    // A fortieth and a hundredth of the thin link, and nothing at all.
    for (up, is_mute) in [(12_500, false), (5_000, false), (RATE, true)] {
        for seed in 1..=SEEDS {
            let mut sites = Sites::new(seed);
            sites.join(HostOptions { is_seed: true, ..here(0) });
            let link = Link { up, ..PEER.link };
            sites.join_complete(HostOptions { link, is_mute, ..here(1) });
            (0..3).for_each(|_| {
                sites.join(here(0));
            });
            (0..4).for_each(|_| {
                sites.join(here(1));
            });
            let (took, _) = sites.finish();
            assert!(took < 2.5, "{up} {is_mute}: {took}");
        }
    }
}

#[test]
fn a_slow_member_of_a_site_does_not_hold_up_the_others() {
    for seed in 1..=SEEDS {
        let mut sites = Sites::new(seed);
        sites.join(HostOptions { is_seed: true, ..here(0) });
        (0..7).for_each(|_| {
            sites.join(here(0));
        });
        let link = Link { up: 5_000, ..PEER.link };
        sites.join(HostOptions { link, ..here(1) });
        (0..7).for_each(|_| {
            sites.join(here(1));
        });
        let (took, crossed) = sites.finish();
        assert!(took < 1.8 && crossed < 1.5, "{took} {crossed}");
    }
}

#[test]
fn bridges_that_keep_what_they_bring_make_room_for_honest_ones() {
    for seed in 1..=SEEDS {
        let mut sites = Sites::new(seed);
        sites.join(HostOptions { is_seed: true, ..here(0) });
        (0..3).for_each(|_| {
            sites.join(here(0));
        });
        // As many as bring pieces, and they came first.
        (0..8).for_each(|_| {
            sites.join(HostOptions { is_mute: true, ..here(1) });
        });
        sites.world.pass(Duration::from_millis(300));
        (0..4).for_each(|_| {
            sites.join(here(1));
        });
        let (took, _) = sites.finish();
        // Those eight get nothing from each other: it takes no longer than if each of the site fetched its own copy.
        assert!(took < 12.0, "{took}");
    }
}

#[test]
fn a_source_that_names_no_site_serves_both() {
    for seed in 1..=SEEDS {
        let mut sites = Sites::new(seed);
        sites.join(HostOptions { is_seed: true, named: None, ..here(0) });
        (0..5).for_each(|_| {
            sites.join(here(0));
        });
        (0..5).for_each(|_| {
            sites.join(here(1));
        });
        let (took, crossed) = sites.finish();
        assert!(took < 1.5 && crossed < 2.0, "{took} {crossed}");
    }
}

#[test]
fn a_seed_alone_in_its_site_or_whose_neighbours_serve_nobody_serves_the_others() {
    for others in [0, 3] {
        for seed in 1..=SEEDS {
            let mut sites = Sites::new(seed);
            sites.join(HostOptions { is_seed: true, ..here(0) });
            let config = Config { upload: false, ..Config::default() };
            (0..others).for_each(|_| {
                sites.join_with(config.clone(), here(0));
            });
            (0..8).for_each(|_| {
                sites.join(here(1));
            });
            let (took, crossed) = sites.finish();
            assert!(took < 1.6 && crossed < 1.3, "{others} others: {took} {crossed}");
        }
    }
}

#[test]
fn a_site_in_which_nobody_uploads_is_served_from_the_other() {
    for seed in 1..=SEEDS {
        let mut sites = Sites::new(seed);
        sites.join(HostOptions { is_seed: true, ..here(0) });
        (0..5).for_each(|_| {
            sites.join(here(0));
        });
        let config = Config { upload: false, ..Config::default() };
        (0..3).for_each(|_| {
            sites.join_with(config.clone(), here(1));
        });
        let (took, _) = sites.finish();
        // Each of the three has to get its own copy over the thin link.
        assert!(took < 3.0 * 1.2, "{took}");
    }
}

#[test]
fn bridges_that_die_are_replaced() {
    for seed in 1..=SEEDS {
        let mut sites = Sites::new(seed);
        sites.join(HostOptions { is_seed: true, ..here(0) });
        let all: Vec<HostKey> = (0..22).map(|n| sites.join(here(n % 2))).collect();
        assert!(!sites.world.run(Duration::from_secs(5)));
        // Those that came first, of both sites.
        all[..12].iter().for_each(|key| sites.world.kill(*key));
        let (took, crossed) = sites.finish();
        assert!(took < 1.6 && crossed < 1.7, "{took} {crossed}");
    }
}

#[test]
fn whoever_claims_a_site_in_which_it_is_not_harms_little() {
    for seed in 1..=SEEDS {
        let mut sites = Sites::new(seed);
        sites.join(HostOptions { is_seed: true, ..here(0) });
        (0..6).for_each(|_| {
            sites.join(here(0));
        });
        (0..6).for_each(|_| {
            sites.join(here(1));
        });
        sites.join(HostOptions { named: Some(1), ..here(0) });
        sites.join(HostOptions { named: Some(0), ..here(1) });
        sites.join(HostOptions { named: Some(9), ..here(1) });
        let (took, crossed) = sites.finish();
        assert!(took < 3.0 && crossed < 4.0, "{took} {crossed}");
    }
}

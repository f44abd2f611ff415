//! What a coordinator hears when many hosts come to it at once: from the pauses that each makes, in virtual time.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::announce::{ANNOUNCED_MAX, FIRST_PAUSE, PAUSE, pause_after};
use super::authorities::{MOVE_PAUSE, MOVED_AT_ONCE};
use super::authority::{BACKOFF, Backoff, TURNED_AWAY_MAX, turned_away_pause};

const HOSTS: usize = 500;

/// Between half and all of a time, as [`crate::node::Node`] draws it.
fn jitter(random: &mut StdRng, time: Duration) -> Duration {
    time.mul_f64(random.random_range(0.5..=1.0))
}

/// The most of these moments that lie within `window`.
fn most_within(moments: &mut [Duration], window: Duration) -> usize {
    moments.sort_unstable();
    let (mut first, mut most) = (0, 0);
    for last in 0..moments.len() {
        while moments[last] - moments[first] >= window {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}

/// Hosts that start together, each with as many tasks as are announced at all.
#[test]
fn who_starts_together_announces_at_a_bounded_rate() {
    let (mut all, mut firsts) = (Vec::new(), Vec::new());
    for seed in 0..HOSTS {
        let mut random = StdRng::seed_from_u64(seed as u64);
        let mut now = jitter(&mut random, FIRST_PAUSE);
        firsts.push(now);
        let mut own = Vec::new();
        for _ in 0..ANNOUNCED_MAX {
            own.push(now);
            now += pause_after(0, |pause| jitter(&mut random, pause));
        }
        let second = most_within(&mut own, Duration::from_secs(1));
        assert!(second <= 1000 / (PAUSE.as_millis() as usize / 2) + 1, "one host, in a second: {second}");
        all.extend(own);
    }
    // Nobody is first together with more than its share of them.
    let tenth = FIRST_PAUSE / 20;
    let first = most_within(&mut firsts, tenth);
    assert!(first <= HOSTS / 10 * 2, "{first} of {HOSTS} within {tenth:?}");
    // All together come in an even stream: 1000 / 30 a second of each.
    let second = most_within(&mut all, Duration::from_secs(1));
    println!("{HOSTS} hosts that start together: at most {first} within {tenth:?}, {second} tasks a second");
    assert!(second <= HOSTS * 36, "{second} in a second");
}

/// Proof that a restart owes the disk slows it down.
#[test]
fn what_has_to_be_proven_takes_its_time() {
    assert_eq!(pause_after(0, |pause| pause), PAUSE);
    assert_eq!(pause_after(64 << 20, |pause| pause), PAUSE + Duration::from_secs(1));
}

/// Hosts that all lost their coordinator at one moment, and that it comes back to much later: when each is back, and
/// when it has said again what it has.
#[test]
fn who_is_come_back_to_is_not_stormed() {
    const TASKS: usize = ANNOUNCED_MAX;
    for away in [1, 10, 60, 600] {
        let back = Duration::from_secs(away);
        let (mut sessions, mut joins) = (Vec::new(), Vec::new());
        for seed in 0..HOSTS {
            let mut random = StdRng::seed_from_u64(seed as u64);
            let (mut backoff, mut now) = (Backoff::new(), Duration::ZERO);
            while now < back {
                now += backoff.pause(|pause| jitter(&mut random, pause));
            }
            assert!(now - back <= BACKOFF.1, "{:?} after it is back", now - back);
            sessions.push(now);
            let batches = TASKS.div_ceil(MOVED_AT_ONCE) as u32;
            joins.extend((0..batches).map(|batch| now + MOVE_PAUSE * batch));
        }
        let (session, batch) = (most_within(&mut sessions, MOVE_PAUSE), most_within(&mut joins, MOVE_PAUSE));
        println!(
            "{HOSTS} hosts, away for {back:?}: at most {session} sessions and {} tasks within {MOVE_PAUSE:?}",
            batch * MOVED_AT_ONCE
        );
        // All of them within the longest pause; after a longer absence spread over half of it at least.
        assert!(batch <= HOSTS, "a host says so much at a time and no more: {batch}");
        if back > BACKOFF.1 * 2 {
            assert!(session <= HOSTS / 10 && batch <= HOSTS / 2, "{session} and {batch} of {HOSTS}");
        }
    }
}

/// Hosts that come to one coordinator in the same moment, because another one died: who finds no place for its handshake
/// comes again, and all get in before they take it for dead. From one address there are eight places.
#[test]
fn who_is_turned_away_comes_again_and_gets_in() {
    /// Of the coordinator's time, with two cores that have other things to do.
    const HANDSHAKE: Duration = Duration::from_millis(20);
    let limits = crate::net::Limits::default();
    for (places, hosts) in [(limits.handshakes_per_ip, 100), (limits.handshakes, HOSTS)] {
        let mut random = StdRng::seed_from_u64(places as u64);
        // When each comes next, and how often it was turned away.
        let mut coming: Vec<_> = (0..hosts).map(|_| (jitter(&mut random, HANDSHAKE), 0)).collect();
        let (mut busy, mut most): (Vec<Duration>, u32) = (Vec::new(), 0);
        while let Some(next) = (0..coming.len()).min_by_key(|at| coming[*at].0) {
            let (now, times) = coming.swap_remove(next);
            busy.retain(|until| *until > now);
            if busy.len() < places {
                busy.push(now + HANDSHAKE);
                continue;
            }
            assert!(times < TURNED_AWAY_MAX, "one of {hosts} takes it for dead at {now:?}");
            most = most.max(times + 1);
            coming.push((now + jitter(&mut random, turned_away_pause(times)), times + 1));
        }
        println!("{hosts} hosts at once, {places} places: turned away {most} times at the most");
    }
}

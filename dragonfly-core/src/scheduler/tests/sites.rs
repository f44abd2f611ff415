//! Sites between which the links may be thin.

use super::*;
use crate::wire::control::Share;

/// The site of host `n`: even numbers are in one, odd ones in the other.
fn site(n: u32) -> u32 {
    n % 2
}

/// What each host was told of hosts in the other site, newest first, and of hosts in its own.
#[derive(Default)]
struct Told {
    across: std::collections::BTreeMap<u32, std::collections::BTreeMap<u32, Share>>,
    near: std::collections::BTreeMap<u32, BTreeSet<u32>>,
}

impl Told {
    fn note(&mut self, said: &[Action]) {
        for action in said {
            let Action::Send { to, message: ToMember::Neighbours { hosts, .. } } = action else { continue };
            let to = number(to);
            for host in hosts {
                let other = number(&host.peer);
                assert_eq!(host.share.is_some(), site(to) != site(other), "who is across is told so");
                match host.share {
                    Some(share) => drop(self.across.entry(to).or_default().insert(other, share)),
                    None => drop(self.near.entry(to).or_default().insert(other)),
                }
            }
        }
    }

    /// The parts of those in a site, in order.
    fn parts(&self, of: u32) -> Vec<Share> {
        let mut parts: Vec<Share> = self
            .across
            .iter()
            .filter(|(n, _)| site(**n) == of)
            .map(|(n, far)| {
                let share = *far.values().next().unwrap();
                assert!(far.values().all(|other| *other == share), "{n} has one part: {far:?}");
                share
            })
            .collect();
        parts.sort_unstable_by_key(|share| share.part);
        parts
    }
}

fn number(peer: &PeerId) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&peer.public_key()[..4]);
    u32::from_be_bytes(bytes)
}

fn up(w: &mut World, n: u32) {
    let (peer, seen_ip) = (peer(n), Some([10, 0, 0, n as u8].into()));
    w.step(Input::HostUp { peer, seed_role: false, tenant: "a".to_owned(), seen_ip, local: false });
    let record = Some(Signed(vec![1]));
    let site = Some(format!("site-{}", site(n)));
    w.say(n, ToCoordinator::Announce(Announce { version: 1, record, seed: false, slots: 4, site }));
}

/// Hosts from 1 on, dealt out to two sites, trade a task; what they were told.
fn sites(hosts: u32) -> (World, Told) {
    let (mut w, mut told) = (World::new(), Told::default());
    (1..=hosts).for_each(|n| up(&mut w, n));
    w.join(1, wanting(1));
    let lease = w.describer(1);
    w.describe(1, lease, content(64 * MIB, etag("x"), 8));
    for n in 2..=hosts {
        w.join(n, wanting(1));
        told.note(&w.said);
    }
    w.pass(Config::default().deal_time);
    told.note(&w.said);
    (w, told)
}

fn all_of(of: u16) -> Vec<Share> {
    (0..of).map(|part| Share { part, of }).collect()
}

#[test]
fn a_few_of_each_site_bring_a_part_each_and_the_others_stay_among_themselves() {
    let (_, told) = sites(60);
    let most = Config::default().bridges_per_site as u16;
    for of in [0, 1] {
        assert_eq!(told.parts(of), all_of(most));
        // And together all of them: each piece is of one part.
        let covering = |piece| all_of(most).iter().filter(|share| share.covers(piece)).count();
        assert!((0..1000).all(|piece| covering(piece) == 1));
    }
    for n in 1..=60 {
        assert!(told.near.get(&n).is_some_and(|near| near.len() >= 8), "{n}: {:?}", told.near.get(&n));
    }
}

#[test]
fn whoever_is_alone_in_a_site_is_linked_across_at_once() {
    let mut w = World::new();
    [1, 3, 5, 2].into_iter().for_each(|n| up(&mut w, n));
    w.join(1, wanting(1));
    let lease = w.describer(1);
    w.describe(1, lease, content(64 * MIB, etag("x"), 8));
    w.join(3, wanting(1));
    w.join(5, wanting(1));
    w.join(2, wanting(1));
    let mut told = Told::default();
    told.note(&w.said);
    assert_eq!(told.parts(0), [Share::ALL]);
}

#[test]
fn the_part_of_a_host_that_is_gone_is_brought_by_another() {
    let (mut w, told) = sites(60);
    let gone: Vec<u32> = told.across.keys().copied().filter(|n| site(*n) == 0).take(3).collect();
    for n in &gone {
        w.step(Input::HostDown { peer: peer(*n) });
    }
    // Whoever is told anew is told its part now; the others have theirs still.
    let mut now = told;
    gone.iter().for_each(|n| drop(now.across.remove(n)));
    now.across.values_mut().for_each(|far| far.retain(|other, _| !gone.contains(other)));
    w.pass(Config::default().deal_time);
    let mut news = Told::default();
    news.note(&w.said);
    for (n, far) in news.across {
        let share = *far.values().next().unwrap();
        now.across.entry(n).or_default().extend(far);
        now.across.get_mut(&n).unwrap().values_mut().for_each(|old| *old = share);
    }
    assert_eq!(now.parts(0), all_of(Config::default().bridges_per_site as u16));
}

#[test]
fn who_starves_in_its_site_is_given_neighbours_anywhere() {
    let (mut w, told) = sites(60);
    let lonely = (1..=60).find(|n| !told.across.contains_key(n)).unwrap();
    for (starved_ms, any_across) in [(None, false), (Some(20_000), true)] {
        let mut told = Told::default();
        for _ in 0..4 {
            w.say(lonely, ToCoordinator::AskNeighbours { task: task(1), lacking: true, starved_ms });
            told.note(&w.said);
        }
        assert_eq!(told.across.contains_key(&lonely), any_across, "starved {starved_ms:?}");
    }
}

#[test]
fn the_leases_of_a_cold_task_are_split_between_sites() {
    let mut w = World::new();
    // Forty of the one site, in which somebody asked first, then forty of the other.
    let order: Vec<u32> = (1..=80).filter(|n| site(*n) == 1).chain((1..=80).filter(|n| site(*n) == 0)).collect();
    order.iter().for_each(|n| up(&mut w, *n));
    w.join(1, wanting(1));
    let lease = w.describer(1);
    w.describe(1, lease, content(1024 * MIB, etag("x"), 8));
    order[1..].iter().for_each(|n| w.join(*n, wanting(1)));
    for n in &order {
        w.say(*n, ToCoordinator::AskLease(task(1)));
    }
    let holders: BTreeSet<PeerId> = w.task().leases.iter().filter_map(|lease| lease.holder).collect();
    let of = |of| holders.iter().filter(|peer| site(number(peer)) == of).count();
    assert_eq!((of(0), of(1)), (8, 8));
}

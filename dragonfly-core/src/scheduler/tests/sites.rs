//! Sites between which the links may be thin.

use std::collections::BTreeMap;

use super::*;
use crate::scheduler::sites::SITES_MAX;
use crate::wire::control::Share;

/// The site of host `n`: even numbers are in one, odd ones in the other.
fn site(n: u32) -> String {
    format!("site-{}", n % 2)
}

/// What each host was told of hosts in other sites, newest first, and of the others.
#[derive(Default)]
struct Told {
    across: BTreeMap<u32, BTreeMap<u32, Share>>,
    near: BTreeMap<u32, BTreeSet<u32>>,
}

impl Told {
    fn note(&mut self, said: &[Action]) {
        for action in said {
            let Action::Send { to, message: ToMember::Neighbours { hosts, .. } } = action else { continue };
            let to = number(to);
            for host in hosts {
                let other = number(&host.peer);
                let far = self.across.entry(to).or_default();
                match host.share {
                    // Its share is of all others across.
                    Some(share) => {
                        far.insert(other, share);
                        far.values_mut().for_each(|old| *old = share);
                    }
                    None => {
                        far.remove(&other);
                        self.near.entry(to).or_default().insert(other);
                    }
                }
            }
        }
    }

    fn gone(&mut self, n: u32) {
        self.across.remove(&n);
        self.across.values_mut().for_each(|far| {
            far.remove(&n);
        });
    }

    fn share(&self, n: u32) -> Option<Share> {
        self.across.get(&n)?.values().next().copied()
    }

    /// The hosts of a site that bring something, by their part.
    fn bridges(&self, of: u32) -> BTreeMap<(u16, u16), u32> {
        let hosts = self.across.keys().filter(|n| **n % 2 == of);
        let parts = hosts.filter_map(|n| Some((self.share(*n)?, *n))).filter(|(share, _)| *share != Share::NONE);
        let parts: Vec<((u16, u16), u32)> = parts.map(|(share, n)| ((share.part, share.of), n)).collect();
        let by_part: BTreeMap<(u16, u16), u32> = parts.iter().copied().collect();
        assert_eq!(by_part.len(), parts.len(), "a part that two have: {parts:?}");
        by_part
    }
}

fn number(peer: &PeerId) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&peer.public_key()[..4]);
    u32::from_be_bytes(bytes)
}

fn announce(w: &mut World, n: u32, seed: bool, site: Option<String>, slots: u16) {
    let record = Some(Signed(vec![1]));
    w.say(n, ToCoordinator::Announce(Announce { version: 1, record, seed, slots, site }));
}

fn up(w: &mut World, n: u32, seed: bool, site: Option<String>, slots: u16) {
    let (peer, seen_ip) = (peer(n), Some([10, 0, 0, n as u8].into()));
    w.step(Input::HostUp { peer, seed_role: seed, tenant: "a".to_owned(), seen_ip, local: false });
    announce(w, n, seed, site, slots);
}

/// All join a task that the first of them fetches; what they were told.
fn trade(w: &mut World, hosts: &[u32]) -> Told {
    let mut told = Told::default();
    w.join(hosts[0], wanting(1));
    let lease = w.describer(hosts[0]);
    w.describe(hosts[0], lease, content(64 * MIB, etag("x"), 8));
    for n in &hosts[1..] {
        w.join(*n, wanting(1));
        told.note(&w.said);
    }
    w.pass(Config::default().deal_time);
    told.note(&w.said);
    told
}

/// Hosts from 1 on, dealt out to two sites, trade a task.
fn sites(hosts: u32) -> (World, Told) {
    let mut w = World::new();
    (1..=hosts).for_each(|n| up(&mut w, n, false, Some(site(n)), 4));
    let told = trade(&mut w, &(1..=hosts).collect::<Vec<_>>());
    (w, told)
}

fn all_of(of: u16) -> Vec<(u16, u16)> {
    (0..of).map(|part| (part, of)).collect()
}

fn parts(told: &Told, of: u32) -> Vec<(u16, u16)> {
    told.bridges(of).into_keys().collect()
}

fn most() -> u16 {
    Config::default().bridges_per_site as u16
}

#[test]
fn a_few_of_each_site_bring_a_part_each_and_the_others_stay_among_themselves() {
    let (_, told) = sites(60);
    for of in [0, 1] {
        assert_eq!(parts(&told, of), all_of(most()));
        // And together all of them: each piece is of one part.
        let covering = |piece| (0..most()).filter(|part| Share { part: *part, of: most() }.covers(piece)).count();
        assert!((0..1000).all(|piece| covering(piece) == 1));
    }
    for n in 1..=60 {
        assert!(told.near.get(&n).is_some_and(|near| near.len() >= 8), "{n}: {:?}", told.near.get(&n));
        assert!(told.near[&n].iter().all(|other| site(*other) == site(n)));
        assert!(told.across.get(&n).is_none_or(|far| far.keys().all(|other| site(*other) != site(n))));
    }
}

#[test]
fn where_all_are_in_one_site_or_name_none_they_are_told_the_same() {
    let told = |site: Option<&str>| {
        let mut w = World::new();
        (1..=60).for_each(|n| up(&mut w, n, false, site.map(str::to_owned), 4));
        let mut said = Vec::new();
        w.join(1, wanting(1));
        let lease = w.describer(1);
        w.describe(1, lease, content(64 * MIB, etag("x"), 8));
        (2..=60).for_each(|n| {
            w.join(n, wanting(1));
            said.append(&mut w.said);
        });
        w.secs(40);
        said.append(&mut w.said);
        said
    };
    assert_eq!(told(None), told(Some("here")));
}

#[test]
fn whoever_is_alone_in_a_site_is_linked_across_at_once() {
    let mut w = World::new();
    [1, 3, 5, 2].into_iter().for_each(|n| up(&mut w, n, false, Some(site(n)), 4));
    w.join(1, wanting(1));
    let lease = w.describer(1);
    w.describe(1, lease, content(64 * MIB, etag("x"), 8));
    w.join(3, wanting(1));
    w.join(5, wanting(1));
    w.join(2, wanting(1));
    let mut told = Told::default();
    told.note(&w.said);
    assert_eq!(told.share(2), Some(Share::ALL));
}

#[test]
fn the_part_of_a_host_that_is_gone_or_serves_nobody_any_more_is_brought_by_another() {
    for leaves in [true, false] {
        let (mut w, mut told) = sites(60);
        let old = told.bridges(0);
        let gone: Vec<u32> = old.values().copied().take(3).collect();
        for n in &gone {
            if leaves {
                w.down(*n);
                told.gone(*n);
            } else {
                announce(&mut w, *n, false, Some(site(*n)), 0);
            }
        }
        if leaves {
            w.pass(Config::default().deal_time);
        } else {
            w.secs(10);
        }
        told.note(&w.said);
        assert_eq!(parts(&told, 0), all_of(most()));
        let new = told.bridges(0);
        assert!(gone.iter().all(|n| !new.values().any(|host| host == n)), "{gone:?} {new:?}");
        // The others have theirs still, but for the one whose turn it was.
        let kept = old.iter().filter(|(part, host)| new.get(part) == Some(host)).count();
        assert!(kept >= 4, "{old:?} {new:?}");
    }
}

#[test]
fn one_bridge_makes_room_in_each_term_and_so_do_all_that_fall_behind() {
    let (mut w, mut told) = sites(60);
    let old = told.bridges(0);
    w.secs(10);
    told.note(&w.said);
    let new = told.bridges(0);
    let kept = old.iter().filter(|(part, host)| new.get(part) == Some(host)).count();
    assert_eq!((kept, new.len()), (7, 8));
    let slow: BTreeSet<u32> = new.values().copied().take(4).collect();
    (1..=60).filter(|n| !slow.contains(n)).for_each(|n| w.report(n, 4));
    w.secs(10);
    told.note(&w.said);
    assert!(told.bridges(0).values().all(|host| !slow.contains(host)));
    // What is done needs nobody any more.
    (1..=60).for_each(|n| w.report(n, 8));
    w.secs(60);
    assert!(!w.said.iter().any(|action| matches!(action, Action::Send { message: ToMember::Neighbours { .. }, .. })));
}

#[test]
fn sources_that_name_no_site_are_neighbours_of_all_sites() {
    let mut w = World::new();
    up(&mut w, 99, true, None, 4);
    (1..=40).for_each(|n| up(&mut w, n, false, Some(site(n)), 4));
    let hosts: Vec<u32> = [99].into_iter().chain(1..=40).collect();
    let told = trade(&mut w, &hosts);
    let knows = |n: &u32| told.near.get(n).is_some_and(|near| near.contains(&99));
    for of in [0, 1] {
        assert!((1..=40).filter(|n| n % 2 == of && (knows(n) || told.near[&99].contains(n))).count() >= 3);
    }
    assert!(told.across.get(&99).is_none_or(BTreeMap::is_empty), "to it nobody is across");
    assert!(told.across.values().all(|far| !far.contains_key(&99)));
}

#[test]
fn a_site_in_which_nobody_uploads_or_too_few_do_trades_with_all() {
    for uploaders in [0, 2] {
        let mut w = World::new();
        // Of the even ones only the first few upload.
        (1..=40).for_each(|n| {
            up(&mut w, n, false, Some(site(n)), if n % 2 == 1 || n <= uploaders * 2 { 4 } else { 0 });
        });
        let odd_first: Vec<u32> = (1..=40).step_by(2).chain((2..=40).step_by(2)).collect();
        let told = trade(&mut w, &odd_first);
        for n in (12..=40).step_by(2) {
            let sources = told.near.get(&n).map_or(0, |near| near.iter().filter(|other| *other % 2 == 1).count());
            assert!(sources >= 2, "{uploaders} upload, {n} knows {:?}", told.near.get(&n));
        }
    }
}

#[test]
fn a_seed_that_is_in_a_site_by_itself_is_a_source_for_the_others() {
    let mut w = World::new();
    up(&mut w, 99, true, Some("far".into()), 4);
    (1..=20).for_each(|n| up(&mut w, n, false, Some("here".into()), 4));
    let hosts: Vec<u32> = [99].into_iter().chain(1..=20).collect();
    let told = trade(&mut w, &hosts);
    let linked = (1..=20).filter(|n| told.across.get(n).is_some_and(|far| far.contains_key(&99))).count();
    assert_eq!(linked, usize::from(most()));
}

#[test]
fn who_starves_in_its_site_is_given_neighbours_anywhere() {
    let (mut w, told) = sites(60);
    let lonely = (1..=60).find(|n| told.across.get(n).is_none_or(BTreeMap::is_empty)).unwrap();
    for (starved_ms, any_across) in [(None, false), (Some(20_000), true)] {
        let mut told = Told::default();
        for _ in 0..4 {
            w.say(lonely, ToCoordinator::AskNeighbours { task: task(1), lacking: true, starved_ms });
            told.note(&w.said);
        }
        assert_eq!(told.share(lonely), any_across.then_some(Share::ALL), "starved {starved_ms:?}");
    }
}

#[test]
fn names_beyond_so_many_are_none_and_cut_nobody_off() {
    let mut w = World::new();
    let hosts: Vec<u32> = (1..=200).collect();
    // Half of them invent a name each, the others are of two sites.
    hosts.iter().for_each(|n| {
        let name = if n % 2 == 0 { format!("made-up-{n}") } else { format!("site-{}", n % 4) };
        up(&mut w, *n, false, Some(name), 4);
    });
    let told = trade(&mut w, &hosts);
    let t = w.core.tasks.iter().map(|(_, task)| task).find(|found| found.id == task(1)).unwrap();
    let group = t.groups.values().next().unwrap();
    assert!(group.sites.len() <= SITES_MAX, "{}", group.sites.len());
    assert!(!group.nowhere.is_empty());
    for n in &hosts {
        let count = |of: Option<usize>| of.unwrap_or(0);
        let neighbours = count(told.near.get(n).map(BTreeSet::len)) + count(told.across.get(n).map(BTreeMap::len));
        assert!((2..=40).contains(&neighbours), "{n} has {neighbours}");
    }
}

#[test]
fn a_name_that_is_none_is_not_taken() {
    let mut w = World::new();
    (1..=20).for_each(|n| up(&mut w, n, false, Some(format!("site {}\n", n % 2)), 4));
    let told = trade(&mut w, &(1..=20).collect::<Vec<_>>());
    assert!(told.across.values().all(BTreeMap::is_empty));
}

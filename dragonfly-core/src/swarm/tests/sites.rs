//! Neighbours in other sites: what is asked of them, and that a neighbour near keeps nothing from being asked for for long.

use std::collections::BTreeSet;

use super::*;
use crate::wire::control::Share;

const MINE: Share = Share { part: 0, of: 2 };
const NEAR: u32 = 1;
const FAR: u32 = 2;

/// Names a host of another site, of which a share is to be brought, and lets it take part.
fn join_across(driver: &mut Driver, host: u32, share: Share) {
    let key = HostKey(host);
    driver.put(Input::Neighbours { task: TASK, hosts: vec![key], across: vec![(key, share)] });
    driver.join(host);
}

#[test]
fn another_site_is_asked_for_ones_own_share_of_what_nobody_near_holds_and_then_for_the_rest() {
    let mut driver = Driver::new(Config::default());
    driver.add(16, &[], OPTIONS);
    driver.join(1);
    driver.have(1, 0..1);
    join_across(&mut driver, 2, Share { part: 0, of: 2 });
    let asked = requests(&driver.have(2, 0..16));
    // Pieces 1 to 3 and 8 to 11 are of the share.
    assert_eq!(bring(&mut driver, asked), BTreeSet::from([1, 2, 3, 8, 9, 10, 11]));
    // The others of the site are to bring the rest; they have a second for it.
    assert_eq!(requests(&driver.wait(Duration::from_millis(900))), []);
    let asked = requests(&driver.wait(Duration::from_millis(500)));
    assert_eq!(bring(&mut driver, asked), BTreeSet::from([4, 5, 6, 7, 12, 13, 14, 15]));
}

/// Brings what was asked of host 2, and what is asked of it meanwhile.
fn bring(driver: &mut Driver, mut asked: Vec<(HostKey, RequestId, u32, u32)>) -> BTreeSet<u32> {
    let mut brought = BTreeSet::new();
    while let Some((host, request, first, count)) = asked.pop() {
        assert_eq!((host, count), (HostKey(2), 1), "one at a time while its rate is not known");
        assert!(brought.insert(first), "{first} was asked for twice");
        asked.extend(requests(&driver.put(Input::Proven { host, task: TASK, request, piece: first })));
        asked.extend(requests(&driver.put(Input::Stored { task: TASK, piece: first })));
    }
    brought
}

#[test]
fn what_is_injected_goes_to_another_site_only_if_nobody_is_near() {
    let allotted = |actions: &[Action]| -> BTreeSet<HostKey> {
        let host = |action: &Action| if let Action::Allot { host, .. } = action { Some(*host) } else { None };
        actions.iter().filter_map(host).collect()
    };
    for near in [false, true] {
        let mut driver = Driver::new(Config::default());
        let all: Vec<u32> = (0..64).collect();
        driver.add(64, &all, TaskOptions { injector: true, ..OPTIONS });
        let mut actions = if near { driver.join(1) } else { Vec::new() };
        let key = HostKey(2);
        driver.put(Input::Neighbours { task: TASK, hosts: vec![key], across: vec![(key, Share::ALL)] });
        actions.extend(driver.join(2));
        assert_eq!(allotted(&actions), BTreeSet::from([if near { HostKey(1) } else { HostKey(2) }]));
    }
}

/// A host of our site says that it holds everything, one across does.
fn between(share: Share) -> (Driver, Vec<(HostKey, RequestId, u32, u32)>) {
    let mut driver = Driver::new(Config::default());
    driver.add(64, &[], OPTIONS);
    driver.join(NEAR);
    let asked = requests(&driver.have(NEAR, 0..64));
    join_across(&mut driver, FAR, share);
    assert_eq!(requests(&driver.have(FAR, 0..64)), [], "what is held near is not asked for across");
    (driver, asked)
}

/// Of these requests those to a host.
fn of(host: u32, asked: &[(HostKey, RequestId, u32, u32)]) -> Vec<(HostKey, RequestId, u32, u32)> {
    asked.iter().filter(|(to, ..)| *to == HostKey(host)).copied().collect()
}

/// Lets a host deliver what was asked of it, all within `each` a piece; what was asked meanwhile.
fn deliver(
    driver: &mut Driver,
    asked: &[(HostKey, RequestId, u32, u32)],
    each: Duration,
) -> Vec<(HostKey, RequestId, u32, u32)> {
    let mut next = Vec::new();
    for (host, request, first, count) in asked.iter().copied() {
        for piece in first..first + count {
            next.extend(requests(&driver.wait(each)));
            driver.put(Input::Received { host, request, bytes: PIECE as u32 });
            next.extend(requests(&driver.put(Input::Proven { host, task: TASK, request, piece })));
            next.extend(requests(&driver.put(Input::Stored { task: TASK, piece })));
        }
    }
    next
}

#[test]
fn a_host_near_that_claims_everything_and_sends_nothing_is_waited_for_a_few_seconds() {
    for share in [MINE, Share::NONE] {
        let (mut driver, asked) = between(share);
        assert!(!asked.is_empty());
        assert_eq!(of(FAR, &requests(&driver.wait(Duration::from_secs(3)))), []);
        let asked = of(FAR, &requests(&driver.wait(Duration::from_secs(3))));
        assert!(!asked.is_empty(), "{share:?}");
    }
}

#[test]
fn a_host_near_that_trickles_is_waited_for_no_longer() {
    for share in [MINE, Share::NONE] {
        let (mut driver, near) = between(share);
        let (host, request, ..) = near[0];
        let mut brought = 0;
        for step in 1..60 {
            let mut asked = requests(&driver.wait(Duration::from_millis(250)));
            // Just enough of its first piece that it is not silent.
            if step % 4 == 0 {
                asked.extend(requests(&driver.put(Input::Received { host, request, bytes: 16 << 10 })));
            }
            let mut asked = of(FAR, &asked);
            while !asked.is_empty() {
                brought += asked.iter().map(|(.., count)| count).sum::<u32>();
                asked = of(FAR, &deliver(&mut driver, &asked, Duration::from_millis(20)));
            }
        }
        // One piece is asked of who is across, to know what it does; then our share, what was asked near and, as nothing comes
        // then, the rest.
        assert!(brought >= 32, "{share:?}: {brought}");
    }
}

#[test]
fn a_host_near_that_delivers_is_not_left_for_one_across_that_is_as_fast() {
    let (mut driver, mut asked) = between(MINE);
    let mut across = 0;
    for _ in 0..60 {
        across += of(FAR, &asked).iter().map(|(.., count)| count).sum::<u32>();
        asked = deliver(&mut driver, &asked, Duration::from_millis(20));
        asked.extend(requests(&driver.wait(Duration::from_millis(250))));
    }
    assert_eq!(driver.core.have(TASK).map(HaveMap::held), Some(64));
    assert!(across <= 1, "{across} pieces crossed");
}

#[test]
fn who_has_nobody_near_or_to_whom_nothing_comes_asks_for_what_others_were_to_bring() {
    for near in [false, true] {
        let mut driver = Driver::new(Config::default());
        driver.add(16, &[], OPTIONS);
        if near {
            driver.join(NEAR);
        }
        join_across(&mut driver, FAR, Share::NONE);
        let at_once = requests(&driver.have(FAR, 0..16));
        assert_eq!(at_once.is_empty(), near);
        let later = requests(&driver.wait(Duration::from_secs(7)));
        assert!(!near || !later.is_empty());
    }
}

#[test]
fn who_is_named_anew_is_what_it_was_named_last() {
    let (mut driver, _) = between(MINE);
    let (near, far) = (HostKey(NEAR), HostKey(FAR));
    let actions = driver.put(Input::Neighbours { task: TASK, hosts: vec![far], across: Vec::new() });
    assert_eq!(requests(&actions), []);
    assert!(!of(FAR, &requests(&driver.wait(Duration::from_secs(1)))).is_empty(), "now it is near, and idle");
    driver.put(Input::Neighbours { task: TASK, hosts: vec![near], across: vec![(near, MINE), (far, MINE)] });
    driver.wait(Duration::from_secs(1));
}

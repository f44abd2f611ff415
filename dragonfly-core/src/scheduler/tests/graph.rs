//! Who trades with whom.

use std::collections::{BTreeMap, VecDeque};

use super::*;

type Graph = BTreeMap<PeerId, BTreeSet<PeerId>>;

/// The graph that members were told of: an edge where either side knows the other.
fn note(graph: &mut Graph, said: &[Action]) {
    for action in said {
        if let Action::Send { to, message: ToMember::Neighbours { hosts, .. } } = action {
            for host in hosts {
                graph.entry(*to).or_default().insert(host.peer);
                graph.entry(host.peer).or_default().insert(*to);
            }
        }
    }
}

fn reached(graph: &Graph, from: PeerId) -> usize {
    let (mut seen, mut queue) = (BTreeSet::from([from]), VecDeque::from([from]));
    while let Some(peer) = queue.pop_front() {
        for &next in graph.get(&peer).into_iter().flatten() {
            if seen.insert(next) {
                queue.push_back(next);
            }
        }
    }
    seen.len()
}

/// `hosts` hosts in two sites; all wait for the first answer (`batch`) or come one by one.
fn swarm(hosts: u32, batch: bool) -> (World, Graph) {
    let (mut w, mut graph) = (World::new(), Graph::new());
    (1..=hosts).for_each(|n| w.up_with(n, false, "a", [10, 0, u8::from(n > hosts / 2), n as u8], 4));
    w.join(1, wanting(1));
    let lease = w.describer(1);
    let answer = content(64 * MIB, etag("x"), 8);
    if !batch {
        w.describe(1, lease, answer.clone());
    }
    for n in 2..=hosts {
        w.join(n, wanting(1));
        note(&mut graph, &w.said);
    }
    if batch {
        w.describe(1, lease, answer);
        note(&mut graph, &w.said);
    }
    // Those who joined are given what they lack a moment later.
    w.pass(Config::default().deal_time);
    note(&mut graph, &w.said);
    (w, graph)
}

#[test]
fn the_graph_is_connected_and_degrees_are_near_each_other() {
    for batch in [false, true] {
        for hosts in 2..=32 {
            let (_, graph) = swarm(hosts, batch);
            assert_eq!(reached(&graph, peer(1)), hosts as usize, "{hosts} hosts, batch {batch}");
            let degrees = || graph.values().map(BTreeSet::len);
            assert!(degrees().min().unwrap() >= 8.min(hosts as usize - 1));
            // Host 1 is the only source, so that all want it.
            let others = graph.iter().filter(|(host, _)| **host != peer(1)).map(|(_, others)| others.len());
            assert!(others.clone().max().unwrap() <= 20, "{hosts}: {:?}", others.max());
            if hosts <= 13 {
                assert!(degrees().all(|degree| degree == hosts as usize - 1), "everyone trades with everyone");
            }
        }
    }
}

#[test]
fn many_hosts_are_connected_and_each_is_near_most_of_its_neighbours() {
    let (_, graph) = swarm(250, false);
    assert_eq!(reached(&graph, peer(1)), 250);
    let near = |a: &PeerId, b: &&PeerId| (*a <= peer(125)) == (**b <= peer(125));
    let (all, same): (usize, usize) = graph
        .iter()
        .map(|(a, others)| (others.len(), others.iter().filter(|b| near(a, b)).count()))
        .fold((0, 0), |sum, n| (sum.0 + n.0, sum.1 + n.1));
    assert!(same * 10 >= all * 6, "{same} of {all}");
}

#[test]
fn the_first_members_are_no_cluster_for_they_are_given_few_neighbours_until_others_are_there() {
    let mut w = World::new();
    (1..=60).for_each(|n| w.up_with(n, false, "a", [10, 0, 0, n as u8], 4));
    w.join(1, wanting(1));
    let lease = w.describer(1);
    w.describe(1, lease, content(64 * MIB, etag("x"), 8));
    let mut graph = Graph::new();
    for n in 2..=60 {
        w.join(n, wanting(1));
        let at_once = w.neighbours(n).map_or(0, |hosts| hosts.len());
        assert!(at_once <= Config::default().neighbours_at_join, "{n}: {at_once}");
        note(&mut graph, &w.said);
    }
    w.pass(Config::default().deal_time);
    note(&mut graph, &w.said);
    // Of the 120 pairs among the first sixteen.
    let first: BTreeSet<PeerId> = (1..=16).map(peer).collect();
    let pairs = first.iter().map(|host| graph[host].intersection(&first).count()).sum::<usize>() / 2;
    assert!(pairs < 70, "{pairs} pairs");
    // Nothing is dealt again to those who have enough.
    w.pass(Config::default().deal_time * 3);
    assert_eq!(w.said.iter().filter(|action| matches!(action, Action::Send { .. })).count(), 0);
}

/// What others say goes between: one leaves meanwhile, and another comes and has its place in the books.
#[test]
fn many_who_came_together_are_dealt_a_few_in_one_event() {
    const HOSTS: u32 = 200;
    let mut w = World::new();
    (1..=HOSTS).for_each(|n| w.peer_up(n));
    w.join(1, wanting(1));
    let lease = w.describer(1);
    w.describe(1, lease, content(64 * MIB, etag("x"), 8));
    let mut graph = Graph::new();
    for n in 2..=HOSTS {
        w.join(n, wanting(1));
        note(&mut graph, &w.said);
    }
    w.now += Config::default().deal_time;
    let (mut events, mut told) = (0, 0);
    while w.core.next_deadline().is_some_and(|at| at <= w.now) {
        w.step(Input::Deadline);
        let said = w.said.iter().filter(|action| matches!(action, Action::Send { .. })).count();
        assert!(said <= 64, "{said} messages in one event");
        let is_7 = |named: &Neighbour| named.peer == peer(7);
        let names_7 = |action: &Action| matches!(action, Action::Send { message: ToMember::Neighbours { hosts, .. }, .. } if hosts.iter().any(is_7));
        assert!(events < 10 || !w.said.iter().any(names_7), "it has left");
        note(&mut graph, &w.said);
        (events, told) = (events + 1, told + said);
        if events == 10 {
            w.down(7);
            w.peer_up(300);
            w.join(300, wanting(1));
            assert_eq!(w.neighbours(300).map(|hosts| hosts.len()), Some(Config::default().neighbours_at_join));
            note(&mut graph, &w.said);
        }
    }
    // Eight are given some in one event, and sixty-four told.
    let gives = HOSTS.div_ceil(8) as usize;
    assert!((gives..=gives + told.div_ceil(64)).contains(&events), "{events}");
    assert!(told >= HOSTS as usize / 2, "each is told once of all that it got: {told}");
    graph.remove(&peer(7));
    let least = graph.values().map(BTreeSet::len).min().unwrap();
    w.pass(Config::default().deal_time * 2);
    note(&mut graph, &w.said);
    assert!(least >= 4 && graph[&peer(300)].len() >= 12, "{least}");
    assert!(graph.iter().filter(|(_, others)| others.len() < 11).count() <= 1, "{graph:?}");
}

#[test]
fn a_newcomer_meets_a_source_first() {
    let (mut w, _) = swarm(25, true);
    w.up_with(99, false, "a", [10, 9, 9, 9], 4);
    w.join(99, wanting(1));
    let neighbours = w.neighbours(99).unwrap();
    assert!(neighbours.len() <= 12);
    assert_eq!(neighbours[0], peer(1), "the one that fetches");
}

#[test]
fn who_asks_gets_others_and_those_left_alone_are_given_some() {
    let (mut w, graph) = swarm(40, true);
    let known = &graph[&peer(5)];
    w.say(5, ToCoordinator::AskNeighbours { task: task(1), lacking: false, starved_ms: None });
    let news = w.neighbours(5).unwrap();
    assert!(!news.is_empty() && news.iter().all(|peer| !known.contains(peer)));
    // Everyone but host 40 and those it does not know goes.
    let (mut w, graph) = swarm(40, true);
    for n in (1..40).filter(|&n| graph[&peer(40)].contains(&peer(n))) {
        w.down(n);
    }
    assert!(!w.neighbours(40).unwrap().is_empty());
}

#[test]
fn a_host_that_nobody_can_dial_is_told_to_those_it_can_dial() {
    let mut w = World::new();
    for n in 1..=3 {
        w.step(Input::HostUp { peer: peer(n), seed_role: false, tenant: "a".into(), seen_ip: None, local: false });
        let record = (n == 3).then(|| Signed(vec![1]));
        w.say(n, ToCoordinator::Announce(Announce { version: 1, record, seed: false, slots: 1, site: None }));
    }
    w.join(1, wanting(1));
    let lease = w.describer(1);
    w.describe(1, lease, content(MIB, etag("x"), 1));
    w.join(2, wanting(1));
    assert_eq!(w.neighbours(2), None, "neither can dial the other");
    w.join(3, wanting(1));
    assert_eq!(w.neighbours(3).map(|hosts| hosts.len()), Some(2));
    assert_eq!((w.neighbours(1), w.neighbours(2)), (Some(vec![peer(3)]), Some(vec![peer(3)])));
}

//! Networks that are real enough to break: members that know nobody, and members that are cut off from each other.

use std::net::SocketAddr;

use dragonfly_testkit::{Origin, Resource};

use super::{SEED, all_finish, everyone_knows_everyone, fetch};
use crate::harness::link::Link;
use crate::harness::{Daemon, wait_for};

const LENGTH: u64 = 24 << 20;
const RATE: u64 = 12 << 20;

/// Small files that tell whether a network is one, and how many in a row show it: each has a coordinator of its own.
const SMALL: u64 = 1000;
const AGREED: u32 = 8;
/// A bound on them; a round takes tenths of a second, or as long as a member looks for a coordinator.
const SMALL_MAX: u32 = 500;
/// A bound on large ones after which the network has to be one.
const LARGE_MAX: u32 = 4;

/// A token whose only address is dead by now.
fn token_of_nowhere() -> String {
    Daemon::with_role("peer").start().token("peer")
}

/// Four cold daemons with nobody to meet find each other by mDNS and share one copy. A stranger on the same link,
/// who says there that he is there, gets nothing from them, and they nothing from him.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_know_nobody_find_each_other_on_their_link() {
    let Some(mut link) = Link::new() else { return };
    let origin = Origin::builder().address(SocketAddr::from((link.origin(), 0))).start().await.unwrap();
    origin.set("/file", Resource::seeded(SEED, LENGTH));
    let url = origin.url("/file");
    let work = tokio::task::spawn_blocking(move || {
        let (token, other) = (token_of_nowhere(), token_of_nowhere());
        let mut start = |token: &str| {
            let place = link.place(true);
            Daemon::with_role("peer").at(&place).token(token).args(["--mdns"]).start()
        };
        let stranger = start(&other);
        let members: Vec<Daemon> = (0..4).map(|_| start(&token)).collect();
        everyone_knows_everyone(&members.iter().collect::<Vec<_>>());
        let clients = members.iter().map(|daemon| (daemon, fetch(daemon, &url))).collect();
        all_finish(clients, LENGTH);
        let shared = origin.body_bytes("/file");
        // He is alone on the link: what he wants he takes from the origin.
        all_finish(vec![(&stranger, fetch(&stranger, &url))], LENGTH);
        let alone = origin.body_bytes("/file") - shared;
        let known = stranger.metric("dragonfly_members");
        drop((members, stranger, link));
        println!("4 cold members: {:.3} copies; a stranger: {:.3}", copies(shared), copies(alone));
        assert_eq!((shared, alone, known), (LENGTH, LENGTH, 0), "{:?}", origin.log());
    });
    work.await.unwrap();
}

/// Six members that know each other, three on either side of where the link can be cut.
fn six_without_servers(link: &mut Link) -> Vec<Daemon> {
    let first = Daemon::with_role("peer").at(&link.place(true)).start();
    let token = first.token("peer");
    let mut daemons = vec![first];
    for at in 1..6 {
        daemons.push(Daemon::with_role("peer").at(&link.place(at < 3)).token(&token).start());
    }
    everyone_knows_everyone(&daemons.iter().collect::<Vec<_>>());
    daemons
}

/// A link that can be cut, and an origin on it with a file.
async fn link_with_origin() -> Option<(Link, Origin, String)> {
    let link = Link::new()?;
    let origin = Origin::builder().address(SocketAddr::from((link.origin(), 0))).start().await.unwrap();
    origin.set("/file", Resource::seeded(SEED, LENGTH).rate(RATE));
    let url = origin.url("/file");
    Some((link, origin, url))
}

/// The same, whole again while most are still without: everybody finishes, for less than a copy for each half.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_is_split_and_healed_in_mid_download() {
    let Some((mut link, origin, url)) = link_with_origin().await else { return };
    let work = tokio::task::spawn_blocking(move || {
        let daemons = six_without_servers(&mut link);
        let clients = daemons.iter().map(|daemon| (daemon, fetch(daemon, &url))).collect();
        let sent = |parts: u64| {
            wait_for("the origin to send", || (origin.body_bytes("/file") >= parts * LENGTH / 4).then_some(()))
        };
        sent(1);
        link.cut();
        sent(3);
        link.heal();
        all_finish(clients, LENGTH);
        let sent = origin.body_bytes("/file");
        drop((daemons, link));
        println!("split and healed: {:.3} copies", copies(sent));
        assert!(sent <= 2 * LENGTH, "{sent} of {LENGTH}: {:?}", origin.log());
    });
    work.await.unwrap();
}

/// A network without servers is split in mid-download, in silence: he who coordinates and fetches is a black hole for
/// one half. Both halves finish; healed, they agree again after a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_is_split_in_mid_download() {
    let Some((mut link, origin, url)) = link_with_origin().await else { return };
    let work = tokio::task::spawn_blocking(move || {
        let daemons = six_without_servers(&mut link);
        let clients = daemons.iter().map(|daemon| (daemon, fetch(daemon, &url))).collect();
        wait_for("the middle of the download", || (origin.body_bytes("/file") >= LENGTH / 2).then_some(()));
        link.cut();
        all_finish(clients, LENGTH);
        link.heal();
        // Until each has noticed they may go different ways, and then a file costs more than one copy.
        let (mut in_a_row, mut number, mut large) = (0, 0, 0);
        let started = std::time::Instant::now();
        let healed = loop {
            number += 1;
            assert!(number <= SMALL_MAX, "the halves do not become one");
            if one_copy(&daemons, &origin, &format!("/small{number}"), SMALL) {
                in_a_row += 1;
            } else {
                in_a_row = 0;
            }
            if in_a_row == AGREED {
                let one_again = started.elapsed().as_secs_f64();
                println!("one again after {number} small files, {one_again:.1} s");
                large += 1;
                let path = format!("/large{large}");
                let one = one_copy(&daemons, &origin, &path, LENGTH);
                let bytes = origin.body_bytes(&path);
                println!("healed: {:.3} copies", copies(bytes));
                assert!(bytes <= 2 * LENGTH, "{bytes} of {LENGTH}");
                if one {
                    break bytes;
                }
                // Somebody's session, that outlived the split on one side alone, had not been needed yet.
                assert!(large < LARGE_MAX, "work is done twice after healing");
                in_a_row = 0;
            }
        };
        let split = origin.body_bytes("/file");
        drop((daemons, link));
        println!("split: {:.3} copies; healed: {:.3}", copies(split), copies(healed));
        assert!(split <= 2 * LENGTH, "{split} of {LENGTH}");
    });
    work.await.unwrap();
}

fn copies(bytes: u64) -> f64 {
    bytes as f64 / LENGTH as f64
}

/// Has everybody fetch a new file, and says whether one copy of it left the origin.
fn one_copy(daemons: &[Daemon], origin: &Origin, path: &str, length: u64) -> bool {
    origin.set(path, Resource::seeded(SEED, length));
    remove_outputs(daemons);
    let url = origin.url(path);
    all_finish(daemons.iter().map(|daemon| (daemon, fetch(daemon, &url))).collect(), length);
    origin.body_bytes(path) == length
}

fn remove_outputs(daemons: &[Daemon]) {
    daemons.iter().for_each(|daemon| std::fs::remove_file(daemon.dir().join("output")).unwrap());
}

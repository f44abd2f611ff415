//! Content that hosts read with credentials of their own, where the operator says that members may have it.

use std::fs;

use dragonfly_testkit::{Resource, content};

use super::SEED;
use crate::harness::{Daemon, Done, TestOrigin, run};

const LENGTH: u64 = 3 << 20;

/// Each host that may read it has the credential in its own settings. It leaves its server once, and whoever is a member has
/// it, as the operator said; a host that was not told so keeps what it reads to itself, and fetches for nobody.
#[test]
fn what_the_operator_lists_is_shared_and_nothing_else() {
    let origin = TestOrigin::start();
    let address = origin.origin.address();
    let (listed, own) = ("/listed.bin", "/own.bin");
    for path in [listed, own] {
        origin.set(path, Resource::seeded(SEED, LENGTH).basic_auth("alice", "s3cret-7"));
    }
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "s3cret-7\n").unwrap();
    let settings =
        [format!("webdav://{address}.user=alice"), format!("webdav://{address}.secret-file={}", secret.display())];
    let with = |role: &str, settings: &[String]| {
        let given: Vec<&str> = settings.iter().flat_map(|setting| ["--storage", setting.as_str()]).collect();
        Daemon::with_role(role).args(given)
    };
    let get = |daemon: &Daemon, path: &str, output: &str| -> Done {
        let url = format!("webdav://{address}{path}");
        run(daemon.dfget_command([&url]).args(["-O", output, "--json", "--timeout", "20s"]))
    };
    let is_whole = |daemon: &Daemon, output: &str| {
        fs::read(daemon.dir().join(output)).unwrap() == content::bytes(SEED, 0, LENGTH as usize)
    };

    // All list it: one copy for all, whoever holds the lease, and one that has no credential has it from the others.
    let list = format!("webdav://{address}");
    let first = with("scheduler,seed", &settings).args(["--allow-origin", &list]).start();
    let readers: Vec<Daemon> =
        (0..2).map(|_| with("peer", &settings).args(["--allow-origin", &list]).join(&first).start()).collect();
    let none = with("peer", &[]).args(["--allow-origin", &list]).join(&first).start();
    for daemon in readers.iter().chain([&none]) {
        let done = get(daemon, listed, "listed");
        assert!(done.is_code(0), "{done:?}\n{}", daemon.log());
        assert!(is_whole(daemon, "listed"));
    }
    assert_eq!(origin.origin.body_bytes(listed), LENGTH, "one copy for all");

    // Nobody lists it: each reads for itself, and whoever has no credential has nothing.
    let first = with("scheduler,seed", &settings).start();
    let readers: Vec<Daemon> = (0..2).map(|_| with("peer", &settings).join(&first).start()).collect();
    let none = with("peer", &[]).join(&first).start();
    for (number, daemon) in readers.iter().enumerate() {
        let done = get(daemon, own, "own");
        assert!(done.is_code(0), "{done:?}\n{}", daemon.log());
        assert!(is_whole(daemon, "own"));
        assert_eq!(origin.origin.body_bytes(own), LENGTH * (number as u64 + 1), "a copy for each");
    }
    let refused = get(&none, own, "own");
    assert!(refused.is_code(1), "{refused:?}");
    assert!(!none.dir().join("own").exists());
    assert_eq!(origin.origin.body_bytes(own), LENGTH * 2);
    for daemon in readers.iter().chain([&first]) {
        assert_eq!(daemon.metric("dragonfly_peer_sent_bytes_total"), 0, "{}", daemon.log());
        assert!(!daemon.log().contains("s3cret-7"));
    }
}

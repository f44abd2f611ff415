//! Trouble of the swarm before the first byte: the server's own answer is passed on, whole and checked.

use std::time::Duration;

use bytes::Bytes;
use dragonfly_core::gateway::GatewayConfig;
use dragonfly_testkit::{Resource, content};

use super::{Gateways, sha256};
use crate::harness::{Network, SEED};

const LENGTH: u64 = (2 << 20) + 1000;

/// A mirror, and a proxy for packages, that wait for a moment only.
fn config(network: &Network) -> GatewayConfig {
    let mut config = GatewayConfig::default();
    config.patience = Duration::from_secs(4);
    config.rules = vec!["swarm:\\.deb$".parse().unwrap()];
    config.registry_default = Some(network.origin.url("/").parse().unwrap());
    config
}

fn bytes() -> Bytes {
    content::bytes(SEED, 0, LENGTH as usize)
}

/// The first body says nothing for good, which is the swarm's. Later ones do.
fn silent(seed: u64) -> Resource {
    Resource::seeded(seed, LENGTH).stall_after(0, 1)
}

fn serve_blob(gateways: &Gateways, seed: u64, digest: &str) -> String {
    let path = format!("/v2/lib/a/blobs/{digest}");
    gateways.network.origin.set(&path, silent(seed).etag(format!("\"{digest}\"")).no_last_modified());
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_before_the_first_byte_is_the_servers_own_answer() {
    let gateways = Gateways::start(config).await;
    let blob = serve_blob(&gateways, SEED, &sha256(&bytes()));
    let package = gateways.network.serve("/a.deb", silent(SEED));
    let before = |path: &str| gateways.network.requests(path).len();
    for (number, (uri, path)) in [(&blob, &*blob), (&package, "/a.deb")].into_iter().enumerate() {
        assert_eq!(before(path), 0);
        let answer = gateways.get(0, uri, &[("authorization", "Bearer mine")]).await;
        assert_eq!(answer.header("x-dragonfly-task-id"), None, "{answer:?}");
        assert_eq!(answer.header("content-length"), Some(&*LENGTH.to_string()));
        let (status, body) = answer.whole();
        assert_eq!((status, body == bytes()), (200, true), "{uri}");
        let counts = gateways.gateways[0].0.counts();
        let done = number as u64 + 1;
        assert_eq!((counts.fallbacks, counts.passed, counts.swarm, counts.continued), (done, done, 0, 0), "{uri}");
        // The swarm had none of them: not a byte was sent twice.
        assert_eq!(gateways.network.origin.body_bytes(path), LENGTH, "{uri}");
        let asked = gateways.network.requests(path);
        let last = asked.last().unwrap();
        assert_eq!((&*last.method, last.header("authorization")), ("GET", Some("Bearer mine")), "as the client");
    }
    gateways.stop().await;
}

/// A part of it, too: of that alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_is_the_servers_own_where_the_swarm_says_nothing() {
    let gateways = Gateways::start(config).await;
    let blob = serve_blob(&gateways, SEED, &sha256(&bytes()));
    let answer = gateways.get(0, &blob, &[("range", "bytes=1000000-1000999")]).await;
    assert_eq!(answer.header("content-range"), Some(&*format!("bytes 1000000-1000999/{LENGTH}")));
    assert_eq!(answer.whole(), (206, bytes().slice(1_000_000..1_001_000)));
    assert_eq!(gateways.network.origin.body_bytes(&blob), 1000);
    assert_eq!(gateways.gateways[0].0.counts().fallbacks, 1);
    gateways.stop().await;
}

/// What the registry itself gives is checked like what comes through the swarm: its last bytes do not come where the whole
/// is not what its digest says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_bytes_of_the_server_are_never_a_whole_answer() {
    let gateways = Gateways::start(config).await;
    let blob = serve_blob(&gateways, SEED + 1, &sha256(&bytes()));
    let answer = gateways.get(0, &blob, &[]).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-dragonfly-task-id")), (200, None));
    assert_eq!(answer.header("content-length"), Some(&*LENGTH.to_string()));
    assert!(answer.is_cut(), "{answer:?}");
    let counts = gateways.gateways[0].0.counts();
    assert_eq!((counts.fallbacks, counts.swarm), (1, 0));
    gateways.stop().await;
}

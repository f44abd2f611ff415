//! What clients say in `X-Dragonfly-` headers.

use std::collections::BTreeSet;

use dragonfly_core::gateway::GatewayConfig;
use dragonfly_testkit::{Origin, Resource, content};

use super::{Gateways, sha256};
use crate::harness::SEED;

const LENGTH: u64 = (1 << 20) + 77;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tag_and_application_make_another_task() {
    let gateways = Gateways::start(|_| {
        let mut config = GatewayConfig::default();
        config.rules = vec!["swarm:\\.deb$".parse().unwrap()];
        config
    })
    .await;
    let origin = &gateways.network.origin;
    let url = gateways.network.serve("/a.deb", Resource::seeded(SEED, LENGTH));
    let (tag, application) = ("x-dragonfly-tag", "x-dragonfly-application");
    let output = gateways.network.output("named-by-a-client");
    let written = output.to_str().unwrap();
    let said: [&[(&str, &str)]; 5] =
        [&[], &[(tag, "a")], &[(tag, "b")], &[(application, "a")], &[(tag, "a"), (application, "a")]];
    let mut tasks = BTreeSet::new();
    for said in said {
        let mut same = BTreeSet::new();
        // How urgent it is, and where a daemon of the original's would write it, make no other task.
        let more: [&[(&str, &str)]; 3] = [
            &[],
            &[("x-dragonfly-priority", "1")],
            &[("x-dragonfly-output-path", written), ("x-dragonfly-priority", "x")],
        ];
        for (host, more) in [(0, more[0]), (0, more[1]), (1, more[2])] {
            let answer = gateways.get(host, &url, &[said, more].concat()).await;
            same.insert(answer.header("x-dragonfly-task-id").unwrap().to_owned());
            let (status, body) = answer.whole();
            assert_eq!((status, body == content::bytes(SEED, 0, LENGTH as usize)), (200, true), "{said:?} {more:?}");
        }
        assert_eq!(same.len(), 1, "{said:?}");
        tasks.extend(same);
    }
    assert_eq!(tasks.len(), 5, "each of its own: {tasks:?}");
    assert_eq!(origin.body_bytes("/a.deb"), 5 * LENGTH, "one copy each");
    assert!(!output.exists(), "no client names a path on disk");
    let told =
        |asked: &dragonfly_testkit::Logged| asked.headers.iter().any(|(name, _)| name.starts_with("x-dragonfly-"));
    assert!(!origin.log().iter().any(told), "that is between the client and the gateway");
    gateways.stop().await;
}

/// As clients of the original name the registry behind a mirror.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_names_the_registry() {
    let other = Origin::start().await.unwrap();
    let gateways = Gateways::start(|network| {
        let mut config = GatewayConfig::default();
        config.registries = vec![
            ("registry.test".to_owned(), network.origin.url("/").parse().unwrap()),
            ("other.test:5000".to_owned(), other.url("/").parse().unwrap()),
        ];
        config
    })
    .await;
    let bytes = content::bytes(SEED, 0, LENGTH as usize);
    let digest = sha256(&bytes);
    let path = format!("/v2/lib/a/blobs/{digest}");
    let output = gateways.network.output("named-by-a-client");
    for (names, origin) in [
        (["registry.test", "https://registry.test"], &gateways.network.origin),
        (["other.test:5000", "https://other.test:5000/"], &other),
    ] {
        origin.set(&path, Resource::seeded(SEED, LENGTH).etag(format!("\"{digest}\"")).no_last_modified());
        for (host, name) in names.into_iter().enumerate() {
            let said = [("x-dragonfly-registry", name), ("x-dragonfly-output-path", output.to_str().unwrap())];
            let answer = gateways.get(host, &path, &said).await;
            assert!(answer.header("x-dragonfly-task-id").is_some(), "{name}: {answer:?}");
            let (status, body) = answer.whole();
            assert_eq!((status, body == bytes), (200, true), "{name}");
        }
        assert_eq!(
            origin.counters().requests.get("HEAD"),
            Some(&2),
            "each host asked whether it may, there: {names:?}"
        );
    }
    for name in ["a/b", "", "a b"] {
        assert_eq!(gateways.get(0, &path, &[("x-dragonfly-registry", name)]).await.whole().0, 400, "{name:?}");
    }
    assert_eq!(gateways.get(0, &path, &[]).await.whole().0, 404, "there is no default one");
    assert!(!output.exists(), "no client names a path on disk");
    gateways.stop().await;
}

//! Registries that send their clients to a server of tokens: what they say passes, both ways.

use dragonfly_core::gateway::GatewayConfig;
use dragonfly_testkit::{Resource, content};

use super::{Gateways, sha256};
use crate::harness::{Network, SEED};

const LENGTH: u64 = (3 << 20) + 1000;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

const CHALLENGE: &str =
    "Bearer realm=\"https://auth.registry.test/token\",service=\"registry.test\",scope=\"repository:lib/a:pull\"";

const DENIED: &str = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;

const TOKEN: &str = "Bearer granted";

fn mirrors(network: &Network) -> GatewayConfig {
    let mut config = GatewayConfig::default();
    config.registry_default = Some(network.origin.url("/").parse().unwrap());
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_challenge_passes_and_the_token_that_it_leads_to() {
    let gateways = Gateways::start(mirrors).await;
    let origin = &gateways.network.origin;
    let bytes = content::bytes(SEED, 0, LENGTH as usize);
    let text = "{\"schemaVersion\": 2}";
    let (blob_digest, manifest_digest) = (sha256(&bytes), sha256(text.as_bytes()));
    let guarded = |resource: Resource, digest: &str| {
        let resource = resource.etag(format!("\"{digest}\"")).no_last_modified();
        let resource = resource.header("docker-content-digest", digest).header("content-type", MANIFEST);
        resource.bearer_auth("granted", CHALLENGE).refusal_body("application/json", DENIED)
    };
    let (tag, by_digest) = ("/v2/lib/a/manifests/v1", format!("/v2/lib/a/manifests/{manifest_digest}"));
    let blob = format!("/v2/lib/a/blobs/{blob_digest}");
    for path in [tag, &by_digest] {
        origin.set(path, guarded(Resource::bytes(text), &manifest_digest));
    }
    origin.set(&blob, guarded(Resource::seeded(SEED, LENGTH), &blob_digest));
    let refused = async |host: usize, headers: &[(&str, &str)]| {
        for path in [tag, &*by_digest, &*blob] {
            let answer = gateways.get(host, path, headers).await;
            assert_eq!(answer.header("www-authenticate"), Some(CHALLENGE), "{path} {headers:?}");
            assert_eq!(answer.header("content-type"), Some("application/json"));
            assert_eq!(answer.whole(), (401, DENIED.into()), "{path} {headers:?}");
        }
    };
    // Nothing is there yet, and everything.
    for held in [false, true] {
        for host in 0..2 {
            refused(host, &[]).await;
            refused(host, &[("authorization", "Bearer forged")]).await;
        }
        for host in 0..2 {
            let answer = gateways.get(host, tag, &[("authorization", TOKEN), ("accept", MANIFEST)]).await;
            assert_eq!(answer.header("docker-content-digest"), Some(&*manifest_digest));
            assert_eq!(answer.whole(), (200, text.into()), "{held} {host}");
            let (status, body) = gateways.get(host, &blob, &[("authorization", TOKEN)]).await.whole();
            assert_eq!((status, body == bytes), (200, true), "{held} {host}");
        }
        assert_eq!(origin.body_bytes(&blob), LENGTH, "one copy: the other host's came from the first");
    }
    let manifests = origin.body_bytes(tag) + origin.body_bytes(&by_digest);
    assert_eq!(manifests, text.len() as u64, "one copy");
    // The tag was asked for each time, as each client: twice by those with the token, at each host; by the others a GET
    // follows, for the registry's own words.
    let asked = gateways.network.requests(tag);
    let count = |method: &str, authorization: Option<&str>| {
        let is = |asked: &&dragonfly_testkit::Logged| {
            asked.method == method && asked.header("authorization") == authorization
        };
        asked.iter().filter(is).count()
    };
    for (authorization, gets) in [(Some(TOKEN), 0), (Some("Bearer forged"), 4), (None, 4)] {
        assert_eq!(
            (count("HEAD", authorization), count("GET", authorization)),
            (4, gets),
            "{authorization:?}: {asked:?}"
        );
    }
    assert_eq!(asked.len(), 20, "nobody else asked: {asked:?}");
    for (gateway, _) in &gateways.gateways {
        assert_eq!(gateway.counts().fallbacks, 0);
    }
    gateways.stop().await;
}

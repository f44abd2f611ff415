//! What clients are told that cannot have what they ask for: by the server in its own words, by the gateway in its.

use bytes::Bytes;
use dragonfly_core::gateway::GatewayConfig;
use dragonfly_testkit::{Origin, Resource};
use http::Request;
use http_body_util::Full;

use super::{Gateways, sha256};
use crate::harness::Network;

const DENIED: &str = r#"{"errors":[{"code":"DENIED","message":"not for you"}]}"#;

fn config(network: &Network) -> GatewayConfig {
    let mut config = GatewayConfig::default();
    config.registry_default = Some(network.origin.url("/").parse().unwrap());
    config.rules = vec!["swarm:\\.deb$".parse().unwrap()];
    config
}

/// Status, media type and body are the server's, of whatever is asked for: nothing of the gateway's is added.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_servers_own_errors_pass_through() {
    let gateways = Gateways::start(config).await;
    let origin = &gateways.network.origin;
    let blob = format!("/v2/lib/none/blobs/{}", sha256(b"x"));
    let manifest = format!("/v2/lib/none/manifests/{}", sha256(b"x"));
    let package = origin.url("/pool/a.deb");
    let uris = [&*blob, &manifest, "/v2/lib/none/manifests/v1", "/v2/lib/none/tags/list", &package];
    for uri in uris {
        let path = uri.strip_prefix(&origin.url("")).unwrap_or(uri);
        let answer = gateways.get(0, uri, &[]).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-dragonfly-error-type")), (404, None), "{uri}");
        for status in [400, 403, 404, 410, 429, 500, 503] {
            let resource = Resource::bytes("x").fail_first(u64::MAX, status, Some(7));
            origin.set(path, resource.refusal_body("application/vnd.refusal+json", DENIED));
            for host in 0..2 {
                let answer = gateways.get(host, uri, &[]).await;
                let told = ["content-type", "content-length", "retry-after"].map(|name| answer.header(name));
                let length = DENIED.len().to_string();
                assert_eq!(told, [Some("application/vnd.refusal+json"), Some(&length), Some("7")], "{uri} {status}");
                assert_eq!(answer.header("x-dragonfly-error-type"), None, "{uri} {status}");
                assert_eq!(answer.whole(), (status, DENIED.into()), "{uri}");
            }
        }
    }
    for (gateway, _) in &gateways.gateways {
        assert_eq!(gateway.counts().fallbacks, 0, "that is not the swarm's trouble");
    }
    gateways.stop().await;
}

/// Where nobody answers the gateway says so, and with whom the trouble is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_the_trouble_is_with_is_told() {
    let mut gateways = Gateways::start(config).await;
    let said = |answer: super::Answer| {
        let told = ["x-dragonfly-error-type", "content-type"].map(|name| answer.header(name).unwrap().to_owned());
        let (status, body) = answer.whole();
        (status, told, String::from_utf8_lossy(&body).into_owned())
    };
    let (text, json) = ("text/plain; charset=utf-8", "application/json");
    let own = [
        ("/v2/A/manifests/x", 400, json),
        ("/v2/a/manifests/v1?ns=a/b", 400, json),
        ("/nothing", 404, text),
        ("http://169.254.169.254/x.deb", 403, text),
    ];
    for (uri, wanted, kind) in own {
        let (status, told, body) = said(gateways.get(0, uri, &[]).await);
        assert_eq!((status, told), (wanted, ["proxy".to_owned(), kind.to_owned()]), "{uri}: {body}");
        assert!(body.contains("dragonfly: "), "{uri}: {body}");
    }
    let push = Request::post("/v2/a/blobs/uploads/").body(Full::from("x")).unwrap();
    let (status, told, body) = said(gateways.ask(0, push).await);
    assert_eq!((status, told), (405, ["proxy", json].map(str::to_owned)));
    assert!(body.contains("\"UNSUPPORTED\""), "{body}");
    // The registry, and the server of packages, are gone.
    let package = gateways.network.origin.url("/a.deb");
    let index = gateways.network.origin.url("/index");
    gateways.network.origin = Origin::start().await.unwrap();
    let blob = format!("/v2/lib/a/blobs/{}", sha256(b"x"));
    let gone = [(&*blob, json), ("/v2/lib/a/manifests/v1", json), ("/v2/", json), (&package, text), (&index, text)];
    for (uri, kind) in gone {
        let (status, told, body) = said(gateways.get(0, uri, &[]).await);
        assert_eq!((status, told), (502, ["backend".to_owned(), kind.to_owned()]), "{uri}: {body}");
    }
    let head = Request::head(&blob).body(Full::<Bytes>::default()).unwrap();
    let head = gateways.ask(0, head).await;
    assert_eq!((head.status.as_u16(), head.header("x-dragonfly-error-type")), (502, Some("backend")));
    gateways.stop().await;
}

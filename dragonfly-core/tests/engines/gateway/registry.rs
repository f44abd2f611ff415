//! The registry mirror.

use std::time::Duration;

use bytes::Bytes;
use dragonfly_core::Peer;
use dragonfly_core::gateway::{Gateway, GatewayConfig};
use dragonfly_testkit::{Origin, Resource, content};
use http::Request;
use http_body_util::Full;
use tokio::net::TcpListener;

use super::{Gateways, sha256};
use crate::harness::{Network, SEED, eventually, loopback};

/// Not a whole number of pieces.
const LENGTH: u64 = (3 << 20) + 1000;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Mirrors for a registry that clients call `registry.test`, and by default.
fn mirrors(network: &Network) -> GatewayConfig {
    let mut config = GatewayConfig::default();
    let url: url::Url = network.origin.url("/").parse().unwrap();
    config.registries = vec![("registry.test".to_owned(), url.clone())];
    config.registry_default = Some(url);
    config
}

fn blob() -> (Bytes, String) {
    let bytes = content::bytes(SEED, 0, LENGTH as usize);
    let digest = sha256(&bytes);
    (bytes, digest)
}

/// As registries serve blobs.
fn serve_blob(gateways: &Gateways, repository: &str, digest: &str) -> String {
    let resource = Resource::seeded(SEED, LENGTH).etag(format!("\"{digest}\"")).no_last_modified();
    let path = format!("/v2/{repository}/blobs/{digest}");
    gateways.network.origin.set(&path, resource.header("docker-content-digest", digest));
    path
}

fn serve_manifest(gateways: &Gateways, name: &str, text: &str) -> String {
    let digest = sha256(text.as_bytes());
    for reference in [name, &digest] {
        let resource = Resource::bytes(text.to_owned()).etag(format!("\"{digest}\"")).no_last_modified();
        let resource = resource.header("docker-content-digest", &digest).header("content-type", MANIFEST);
        gateways.network.origin.set(format!("/v2/lib/a/manifests/{reference}"), resource);
    }
    digest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_leaves_the_registry_once_whatever_repository_it_is_pulled_from() {
    let gateways = Gateways::start(mirrors).await;
    let (bytes, digest) = blob();
    let paths = [serve_blob(&gateways, "lib/a", &digest), serve_blob(&gateways, "other/b", &digest)];
    for (host, path) in paths.iter().enumerate() {
        let answer = gateways.get(host, &format!("{path}?ns=registry.test"), &[]).await;
        assert_eq!(answer.header("docker-content-digest"), Some(&*digest));
        assert_eq!(answer.header("content-length"), Some(&*LENGTH.to_string()));
        assert!(answer.header("x-dragonfly-task-id").is_some(), "{answer:?}");
        let (status, body) = answer.whole();
        assert_eq!((status, body == bytes), (200, true));
    }
    let counters = gateways.network.origin.counters();
    assert_eq!(counters.body_bytes_total(), LENGTH, "one copy: {counters:?}");
    assert_eq!(counters.requests.get("HEAD"), Some(&2), "each host asked whether it may");
    // Again, within a minute: nobody asks anybody.
    let before = gateways.network.origin.counters().requests_total();
    assert_eq!(gateways.get(1, &format!("{}?ns=registry.test", paths[1]), &[]).await.whole().0, 200);
    assert_eq!(gateways.network.origin.counters().requests_total(), before);
    assert_eq!(gateways.gateways[1].0.counts().fallbacks, 0);
    gateways.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_could_not_pull_from_the_registry_cannot_pull_here() {
    let gateways = Gateways::start(mirrors).await;
    let (bytes, digest) = blob();
    let path = serve_blob(&gateways, "private/a", &digest);
    let resource = Resource::seeded(SEED, LENGTH).etag(format!("\"{digest}\"")).basic_auth("alice", "secret123");
    gateways.network.origin.set(&path, resource.no_last_modified());
    let alice = [("authorization", "Basic YWxpY2U6c2VjcmV0MTIz")];
    let (status, body) = gateways.get(0, &path, &alice).await.whole();
    assert_eq!((status, body == bytes), (200, true));
    // Her host has it by now, and so may have the other's. A stranger's password, none, and podman's empty one:
    let mallory: [&[(&str, &str)]; 3] =
        [&[("authorization", "Basic bWFsbG9yeTp4")], &[], &[("authorization", "Basic Og==")]];
    for host in [1, 0] {
        for headers in mallory {
            let answer = gateways.get(host, &path, headers).await;
            assert_eq!(answer.header("www-authenticate"), Some("Basic realm=\"testkit\""), "in the registry's words");
            assert_eq!(answer.whole().0, 401);
        }
    }
    assert_eq!(gateways.network.origin.counters().body_bytes_total(), LENGTH);
    let (status, body) = gateways.get(1, &path, &alice).await.whole();
    assert_eq!((status, body == bytes), (200, true));
    assert_eq!(gateways.network.origin.counters().body_bytes_total(), LENGTH, "from the other host");
    gateways.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_are_asked_for_each_time_and_manifests_are_exactly_the_registrys() {
    let gateways = Gateways::start(mirrors).await;
    let old = serve_manifest(&gateways, "v1", "{\"schemaVersion\": 2,  \"old\": true}");
    let accept = [("accept", MANIFEST), ("accept", "application/vnd.oci.image.index.v1+json")];
    let get = async |host: usize| {
        let answer = gateways.get(host, "/v2/lib/a/manifests/v1", &accept).await;
        assert_eq!(answer.header("content-type"), Some(MANIFEST));
        let digest = answer.header("docker-content-digest").unwrap().to_owned();
        let (status, body) = answer.whole();
        assert_eq!((status, sha256(&body)), (200, digest.clone()));
        digest
    };
    assert_eq!((get(0).await, get(1).await), (old.clone(), old.clone()));
    let bodies = gateways.network.origin.counters().body_bytes_total();
    assert_eq!(bodies, 34, "one copy");
    let new = serve_manifest(&gateways, "v1", "{\"schemaVersion\": 2,  \"old\": false}");
    assert_eq!((get(1).await, get(0).await), (new.clone(), new), "at once");
    // By its digest, and as HEAD.
    let by_digest = format!("/v2/lib/a/manifests/{old}");
    assert_eq!(sha256(&gateways.get(1, &by_digest, &accept).await.whole().1), old);
    let head = Request::head(&by_digest).header("accept", MANIFEST).body(Full::default()).unwrap();
    let head = gateways.ask(0, head).await;
    assert_eq!((head.header("content-length"), head.header("content-type")), (Some("34"), Some(MANIFEST)));
    gateways.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_and_conditions() {
    let gateways = Gateways::start(mirrors).await;
    let (bytes, digest) = blob();
    let path = serve_blob(&gateways, "lib/a", &digest);
    for (range, from, to) in
        [("bytes=1000000-", 1_000_000, LENGTH), ("bytes=10-19", 10, 20), ("bytes=-5", LENGTH - 5, LENGTH)]
    {
        let answer = gateways.get(0, &path, &[("range", range)]).await;
        let wanted = format!("bytes {from}-{}/{LENGTH}", to - 1);
        assert_eq!(answer.header("content-range"), Some(&*wanted));
        let (status, body) = answer.whole();
        assert_eq!((status, body == bytes[from as usize..to as usize]), (206, true), "{range}");
    }
    let outside = gateways.get(0, &path, &[("range", &format!("bytes={LENGTH}-"))]).await;
    assert_eq!(outside.header("content-range"), Some(&*format!("bytes */{LENGTH}")));
    assert_eq!(outside.whole().0, 416);
    let known = gateways.get(0, &path, &[("if-none-match", &format!("\"{digest}\""))]).await;
    assert_eq!(known.whole().0, 304);
    gateways.stop().await;
}

/// What a blob is the registry says, in its own words.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blobs_media_type_is_the_registrys() {
    let gateways = Gateways::start(mirrors).await;
    let (bytes, digest) = blob();
    for (repository, kind) in [("lib/a", "application/octet-stream"), ("lib/b", "application/vnd.test.layer+gzip; a=b")]
    {
        let path = format!("/v2/{repository}/blobs/{digest}");
        let resource = Resource::seeded(SEED, LENGTH).etag(format!("\"{digest}\"")).no_last_modified();
        gateways.network.origin.set(&path, resource.header("content-type", kind));
        for host in 0..2 {
            for (headers, status) in [(&[][..], 200), (&[("range", "bytes=5-9")], 206)] {
                let answer = gateways.get(host, &path, headers).await;
                assert!(answer.header("x-dragonfly-task-id").is_some(), "{answer:?}");
                assert_eq!(answer.header("content-type"), Some(kind), "{host} {status}");
                let (said, body) = answer.whole();
                let wanted = if status == 200 { bytes.clone() } else { bytes.slice(5..10) };
                assert_eq!((said, body == wanted), (status, true), "{host}");
            }
            let head = Request::head(&path).body(Full::default()).unwrap();
            assert_eq!(gateways.ask(host, head).await.header("content-type"), Some(kind), "{host}");
        }
    }
    gateways.stop().await;
}

/// A registry that gives other bytes than the digest says: nobody gets a whole answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_content_is_never_sent_to_its_end() {
    let gateways = Gateways::start(mirrors).await;
    let (_, digest) = blob();
    for length in [LENGTH, 100] {
        let path = format!("/v2/lib/a/blobs/{digest}");
        let resource = Resource::seeded(SEED + 1, length).etag(format!("\"{digest}\"")).no_last_modified();
        gateways.network.origin.set(&path, resource);
        for host in 0..2 {
            let answer = gateways.get(host, &path, &[]).await;
            // All of what is short was seen to be wrong before any of it went out.
            assert!(answer.is_cut() || answer.status.as_u16() == 502, "{host}: {answer:?}");
        }
    }
    gateways.stop().await;
}

/// Who is sent to a page that asks for a password has had a plain answer, and may read nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_asks_for_a_password_is_no_yes() {
    let gateways = Gateways::start(mirrors).await;
    let (bytes, digest) = blob();
    let path = serve_blob(&gateways, "lib/a", &digest);
    let alice = [("authorization", "Bearer alice")];
    assert_eq!(gateways.get(0, &path, &alice).await.whole().1, bytes);
    gateways.network.origin.set(&path, Resource::redirect(302, "/login"));
    gateways.network.origin.set("/login", Resource::bytes("Who are you?"));
    for host in 0..2 {
        let answer = gateways.get(host, &path, &[("authorization", "Bearer mallory")]).await;
        assert!(answer.is_cut(), "neither the blob, nor a page in place of it: {answer:?}");
    }
    gateways.stop().await;
}

/// A registry that does not say how long a private blob is: who may read it has it from the swarm all the same, and nobody
/// else does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_blob_of_unknown_length_is_for_who_may_read_it() {
    let gateways = Gateways::start(mirrors).await;
    let (bytes, digest) = blob();
    let path = format!("/v2/private/a/blobs/{digest}");
    let resource = Resource::seeded(SEED, LENGTH).etag(format!("\"{digest}\"")).no_last_modified().chunked();
    gateways.network.origin.set(&path, resource.basic_auth("alice", "secret123"));
    let alice = [("authorization", "Basic YWxpY2U6c2VjcmV0MTIz")];
    for host in [0, 1, 0] {
        let answer = gateways.get(host, &path, &alice).await;
        assert!(answer.header("x-dragonfly-task-id").is_some(), "{host}: {answer:?}");
        let (status, body) = answer.whole();
        assert_eq!((status, body == bytes), (200, true), "{host}");
    }
    let asked = gateways.network.requests(&path);
    let whole = asked.iter().filter(|asked| asked.method == "GET" && asked.range.is_none()).count();
    assert_eq!(whole, 1, "one copy: {asked:?}");
    let begins = |asked: &&dragonfly_testkit::Logged| asked.range.as_deref() == Some("bytes=0-65535");
    assert_eq!(asked.iter().filter(begins).count(), 2, "each host asks once a minute how it begins: {asked:?}");
    for host in 0..2 {
        for headers in [&[("authorization", "Basic bWFsbG9yeTp4")][..], &[]] {
            assert_eq!(gateways.get(host, &path, headers).await.whole().0, 401, "{host}");
        }
    }
    // A page that asks for a password is a plain answer, be it shorter or longer than what is compared, or as long as all.
    for length in [100, 100_000, LENGTH] {
        gateways.network.origin.set(&path, Resource::redirect(302, "/login"));
        gateways.network.origin.set("/login", Resource::seeded(SEED + 1, length).chunked());
        for host in 0..2 {
            let mallory = format!("Bearer mallory-{length}");
            let answer = gateways.get(host, &path, &[("authorization", &mallory)]).await;
            assert!(answer.is_cut(), "neither the blob, nor a page in place of it: {answer:?}");
        }
    }
    gateways.stop().await;
}

/// What a client says of a body that it does not send, or that is not passed on, says nothing to the registry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_length_without_a_body_goes_no_further() {
    let gateways = Gateways::start(mirrors).await;
    let path = "/v2/lib/a/tags/list";
    gateways.network.origin.set(path, Resource::bytes("{}"));
    for _ in 0..3 {
        let request = Request::get(path).header("content-length", "9").body(Full::from("GET /evil")).unwrap();
        assert_eq!(gateways.ask(0, request).await.whole(), (200, Bytes::from("{}")));
        assert_eq!(gateways.get(0, path, &[]).await.whole(), (200, Bytes::from("{}")));
    }
    let log = gateways.network.origin.log();
    assert_eq!(log.len(), 6);
    assert!(log.iter().all(|asked| asked.path == path && asked.header("content-length").is_none()), "{log:?}");
    gateways.stop().await;
}

/// A header of the client's own is for the registry, and not for where that sends us.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirects_lead_nobodys_secrets_away() {
    let gateways = Gateways::start(mirrors).await;
    let elsewhere = dragonfly_testkit::Origin::start().await.unwrap();
    let (bytes, digest) = blob();
    elsewhere.set("/there", Resource::seeded(SEED, LENGTH).etag(format!("\"{digest}\"")));
    let path = format!("/v2/lib/a/blobs/{digest}");
    gateways.network.origin.set(&path, Resource::redirect(307, elsewhere.url("/there")));
    let headers = [("authorization", "Bearer alice"), ("x-registry-auth", "secret"), ("cookie", "a=b")];
    assert_eq!(gateways.get(0, &path, &headers).await.whole(), (200, bytes.clone()));
    // And where it is passed on as it is: with a condition that only the registry judges.
    let matching = [("authorization", "Bearer alice"), ("x-registry-auth", "secret"), ("if-match", "\"x\"")];
    assert_eq!(gateways.get(0, &path, &matching).await.whole().0, 307);
    let log = elsewhere.log();
    let told = |asked: &dragonfly_testkit::Logged| {
        ["authorization", "x-registry-auth", "cookie"].iter().any(|name| asked.header(name).is_some())
    };
    assert!(!log.is_empty() && !log.iter().any(told), "{log:?}");
    gateways.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schemes_that_bind_to_connections_are_neither_taken_nor_offered() {
    let gateways = Gateways::start(mirrors).await;
    let path = "/v2/lib/a/tags/list";
    let resource = Resource::bytes("{}").header("www-authenticate", "Negotiate").header("www-authenticate", "Basic x");
    gateways.network.origin.set(path, resource);
    let answer = gateways.get(0, path, &[]).await;
    assert_eq!(answer.header("www-authenticate"), Some("Basic x"));
    assert_eq!(gateways.get(0, path, &[("authorization", "NTLM TlRMTVNTUAAB")]).await.whole().0, 501);
    gateways.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_no_credential_outlives_its_registry_if_that_is_allowed() {
    let offline = |network: &Network| {
        let mut config = mirrors(network);
        config.offline = true;
        config
    };
    let mut gateways = Gateways::start(offline).await;
    let (bytes, digest) = blob();
    let path = serve_blob(&gateways, "lib/a", &digest);
    let secret = format!("/v2/lib/a/blobs/{}", sha256(b"secret"));
    gateways.network.origin.set(&secret, Resource::bytes("secret").basic_auth("alice", "secret123"));
    let alice = [("authorization", "Basic YWxpY2U6c2VjcmV0MTIz")];
    assert_eq!(gateways.get(0, &secret, &alice).await.whole().0, 200);
    let manifest = serve_manifest(&gateways, "v1", "{\"schemaVersion\": 2}");
    let by_tag = "/v2/lib/a/manifests/v1";
    assert_eq!(gateways.get(0, &path, &[]).await.whole().0, 200);
    assert_eq!(gateways.get(0, by_tag, &[("accept", MANIFEST)]).await.whole().0, 200);
    let typed = serve_manifest(&gateways, "v2", &format!("{{\"schemaVersion\": 2, \"mediaType\": \"{MANIFEST}\"}}"));
    assert_eq!(gateways.get(0, "/v2/lib/a/manifests/v2", &[("accept", MANIFEST)]).await.whole().0, 200);
    gateways.network.origin = dragonfly_testkit::Origin::start().await.unwrap();
    let (status, body) = gateways.get(1, &path, &[]).await.whole();
    assert_eq!((status, body == bytes), (200, true), "a blob, to who has never had it");
    let answer = gateways.get(0, by_tag, &[("accept", MANIFEST)]).await;
    assert_eq!(answer.header("content-type"), Some(MANIFEST));
    assert_eq!(sha256(&answer.whole().1), manifest, "a tag, where it was asked for before");
    let head = Request::head(by_tag).header("accept", MANIFEST).body(Full::default()).unwrap();
    let head = gateways.ask(0, head).await;
    assert_eq!(
        (head.status.as_u16(), head.header("docker-content-digest")),
        (200, Some(&*manifest)),
        "as containerd asks"
    );
    assert_eq!(gateways.get(1, by_tag, &[("accept", MANIFEST)]).await.whole().0, 502, "what it is nobody knows here");
    // By its digest, which says no type, where it does not say so itself; one that does is for who has never had it, too.
    let by_digest = |digest: &str| format!("/v2/lib/a/manifests/{digest}");
    assert_eq!(gateways.get(1, &by_digest(&manifest), &[("accept", MANIFEST)]).await.whole().0, 502);
    let head = Request::head(by_digest(&typed)).header("accept", MANIFEST).body(Full::default()).unwrap();
    let head = gateways.ask(1, head).await;
    let told = ["content-type", "docker-content-digest", "content-length"].map(|name| head.header(name));
    assert_eq!((head.status.as_u16(), told), (200, [Some(MANIFEST), Some(&*typed), Some("79")]), "as containerd asks");
    let answer = gateways.get(1, &by_digest(&typed), &[("accept", MANIFEST)]).await;
    assert_eq!(answer.header("content-type"), Some(MANIFEST));
    assert_eq!(sha256(&answer.whole().1), typed);
    let alice = [("authorization", "Basic YWxpY2U6c2VjcmV0MTIz")];
    assert_eq!(
        gateways.get(1, &path, &alice).await.whole().0,
        502,
        "who shows who he is must be known to the registry"
    );
    gateways.stop().await;
}

/// The gateway of a host, on its first peer.
async fn gateway_of(network: &Network, config: &GatewayConfig) -> (Gateway, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let gateway = Gateway::new(&network.peers[0].peer, config.clone());
    gateway.serve(listener);
    (gateway, address)
}

/// An image that is held is pulled while its registry is away, although the host was restarted meanwhile; what the registry
/// took back before is not, and what it was never asked for without credentials is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_outlives_its_registry_and_a_restart() {
    let network = Network::start(1, false).await;
    let mut config = mirrors(&network);
    (config.offline, config.answers) = (true, Some(network.dir.path().join("answers")));
    let gateways = vec![gateway_of(&network, &config).await];
    let mut gateways = Gateways { network, gateways };
    let (bytes, digest) = blob();
    let path = serve_blob(&gateways, "lib/a", &digest);
    let manifest = serve_manifest(&gateways, "v1", "{\"schemaVersion\": 2}");
    serve_manifest(&gateways, "gone", "{\"schemaVersion\": 2, \"gone\": true}");
    let accept = [("accept", MANIFEST)];
    let by_digest = format!("/v2/lib/a/manifests/{manifest}");
    let (by_tag, gone) = ("/v2/lib/a/manifests/v1", "/v2/lib/a/manifests/gone");
    for path in [by_tag, gone, &by_digest] {
        assert_eq!(gateways.get(0, path, &accept).await.whole().0, 200, "{path}");
    }
    assert_eq!(gateways.get(0, &path, &[]).await.whole().0, 200);
    gateways.network.origin.remove(gone);
    assert_eq!(gateways.get(0, gone, &accept).await.whole().0, 404);
    // A blob that another program pulled before its repository became private.
    let private = format!("/v2/lib/b/blobs/{}", sha256(b"private"));
    gateways.network.origin.set(&private, Resource::bytes("private"));
    assert_eq!(gateways.get(0, &private, &[("user-agent", "one")]).await.whole().0, 200);
    gateways.network.origin.set(&private, Resource::bytes("private").basic_auth("alice", "secret123"));
    assert_eq!(gateways.get(0, &private, &[("user-agent", "two")]).await.whole().0, 401);

    // The host stops, the registry goes, the host comes back.
    let token = gateways.network.token();
    let (gateway, _) = gateways.gateways.remove(0);
    assert!(gateway.shutdown(Duration::from_secs(20)).await);
    drop(gateway);
    let member = gateways.network.peers.remove(0);
    member.peer.shutdown().await.unwrap();
    member.node.shutdown().await.unwrap();
    drop(member);
    gateways.network.origin = Origin::start().await.unwrap();
    let network = &gateways.network;
    let node = eventually("the directory is free", async || network.builder(0, &token, loopback()).start().await.ok());
    let node = node.await;
    let peer = Peer::builder(&node).start().await.unwrap();
    gateways.network.peers.push(crate::harness::Member { node, peer });
    gateways.gateways.push(gateway_of(&gateways.network, &config).await);

    let head = Request::head(by_tag).header("host", "registry.test").header("accept", MANIFEST);
    let head = gateways.ask(0, head.body(Full::default()).unwrap()).await;
    assert_eq!((head.status.as_u16(), head.header("docker-content-digest")), (200, Some(&*manifest)));
    for path in [by_tag, &by_digest] {
        let answer = gateways.get(0, path, &accept).await;
        assert_eq!(answer.header("content-type"), Some(MANIFEST), "{path} {answer:?} {:?}", answer.body);
        assert_eq!(sha256(&answer.whole().1), manifest);
    }
    let (status, body) = gateways.get(0, &path, &[]).await.whole();
    assert_eq!((status, body == bytes), (200, true));
    assert_eq!(gateways.get(0, gone, &accept).await.whole().0, 502, "the registry's last word was no");
    let alice = [("accept", MANIFEST), ("authorization", "Basic YWxpY2U6c2VjcmV0MTIz")];
    assert_eq!(gateways.get(0, by_tag, &alice).await.whole().0, 502, "whether she may only the registry knows");
    for program in ["one", "two"] {
        let answer = gateways.get(0, &private, &[("user-agent", program)]).await;
        assert_eq!(answer.whole().0, 502, "{program}: who was refused is not who never asked");
    }
    // A run without the option does not keep it up: nobody is to believe it later.
    let answers = config.answers.clone().unwrap();
    assert!(answers.exists());
    config.offline = false;
    drop(Gateway::new(&gateways.network.peers[0].peer, config));
    assert!(std::fs::metadata(&answers).unwrap().len() < 128, "no more than that anything may have been refused");
    gateways.stop().await;
}

//! Tunnels that are opened up, and who may ask for one.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use data_encoding::BASE64;
use dragonfly_core::gateway::{Authority, GatewayConfig, Intercept, Users};
use dragonfly_testkit::{Origin, Resource, content};
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Gateways, ask, open};
use crate::harness::SEED;

const LENGTH: u64 = (1 << 20) + 7;

/// An origin that speaks TLS, with a private authority, and gateways that trust it and stand in for it.
struct Scene {
    gateways: Gateways,
    origin: Origin,
    own: Authority,
}

impl Scene {
    async fn start(config: impl Fn(&mut GatewayConfig)) -> Self {
        let origin = Origin::builder().tls().start().await.unwrap();
        let day = Duration::from_secs(24 * 3600);
        let own = Authority::create("test", &["127.0.0.1".parse().unwrap()], SystemTime::now(), day).unwrap();
        let gateways = Gateways::start(|_| {
            let mut given = GatewayConfig::default();
            let authority = Authority::from_pem(own.certificate_pem(), own.key_pem()).unwrap();
            let hosts = vec![origin.address().to_string().parse().unwrap()];
            given.intercept = Some(Intercept::new(authority, hosts).unwrap());
            given.ca_pem = vec![origin.ca_pem().unwrap().as_bytes().to_vec()];
            given.rules = vec!["swarm:^https://127.0.0.1:[0-9]+/.*whl$".parse().unwrap()];
            config(&mut given);
            given
        })
        .await;
        Self { gateways, origin, own }
    }

    fn server(&self) -> String {
        self.origin.address().to_string()
    }

    /// A tunnel of a client that trusts `ca`, and speaks `protocol`.
    async fn tunnel(&self, host: usize, ca: &str, protocol: &str) -> std::io::Result<Tunnel> {
        let connect = Request::connect(self.server()).body(Full::<Bytes>::default()).unwrap();
        let response = open(self.gateways.gateways[host].1, connect).await;
        self.within(response, ca, protocol).await
    }

    /// The same, of a tunnel that was asked for already.
    async fn within(&self, mut response: Response<Incoming>, ca: &str, protocol: &str) -> std::io::Result<Tunnel> {
        assert_eq!(response.status(), StatusCode::OK);
        let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, TokioIo::new(upgraded)).await?;
        Ok(Tunnel { stream, server: self.server() })
    }

    async fn stop(self) {
        self.gateways.stop().await;
    }
}

struct Tunnel {
    stream: TlsStream<TokioIo<hyper::upgrade::Upgraded>>,
    server: String,
}

impl Tunnel {
    /// What is told of each path, over one connection of HTTP/2, all at the same time.
    async fn two(self, paths: &[&str]) -> Vec<(StatusCode, bool, Bytes)> {
        let io = TokioIo::new(self.stream);
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        let answers = paths.iter().map(|path| {
            let (mut sender, server) = (sender.clone(), self.server.clone());
            async move {
                let request = Request::get(format!("https://{server}{path}")).version(Version::HTTP_2);
                let response = sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
                assert_eq!(response.version(), Version::HTTP_2);
                let shared = response.headers().contains_key("x-dragonfly-task-id");
                (response.status(), shared, response.into_body().collect().await.unwrap().to_bytes())
            }
        });
        futures::future::join_all(answers).await
    }

    /// What is told of a path, with this `Host`, over HTTP/1.1.
    async fn one(self, path: &str, host: Option<&str>) -> (StatusCode, bool, Bytes) {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(self.stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get(path).header("host", host.unwrap_or(&self.server));
        let response = sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
        let shared = response.headers().contains_key("x-dragonfly-task-id");
        (response.status(), shared, response.into_body().collect().await.unwrap().to_bytes())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_over_https_is_shared() {
    let scene = Scene::start(|_| {}).await;
    let whole = content::bytes(SEED, 0, LENGTH as usize);
    for i in 0..4 {
        scene.origin.set(format!("/{i}.whl"), Resource::seeded(SEED, LENGTH));
    }
    scene.origin.set("/index", Resource::seeded(SEED, 100));
    let tunnel = scene.tunnel(0, scene.own.certificate_pem(), "h2").await.unwrap();
    let answers = tunnel.two(&["/0.whl", "/1.whl", "/2.whl", "/3.whl", "/index", "/none.whl"]).await;
    for (status, shared, body) in &answers[..4] {
        assert!(*status == StatusCode::OK && *shared && *body == whole, "{status}");
    }
    assert!(answers[4] == (StatusCode::OK, false, whole.slice(..100)), "what no rule names is passed on");
    assert_eq!((answers[5].0, answers[5].1), (StatusCode::NOT_FOUND, false));
    // The other host has it from this one.
    let tunnel = scene.tunnel(1, scene.own.certificate_pem(), "http/1.1").await.unwrap();
    let (status, shared, body) = tunnel.one("/2.whl", None).await;
    assert!(status == StatusCode::OK && shared && body == whole, "{status}");
    assert_eq!(scene.origin.counters().body_bytes_total(), 4 * LENGTH + 100);
    // This connection is for one host.
    let tunnel = scene.tunnel(1, scene.own.certificate_pem(), "http/1.1").await.unwrap();
    assert_eq!(tunnel.one("/2.whl", Some("bank.example")).await.0, StatusCode::MISDIRECTED_REQUEST);
    let counts = scene.gateways.gateways[1].0.counts();
    assert_eq!((counts.intercepted, counts.tunnels), (2, 0));
    scene.stop().await;
}

/// Requests in tunnels over HTTP/2 do not wait for places that the tunnels have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_of_many_requests_within_one_of_many() {
    let scene = Scene::start(|config| config.connections_max = 1).await;
    scene.origin.set("/0.whl", Resource::seeded(SEED, LENGTH));
    let stream = tokio::net::TcpStream::connect(scene.gateways.gateways[0].1).await.unwrap();
    let begun = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = begun.unwrap();
    tokio::spawn(connection);
    let connect = || Request::connect(scene.server()).body(Full::<Bytes>::default()).unwrap();
    let response = sender.send_request(connect()).await.unwrap();
    let tunnel = scene.within(response, scene.own.certificate_pem(), "h2").await.unwrap();
    assert_eq!(sender.send_request(connect()).await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    let answers = tunnel.two(&["/0.whl", "/none", "/0.whl"]).await;
    let seen: Vec<_> = answers.iter().map(|(status, _, body)| (status.as_u16(), body.len() as u64 == LENGTH)).collect();
    assert_eq!(seen, [(200, true), (404, false), (200, true)]);
    drop(sender);
    scene.stop().await;
}

/// A client that does not trust the gateway says so, and other hosts are tunnelled untouched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_deceived() {
    let scene = Scene::start(|_| {}).await;
    scene.origin.set("/0.whl", Resource::seeded(SEED, LENGTH));
    let ca = scene.origin.ca_pem().unwrap().to_owned();
    assert!(scene.tunnel(0, &ca, "http/1.1").await.is_err(), "it shows no certificate of the origin's");
    scene.stop().await;
    let scene = Scene::start(|config| config.intercept = None).await;
    scene.origin.set("/0.whl", Resource::seeded(SEED, LENGTH));
    let ca = scene.origin.ca_pem().unwrap().to_owned();
    let (status, shared, body) = scene.tunnel(0, &ca, "http/1.1").await.unwrap().one("/0.whl", None).await;
    assert!(status == StatusCode::OK && !shared && body == content::bytes(SEED, 0, LENGTH as usize), "{status}");
    scene.stop().await;
    // An origin whose certificate nobody here vouches for.
    let scene = Scene::start(|config| config.ca_pem = Vec::new()).await;
    let tunnel = scene.tunnel(0, scene.own.certificate_pem(), "http/1.1").await.unwrap();
    assert_eq!(tunnel.one("/0.whl", None).await.0, StatusCode::BAD_GATEWAY);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_users_are_let_in() {
    let users = Users::from_text("ann:secret\n").unwrap();
    let scene = Scene::start(|config| config.users = Some(users.clone())).await;
    let url = scene.gateways.network.serve("/file", Resource::seeded(SEED, 100));
    let address = scene.gateways.gateways[0].1;
    let shown = |pair: &str| format!("Basic {}", BASE64.encode(pair.as_bytes()));
    for wrong in [None, Some(shown("ann:wrong")), Some(shown("eve:secret"))] {
        for (uri, connect) in [(url.as_str(), false), ("/v2/", false), (&*scene.server(), true)] {
            let mut request = if connect { Request::connect(uri) } else { Request::get(uri).header("host", "h") };
            if let Some(wrong) = &wrong {
                request = request.header("proxy-authorization", wrong);
            }
            let answer = ask(address, request.body(Full::default()).unwrap()).await;
            assert_eq!(answer.status, StatusCode::PROXY_AUTHENTICATION_REQUIRED, "{uri}");
            assert!(answer.header("proxy-authenticate").unwrap().starts_with("Basic "), "{answer:?}");
        }
    }
    assert!(scene.gateways.network.requests("/file").is_empty());
    let right = shown("ann:secret");
    assert_eq!(scene.gateways.get(0, &url, &[("proxy-authorization", &right)]).await.whole().0, 200);
    let connect = Request::connect(scene.server()).header("proxy-authorization", &right);
    let response = open(address, connect.body(Full::<Bytes>::default()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::OK);
    drop(response);
    // Who only wants to know whether somebody is there says nothing of himself.
    assert_eq!(scene.gateways.get(0, "/healthz", &[]).await.whole().0, 200);
    scene.stop().await;
}

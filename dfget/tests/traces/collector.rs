//! A collector of OTLP over HTTP that keeps what it is sent.

use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use dragonfly_testkit::Resource;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;

use crate::harness::{Daemon, TestOrigin, dfget, run};

const LENGTH: u64 = 4 << 20;
const SEED: u64 = 5;

/// A span, and the service that sent it.
type Sent = (String, Span);

struct Collector {
    endpoint: String,
    spans: Arc<Mutex<Vec<Sent>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Collector {
    fn start() -> Self {
        let spans: Arc<Mutex<Vec<Sent>>> = Arc::default();
        let router = axum::Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&spans));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { endpoint, spans, _runtime: runtime }
    }

    /// Everything that it was sent; of what is asked for when its senders have ended nothing is missing.
    fn spans(&self) -> Vec<Sent> {
        self.spans.lock().unwrap().clone()
    }
}

async fn take(State(spans): State<Arc<Mutex<Vec<Sent>>>>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    for of_resource in request.resource_spans {
        let name = text(&of_resource.resource.unwrap().attributes, "service.name").unwrap();
        let all = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.lock().unwrap().extend(all.map(|span| (name.clone(), span)));
    }
}

fn value(of: &[opentelemetry_proto::tonic::common::v1::KeyValue], name: &str) -> Option<Value> {
    of.iter().find(|pair| pair.key == name).and_then(|pair| pair.value.clone()?.value)
}

fn text(of: &[opentelemetry_proto::tonic::common::v1::KeyValue], name: &str) -> Option<String> {
    match value(of, name)? {
        Value::StringValue(text) => Some(text),
        other => panic!("{name} is no text: {other:?}"),
    }
}

fn number(span: &Span, name: &str) -> u64 {
    match value(&span.attributes, name) {
        Some(Value::IntValue(number)) => number.try_into().unwrap(),
        other => panic!("{name} is no number: {other:?}"),
    }
}

fn host(span: &Span) -> String {
    text(&span.attributes, "host").unwrap()
}

/// The spans of one name.
fn named<'a>(spans: &'a [Sent], name: &str) -> Vec<&'a Span> {
    spans.iter().map(|(_, span)| span).filter(|span| span.name == name).collect()
}

fn is_ok(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code == StatusCode::Ok as i32)
}

/// Two daemons and one client: what the seed did for the peer is in the peer's trace, and leads to what the seed did
/// at the origin.
#[test]
fn one_trace_tells_of_a_download_across_its_hosts() {
    let (collector, origin) = (Collector::start(), TestOrigin::start());
    let url = origin.set("/file", Resource::seeded(SEED, LENGTH));
    // By the standard's variable, and by this program's setting.
    let seed = Daemon::with_role("scheduler,seed").env([("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint)]).start();
    let peer = Daemon::with_role("peer").args(["--otlp-endpoint", &collector.endpoint]).join(&seed).start();
    let (seed_id, peer_id) = (seed.ready().peer_id.clone(), peer.ready().peer_id.clone());
    let done = peer.dfget([url.as_str(), "-q", "-O", "output"]);
    assert!(done.is_code(0), "{done:?}");
    assert_eq!(peer.stop().0.code(), Some(0));
    assert_eq!(seed.stop().0.code(), Some(0));

    let spans = collector.spans();
    assert!(spans.iter().all(|(service, _)| service == "dfdaemon"));
    let roots = named(&spans, "download");
    let root = |id: &str| *roots.iter().find(|span| host(span) == id).unwrap();
    assert_eq!(roots.len(), 2, "one for each host that took it in: {roots:?}");
    let (of_peer, of_seed) = (root(&peer_id), root(&seed_id));
    for span in [of_peer, of_seed] {
        assert!(is_ok(span) && span.parent_span_id.is_empty(), "{span:?}");
        assert_eq!(text(&span.attributes, "url").as_deref(), Some(url.as_str()));
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
    }
    assert_eq!((number(of_peer, "bytes.peers"), number(of_peer, "bytes.origin")), (LENGTH, 0));
    assert_eq!((number(of_seed, "bytes.peers"), number(of_seed, "bytes.origin")), (0, LENGTH));
    assert_ne!(of_peer.trace_id, of_seed.trace_id);

    let serves = named(&spans, "serve");
    assert!(!serves.is_empty());
    for serve in &serves {
        assert_eq!((&serve.trace_id, &serve.parent_span_id), (&of_peer.trace_id, &of_peer.span_id));
        assert_eq!((host(serve), text(&serve.attributes, "receiver")), (seed_id.clone(), Some(peer_id.clone())));
        assert_eq!((&serve.links[0].trace_id, &serve.links[0].span_id), (&of_seed.trace_id, &of_seed.span_id));
    }
    // One for each lane: where both hosts open one at the same time, what was on its way on the one that goes is sent again.
    let served = serves.iter().map(|serve| number(serve, "bytes")).sum::<u64>();
    let again = if serves.len() == 1 { 0 } else { LENGTH };
    assert!((LENGTH..=LENGTH + again).contains(&served), "{served} of {LENGTH} in {} spans", serves.len());

    let fetches = named(&spans, "origin");
    assert!(!fetches.is_empty());
    for fetch in &fetches {
        assert_eq!((&fetch.trace_id, &fetch.parent_span_id), (&of_seed.trace_id, &of_seed.span_id));
        assert_eq!(host(fetch), seed_id);
        assert_eq!(number(fetch, "pieces.reached"), number(fetch, "pieces.end"));
    }
}

/// A client that fetches by itself sends its spans before it ends; an URL that may be a secret stays at home.
#[test]
fn a_client_without_a_daemon_is_traced() {
    let (collector, origin) = (Collector::start(), TestOrigin::start());
    let url = origin.set("/file", Resource::seeded(SEED, LENGTH).require_header("authorization", "Bearer hunter2"));
    let dir = tempfile::tempdir().unwrap();
    let mut command = dfget(dir.path());
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint);
    let done = run(command.args(["--standalone", "-q", "-H", "Authorization: Bearer hunter2", "-O", "output", &url]));
    assert!(done.is_code(0), "{done:?}");
    let spans = collector.spans();
    let roots = named(&spans, "download");
    assert!(roots.len() == 1 && is_ok(roots[0]), "{spans:?}");
    assert_eq!(text(&roots[0].attributes, "url"), None);
    assert_eq!(spans[0].0, "dfget");
    assert!(!format!("{spans:?}").contains("hunter2"));

    let mut command = dfget(dir.path());
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint).env("OTEL_TRACES_SAMPLER", "always_off");
    let done = run(command.args(["--standalone", "-q", "-H", "Authorization: Bearer hunter2", "-O", "second", &url]));
    assert!(done.is_code(0), "{done:?}");
    assert_eq!(collector.spans().len(), spans.len(), "nothing more");
}

/// A download is not held up by a collector that is not there; it is said once.
#[test]
fn a_collector_that_is_away_disturbs_nobody() {
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(SEED, LENGTH));
    let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", away.local_addr().unwrap());
    drop(away);
    let daemon = Daemon::with_role("peer").args(["--otlp-endpoint", &endpoint]).start();
    assert!(daemon.dfget([url.as_str(), "-q", "-O", "output"]).is_code(0));
    let (status, log) = daemon.stop();
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!(log.matches("traces are lost").count(), 1, "{log}");
}

/// A collector behind TLS is known by the system's authorities. This one is an origin, which takes no spans.
#[test]
fn a_collector_is_reached_over_tls() {
    let collector = TestOrigin::start_tls();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.pem"), collector.origin.ca_pem().unwrap()).unwrap();
    let origin = TestOrigin::start();
    let url = origin.set("/file", Resource::seeded(SEED, 1000));
    let fetch = |output: &str, authorities: &str| {
        let mut command = dfget(dir.path());
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.origin.url("")).env("SSL_CERT_FILE", authorities);
        let done = run(command.args(["--standalone", "-v", "-O", output, &url]));
        assert!(done.is_code(0) && done.stderr.contains("traces are lost"), "{done:?}");
    };
    std::fs::write(dir.path().join("none.pem"), "").unwrap();
    fetch("one", "none.pem");
    assert_eq!(collector.origin.log().len(), 0, "nobody vouches for it");
    fetch("two", "ca.pem");
    let log = collector.origin.log();
    assert!(log.iter().all(|logged| logged.method == "POST" && logged.path == "/v1/traces"), "{log:?}");
    assert!(!log.is_empty());
}

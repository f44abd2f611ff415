//! What the daemon counts beside the node's own metrics: requests, fetches, the process.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;

use super::Context;

/// The numbers.
#[derive(Debug)]
pub(crate) struct Counters {
    started: SystemTime,
    numbers: Mutex<Numbers>,
}

#[derive(Debug, Default)]
struct Numbers {
    /// By method, route and status.
    requests: BTreeMap<(String, String, u16), u64>,
    /// By result.
    fetches: BTreeMap<&'static str, u64>,
    fetch_bytes: u64,
    fetching: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self { started: SystemTime::now(), numbers: Mutex::default() }
    }
}

impl Counters {
    pub(super) fn fetch_started(&self) {
        self.numbers().fetching += 1;
    }

    pub(super) fn fetch_ended(&self, result: &'static str, bytes: u64) {
        let mut numbers = self.numbers();
        numbers.fetching -= 1;
        numbers.fetch_bytes += bytes;
        *numbers.fetches.entry(result).or_default() += 1;
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a request by its route, never by its path: that may hold anything.
pub(super) async fn count(State(context): State<Arc<Context>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str).to_owned();
    let method = match request.method().as_str() {
        known @ ("GET" | "POST" | "PUT" | "DELETE" | "HEAD") => known,
        _ => "other",
    };
    let method = method.to_owned();
    let response = next.run(request).await;
    let key = (method, route, response.status().as_u16());
    *context.counters.numbers().requests.entry(key).or_default() += 1;
    response
}

/// Everything that the daemon tells Prometheus.
pub(super) async fn text(context: &Context) -> String {
    let mut text = context.node.metrics_text();
    if let Some(gateway) = context.gateway.get() {
        text += &gateway.metrics_text();
    }
    let neighbours = match context.peer() {
        Ok(peer) => peer.neighbours().await.unwrap_or_default().iter().filter(|host| host.connected).count(),
        Err(_) => 0,
    };
    let numbers = context.counters.numbers();
    let mut family = |name: &str, kind: &str, help: &str, samples: &[(String, f64)]| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    let one = |value: f64| vec![(String::new(), value)];
    let version = format!("{{version=\"{}\",roles=\"{}\"}}", env!("CARGO_PKG_VERSION"), context.roles);
    family("dragonfly_build_info", "gauge", "The program that runs; always 1.", &[(version, 1.0)]);
    family("dragonfly_ready", "gauge", "1 while every engine serves, else 0.", &one(f64::from(context.is_ready())));
    family("dragonfly_neighbours", "gauge", "Hosts that a lane is open to.", &one(neighbours as f64));
    let fetches: Vec<_> =
        numbers.fetches.iter().map(|(result, n)| (format!("{{result=\"{result}\"}}"), *n as f64)).collect();
    let help = "Fetches of local clients that ended, by result: done, or the kind of the error.";
    family("dragonfly_fetches_total", "counter", help, &fetches);
    let help = "Fetches of local clients under way.";
    family("dragonfly_fetches_active", "gauge", help, &one(numbers.fetching as f64));
    let help = "Bytes of content delivered to local clients.";
    family("dragonfly_fetched_bytes_total", "counter", help, &one(numbers.fetch_bytes as f64));
    let requests: Vec<_> = numbers
        .requests
        .iter()
        .map(|((method, route, code), n)| {
            (format!("{{method=\"{method}\",route=\"{route}\",code=\"{code}\"}}"), *n as f64)
        })
        .collect();
    let help = "Requests to the local API, by method, route and status.";
    family("dragonfly_api_requests_total", "counter", help, &requests);
    for (name, help, value) in context.bounds.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        family(name, "gauge", help, &one(*value as f64));
    }
    let since = context.counters.started.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    family("process_start_time_seconds", "gauge", "When the process started, since 1970.", &one(since));
    if let Some(resident) = resident_bytes() {
        family("process_resident_memory_bytes", "gauge", "Memory in use.", &one(resident as f64));
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        family("process_open_fds", "gauge", "Open descriptors.", &one(open.count() as f64));
    }
    text
}

/// The second number of `statm`, in pages.
fn resident_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

//! What an origin was asked and what it gave.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One request as the origin saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// The method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The query, without its question mark.
    pub query: Option<String>,
    /// The `Range` header.
    pub range: Option<String>,
    /// The status that was answered; 0 if the connection was closed instead.
    pub status: u16,
    /// Every header of the request, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Logged {
    /// The value of a header of the request; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Totals since the origin started or was reset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections accepted.
    pub connections: u64,
    /// Requests by method.
    pub requests: BTreeMap<String, u64>,
    /// Body bytes handed to the socket by path. Paths that were asked for but gave no byte are absent.
    pub body_bytes: BTreeMap<String, u64>,
}

impl Counters {
    /// Requests of any method.
    pub fn requests_total(&self) -> u64 {
        self.requests.values().sum()
    }

    /// Body bytes of any path.
    pub fn body_bytes_total(&self) -> u64 {
        self.body_bytes.values().sum()
    }

    /// One JSON object: `connections`, `requests`, `requests_total`, `body_bytes`, `body_bytes_total`.
    pub fn to_json(&self) -> String {
        format!(
            "{{\"connections\":{},\"requests\":{},\"requests_total\":{},\"body_bytes\":{},\"body_bytes_total\":{}}}",
            self.connections,
            json_map(&self.requests),
            self.requests_total(),
            json_map(&self.body_bytes),
            self.body_bytes_total(),
        )
    }
}

fn json_map(map: &BTreeMap<String, u64>) -> String {
    let mut out = String::from("{");
    for (i, (key, value)) in map.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push('"');
        for c in key.chars() {
            match c {
                '"' | '\\' => out.extend(['\\', c]),
                c if c.is_control() => drop(write!(out, "\\u{:04x}", u32::from(c))),
                c => out.push(c),
            }
        }
        let _ = write!(out, "\":{value}");
    }
    out.push('}');
    out
}

/// The live side of [`Counters`], shared by all connections.
#[derive(Default)]
pub(crate) struct Meter {
    connections: AtomicU64,
    body: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
    log: Mutex<Vec<Logged>>,
    requests: Mutex<BTreeMap<String, u64>>,
    bodies: Arc<AtomicU64>,
}

/// What a body counts.
pub(crate) struct Count {
    /// Of its path.
    pub(crate) bytes: Arc<AtomicU64>,
    pub(crate) bodies: Arc<AtomicU64>,
}

/// A body that has neither ended nor been given up.
pub(crate) struct UnderWay(Arc<AtomicU64>);

impl UnderWay {
    pub(crate) fn new(bodies: Arc<AtomicU64>) -> Self {
        bodies.fetch_add(1, Ordering::Relaxed);
        Self(bodies)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Meter {
    pub(crate) fn connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn request(&self, entry: Logged) {
        *lock(&self.requests).entry(entry.method.clone()).or_default() += 1;
        lock(&self.log).push(entry);
    }

    /// What a body of this path counts.
    pub(crate) fn of(&self, path: &str) -> Count {
        let bytes = lock(&self.body).entry(path.to_owned()).or_default().clone();
        Count { bytes, bodies: self.bodies.clone() }
    }

    pub(crate) fn bodies(&self) -> u64 {
        self.bodies.load(Ordering::Relaxed)
    }

    pub(crate) fn log(&self) -> Vec<Logged> {
        lock(&self.log).clone()
    }

    pub(crate) fn counters(&self) -> Counters {
        let body = lock(&self.body);
        let body_bytes = body.iter().map(|(path, count)| (path.clone(), count.load(Ordering::Relaxed)));
        Counters {
            connections: self.connections.load(Ordering::Relaxed),
            requests: lock(&self.requests).clone(),
            body_bytes: body_bytes.filter(|(_, count)| *count > 0).collect(),
        }
    }

    /// Bodies that are under way go on counting from zero.
    pub(crate) fn reset(&self) {
        self.connections.store(0, Ordering::Relaxed);
        lock(&self.requests).clear();
        lock(&self.log).clear();
        for count in lock(&self.body).values() {
            count.store(0, Ordering::Relaxed);
        }
    }
}

/// A test that panicked while it held a lock must not hide what it found behind a poisoned one.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

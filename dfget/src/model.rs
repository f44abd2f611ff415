//! The JSON of the local API, shared by the daemon and its clients.

mod live;
mod receipt;

use std::time::Duration;

use dragonfly_core::peer::TaskInfo;
use dragonfly_core::{ErrorKind, Request};
use serde::{Deserialize, Serialize};

pub use live::{ActiveBody, ActivesBody, EventBody, LogBody, NeighbourBody, NeighboursBody, ResolveBody, TaskEvent};
pub use receipt::ReceiptBody;
pub(crate) use receipt::part_receipt;

use crate::error::Failure;
use crate::range::ByteRange;

/// The response header that names the task.
pub const TASK: &str = "dragonfly-task";
/// The response header that names the version of the task's content.
pub const GENERATION: &str = "dragonfly-generation";
/// The response header with the content's length in bytes.
pub const LENGTH: &str = "dragonfly-length";
/// The trailer with a [`ReceiptBody`]: the content is complete and proven.
pub const RECEIPT: &str = "dragonfly-receipt";
/// The trailer with an [`ErrorBody`]: the content stops here.
pub const ERROR: &str = "dragonfly-error";
/// On a request: `descriptor` says that the client takes a descriptor in place of the bytes (Unix socket alone). On
/// the answer: a read-only descriptor of the content came with it, and the body is the receipt.
pub const PASSING: &str = "dragonfly-passing";

/// The longest text that goes into a trailer: below hyper's bound of 16 KiB for all of them.
pub const TRAILER_MAX: usize = 8 << 10;
/// Characters of an error's message that are passed on: twelve bytes each at the worst, below [`TRAILER_MAX`].
const MESSAGE_MAX: usize = 600;
/// Headers, filtered parameters and the like of one request: more is a mistake.
const LIST_MAX: usize = 256;

/// What `POST /v1/fetch` and `POST /v1/preheat` take.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchRequest {
    /// The URL. May hold credentials: never logged.
    pub url: String,
    /// `algorithm:hex` of the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The length of the whole, in bytes: another one is an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Headers for the origin, as pairs of name and value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// Keeps content apart that has one URL.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tag: String,
    /// The application that asks.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub application: String,
    /// Query parameters that do not change the content, in place of the default list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filtered_query_params: Option<Vec<String>>,
    /// 0 (most urgent) to 7; default 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// The longest time that the whole may take, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Whether the daemon may go to the origin itself; default yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_to_source: Option<bool>,
    /// Certificate authorities to trust beside the system's, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// Accept any certificate of the origin.
    #[serde(default)]
    pub insecure: bool,
    /// The age of the content that is accepted, in milliseconds since the origin confirmed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_max_ms: Option<u64>,
    /// Accept content of any age.
    #[serde(default)]
    pub stale_ok: bool,
    /// Only these bytes: `FIRST-LAST`, `FIRST-` or `-COUNT`. Not with a digest, and not to preheat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<String>,
}

impl FetchRequest {
    /// Whether what it names may be known to those alone who know its secrets.
    pub(crate) fn is_private(&self) -> bool {
        let user = |url: url::Url| !url.username().is_empty() || url.password().is_some();
        !self.headers.is_empty() || url::Url::parse(&self.url).is_ok_and(user)
    }

    /// The part that is asked for.
    pub(crate) fn byte_range(&self) -> Result<Option<ByteRange>, Failure> {
        let range = self.range.as_deref().map(str::parse).transpose();
        let range = range.map_err(|e| Failure::usage(format!("range: {e}")))?;
        if range.is_some() && self.digest.is_some() {
            return Err(Failure::usage("a digest is of the whole: it cannot be checked against a range"));
        }
        Ok(range)
    }

    /// The request for the engine. Fails on a malformed digest, a priority above 7 and endless lists; the engine
    /// checks URL and headers.
    pub(crate) fn to_request(&self) -> Result<Request, Failure> {
        let mut request = Request::new(self.url.as_str())
            .tag(self.tag.as_str())
            .application(self.application.as_str())
            .back_to_source(self.back_to_source.unwrap_or(true))
            .insecure(self.insecure)
            .stale_ok(self.stale_ok);
        let filtered = self.filtered_query_params.as_ref();
        if self.headers.len() > LIST_MAX || filtered.is_some_and(|names| names.len() > LIST_MAX) {
            return Err(Failure::usage(format!("more than {LIST_MAX} headers or query parameters")));
        }
        if let Some(digest) = &self.digest {
            request = request.digest(digest.parse().map_err(|e| Failure::usage(format!("digest: {e}")))?);
        }
        if let Some(length) = self.length {
            request = request.length(length);
        }
        for (name, value) in &self.headers {
            request = request.header(name.as_str(), value.as_str());
        }
        if let Some(names) = filtered {
            request = request.filtered_query_params(names.iter().map(String::as_str));
        }
        if let Some(priority) = self.priority {
            if priority > 7 {
                return Err(Failure::usage(format!("priority {priority}: expected 0 to 7")));
            }
            request = request.priority(priority);
        }
        if let Some(ms) = self.timeout_ms {
            request = request.timeout(Duration::from_millis(ms));
        }
        if let Some(ms) = self.age_max_ms {
            request = request.age_max(Duration::from_millis(ms));
        }
        if let Some(pem) = &self.ca_pem {
            request = request.ca_pem(pem.as_bytes());
        }
        Ok(request)
    }
}

/// A failed request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The name of an [`ErrorKind`].
    pub kind: String,
    /// Whether the same request may succeed later.
    pub temporary: bool,
    /// What failed, with its causes after colons.
    pub message: String,
}

impl From<&Failure> for ErrorBody {
    fn from(failure: &Failure) -> Self {
        let message = failure.message.chars().take(MESSAGE_MAX).collect();
        Self { kind: failure.kind.name().to_owned(), temporary: failure.temporary, message }
    }
}

impl From<ErrorBody> for dragonfly_core::Error {
    fn from(body: ErrorBody) -> Self {
        let kind = ErrorKind::from_name(&body.kind).unwrap_or(ErrorKind::Internal);
        Self::new(kind, body.message).temporary(body.temporary)
    }
}

/// One generation of a task in the daemon's store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskBody {
    /// The task's id; empty where the id is a capability and the client did not name it.
    pub task: String,
    /// The version of its content.
    pub generation: String,
    /// What it is, for people; URLs are redacted.
    pub label: String,
    /// Bytes in all.
    pub length: u64,
    /// Bytes held and proven.
    pub bytes_held: u64,
    /// Whether every byte is held.
    pub complete: bool,
    /// Whether it is kept from eviction.
    pub pinned: bool,
    /// Hosts with which its pieces are exchanged now.
    pub neighbours: u32,
}

impl From<&TaskInfo> for TaskBody {
    fn from(info: &TaskInfo) -> Self {
        Self {
            task: info.task.to_string(),
            generation: info.generation.to_string(),
            label: info.label.clone(),
            length: info.length,
            bytes_held: info.bytes_held,
            complete: info.complete,
            pinned: info.pinned,
            neighbours: info.neighbours,
        }
    }
}

/// A page of tasks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TasksBody {
    /// The tasks, in order of their ids.
    pub tasks: Vec<TaskBody>,
    /// What to pass as `after` for the next page, if this one is full.
    pub next: Option<String>,
}

/// What `POST /v1/token` takes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// The roles of who joins with it, `scheduler,seed,peer`; default `peer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<String>,
    /// For how long it lets hosts join, in seconds; default without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_s: Option<u64>,
    /// Addresses to meet at in place of the node's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
}

/// A token. It holds a secret.
#[derive(Clone, Serialize, Deserialize)]
pub struct TokenBody {
    /// `df1:...`
    pub token: String,
}

/// What `GET /v1/status` answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StatusBody {
    /// The program's version.
    pub version: String,
    /// The node's identity.
    pub peer_id: String,
    /// `scheduler,seed,peer`: what runs.
    pub roles: String,
    /// Addresses that other nodes can dial.
    pub listen: Vec<String>,
    /// Whether every engine serves and the daemon is not about to stop.
    pub ready: bool,
    /// The process.
    pub pid: u32,
    /// Seconds since every engine serves.
    pub uptime_s: u64,
    /// The account that this host belongs to; empty in a network of one.
    #[serde(default)]
    pub tenant: String,
    /// What the credential allows.
    #[serde(default)]
    pub allowed: String,
    /// Bytes of content that are held.
    #[serde(default)]
    pub store_bytes: u64,
    /// Versions of content of which pieces are held.
    #[serde(default)]
    pub store_entries: u64,
    /// The most bytes that are kept, if there is a bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_quota: Option<u64>,
    /// Hosts that a lane is open to.
    #[serde(default)]
    pub neighbours: u32,
}

/// What the daemon writes into `--ready-file`. It holds a secret: mode 0600.
#[derive(Clone, Serialize, Deserialize)]
pub struct ReadyFile {
    /// The node's identity.
    pub peer_id: String,
    /// Addresses that other nodes can dial, with `/p2p`.
    pub listen: Vec<String>,
    /// A token for the role peer, to join this node's network.
    pub join: String,
    /// Where the local API is, `unix:PATH`.
    pub api: Option<String>,
    /// Where `/metrics` is, `IP:PORT`.
    pub metrics: Option<String>,
    /// Where the local API is over TCP, `IP:PORT`.
    #[serde(default)]
    pub api_tcp: Option<String>,
    /// Where the gateway is, `IP:PORT`.
    #[serde(default)]
    pub gateway: Option<String>,
    /// The process.
    pub pid: u32,
}

/// JSON in ASCII alone, for a header's value; `None` if it is longer than [`TRAILER_MAX`].
pub(crate) fn header_json(value: &impl Serialize) -> Option<http::HeaderValue> {
    let json = serde_json::to_string(value).ok()?;
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() && c != '\x7f' {
            text.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    (text.len() <= TRAILER_MAX).then(|| http::HeaderValue::from_str(&text).ok()).flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_error_of_any_text_fits_into_a_trailer() {
        for text in ["\n\r\0\x7f\"", "ü", "🦀"] {
            let failure = Failure::new(ErrorKind::Origin, text.repeat(MESSAGE_MAX));
            let value = header_json(&ErrorBody::from(&failure)).unwrap();
            let body: ErrorBody = serde_json::from_slice(value.as_bytes()).unwrap();
            assert_eq!(body.message, text.repeat(MESSAGE_MAX).chars().take(MESSAGE_MAX).collect::<String>());
            assert_eq!(dragonfly_core::Error::from(body).kind(), ErrorKind::Origin);
        }
    }

    #[test]
    fn what_is_too_long_is_no_trailer() {
        assert!(header_json(&"x".repeat(TRAILER_MAX)).is_none());
    }

    #[test]
    fn requests_are_checked() {
        let request = |json: &str| serde_json::from_str::<FetchRequest>(json).unwrap().to_request();
        assert_eq!(request(r#"{"url":"http://h/"}"#).unwrap().url(), "http://h/");
        for wrong in [r#"{"url":"u","digest":"sha256:00"}"#, r#"{"url":"u","priority":8}"#] {
            assert_eq!(request(wrong).unwrap_err().kind, ErrorKind::InvalidInput, "{wrong}");
        }
        let many = FetchRequest { headers: vec![Default::default(); LIST_MAX + 1], ..Default::default() };
        assert_eq!(many.to_request().unwrap_err().kind, ErrorKind::InvalidInput);
        assert!(serde_json::from_str::<FetchRequest>(r#"{"url":"u","output":"/etc/passwd"}"#).is_err());
    }
}

//! From a request to an answer: conditions, ranges and the misbehaviour asked for.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, response};
use http_body_util::{Either, Full};

use crate::body::{ContentBody, Fault};
use crate::counters::{Count, UnderWay};
use crate::resource::{Content, Pacer, Resource, Served, Tag};

pub(crate) type AnswerBody = Either<ContentBody, Full<Bytes>>;

/// Answers one request for `served`; an error closes the connection without an answer.
pub(crate) fn answer<B>(
    request: &Request<B>,
    served: &Served,
    count: Count,
    shared_pacer: Option<Arc<Pacer>>,
) -> io::Result<Response<AnswerBody>> {
    let resource = &served.resource;
    let seen = served.seen.fetch_add(1, Ordering::Relaxed);
    if seen < resource.hang_up {
        return Err(io::Error::other("hung up on demand"));
    }
    if let Some(refusal) = refuse(resource, seen - resource.hang_up, request) {
        return Ok(refusal);
    }
    if let Some((status, location)) = &resource.redirect {
        let mut builder = start(resource, *status);
        builder = builder.header(header::LOCATION, location);
        return Ok(empty(builder));
    }
    let answered = served.answered.fetch_add(1, Ordering::Relaxed);
    let content = match &resource.later {
        Some((after, later)) if answered >= *after => later,
        _ => &resource.content,
    };
    let etag = match &resource.tag {
        Tag::Auto => Some(content.etag()),
        Tag::None => None,
        Tag::Verbatim(tag) => Some(tag.clone()),
    };
    let version = Version { etag, modified: resource.last_modified };
    let mut conditions = version.conditions(request.headers());
    if resource.if_range_ignored {
        conditions = Conditions { failed: false, unchanged: conditions.unchanged, range: true };
    }
    if conditions.failed {
        return Ok(empty(version.mark(start(resource, 412))));
    }
    if conditions.unchanged {
        return Ok(empty(version.mark(start(resource, 304))));
    }
    let asked = request.headers().get(header::RANGE).and_then(|value| value.to_str().ok());
    let asked = asked.filter(|_| resource.ranges && conditions.range && request.method() == Method::GET);
    let length = content.length();
    let (status, from, to) = match asked.map(|asked| parse_range(asked, length)) {
        None | Some(Asked::Whole) => (200, 0, length),
        Some(Asked::Part(from, to)) => (206, from, to),
        Some(Asked::Outside) => {
            let builder = start(resource, 416).header(header::CONTENT_RANGE, format!("bytes */{length}"));
            return Ok(empty(version.mark(builder)));
        }
    };
    let mut builder = version.mark(start(resource, status));
    builder = describe(builder, resource, status, from, to, length);
    if request.method() == Method::HEAD {
        return Ok(empty(builder));
    }
    let body = body(served, content, from, to, count, shared_pacer);
    Ok(builder.body(Either::Left(body)).unwrap_or_else(|_| Response::new(Either::Right(Full::default()))))
}

/// Failures on demand and missing credentials.
fn refuse<B>(resource: &Resource, seen: u64, request: &Request<B>) -> Option<Response<AnswerBody>> {
    let refused = |builder: response::Builder| match &resource.refusal {
        None => empty(builder),
        Some((media_type, body)) => {
            let builder = builder.header(header::CONTENT_TYPE, media_type);
            builder
                .body(Either::Right(Full::from(body.clone())))
                .unwrap_or_else(|_| Response::new(Either::Right(Full::default())))
        }
    };
    let mut builder = Response::builder();
    if let Some((times, status, retry_after)) = resource.fail
        && seen < times
    {
        builder = builder.status(status);
        if let Some(seconds) = retry_after {
            builder = builder.header(header::RETRY_AFTER, seconds);
        }
        return Some(refused(builder));
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Some(refused(builder.status(StatusCode::METHOD_NOT_ALLOWED)));
    }
    let has = |name: &str, value: &str| request.headers().get(name).is_some_and(|given| given == value);
    if let Some((wanted, challenge)) = &resource.auth
        && !has("authorization", wanted)
    {
        return Some(refused(builder.status(401).header(header::WWW_AUTHENTICATE, challenge)));
    }
    if resource.required.iter().any(|(name, value)| !has(name, value)) {
        return Some(refused(builder.status(403)));
    }
    None
}

fn start(resource: &Resource, status: u16) -> response::Builder {
    let mut builder = Response::builder().status(status);
    for (name, value) in &resource.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            builder = builder.header(name, value);
        }
    }
    builder
}

/// The headers that promise what the body carries.
fn describe(
    mut builder: response::Builder,
    resource: &Resource,
    status: u16,
    from: u64,
    to: u64,
    length: u64,
) -> response::Builder {
    if resource.ranges {
        builder = builder.header(header::ACCEPT_RANGES, "bytes");
    }
    if status == 206 {
        let total = if resource.chunked { "*".to_owned() } else { length.to_string() };
        let truth = format!("bytes {from}-{}/{total}", to.saturating_sub(1));
        builder = builder.header(header::CONTENT_RANGE, resource.content_range.clone().unwrap_or(truth));
    }
    // A part that is to be too long or too short goes in chunks, else the client's HTTP would see it before we do.
    if !resource.chunked && (resource.body_delta == 0 || status == 200) {
        builder = builder.header(header::CONTENT_LENGTH, to - from);
    }
    builder
}

fn body(
    served: &Served,
    content: &Content,
    from: u64,
    to: u64,
    count: Count,
    shared_pacer: Option<Arc<Pacer>>,
) -> ContentBody {
    let resource = &served.resource;
    let once = |fault: Option<(u64, u64)>, used: &AtomicU64| {
        let (at, times) = fault?;
        (used.fetch_add(1, Ordering::Relaxed) < times).then_some(at)
    };
    let reset = once(resource.reset, &served.resets).map(Fault::Reset);
    let fault = reset.or_else(|| once(resource.stall, &served.stalls).map(Fault::Stall));
    let end = if resource.endless { u64::MAX } else { to.saturating_add_signed(resource.body_delta).max(from) };
    ContentBody {
        content: content.clone(),
        position: from,
        end,
        sent: 0,
        fault,
        flushed: false,
        pacers: served.pacer.iter().chain(&shared_pacer).cloned().collect(),
        wait: None,
        count: count.bytes,
        _under_way: UnderWay::new(count.bodies),
    }
}

fn empty(builder: response::Builder) -> Response<AnswerBody> {
    builder.body(Either::Right(Full::default())).unwrap_or_else(|_| Response::new(Either::Right(Full::default())))
}

/// What tells versions apart (RFC 9110, 8.8).
struct Version {
    etag: Option<String>,
    modified: Option<SystemTime>,
}

struct Conditions {
    /// 412.
    failed: bool,
    /// 304.
    unchanged: bool,
    /// Whether `Range` is to be obeyed.
    range: bool,
}

impl Version {
    fn mark(&self, mut builder: response::Builder) -> response::Builder {
        if let Some(etag) = &self.etag {
            builder = builder.header(header::ETAG, etag);
        }
        if let Some(modified) = self.modified {
            builder = builder.header(header::LAST_MODIFIED, httpdate::fmt_http_date(modified));
        }
        builder
    }

    /// RFC 9110, 13.2.2: in its order of precedence.
    fn conditions(&self, headers: &HeaderMap) -> Conditions {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let date = |name| text(name).and_then(|value| httpdate::parse_http_date(value).ok());
        let failed = match (text(header::IF_MATCH), date(header::IF_UNMODIFIED_SINCE)) {
            (Some(tags), _) => !self.matches(tags, true),
            (None, Some(since)) => self.modified.is_some_and(|modified| modified > since),
            (None, None) => false,
        };
        let unchanged = match (text(header::IF_NONE_MATCH), date(header::IF_MODIFIED_SINCE)) {
            (Some(tags), _) => self.matches(tags, false),
            (None, Some(since)) => self.modified.is_some_and(|modified| modified <= since),
            (None, None) => false,
        };
        let range = match text(header::IF_RANGE) {
            None => true,
            Some(value) => match httpdate::parse_http_date(value) {
                Ok(date) => self.modified == Some(date),
                Err(_) => self.matches(value, true),
            },
        };
        Conditions { failed, unchanged, range }
    }

    /// Whether one of a list of entity tags is ours. (Ours have no commas in them.)
    fn matches(&self, tags: &str, strong: bool) -> bool {
        let Some(ours) = &self.etag else { return false };
        let bare = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        tags.split(',').map(str::trim).any(|tag| {
            tag == "*" || if strong { tag == ours && !tag.starts_with("W/") } else { bare(tag) == bare(ours) }
        })
    }
}

enum Asked {
    Outside,
    Part(u64, u64),
    Whole,
}

/// One range; several, and anything that is not a range, get the whole.
fn parse_range(value: &str, length: u64) -> Asked {
    let Some((from, to)) = value.strip_prefix("bytes=").and_then(|set| set.split_once('-')) else {
        return Asked::Whole;
    };
    match (from.trim().parse::<u64>(), to.trim().parse::<u64>()) {
        (Ok(from), Ok(to)) if to < from => Asked::Whole,
        (Ok(from), _) if from >= length => Asked::Outside,
        (Ok(from), Ok(to)) => Asked::Part(from, to.saturating_add(1).min(length)),
        (Ok(from), Err(_)) if to.is_empty() => Asked::Part(from, length),
        (Err(_), Ok(0)) if from.is_empty() => Asked::Outside,
        (Err(_), Ok(last)) if from.is_empty() && length > 0 => Asked::Part(length.saturating_sub(last), length),
        _ => Asked::Whole,
    }
}

//! The few response headers that we read ourselves. Everything here comes from an origin: nothing panics, and what
//! does not parse says nothing.

use std::time::{Duration, SystemTime};

use ::http::header::{self, HeaderMap, HeaderName};

use crate::task::Validator;

/// The longest entity tag that is used as a validator, in bytes: it travels in every description of a version.
const ETAG_MAX: usize = 512;

/// How much older than the response a `Last-Modified` must be to be a strong validator (RFC 9110, 8.8.2.2 leaves
/// the number open; it asks for one second at least, and for allowance for clocks: this was RFC 7232's).
const LAST_MODIFIED_AGE_MIN: Duration = Duration::from_secs(60);

/// A `Content-Range` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContentRange {
    /// `bytes start-last/total`: a part, end exclusive.
    Part { start: u64, end: u64, total: Option<u64> },
    /// `bytes */total`: what was asked for lies outside.
    Unsatisfied { total: u64 },
}

/// Reads all that is read of an origin's headers, for the fuzzer: a line each, as `name: value`.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_headers(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(64) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (HeaderName::from_bytes(&line[..colon]), &line[colon + 1..]);
        if let (Ok(name), Ok(value)) = (name, ::http::HeaderValue::from_bytes(value.trim_ascii())) {
            headers.append(name, value);
        }
    }
    let _ = (caching(&headers), validator(&headers), retry_after(&headers, SystemTime::UNIX_EPOCH));
    let range = text(&headers, &header::CONTENT_RANGE).and_then(content_range);
    if let Some(ContentRange::Part { start, end, total }) = range {
        assert!(start < end && total.is_none_or(|total| end <= total));
    }
}

/// Reads a `Content-Range`; inconsistent numbers are not read.
pub(crate) fn content_range(value: &str) -> Option<ContentRange> {
    let (unit, rest) = value.trim().split_once(' ')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (range, total) = rest.trim().split_once('/')?;
    if range == "*" {
        return Some(ContentRange::Unsatisfied { total: number(total)? });
    }
    let total = if total == "*" { None } else { Some(number(total)?) };
    let (start, last) = range.split_once('-')?;
    let (start, end) = (number(start)?, number(last)?.checked_add(1)?);
    let sound = start < end && total.is_none_or(|total| end <= total);
    sound.then_some(ContentRange::Part { start, end, total })
}

/// What `Cache-Control` and its older kin say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Caching {
    pub(crate) fresh: Option<Duration>,
    pub(crate) private: bool,
}

/// Reads the caching headers of an answer, as a shared cache does (RFC 9111).
pub(crate) fn caching(headers: &HeaderMap) -> Caching {
    let (mut max_age, mut shared_max_age, mut no_cache, mut private, mut any) = (None, None, false, false, false);
    for value in texts(headers, &header::CACHE_CONTROL) {
        any = true;
        for (name, value) in directives(value) {
            match name.as_str() {
                "max-age" => max_age = max_age.or(seconds(&value)),
                "s-maxage" => shared_max_age = shared_max_age.or(seconds(&value)),
                "no-cache" => no_cache = true,
                "no-store" => (no_cache, private) = (true, true),
                "private" => private = true,
                _ => {}
            }
        }
    }
    if !any && texts(headers, &header::PRAGMA).any(|value| value.trim().eq_ignore_ascii_case("no-cache")) {
        no_cache = true;
    }
    for value in texts(headers, &header::VARY) {
        private |= value.split(',').any(|name| {
            let name = name.trim();
            name == "*" || name.eq_ignore_ascii_case("authorization") || name.eq_ignore_ascii_case("cookie")
        });
    }
    let age = texts(headers, &header::AGE).next().and_then(seconds).unwrap_or_default();
    let fresh = if no_cache {
        Some(Duration::ZERO)
    } else {
        shared_max_age.or(max_age).map(|fresh: Duration| fresh.saturating_sub(age))
    };
    Caching { fresh, private }
}

/// The strong validator of an answer, if it has one.
pub(crate) fn validator(headers: &HeaderMap) -> Option<Validator> {
    if headers.contains_key(header::ETAG) {
        // RFC 9110, 13.1.5: who has an entity tag, be it a weak one, must not fall back to the date.
        return text(headers, &header::ETAG)
            .filter(|tag| is_strong_etag(tag))
            .map(|tag| Validator::Etag(tag.to_owned()));
    }
    let modified = text(headers, &header::LAST_MODIFIED)?;
    let then = httpdate::parse_http_date(modified).ok()?;
    let now = httpdate::parse_http_date(text(headers, &header::DATE)?).ok()?;
    let old = now.duration_since(then).is_ok_and(|age| age >= LAST_MODIFIED_AGE_MIN);
    old.then(|| Validator::LastModified(modified.to_owned()))
}

fn is_strong_etag(tag: &str) -> bool {
    let inner = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
    tag.len() <= ETAG_MAX
        && inner.is_some_and(|inner| inner.bytes().all(|byte| byte > 0x20 && byte != b'"' && byte != 0x7f))
}

/// `Retry-After`: seconds, or a date (relative to the answer's own `Date`, so that our clock does not matter, or to
/// `now` where there is none).
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = text(headers, &header::RETRY_AFTER)?.trim();
    if let Some(delay) = seconds(value) {
        return Some(delay);
    }
    let then = httpdate::parse_http_date(value).ok()?;
    let now = text(headers, &header::DATE).and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or(now);
    Some(then.duration_since(now).unwrap_or_default())
}

/// A header that is there once and is text.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    texts(headers, name).next()
}

fn texts<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok())
}

/// The directives of a `Cache-Control`, names in lower case, values without quotes.
fn directives(value: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let (mut part, mut quoted) = (String::new(), false);
    for c in value.chars().chain([',']) {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => {
                let (name, value) = part.split_once('=').unwrap_or((&part, ""));
                all.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
                part.clear();
            }
            c => part.push(c),
        }
    }
    all
}

/// Decimal digits and nothing else.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Seconds, where a number too large to hold is the largest that is (RFC 9111, 1.2.2).
fn seconds(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| Duration::from_secs(u64::from(text.parse::<u32>().unwrap_or(u32::MAX))))
}

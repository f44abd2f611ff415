use std::time::SystemTime;

use ::http::header::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::super::header::{ContentRange, caching, content_range, retry_after, validator};
use super::*;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (HeaderName::try_from(*name).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    pairs.iter().map(pair).collect()
}

#[test]
fn content_ranges() {
    let part = |start, end, total| Some(ContentRange::Part { start, end, total });
    assert_eq!(content_range("bytes 0-0/1"), part(0, 1, Some(1)));
    assert_eq!(content_range("Bytes  5-9/* "), part(5, 10, None));
    assert_eq!(content_range("bytes */0"), Some(ContentRange::Unsatisfied { total: 0 }));
    for bad in
        ["bytes 0-1/1", "bytes 2-1/9", "bytes +1-2/9", "bytes 1-/9", "bytes -1/9", "bytes */*", "bytes 1-2", "1-2/3"]
    {
        assert_eq!(content_range(bad), None, "{bad}");
    }
}

#[test]
fn freshness() {
    let fresh = |pairs: &[(&str, &str)]| caching(&headers(pairs)).fresh.map(|fresh| fresh.as_secs());
    assert_eq!(fresh(&[]), None);
    assert_eq!(fresh(&[("cache-control", "public")]), None);
    assert_eq!(fresh(&[("cache-control", "Max-Age=\"7\"")]), Some(7));
    assert_eq!(fresh(&[("cache-control", "max-age=7, s-maxage=9")]), Some(9));
    assert_eq!(fresh(&[("cache-control", "max-age=7"), ("cache-control", "no-cache")]), Some(0));
    assert_eq!(fresh(&[("cache-control", "ext=\"a,no-cache\", max-age=7")]), Some(7));
    assert_eq!(fresh(&[("cache-control", "max-age=7"), ("age", "9")]), Some(0));
    assert_eq!(fresh(&[("cache-control", "max-age=99999999999999999999")]), Some(u64::from(u32::MAX)));
    assert_eq!(fresh(&[("cache-control", "max-age=-1")]), None);
    assert_eq!(fresh(&[("pragma", "no-cache")]), Some(0));
}

#[test]
fn waits() {
    let date = ("date", "Mon, 01 Jan 2024 00:00:00 GMT");
    let after = |value| retry_after(&headers(&[date, ("retry-after", value)]), SystemTime::now()).map(|d| d.as_secs());
    assert_eq!(after("120"), Some(120));
    assert_eq!(after("Mon, 01 Jan 2024 00:01:00 GMT"), Some(60));
    assert_eq!(after("Sun, 31 Dec 2023 00:01:00 GMT"), Some(0));
    assert_eq!(after("soon"), None);
    let retry = Retry::default();
    for failures in 1..100 {
        let delay = retry.delay(failures);
        let most = retry.base.saturating_mul(1 << (failures - 1).min(20)).min(retry.cap);
        assert!(delay >= most / 2 && delay <= most, "{failures}: {delay:?}");
    }
    assert_ne!(retry.delay(1), Retry { seed: 1, ..retry.clone() }.delay(1));
}

#[test]
fn shown_urls() {
    for (url, shown) in [
        ("https://u:p@example.org:8443/a%20b?x=y#z", "https://example.org:8443/a%20b?…"),
        ("http://[::1]/", "http://[::1]/"),
        ("data:text/plain,secret", "data:…"),
    ] {
        assert_eq!(redact(&Url::parse(url).unwrap()), shown);
    }
    let long = format!("http://example.org/{}?q", "x".repeat(10_000));
    assert!(redact(&Url::parse(&long).unwrap()).len() < 220);
}

proptest! {
    #[test]
    fn nothing_panics_and_what_is_read_is_sound(
        range in "(bytes )?[0-9*\\-/ +]{0,50}|\\PC{0,40}",
        values in proptest::collection::vec(("cache-control|age|vary|pragma|etag|last-modified|date|retry-after", "[ -~\t]{0,60}"), 0..6),
    ) {
        if let Some(ContentRange::Part { start, end, total }) = content_range(&range) {
            prop_assert!(start < end && total.is_none_or(|total| end <= total));
        }
        let pairs: Vec<_> = values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let headers = headers(&pairs);
        let _ = caching(&headers);
        let _ = validator(&headers);
        let _ = retry_after(&headers, SystemTime::UNIX_EPOCH);
    }

    #[test]
    fn content_ranges_come_back(start in 0..u64::MAX / 2, len in 1..u64::MAX / 4, rest in 0..u64::MAX / 4) {
        let (end, total) = (start + len, start + len + rest);
        let text = format!("bytes {start}-{}/{total}", end - 1);
        prop_assert_eq!(content_range(&text), Some(ContentRange::Part { start, end, total: Some(total) }));
    }

    #[test]
    fn no_url_shows_its_secrets(text in "https?://([a-z]{1,5}(:SECRET)?@)?h/[a-z/]{0,20}(\\?[a-z]{0,5}=SECRET)?(#SECRET)?") {
        prop_assert!(!redact(&Url::parse(&text).unwrap()).contains("SECRET"));
    }
}

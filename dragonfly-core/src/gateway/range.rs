//! Parts of content that clients ask for (RFC 9110, 14).

use std::ops::Range;

use http::header::{self, HeaderMap};

/// Which part of content is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// These bytes, not none.
    Bytes(Range<u64>),
    /// The client asked for what there is not.
    Outside,
}

/// The part that a request asks for of content of this length with this entity tag. What a server need not understand is
/// answered with the whole, as are several parts at once.
pub(super) fn part(headers: &HeaderMap, length: u64, etag: Option<&str>) -> Part {
    let Some(value) = headers.get(header::RANGE).and_then(|value| value.to_str().ok()) else { return Part::Whole };
    if let Some(condition) = headers.get(header::IF_RANGE)
        && condition.to_str().ok().zip(etag).is_none_or(|(condition, etag)| condition != etag)
    {
        return Part::Whole;
    }
    let Some((unit, spec)) = value.split_once('=') else { return Part::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || spec.contains(',') {
        return Part::Whole;
    }
    let Some((first, last)) = spec.trim().split_once('-') else { return Part::Whole };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let range = match (number(first), number(last)) {
        (None, Some(count)) if first.is_empty() => length.saturating_sub(count)..length,
        (Some(first), None) if last.is_empty() => first..length,
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(length),
        _ => return Part::Whole,
    };
    if range.start < range.end { Part::Bytes(range) } else { Part::Outside }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(range: &str, condition: Option<&str>) -> Part {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, range.parse().unwrap());
        if let Some(condition) = condition {
            headers.insert(header::IF_RANGE, condition.parse().unwrap());
        }
        part(&headers, 10, Some("\"a\""))
    }

    #[test]
    fn parts() {
        assert_eq!(part(&HeaderMap::new(), 10, None), Part::Whole);
        for (text, wanted) in [
            ("bytes=0-0", Part::Bytes(0..1)),
            ("bytes=3-", Part::Bytes(3..10)),
            ("bytes=3-100", Part::Bytes(3..10)),
            ("bytes=-4", Part::Bytes(6..10)),
            ("bytes=-40", Part::Bytes(0..10)),
            ("Bytes=9-9", Part::Bytes(9..10)),
            ("bytes=0-18446744073709551615", Part::Bytes(0..10)),
            ("bytes=10-", Part::Outside),
            ("bytes=99999999999999999999999-", Part::Outside),
            ("bytes=-0", Part::Outside),
            ("bytes=5-3", Part::Whole),
            ("bytes=0-1,4-5", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("items=0-1", Part::Whole),
            ("bytes", Part::Whole),
        ] {
            assert_eq!(of(text, None), wanted, "{text}");
        }
        assert_eq!(of("bytes=3-", Some("\"a\"")), Part::Bytes(3..10));
        assert_eq!(of("bytes=3-", Some("\"b\"")), Part::Whole, "another version");
        assert_eq!(part(&HeaderMap::new(), 0, None), Part::Whole);
    }
}

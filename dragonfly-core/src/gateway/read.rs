//! Reads whatever somebody may write to a gateway, for the fuzzers.

use http::header::{self, HeaderMap, HeaderValue};

use super::range::{Part, part};
use super::{Hosts, Rule, Users, registry};

/// Each line as a path of a registry, a range of content of the length that its own length says, a rule, hosts and users.
/// What was understood is written and understood again as the same, and a range is within its content.
pub(crate) fn read_lines(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = Users::from_text(&text);
    for line in text.lines() {
        registry::read_path(line);
        if let Ok(rule) = line.parse::<Rule>() {
            let written = rule.to_string();
            assert_eq!(written.parse::<Rule>().map(|rule| rule.to_string()).ok(), Some(written));
        }
        if let Ok(hosts) = line.parse::<Hosts>() {
            assert_eq!(hosts.to_string().parse::<Hosts>().ok(), Some(hosts));
        }
        let Ok(value) = HeaderValue::try_from(line) else { continue };
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, value.clone());
        for length in [0, line.len() as u64, u64::MAX] {
            if let Part::Bytes(range) = part(&headers, length, None) {
                assert!(range.start < range.end && range.end <= length, "{range:?} of {length}");
            }
        }
        headers.insert(header::IF_RANGE, value);
        let _ = part(&headers, 10, Some(line));
    }
}

//! What origins let this host's callers read: a short memory, so that each object is asked for once a minute.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use url::Url;

use crate::task::PUBLIC_HEADERS;

/// For so long an origin's yes counts.
const PERMIT_MAX: Duration = Duration::from_secs(60);

/// The most answers that are remembered: an image has tens of objects, and a host pulls a few images at a time.
const PERMITS_MAX: usize = 4096;

/// Who may read what: the hash of a URL and of the credentials that it was asked with. Credentials themselves are not
/// kept.
type Key = [u8; 32];

/// What origins said yes to of late.
#[derive(Debug, Default)]
pub(crate) struct Permits(Mutex<HashMap<Key, Instant>>);

impl Permits {
    /// The origin lets this asker read this, now.
    pub(crate) fn grant(&self, url: &Url, headers: &[(String, String)], now: Instant) {
        // Nothing that holds the lock can leave the map broken.
        let mut permits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if permits.len() >= PERMITS_MAX {
            permits.retain(|_, at| now.saturating_duration_since(*at) < PERMIT_MAX);
        }
        if permits.len() >= PERMITS_MAX {
            // Each costs its asker one more question.
            permits.clear();
        }
        permits.insert(key(url, headers), now);
    }

    /// Whether it did less than a minute ago.
    pub(crate) fn has(&self, url: &Url, headers: &[(String, String)], now: Instant) -> bool {
        let permits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        permits.get(&key(url, headers)).is_some_and(|at| now.saturating_duration_since(*at) < PERMIT_MAX)
    }
}

fn key(url: &Url, headers: &[(String, String)]) -> Key {
    let mut hasher = blake3::Hasher::new();
    let mut text = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    text(url.as_str());
    for (name, value) in headers.iter().filter(|(name, _)| !is_public(name)) {
        text(&name.to_ascii_lowercase());
        text(value);
    }
    *hasher.finalize().as_bytes()
}

/// Whether a header says nothing of who asks.
pub(crate) fn is_public(name: &str) -> bool {
    PUBLIC_HEADERS.iter().any(|public| public.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_yes_counts_for_a_minute_for_who_asked() {
        let (permits, now) = (Permits::default(), Instant::now());
        let url: Url = "https://registry.example/v2/a/blobs/sha256:0".parse().unwrap();
        let other: Url = "https://registry.example/v2/b/blobs/sha256:0".parse().unwrap();
        let of = |value: &str| vec![("Authorization".to_owned(), value.to_owned())];
        permits.grant(&url, &of("Bearer 1"), now);
        assert!(permits.has(&url, &of("Bearer 1"), now + Duration::from_secs(59)));
        assert!(!permits.has(&url, &of("Bearer 1"), now + PERMIT_MAX));
        assert!(!permits.has(&url, &of("Bearer 2"), now), "another asker");
        assert!(!permits.has(&url, &[], now), "nobody");
        assert!(!permits.has(&other, &of("Bearer 1"), now), "another repository");
        let with_agent = [of("Bearer 1"), vec![("User-Agent".to_owned(), "x/1".to_owned())]].concat();
        assert!(permits.has(&url, &with_agent, now), "who asks is in no public header");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (permits, now) = (Permits::default(), Instant::now());
        for i in 0..PERMITS_MAX * 2 {
            permits.grant(&format!("https://h/{i}").parse().unwrap(), &[], now);
            assert!(permits.0.lock().unwrap().len() <= PERMITS_MAX);
        }
    }
}

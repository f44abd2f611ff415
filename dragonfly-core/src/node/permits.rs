//! What origins let this host's callers read: a short memory, so that each object is asked for once a minute.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use url::Url;

use crate::task::PUBLIC_HEADERS;

/// For so long an origin's yes counts.
pub(crate) const PERMIT_MAX: Duration = Duration::from_secs(60);

/// The most answers that are remembered: an image has tens of objects, and a host pulls a few images at a time.
pub(super) const PERMITS_MAX: usize = 4096;

/// Who may read what: the hash of a URL and of the credentials that it was asked with. Credentials themselves are not
/// kept.
type Key = [u8; 32];

/// What an origin gives who asks: what the content must be like. A page that asks for a password is a plain answer, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permit {
    /// So many bytes.
    Length(u64),
    /// It does not say how many, but they begin so.
    Begins(Begins),
}

/// The first bytes of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begins {
    /// How many these are. Fewer than [`BEGIN_BYTES`]: it is all of the content.
    pub(crate) length: u64,
    /// BLAKE3 of them.
    pub(crate) hash: [u8; 32],
}

/// How many bytes of content are compared where its origin does not say how long it is: who is given these is given the
/// rest.
pub(crate) const BEGIN_BYTES: u64 = 64 << 10;

/// What origins said yes to of late.
#[derive(Debug, Default)]
pub(crate) struct Permits(Mutex<HashMap<Key, (Instant, Permit)>>);

impl Permits {
    /// The origin lets this asker read this, now.
    pub(crate) fn grant(&self, asker: Asker<'_>, permit: Permit, now: Instant) {
        // Nothing that holds the lock can leave the map broken.
        let mut permits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if permits.len() >= PERMITS_MAX {
            permits.retain(|_, (at, _)| now.saturating_duration_since(*at) < PERMIT_MAX);
        }
        if permits.len() >= PERMITS_MAX {
            // Each costs its asker one more question.
            permits.clear();
        }
        permits.insert(asker.key(), (now, permit));
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// What it gave, if it did less than a minute ago.
    pub(crate) fn get(&self, asker: Asker<'_>, now: Instant) -> Option<Permit> {
        let permits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, permit) = permits.get(&asker.key())?;
        (now.saturating_duration_since(*at) < PERMIT_MAX).then_some(*permit)
    }
}

/// Who asks for what.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) url: &'a Url,
    pub(crate) headers: &'a [(String, String)],
    /// Whether a user of this host, see [`Guard`](crate::source::Guard): others may not reach all that these may.
    pub(crate) local: bool,
}

impl Asker<'_> {
    fn key(&self) -> Key {
        let mut hasher = blake3::Hasher::new();
        let mut text = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        text(if self.local { "local" } else { "" });
        text(self.url.as_str());
        for (name, value) in self.headers.iter().filter(|(name, _)| !is_public(name)) {
            text(&name.to_ascii_lowercase());
            text(value);
        }
        *hasher.finalize().as_bytes()
    }
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
        let (one, two) = (of("Bearer 1"), of("Bearer 2"));
        let asker = Asker { url: &url, headers: &one, local: true };
        let seven = Permit::Length(7);
        permits.grant(asker, seven, now);
        assert_eq!(permits.get(asker, now + Duration::from_secs(59)), Some(seven));
        assert_eq!(permits.get(asker, now + PERMIT_MAX), None);
        assert_eq!(permits.get(Asker { headers: &two, ..asker }, now), None, "another asker");
        assert_eq!(permits.get(Asker { headers: &[], ..asker }, now), None, "nobody");
        assert_eq!(permits.get(Asker { url: &other, ..asker }, now), None, "another repository");
        assert_eq!(permits.get(Asker { local: false, ..asker }, now), None, "from another machine");
        let with_agent = [one.clone(), vec![("User-Agent".to_owned(), "x/1".to_owned())]].concat();
        assert_eq!(
            permits.get(Asker { headers: &with_agent, ..asker }, now),
            Some(seven),
            "who asks is in no public header"
        );
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (permits, now) = (Permits::default(), Instant::now());
        for i in 0..PERMITS_MAX * 2 {
            let url = format!("https://h/{i}").parse().unwrap();
            permits.grant(Asker { url: &url, headers: &[], local: true }, Permit::Length(0), now);
            assert!(permits.0.lock().unwrap().len() <= PERMITS_MAX);
        }
    }
}

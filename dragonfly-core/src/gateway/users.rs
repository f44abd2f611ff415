//! Who may use a gateway, by name and password (RFC 7617, for a proxy).

use std::collections::HashSet;
use std::fmt;

use data_encoding::BASE64;
use http::header::{self, HeaderMap};

/// Names and passwords that open a gateway. What is kept of them is a hash with a key of this process's own, in which
/// nothing is found by how long a comparison takes.
#[derive(Clone)]
pub struct Users {
    key: [u8; 32],
    known: HashSet<[u8; 32]>,
}

/// Text that is no list of [`Users`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidUsers {
    /// A line is not so.
    #[error("line {0}: expected NAME:PASSWORD")]
    Line(usize),
    /// Nobody would be let in.
    #[error("there is no user in it")]
    Empty,
    /// The system gives none.
    #[error("no randomness: {0}")]
    Randomness(String),
}

impl Users {
    /// A user each line, `NAME:PASSWORD`; empty lines and those that begin with `#` are passed over.
    ///
    /// # Errors
    /// See [`InvalidUsers`].
    pub fn from_text(text: &str) -> Result<Self, InvalidUsers> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|e| InvalidUsers::Randomness(e.to_string()))?;
        let mut users = Self { key, known: HashSet::new() };
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let named = line.split_once(':').is_some_and(|(name, password)| !name.is_empty() && !password.is_empty());
            if !named {
                return Err(InvalidUsers::Line(number));
            }
            users.known.insert(users.hash(line.as_bytes()));
        }
        if users.known.is_empty() { Err(InvalidUsers::Empty) } else { Ok(users) }
    }

    /// Whether a request shows that it is one of theirs.
    pub(super) fn admit(&self, headers: &HeaderMap) -> bool {
        let mut shown = headers.get_all(header::PROXY_AUTHORIZATION).iter();
        let (Some(value), None) = (shown.next(), shown.next()) else { return false };
        let Some((scheme, credentials)) = value.to_str().ok().and_then(|value| value.split_once(' ')) else {
            return false;
        };
        let pair = BASE64.decode(credentials.trim().as_bytes()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"));
        pair.is_some_and(|pair| self.known.contains(&self.hash(&pair)))
    }

    fn hash(&self, pair: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.key, pair).as_bytes()
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("known", &self.known.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn who_is_listed_is_let_in() {
        let users = Users::from_text("# people\n\nann:secret\nbob:a:b\r\n").unwrap();
        let admit = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::PROXY_AUTHORIZATION, value.parse().unwrap());
            users.admit(&headers)
        };
        let basic = |pair: &str| format!("Basic {}", BASE64.encode(pair.as_bytes()));
        assert!(admit(&basic("ann:secret")) && admit(&basic("ann:secret").replace("Basic", "basic")));
        assert!(admit(&basic("bob:a:b")), "a password may hold a colon");
        for wrong in ["ann:", "ann:secre", "ann:secret ", "ann", "", ":", "# people", "bob:a"] {
            assert!(!admit(&basic(wrong)), "{wrong}");
        }
        for wrong in ["Basic", "Basic ", "Basic ann:secret", &format!("Bearer {}", BASE64.encode(b"ann:secret"))] {
            assert!(!admit(wrong), "{wrong}");
        }
        let mut twice = HeaderMap::new();
        twice.append(header::PROXY_AUTHORIZATION, basic("ann:secret").parse().unwrap());
        twice.append(header::PROXY_AUTHORIZATION, basic("eve:secret").parse().unwrap());
        assert!(!users.admit(&twice) && !users.admit(&HeaderMap::new()));
        assert!(!format!("{users:?}").contains("secret"));
    }

    #[test]
    fn a_list_says_what_is_wrong_with_it() {
        for (text, line) in [("ann:x\nbob\n", 2), (":x", 1), ("ann:", 1)] {
            assert_eq!(Users::from_text(text).unwrap_err(), InvalidUsers::Line(line), "{text:?}");
        }
        for text in ["", "# nobody\n"] {
            assert_eq!(Users::from_text(text).unwrap_err(), InvalidUsers::Empty);
        }
    }
}

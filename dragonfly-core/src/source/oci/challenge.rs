//! How a registry says in what way it wants to know who asks (RFC 9110, 11.6.1).

use ::http::header::{self, HeaderMap};

/// The most challenges of an answer that are looked at.
const CHALLENGES_MAX: usize = 8;

/// The most parameters of a challenge that are looked at.
const PARAMETERS_MAX: usize = 16;

/// The longest header that is looked at, in bytes.
const HEADER_MAX: usize = 16 * 1024;

/// A way that we know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password, to the registry itself.
    Basic,
    /// A token that somebody else gives out.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// The challenge of an answer that is to be met: a token rather than a password.
pub(super) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let values = headers.get_all(header::WWW_AUTHENTICATE).into_iter().filter_map(|value| value.to_str().ok());
    let mut all: Vec<Challenge> = values.filter(|value| value.len() <= HEADER_MAX).flat_map(read).collect();
    let bearer = all.iter().position(|challenge| *challenge != Challenge::Basic);
    match bearer {
        Some(at) => Some(all.swap_remove(at)),
        None => all.pop(),
    }
}

/// The challenges in one header that are known.
fn read(value: &str) -> Vec<Challenge> {
    let mut rest = value;
    let mut all = Vec::new();
    for _ in 0..CHALLENGES_MAX {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (scheme, after) = token(rest);
        if scheme.is_empty() {
            break;
        }
        let parameters = parameters(after);
        rest = parameters.1;
        let of = |name: &str| {
            let mut found = parameters.0.iter().filter(|(other, _)| other == name);
            found.next().map(|(_, value)| value.clone()).filter(|value| !value.contains(char::is_control))
        };
        if scheme.eq_ignore_ascii_case("basic") {
            all.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = of("realm")
        {
            all.push(Challenge::Bearer { realm, service: of("service"), scope: of("scope") });
        }
    }
    all
}

/// Names in lower case and values; and what follows them, which is another challenge or nothing.
fn parameters(text: &str) -> (Vec<(String, String)>, &str) {
    let mut rest = text;
    let mut all = Vec::new();
    while all.len() < PARAMETERS_MAX {
        let at = rest.trim_start_matches([' ', '\t', ',']);
        let (name, after) = token(at);
        let Some(after) = after.trim_start().strip_prefix('=').filter(|_| !name.is_empty()) else { return (all, at) };
        let after = after.trim_start();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted),
            None => {
                let (value, after) = token(after);
                (value.to_owned(), after)
            }
        };
        all.push((name.to_ascii_lowercase(), value));
        rest = after;
    }
    // Whoever has more of them says nothing of use any more.
    (all, "")
}

/// The text up to the closing quote, and what follows.
fn unquoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            letter => value.push(letter),
        }
    }
    (value, "")
}

fn token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/:".contains(c);
    text.split_at(text.find(|c: char| !is_token(c)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn of(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::WWW_AUTHENTICATE, ::http::HeaderValue::from_str(value).unwrap());
        }
        challenge(&headers)
    }

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            let owned = |text: Option<&str>| text.map(str::to_owned);
            Some(Challenge::Bearer { realm: realm.to_owned(), service: owned(service), scope: owned(scope) })
        };
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull,push""#;
        let wanted = bearer(
            "https://auth.docker.io/token",
            Some("registry.docker.io"),
            Some("repository:library/alpine:pull,push"),
        );
        assert_eq!(of(&[hub]), wanted);
        assert_eq!(of(&["Basic realm=\"r, Bearer realm=x\"", hub]), wanted);
        assert_eq!(of(&[&format!("Basic realm=\"r\", {hub}")]), wanted);
        assert_eq!(
            of(&["Negotiate, bearer Realm = \"a\\\"b\" , error=insufficient_scope"]),
            bearer("a\"b", None, None)
        );
        assert_eq!(of(&["BASIC realm=registry"]), Some(Challenge::Basic));
        assert_eq!(of(&["Bearer realm=https://h/t"]), bearer("https://h/t", None, None));
    }

    #[test]
    fn what_is_none_says_nothing() {
        for value in ["", ",", "=", "Bearer", "Bearer scope=\"x\"", "Digest realm=\"x\"", "Bearer realm", "\"", "ä=ö"]
        {
            let mut headers = HeaderMap::new();
            headers.insert(header::WWW_AUTHENTICATE, ::http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
            assert_eq!(challenge(&headers), None, "{value}");
        }
        assert_eq!(of(&[&format!("Bearer realm=\"{}\"", "x".repeat(HEADER_MAX))]), None);
        assert_eq!(of(&[&"a=b,".repeat(4000)]), None);
        assert!(of(&["Bearer realm=\"unclosed"]).is_some());
    }
}

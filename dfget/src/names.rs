//! Names taken from URLs: what to call the output, and what of a URL may be shown.

use std::path::PathBuf;

use url::Url;

use crate::error::Failure;

/// The URL without user information, query and fragment: those may hold credentials.
pub(crate) fn redact(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else { return "the URL".to_owned() };
    let secret = url.query().is_some();
    // A URL that cannot hold user information has none to remove.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    if secret { format!("{url}?...") } else { url.to_string() }
}

/// Characters of what is no URL that are shown.
const SHOWN_MAX: usize = 80;

/// A URL that somebody typed.
pub(crate) fn parse_url(text: &str) -> Result<Url, Failure> {
    Url::parse(text).map_err(|e| {
        // What cannot be read can hold a password all the same.
        let shown = text.split(['?', '#']).next().unwrap_or_default();
        let shown: String = shown.rsplit('@').next().unwrap_or_default().chars().take(SHOWN_MAX).collect();
        Failure::usage(format!("{shown:?} is not a URL: {e}"))
    })
}

/// The last segment of the URL's path, decoded, as the name of a file.
pub(crate) fn output_name(url: &str) -> Result<PathBuf, Failure> {
    let url = parse_url(url)?;
    let segment = url.path_segments().and_then(|mut segments| segments.next_back()).unwrap_or_default();
    let decoded = decode(segment);
    // A name that would leave the directory, or confuse a terminal, is used as it stands in the URL.
    let plain = |name: &str| !name.contains('/') && !name.contains(char::is_control);
    let name = decoded.filter(|name| plain(name)).unwrap_or_else(|| segment.to_owned());
    if name.is_empty() || name == "." || name == ".." || !plain(&name) {
        return Err(Failure::usage("the URL names no file: give one with -O"));
    }
    Ok(PathBuf::from(name))
}

/// The candidate that is most like `name`, if one is like it at all.
pub(crate) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = candidates.map(|candidate| (strsim::jaro_winkler(name, candidate), candidate));
    scored.filter(|(score, _)| *score >= 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, candidate)| candidate)
}

/// Percent-decoding; `None` if the result is not UTF-8.
fn decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = bytes.get(i + 1..i + 3).and_then(|hex| data_encoding::HEXLOWER_PERMISSIVE.decode(hex).ok());
        match hex {
            Some(hex) if bytes[i] == b'%' => {
                out.extend(hex);
                i += 3;
            }
            _ => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn secrets_of_a_url_are_not_shown() {
        assert_eq!(redact("https://me:secret@host/a/b?sig=secret#secret"), "https://host/a/b?...");
        assert_eq!(redact("https://host/a"), "https://host/a");
        assert_eq!(redact("https//secret"), "the URL");
    }

    #[test]
    fn nearest_names() {
        let names = || ["listen", "log-level", "data-dir"].into_iter();
        assert_eq!(nearest("lisen", names()), Some("listen"));
        assert_eq!(nearest("datadir", names()), Some("data-dir"));
        assert_eq!(nearest("quota", names()), None);
    }

    #[test]
    fn names_of_outputs() {
        let name = |url| output_name(url).map(|name| name.to_string_lossy().into_owned());
        assert_eq!(name("http://h/a/b.bin?x=1").unwrap(), "b.bin");
        assert_eq!(name("http://h/a%20b").unwrap(), "a b");
        assert_eq!(name("http://h/..%2f..%2fetc%2fpasswd").unwrap(), "..%2f..%2fetc%2fpasswd");
        assert_eq!(name("http://h/a%1bb").unwrap(), "a%1bb");
        assert_eq!(name("http://h/a%").unwrap(), "a%");
        for none in ["http://h", "http://h/", "http://h/a/", "http://h/%2e%2e", "data:x", "nonsense"] {
            assert!(output_name(none).is_err(), "{none}");
        }
    }
}

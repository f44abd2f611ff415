//! URLs for people.

use url::Url;

/// The most of a URL that is shown, in bytes.
const SHOWN_MAX: usize = 200;

/// A URL as it may appear in errors, logs and reports: without user information, query values and fragment (any of
/// them may be a credential: presigned URLs carry theirs in the query).
pub fn redact(url: &Url) -> String {
    let mut shown = format!("{}:", url.scheme());
    if let Some(host) = url.host_str() {
        shown.push_str("//");
        shown.push_str(host);
        if let Some(port) = url.port() {
            shown.push_str(&format!(":{port}"));
        }
        shown.push_str(url.path());
    } else {
        // `data:` and the like have their content here.
        shown.push('…');
    }
    if let Some((at, _)) = shown.char_indices().find(|(at, c)| at + c.len_utf8() > SHOWN_MAX) {
        shown.truncate(at);
        shown.push('…');
    }
    if url.query().is_some() {
        shown.push_str("?…");
    }
    shown
}

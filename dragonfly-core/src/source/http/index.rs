//! Index pages, as HTTP servers make them of directories: the links in them that lead directly below.

use std::collections::BTreeSet;

use url::Url;

use super::super::Entry;
use super::super::list::is_plain;
use super::percent_decoded;

/// The longest index page that is read, in bytes: some hundred thousand entries.
pub(super) const INDEX_MAX: usize = 32 << 20;

/// The most entries that are taken from a page.
const ENTRIES_MAX: usize = 200_000;

/// The longest link that is looked at, in bytes.
const LINK_MAX: usize = 8 * 1024;

/// How much of a tag is looked at, in bytes.
const TAG_MAX: usize = 16 * 1024;

/// The entries of a page. Links to elsewhere, upwards, to deeper levels and to other orders of the same page are not
/// entries; neither are names that are not plain.
pub(super) fn entries(page: &str, base: &Url) -> Vec<Entry> {
    let mut seen = BTreeSet::new();
    let mut entries = Vec::new();
    for link in links(page) {
        let Some(entry) = entry(&link, base).filter(|entry| seen.insert(entry.path.clone())) else { continue };
        entries.push(entry);
        if entries.len() >= ENTRIES_MAX {
            break;
        }
    }
    entries
}

fn entry(link: &str, base: &Url) -> Option<Entry> {
    let mut url = base.join(link).ok()?;
    let same = (url.scheme(), url.host(), url.port_or_known_default())
        == (base.scheme(), base.host(), base.port_or_known_default());
    if !same || url.query().is_some() || url.fragment().is_some() {
        return None;
    }
    let rest = url.path().strip_prefix(base.path())?;
    let (name, directory) = match rest.strip_suffix('/') {
        Some(name) => (name, true),
        None => (rest, false),
    };
    let path = String::from_utf8(percent_decoded(name)).ok().filter(|name| is_plain(name))?;
    // The link may have brought a user of its own.
    url.set_username(base.username()).ok()?;
    url.set_password(base.password()).ok()?;
    Some(Entry::new(path, url, None, directory))
}

/// The values of `href` in the `a` tags of a page. No more of HTML is understood.
fn links(page: &str) -> impl Iterator<Item = String> + '_ {
    let mut rest = page;
    std::iter::from_fn(move || {
        loop {
            let at = rest.find('<')?;
            rest = &rest[at + 1..];
            let mut letters = rest.bytes();
            let is_anchor = letters.next().is_some_and(|byte| byte.eq_ignore_ascii_case(&b'a'))
                && letters.next().is_some_and(|byte| byte.is_ascii_whitespace());
            if !is_anchor {
                continue;
            }
            // Of a tag that does not end no more is looked at: a page of such tags would take for ever.
            let most = rest.len().min(TAG_MAX);
            let tag = &rest[1..rest.floor_char_boundary(most)];
            if let Some(link) = href(tag).filter(|link| link.len() <= LINK_MAX) {
                return Some(unescaped(link));
            }
        }
    })
}

/// The value of `href` among attributes, up to the end of the tag.
fn href(attributes: &str) -> Option<&str> {
    let mut rest = attributes;
    loop {
        rest = rest.trim_start();
        let end = rest.find(|c: char| c.is_ascii_whitespace() || matches!(c, '=' | '>' | '<'))?;
        let name = &rest[..end];
        rest = rest[end..].trim_start();
        let Some(after) = rest.strip_prefix('=') else {
            // An attribute without a value, or the end.
            if name.is_empty() || rest.starts_with(['>', '<']) {
                return None;
            }
            continue;
        };
        let after = after.trim_start();
        let (value, then) = match after.chars().next()? {
            quote @ ('"' | '\'') => after[1..].split_once(quote)?,
            _ => after.split_at(after.find(|c: char| c.is_ascii_whitespace() || c == '>')?),
        };
        if name.eq_ignore_ascii_case("href") {
            return Some(value);
        }
        rest = then;
    }
}

/// Undoes the references that servers write in links.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let known = rest.find(';').filter(|end| *end <= 8).and_then(|end| {
            let character = match &rest[1..end] {
                "amp" => Some('&'),
                "lt" => Some('<'),
                "gt" => Some('>'),
                "quot" => Some('"'),
                "apos" => Some('\''),
                name => name.strip_prefix('#').and_then(|number| match number.strip_prefix(['x', 'X']) {
                    Some(hex) => u32::from_str_radix(hex, 16).ok().and_then(char::from_u32),
                    None => number.parse().ok().and_then(char::from_u32),
                }),
            };
            character.map(|character| (character, end))
        });
        match known {
            Some((character, end)) => {
                out.push(character);
                rest = &rest[end + 1..];
            }
            None => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn of(page: &str) -> Vec<(String, bool)> {
        let base = Url::parse("http://h/d/").unwrap();
        entries(page, &base).into_iter().map(|entry| (entry.path, entry.directory)).collect()
    }

    fn named(names: &[(&str, bool)]) -> Vec<(String, bool)> {
        names.iter().map(|(name, directory)| ((*name).to_owned(), *directory)).collect()
    }

    #[test]
    fn the_pages_of_nginx_and_apache_are_read() {
        let nginx = "<html>\r\n<head><title>Index of /d/</title></head>\r\n<body>\r\n<h1>Index of /d/</h1><hr><pre>\
            <a href=\"../\">../</a>\r\n<a href=\"sub/\">sub/</a>   29-Nov-2026 15:40   -\r\n\
            <a href=\"a%20b.bin\">a b.bin</a>  29-Nov-2026 15:40  300000\r\n</pre><hr></body>\r\n</html>";
        assert_eq!(of(nginx), named(&[("sub", true), ("a b.bin", false)]));
        let apache = "<table><tr><th><a href=\"?C=N;O=D\">Name</a></th></tr>\
            <tr><td><a href=\"/\">Parent Directory</a></td></tr>\
            <tr><td valign=\"top\"><img src=\"/icons/x.gif\" alt=\"[   ]\"></td><td><A class=x HREF='x&amp;y.rpm'>x</A></td></tr>\
            <tr><td><a href=/d/plain>p</a></td></tr></table>";
        assert_eq!(of(apache), named(&[("x&y.rpm", false), ("plain", false)]));
    }

    #[test]
    fn links_that_lead_elsewhere_are_no_entries() {
        for link in [
            "http://other/d/x",
            "https://h/d/x",
            "//other/d/x",
            "http://h:81/d/x",
            "/e/x",
            "../x",
            "..",
            ".",
            "",
            "/d/",
            "deep/er",
            "x?y",
            "x#y",
            "%2e%2e/",
            "a%2Fb",
            "a%5Cb",
            "a%0d%0ab",
            "%FF",
            "javascript:x()",
            "mailto:x@h",
            "file:///etc/passwd",
            "&#x2e;&#46;/x",
            "%20x",
        ] {
            assert_eq!(of(&format!("<a href=\"{link}\">x</a>")), [], "{link}");
        }
        assert_eq!(of("<a href=\"//u:p@h/d/x\">x</a><a href=\"x\">again</a>"), named(&[("x", false)]));
        let base = Url::parse("http://me:mine@h/d/").unwrap();
        assert_eq!(entries("<a href=\"//u:p@h/d/x\">", &base)[0].url.as_str(), "http://me:mine@h/d/x");
    }

    #[test]
    fn no_page_makes_it_stumble() {
        for page in [
            "",
            "<",
            "<a",
            "<a ",
            "<a href",
            "<a href=",
            "<a href=\"",
            "<a href=\"x",
            "<a href='x\"",
            "<a =x>",
            "<a x=é>",
            "<a href=&>",
            "<a href=\"&#xffffffff;\">",
            "<a href=\"&#xd800;\">",
            "<é",
            "<aé href=x>",
            "<a\u{a0}href=x>",
        ] {
            let _ = of(page);
        }
        assert_eq!(of(&format!("<a href=\"{}\">", "x".repeat(LINK_MAX + 1))), []);
        assert_eq!(of(&"<a href=\"x\">".repeat(1000)).len(), 1);
    }
}

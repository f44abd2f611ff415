//! The rest of a body from its server, where the swarm had trouble after the first bytes were sent.
//!
//! It is a part of the same version, or the connection is cut: the client sees that it is not all. Content that a digest
//! fixes is checked as a whole before its last bytes go out.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use http::header::{self, HeaderMap};
use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::head::Object;
use super::pass::{outgoing, paced};
use super::{Client, Inner};
use crate::source::Ask;
use crate::task::{Digest, DigestHasher, Validator};
use crate::{Error, ErrorKind, Result};

/// Whom to ask for the rest, as whom, and what tells that it is of the same content.
pub(super) struct Rest {
    url: url::Url,
    headers: Vec<(String, String)>,
    client: Client,
    /// Whether redirects are followed here.
    follow: bool,
    version: Option<Validator>,
    pub(super) digest: Option<Digest>,
}

impl Rest {
    pub(super) fn of_version(object: &Object, version: Validator) -> Self {
        Self { version: Some(version), ..Self::new(object, false, None) }
    }

    pub(super) fn of_digest(object: &Object, digest: Digest) -> Self {
        Self::new(object, true, Some(digest))
    }

    fn new(object: &Object, follow: bool, digest: Option<Digest>) -> Self {
        let (url, headers) = (object.url.clone(), object.headers.clone());
        Self { url, headers, client: object.client, follow, version: None, digest }
    }

    /// The server's bytes of `range`, which are not none, of content of this length, without the first `unsent` of them.
    /// `hasher` has had all before the range, if the whole is to be checked.
    ///
    /// # Errors
    /// The server must not or cannot be asked, or what it has is not the same content.
    pub(super) async fn open(
        self,
        gateway: &Inner,
        (range, length): (Range<u64>, u64),
        (hasher, unsent): (Option<DigestHasher>, u64),
    ) -> Result<Onward> {
        let ask = Ask {
            method: Method::GET,
            url: self.url.clone(),
            headers: outgoing(&self.asking(&range), &gateway.mark),
            body: None,
            trust: gateway.trust.clone(),
            local: self.client.local,
            follow: self.follow,
            own: Arc::clone(&gateway.own),
        };
        let response = gateway.upstream.ask(ask).await?;
        let skip = self.skipped(response.status(), response.headers(), (&range, length)).ok_or_else(|| {
            let text = format!("the server answered {} and not with the rest of the same content", response.status());
            Error::new(ErrorKind::Origin, text)
        })?;
        let broken = |error: reqwest::Error| std::io::Error::other(error.without_url());
        let body = paced(response.bytes_stream(), broken).boxed();
        let check = hasher.zip(self.digest);
        Ok(Onward { body, skip, left: range.end - range.start, unsent, check, kept: None })
    }

    fn asking(&self, range: &Range<u64>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                headers.append(name, value);
            }
        }
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let mut text = |name, value: &str| {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        };
        text(header::RANGE, &format!("bytes={}-{}", range.start, range.end - 1));
        if let Some(Validator::Etag(version) | Validator::LastModified(version)) = &self.version {
            text(header::IF_RANGE, version);
        }
        headers
    }

    /// How many bytes of the answer's body come before the range; `None` if they are of other content.
    fn skipped(&self, status: StatusCode, headers: &HeaderMap, (range, length): (&Range<u64>, u64)) -> Option<u64> {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        if headers.contains_key(header::CONTENT_ENCODING) {
            return None;
        }
        if !self.is_same(status, headers) {
            return None;
        }
        match status {
            StatusCode::PARTIAL_CONTENT => {
                let wanted = format!("bytes {}-{}/{length}", range.start, range.end - 1);
                (text(header::CONTENT_RANGE) == Some(&wanted)).then_some(0)
            }
            // It knows no ranges.
            StatusCode::OK => (text(header::CONTENT_LENGTH) == Some(&length.to_string())).then_some(range.start),
            _ => None,
        }
    }

    /// Whether an answer is of the version, by the text of its headers: what is no validator on its own, such as a date of
    /// a moment ago, tells another version all the same.
    fn is_same(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        match &self.version {
            None => true,
            // A part has the tag that the whole would have (RFC 9110, 15.3.7).
            Some(Validator::Etag(tag)) => text(header::ETAG) == Some(tag),
            // The date alone need not be said again with a part. A tag would have come with the head, too.
            Some(Validator::LastModified(date)) => {
                let same = match text(header::LAST_MODIFIED) {
                    Some(told) => told == date,
                    None => status == StatusCode::PARTIAL_CONTENT && !headers.contains_key(header::LAST_MODIFIED),
                };
                same && !headers.contains_key(header::ETAG)
            }
            // Of no answer over HTTP.
            Some(Validator::Version(_)) => false,
        }
    }
}

/// The rest, while it comes.
pub(super) struct Onward {
    body: BoxStream<'static, std::io::Result<Bytes>>,
    skip: u64,
    left: u64,
    /// Of what is left, bytes at its start that are checked and not sent.
    unsent: u64,
    check: Option<(DigestHasher, Digest)>,
    /// Sent once it is known whether it is the last.
    kept: Option<Bytes>,
}

impl Onward {
    /// The next bytes; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        while self.left > 0 {
            let bytes = self.body.next().await.transpose().map_err(|e| {
                Error::new(ErrorKind::Origin, format!("the server broke off in the rest of a body: {e}"))
            })?;
            let Some(mut bytes) = bytes else {
                return Err(Error::new(ErrorKind::Origin, "the server's rest of a body ends before its length"));
            };
            let skipped = self.skip.min(bytes.len() as u64);
            self.skip -= skipped;
            bytes.advance(skipped as usize);
            bytes.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
            if bytes.is_empty() {
                continue;
            }
            self.left -= bytes.len() as u64;
            if let Some((hasher, _)) = &mut self.check {
                hasher.update(&bytes);
            }
            let unsent = self.unsent.min(bytes.len() as u64);
            self.unsent -= unsent;
            bytes.advance(unsent as usize);
            if bytes.is_empty() {
                continue;
            }
            if self.check.is_none() {
                return Ok(Some(bytes));
            }
            if let Some(before) = self.kept.replace(bytes) {
                return Ok(Some(before));
            }
        }
        if let Some((hasher, digest)) = self.check.take()
            && hasher.finish() != digest
        {
            return Err(Error::new(ErrorKind::DigestMismatch, format!("the server's content is not {digest}")));
        }
        Ok(self.kept.take())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn rest(version: Option<Validator>) -> Rest {
        let object = Object::new("http://a.test/x".parse().unwrap(), &HeaderMap::new(), Client { local: true });
        Rest { version, ..Rest::new(&object.unwrap(), false, None) }
    }

    #[test]
    fn only_the_same_content_goes_on() {
        let etag = || Some(Validator::Etag("\"a\"".to_owned()));
        let date = || Some(Validator::LastModified(DATE.to_owned()));
        let part = ("content-range", "bytes 5-9/20");
        for (version, status, headers, wanted) in [
            (None, 206, &[("content-range", "bytes 5-9/20")][..], Some(0)),
            (etag(), 206, &[part], None),
            (etag(), 206, &[part, ("etag", "\"a\"")], Some(0)),
            (etag(), 206, &[part, ("etag", "\"b\"")], None),
            (etag(), 206, &[part, ("etag", "W/\"a\"")], None),
            (etag(), 206, &[part, ("etag", "W/\"b\"")], None),
            (etag(), 206, &[part, ("last-modified", DATE), ("date", DATE)], None),
            (date(), 206, &[part], Some(0)),
            (date(), 206, &[part, ("last-modified", DATE)], Some(0)),
            // Of a moment ago, and so no validator; without the time that it is; and a tag that the head did not have.
            (date(), 206, &[part, ("last-modified", LATER), ("date", LATER)], None),
            (date(), 206, &[part, ("last-modified", LATER)], None),
            (date(), 206, &[part, ("last-modified", DATE), ("etag", "\"a\"")], None),
            (date(), 206, &[part, ("etag", "W/\"a\"")], None),
            (date(), 200, &[("content-length", "20"), ("last-modified", DATE)], Some(5)),
            (date(), 200, &[("content-length", "20"), ("last-modified", LATER)], None),
            (date(), 200, &[("content-length", "20")], None),
            (Some(Validator::Version("a".into())), 206, &[part], None),
            (None, 206, &[("content-range", "bytes 5-9/21")], None),
            (None, 206, &[("content-range", "bytes 4-9/20")], None),
            (None, 206, &[("content-range", "bytes 5-9/20"), ("content-encoding", "gzip")], None),
            (None, 206, &[], None),
            (None, 200, &[("content-length", "20")], Some(5)),
            (None, 200, &[("content-length", "21")], None),
            (etag(), 200, &[("content-length", "20"), ("etag", "\"a\"")], Some(5)),
            (etag(), 200, &[("content-length", "20"), ("etag", "\"b\"")], None),
            (etag(), 200, &[("content-length", "20")], None),
            (None, 404, &[("content-length", "20")], None),
        ] {
            let map = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            let status = StatusCode::from_u16(status).unwrap();
            let skipped = rest(version.clone()).skipped(status, &map, (&(5..10), 20));
            assert_eq!(skipped, wanted, "{version:?} {status} {headers:?}");
        }
    }

    #[test]
    fn it_asks_for_the_same_version() {
        let headers = rest(Some(Validator::Etag("\"a\"".to_owned()))).asking(&(5..10));
        let text = |name: &str| headers[name].to_str().unwrap();
        assert_eq!((text("range"), text("if-range"), text("accept-encoding")), ("bytes=5-9", "\"a\"", "identity"));
    }

    #[tokio::test]
    async fn bytes_of_the_rest_are_counted_and_checked() {
        let of = |chunks: &[&'static [u8]], skip, (left, unsent), digest: Option<&[u8]>| {
            let check = digest.map(|all| {
                let mut hasher = DigestHasher::new(crate::task::Algorithm::Sha256);
                hasher.update(all);
                (DigestHasher::new(crate::task::Algorithm::Sha256), hasher.finish())
            });
            let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk))).collect();
            Onward { body: futures::stream::iter(chunks).boxed(), skip, left, unsent, check, kept: None }
        };
        async fn read(mut onward: Onward) -> (Vec<u8>, Option<ErrorKind>) {
            let mut all = Vec::new();
            loop {
                match onward.next().await {
                    Ok(Some(bytes)) => all.extend_from_slice(&bytes),
                    Ok(None) => return (all, None),
                    Err(error) => return (all, Some(error.kind())),
                }
            }
        }
        assert_eq!(read(of(&[b"abc", b"def"], 0, (6, 0), None)).await, (b"abcdef".to_vec(), None));
        assert_eq!(read(of(&[b"abc", b"def"], 4, (1, 0), None)).await, (b"e".to_vec(), None));
        assert_eq!(read(of(&[b"abc"], 0, (6, 0), None)).await, (b"abc".to_vec(), Some(ErrorKind::Origin)));
        assert_eq!(read(of(&[b"abc", b"def"], 0, (6, 0), Some(b"abcdef"))).await, (b"abcdef".to_vec(), None));
        let wrong = read(of(&[b"abc", b"def"], 0, (6, 0), Some(b"abcdeg"))).await;
        assert_eq!(wrong, (b"abc".to_vec(), Some(ErrorKind::DigestMismatch)), "the last bytes are not sent");
        // What comes before a part is checked with it.
        assert_eq!(read(of(&[b"abc", b"def"], 0, (6, 4), Some(b"abcdef"))).await, (b"ef".to_vec(), None));
        let wrong = read(of(&[b"abc", b"def"], 0, (6, 2), Some(b"xbcdef"))).await;
        assert_eq!(wrong, (b"c".to_vec(), Some(ErrorKind::DigestMismatch)));
    }
}

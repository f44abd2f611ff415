//! Whether an answer is one to the question: status, range, length, version.

use std::ops::Range;
use std::time::Duration;

use ::http::header::{self, HeaderMap};
use futures::{StreamExt, stream};
use url::Url;

use super::super::header::{Caching, ContentRange, content_range, text, validator};
use super::super::{Content, OpenRequest, Opened, SourceError, SourceErrorKind, redact};
use super::body::{Promise, checked};
use super::status_failure;
use crate::task::Validator;

/// A question, for an answer to be judged by.
pub(super) struct Asked<'a> {
    pub(super) request: &'a OpenRequest,
    /// The range that this very request had.
    pub(super) range: Option<Range<u64>>,
    /// Where it went in the end.
    pub(super) url: &'a Url,
    /// See [`HttpConfig::silence_timeout`](super::HttpConfig::silence_timeout).
    pub(super) silence: Duration,
}

/// What comes of an answer.
pub(super) enum Verdict {
    /// The range was refused in a way that leaves open whether there is content: ask without one.
    AskWhole,
    Opened(Opened),
}

/// What a body is to carry.
struct Shape {
    length: Option<u64>,
    offset: u64,
    body_length: Option<u64>,
    ranges: bool,
}

impl Asked<'_> {
    pub(super) fn judge(&self, response: reqwest::Response, caching: Caching) -> Result<Verdict, SourceError> {
        let status = response.status().as_u16();
        let headers = response.headers();
        let shape = match status {
            200 => self.whole(response.headers(), response.content_length())?,
            206 => self.part(response.headers(), response.content_length())?,
            304 if self.request.prior.is_some() => {
                return Ok(Verdict::Opened(Opened::Unchanged { fresh: caching.fresh }));
            }
            412 if self.request.expect.is_some() => return Err(self.changed(status)),
            416 => match self.outside(headers)? {
                Some(shape) => shape,
                None => return Ok(Verdict::AskWhole),
            },
            _ => return Err(status_failure(&redact(self.url), status, headers)),
        };
        let validator = validator(headers);
        if validator.is_some() && validator == self.request.prior {
            return Ok(Verdict::Opened(Opened::Unchanged { fresh: caching.fresh }));
        }
        self.check_version(status, headers, shape.length)?;
        let promise = Promise { shown: redact(self.url), length: shape.body_length, silence: self.silence };
        let empty = shape.body_length == Some(0);
        let body = if empty { stream::empty().boxed() } else { checked(response.bytes_stream(), promise) };
        Ok(Verdict::Opened(Opened::Content(Content {
            length: shape.length,
            offset: shape.offset,
            body_length: shape.body_length,
            validator,
            ranges: shape.ranges,
            fresh: caching.fresh,
            private: caching.private,
            body,
        })))
    }

    /// 200: the whole, whatever was asked.
    fn whole(&self, headers: &HeaderMap, length: Option<u64>) -> Result<Shape, SourceError> {
        let accepts = text(headers, &header::ACCEPT_RANGES).is_some_and(|units| units.trim() == "bytes");
        let shape = Shape {
            length,
            offset: 0,
            body_length: length,
            // Who was asked for a range and sends all of it has none, whatever it says.
            ranges: self.range.is_none() && self.request.range.is_none() && accepts,
        };
        let from = self.range.as_ref().map_or(0, |range| range.start);
        if self.request.expect.is_some() && from > 0 {
            // The version is another one, or ranges are not served any more. Under an If-Range the former is meant.
            self.check_version(200, headers, length)?;
            return Err(self.misfit(200, "sends the whole in place of a range"));
        }
        Ok(shape)
    }

    /// 206: the part that was asked for, exactly.
    fn part(&self, headers: &HeaderMap, content_length: Option<u64>) -> Result<Shape, SourceError> {
        let Some(asked) = &self.range else {
            return Err(self.misfit(206, "sends a part of what was asked for in whole"));
        };
        let sent = text(headers, &header::CONTENT_RANGE).and_then(content_range);
        let Some(ContentRange::Part { start, end, total }) = sent else {
            return Err(self.misfit(206, "does not say which part it sends"));
        };
        let fits = match total {
            Some(total) => end == asked.end.min(total),
            // It does not know its length either; then its end may lie before ours.
            None => end <= asked.end,
        };
        if start != asked.start || !fits {
            return Err(self.misfit(206, &format!("sends bytes {start} to {end} in place of those asked for")));
        }
        let body_length = end - start;
        if content_length.is_some_and(|length| length != body_length) {
            return Err(self.misfit(206, "contradicts itself on how many bytes it sends"));
        }
        Ok(Shape { length: total, offset: start, body_length: Some(body_length), ranges: true })
    }

    /// 416: an empty resource has no byte to ask for.
    fn outside(&self, headers: &HeaderMap) -> Result<Option<Shape>, SourceError> {
        let Some(asked) = &self.range else {
            return Err(self.misfit(416, "refuses a range that was not asked for"));
        };
        match text(headers, &header::CONTENT_RANGE).and_then(content_range) {
            Some(ContentRange::Unsatisfied { total: 0 }) if asked.start == 0 => {
                Ok(Some(Shape { length: Some(0), offset: 0, body_length: Some(0), ranges: true }))
            }
            _ if asked.start == 0 => Ok(None),
            _ if self.request.expect.is_some() || self.request.expect_length.is_some() => Err(self.changed(416)),
            _ => Err(self.misfit(416, "ends before the range that was asked for")),
        }
    }

    /// Refuses another version or length than expected.
    fn check_version(&self, status: u16, headers: &HeaderMap, length: Option<u64>) -> Result<(), SourceError> {
        if let (Some(expected), Some(length)) = (self.request.expect_length, length)
            && expected != length
        {
            return Err(self.changed(status));
        }
        let same = match &self.request.expect {
            None => true,
            Some(Validator::Etag(tag)) => text(headers, &header::ETAG) == Some(tag),
            // An answer to an If-Range need not repeat the date (RFC 9110, 15.3.7).
            Some(Validator::LastModified(date)) => match text(headers, &header::LAST_MODIFIED) {
                Some(sent) => sent == date,
                None => status == 206,
            },
            Some(Validator::Version(_)) => false,
        };
        if same { Ok(()) } else { Err(self.changed(status)) }
    }

    fn changed(&self, status: u16) -> SourceError {
        let text = format!("{}: the content is not the version that was expected any more", redact(self.url));
        SourceError::new(SourceErrorKind::Changed, text).with_status(status)
    }

    fn misfit(&self, status: u16, why: &str) -> SourceError {
        let text = format!("{}: the origin {why}", redact(self.url));
        SourceError::new(SourceErrorKind::Origin, text).with_status(status)
    }
}

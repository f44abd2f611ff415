//! Whether an answer is one to the question: status, range, length, version.

use std::ops::Range;

use ::http::header::{self, HeaderMap};

use super::super::header::{ContentRange, content_range, text};
use super::super::{OpenRequest, SourceError, SourceErrorKind, redact};
use super::status_failure;
use crate::task::Validator;

/// A question, for an answer to be judged by.
pub(in crate::source) struct Asked<'a> {
    pub(in crate::source) request: &'a OpenRequest,
    /// The range that this very request had.
    pub(in crate::source) range: Option<Range<u64>>,
    /// Where it went in the end, for errors.
    pub(in crate::source) shown: String,
}

/// The head of an answer.
pub(in crate::source) struct Head<'a> {
    pub(in crate::source) status: u16,
    pub(in crate::source) headers: &'a HeaderMap,
    /// How long the body is to be.
    pub(in crate::source) length: Option<u64>,
    /// What tells this version from all others.
    pub(in crate::source) validator: Option<&'a Validator>,
}

/// What comes of an answer.
pub(in crate::source) enum Verdict {
    /// The range was refused in a way that leaves open whether there is content: ask without one.
    AskWhole,
    /// The version known is current.
    Unchanged,
    /// Content in a body of this shape.
    Content(Shape),
}

/// What a body is to carry.
#[derive(Clone, Debug)]
pub(in crate::source) struct Shape {
    pub(in crate::source) length: Option<u64>,
    pub(in crate::source) offset: u64,
    pub(in crate::source) body_length: Option<u64>,
    pub(in crate::source) ranges: bool,
}

/// The error for a range that is refused where none was asked for.
pub(in crate::source) fn refuses_the_whole(request: &OpenRequest) -> SourceError {
    let text = format!("{}: refuses a range that was not asked for", redact(&request.url));
    SourceError::new(SourceErrorKind::Origin, text)
}

impl Asked<'_> {
    /// Checks the head of an answer against the question.
    pub(in crate::source) fn judge(&self, head: &Head<'_>) -> Result<Verdict, SourceError> {
        let status = head.status;
        let shape = match status {
            200 => self.whole(head)?,
            206 => self.part(head.headers, head.length)?,
            304 if self.request.prior.is_some() => return Ok(Verdict::Unchanged),
            412 if self.request.expect.is_some() => return Err(self.changed(status)),
            416 => match self.outside(head.headers)? {
                Some(shape) => shape,
                None => return Ok(Verdict::AskWhole),
            },
            _ => return Err(status_failure(&self.shown, status, head.headers)),
        };
        if head.validator.is_some() && head.validator == self.request.prior.as_ref() {
            return Ok(Verdict::Unchanged);
        }
        self.check_version(head, shape.length)?;
        Ok(Verdict::Content(shape))
    }

    /// 200: the whole, whatever was asked.
    fn whole(&self, head: &Head<'_>) -> Result<Shape, SourceError> {
        let length = head.length;
        let accepts = text(head.headers, &header::ACCEPT_RANGES).is_some_and(|units| units.trim() == "bytes");
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
            self.check_version(head, length)?;
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
    fn check_version(&self, head: &Head<'_>, length: Option<u64>) -> Result<(), SourceError> {
        let (status, headers) = (head.status, head.headers);
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
            expected @ Some(Validator::Version(_)) => head.validator == expected.as_ref(),
        };
        if same { Ok(()) } else { Err(self.changed(status)) }
    }

    fn changed(&self, status: u16) -> SourceError {
        let text = format!("{}: the content is not the version that was expected any more", self.shown);
        SourceError::new(SourceErrorKind::Changed, text).with_status(status)
    }

    fn misfit(&self, status: u16, why: &str) -> SourceError {
        let text = format!("{}: the origin {why}", self.shown);
        SourceError::new(SourceErrorKind::Origin, text).with_status(status)
    }
}

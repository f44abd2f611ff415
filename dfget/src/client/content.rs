//! What a fetch brings: a stream of bytes with a receipt at its end, or a descriptor.

use std::collections::VecDeque;
use std::fs::File;
use std::ops::Range;

use bytes::Bytes;
use dragonfly_core::{Error, ErrorKind, Result};
use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::{internal, lost};
use crate::model::{self, ErrorBody, ReceiptBody};

/// How content comes.
#[derive(Debug)]
pub enum Fetched {
    /// As a stream.
    Content(Content),
    /// All at once: a descriptor to read from, positioned anywhere, and the receipt.
    File {
        /// The content, read-only; others may share its position.
        file: File,
        /// What the daemon says of it.
        receipt: ReceiptBody,
    },
    /// As pieces: into a file that can be read already where they are.
    Pieces(Pieces),
}

/// Content that comes into a file of the daemon's.
#[derive(Debug)]
pub struct Pieces {
    /// Where it comes to, read-only. What has not come yet reads as anything.
    pub file: File,
    content: Content,
    /// The beginning of a line.
    line: Vec<u8>,
    ranges: VecDeque<Range<u64>>,
    told: u64,
}

/// The longest line: two numbers of 64 bits.
const LINE_MAX: usize = 42;

impl Pieces {
    pub(super) fn of(file: File, response: Response<Incoming>) -> Result<Self> {
        let content = Content::of(response)?;
        Ok(Self { file, content, line: Vec::new(), ranges: VecDeque::new(), told: 0 })
    }

    /// The task's id.
    pub fn task(&self) -> &str {
        &self.content.task
    }

    /// Bytes in all.
    pub const fn length(&self) -> u64 {
        self.content.length
    }

    /// The next range of bytes that is there; `None` at the end, after which [`receipt`](Self::receipt) tells whether all
    /// of them are. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Range<u64>>> {
        while self.ranges.is_empty() {
            let Some(text) = self.content.chunk().await? else { return Ok(None) };
            self.take(&text)?;
        }
        Ok(self.ranges.pop_front())
    }

    fn take(&mut self, text: &[u8]) -> Result<()> {
        for byte in text {
            if *byte != b'\n' {
                if self.line.len() >= LINE_MAX {
                    return Err(Error::new(ErrorKind::Internal, "the daemon tells of pieces in lines without an end"));
                }
                self.line.push(*byte);
                continue;
            }
            let range = parse(&self.line).filter(|range| range.start < range.end && range.end <= self.content.length);
            let range = range.ok_or_else(|| {
                let line = String::from_utf8_lossy(&self.line);
                Error::new(ErrorKind::Internal, format!("the daemon tells of pieces that cannot be: {line:?}"))
            })?;
            self.told += range.end - range.start;
            self.ranges.push_back(range);
            self.line.clear();
        }
        Ok(())
    }

    /// What the daemon says at the end. An error unless it told of every byte, and all are proven.
    pub fn receipt(&self) -> Result<ReceiptBody> {
        self.content.receipt_of(self.told)
    }
}

fn parse(line: &[u8]) -> Option<Range<u64>> {
    let (start, end) = std::str::from_utf8(line).ok()?.split_once('-')?;
    Some(start.parse().ok()?..end.parse().ok()?)
}

/// Content that is coming: bytes in order, then a receipt.
#[derive(Debug)]
pub struct Content {
    /// The task's id.
    pub task: String,
    /// Bytes in all.
    pub length: u64,
    body: Incoming,
    trailers: Option<HeaderMap>,
    received: u64,
}

impl Content {
    pub(super) fn of(response: Response<Incoming>) -> Result<Self> {
        let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let length = text(model::LENGTH).and_then(|length| length.parse().ok());
        let length = length.ok_or_else(|| Error::new(ErrorKind::Internal, "the daemon's answer has no length"))?;
        let task = text(model::TASK).unwrap_or_default();
        Ok(Self { task, length, body: response.into_body(), trailers: None, received: 0 })
    }

    /// The next bytes; `None` at the end, after which [`receipt`](Self::receipt) tells whether it is the true end.
    /// Cancel-safe.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        while let Some(frame) = self.body.frame().await {
            match frame.map_err(lost)?.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => {
                    self.received += data.len() as u64;
                    return Ok(Some(data));
                }
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
        }
        Ok(None)
    }

    /// What the daemon says at the end. An error unless every byte came, and all are proven.
    pub fn receipt(&self) -> Result<ReceiptBody> {
        self.receipt_of(self.received)
    }

    /// The same where so many bytes are there.
    fn receipt_of(&self, there: u64) -> Result<ReceiptBody> {
        let trailer = |name| self.trailers.as_ref().and_then(|trailers| trailers.get(name));
        if let Some(error) = trailer(model::ERROR) {
            return Err(match serde_json::from_slice::<ErrorBody>(error.as_bytes()) {
                Ok(body) => body.into(),
                Err(e) => internal("the daemon's error is not understood", e),
            });
        }
        let Some(receipt) = trailer(model::RECEIPT) else {
            return Err(Error::new(ErrorKind::Network, "the daemon's answer ends without a receipt").temporary(true));
        };
        let receipt: ReceiptBody = serde_json::from_slice(receipt.as_bytes())
            .map_err(|e| internal("the daemon's receipt is not understood", e))?;
        if receipt.length != self.length || there != self.length {
            let message = format!("{there} bytes came, of {}", receipt.length);
            return Err(Error::new(ErrorKind::Network, message).temporary(true));
        }
        Ok(receipt)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ranges_are_what_they_can_be() {
        assert_eq!(parse(b"0-65536"), Some(0..65536));
        assert_eq!(parse(format!("{}-{}", u64::MAX - 1, u64::MAX).as_bytes()), Some(u64::MAX - 1..u64::MAX));
        for wrong in
            [&b""[..], b"-", b"1", b"1-", b"-1", b"a-b", b"1-2-3", b"1 - 2", b"18446744073709551616-0", b"\xff-1"]
        {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
        let longest = format!("{}-{}", u64::MAX, u64::MAX);
        assert!(longest.len() <= LINE_MAX);
    }
}

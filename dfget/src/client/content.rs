//! What a fetch brings: a stream of bytes with a receipt at its end, or a descriptor.

use std::fs::File;

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
        if receipt.length != self.length || self.received != self.length {
            let message = format!("{} bytes came, of {}", self.received, receipt.length);
            return Err(Error::new(ErrorKind::Network, message).temporary(true));
        }
        Ok(receipt)
    }
}

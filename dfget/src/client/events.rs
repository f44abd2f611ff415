//! Server-sent events, as far as the daemon uses them: `data:` lines and comments.

use bytes::BytesMut;
use dragonfly_core::{Error, ErrorKind, Result};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::{internal, lost};
use crate::model::TaskEvent;

/// The longest line that is read: an event is far shorter.
const LINE_MAX: usize = 64 << 10;

/// Events as they come.
#[derive(Debug)]
pub struct EventStream {
    body: Incoming,
    buffer: BytesMut,
}

impl EventStream {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// The next event; `None` when the daemon ends the stream. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<TaskEvent>> {
        loop {
            while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                if let Some(data) = line.strip_prefix(b"data:") {
                    let event = serde_json::from_slice(data);
                    return event.map(Some).map_err(|e| internal("the daemon's event is not understood", e));
                }
            }
            if self.buffer.len() > LINE_MAX {
                return Err(Error::new(ErrorKind::Internal, "the daemon's event is too long"));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame.map_err(lost)?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

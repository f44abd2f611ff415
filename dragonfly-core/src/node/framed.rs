//! Control messages over a stream.

use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::wire::codec::{self, CodecError, Decoded, FrameDecoder, Framed};

/// The protocol of control streams.
pub(crate) const CONTROL_PROTOCOL: &str = "/dragonfly/control/1";

/// The protocol of lanes over streams.
pub(crate) const LANE_PROTOCOL: &str = "/dragonfly/lane/1";

/// How many bytes are read at a time.
const READ_BYTES: usize = 16 << 10;

/// How long a frame may be on its way, in or out, once it has begun: 64 KiB at a kilobyte a second.
pub(crate) const FRAME_MAX: Duration = Duration::from_secs(60);

/// Why a control stream failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error("the connection failed: {0}")]
    Connection(#[from] std::io::Error),
    #[error("a malformed message: {0}")]
    Codec(#[from] CodecError),
}

/// Reads messages of one kind.
pub(crate) struct ControlReader<R, T> {
    input: R,
    buffer: BytesMut,
    decoder: FrameDecoder<T>,
    /// When the frame that is coming in began.
    begun: Option<Instant>,
}

impl<R: AsyncRead + Unpin, T: Framed> ControlReader<R, T> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, buffer: BytesMut::new(), decoder: FrameDecoder::new(), begun: None }
    }

    /// The next message; `None` at the end of the stream. Cancel-safe: what was read stays in the reader.
    pub(crate) async fn next(&mut self) -> Result<Option<T>, ControlError> {
        loop {
            match self.decoder.next(&mut self.buffer)? {
                Some(Decoded::Message(message)) => {
                    self.begun = None;
                    return Ok(Some(message));
                }
                Some(Decoded::Ignored) => self.begun = None,
                None => {
                    self.buffer.reserve(READ_BYTES);
                    if read_frame(&mut self.input, (&mut self.buffer, READ_BYTES), &self.decoder, &mut self.begun)
                        .await?
                        == 0
                    {
                        return Ok(None);
                    }
                }
            }
        }
    }
}

/// Writes one message. Not cancel-safe: a frame may be cut.
pub(crate) async fn write_control<W: AsyncWrite + Unpin, T: Framed>(
    output: &mut W,
    message: &T,
) -> Result<(), ControlError> {
    let mut frame = BytesMut::new();
    codec::encode(message, &mut frame)?;
    Ok(write_frame(output, frame).await?)
}

/// Writes one frame. Not cancel-safe: it may be cut.
pub(crate) async fn write_frame(output: &mut (impl AsyncWrite + Unpin), mut frame: BytesMut) -> std::io::Result<()> {
    let sent = async {
        output.write_all_buf(&mut frame).await?;
        output.flush().await
    };
    in_time(sent).await
}

/// Reads what comes next of a frame, so many bytes at most: how much. Between frames it waits for as long as it takes; a
/// frame that has begun must come within [`FRAME_MAX`]. Cancel-safe.
pub(crate) async fn read_frame<T: Framed>(
    input: &mut (impl AsyncRead + Unpin),
    (buffer, most): (&mut BytesMut, usize),
    decoder: &FrameDecoder<T>,
    begun: &mut Option<Instant>,
) -> std::io::Result<usize> {
    let is_between = buffer.is_empty() && decoder.is_between();
    let mut room = buffer.limit(most);
    let read = input.read_buf(&mut room);
    if is_between {
        *begun = None;
        return read.await;
    }
    in_whole(*begun.get_or_insert_with(Instant::now), read).await
}

/// Has a frame that began then come in within [`FRAME_MAX`].
///
/// # Errors
/// [`std::io::ErrorKind::TimedOut`], or those of `read`.
pub(crate) async fn in_whole<T>(begun: Instant, read: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    match tokio::time::timeout_at(begun + FRAME_MAX, read).await {
        Ok(read) => read,
        Err(_) => {
            let text = format!("a frame did not come in whole within {FRAME_MAX:?}");
            Err(std::io::Error::new(std::io::ErrorKind::TimedOut, text))
        }
    }
}

/// Has what is sent be taken within [`FRAME_MAX`]: who asks and does not read holds nothing for longer.
///
/// # Errors
/// [`std::io::ErrorKind::TimedOut`], or those of `sent`.
pub(crate) async fn in_time<T>(sent: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    match tokio::time::timeout(FRAME_MAX, sent).await {
        Ok(sent) => sent,
        Err(_) => {
            let text = format!("the other end took nothing of what was sent for {FRAME_MAX:?}");
            Err(std::io::Error::new(std::io::ErrorKind::TimedOut, text))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::wire::lane::Frame;

    /// The head of a frame of 64 KiB, and a byte of it each second: bytes are no reason to wait for it longer.
    #[tokio::test(start_paused = true)]
    async fn a_frame_that_never_ends_is_not_waited_for() {
        let (mut input, mut other) = tokio::io::duplex(1 << 10);
        let dripping = tokio::spawn(async move {
            other.write_all(&[0, 1, 0, 0, 4]).await.unwrap();
            while other.write_all(&[0]).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let (mut decoder, mut buffer, mut begun) = (FrameDecoder::<Frame>::new(), BytesMut::new(), None);
        // Between frames a lane may be silent for as long as it likes.
        let started = Instant::now();
        let error = loop {
            assert!(decoder.next(&mut buffer).unwrap().is_none());
            match read_frame(&mut input, (&mut buffer, READ_BYTES), &decoder, &mut begun).await {
                Ok(read) => assert!(read > 0),
                Err(error) => break error,
            }
        };
        assert_eq!((error.kind(), started.elapsed()), (std::io::ErrorKind::TimedOut, FRAME_MAX), "{error}");
        drop(input);
        dripping.await.unwrap();
    }
}

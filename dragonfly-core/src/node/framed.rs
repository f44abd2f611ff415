//! Control messages over a stream.

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::wire::codec::{self, CodecError, Decoded, FrameDecoder, Framed};

/// The protocol of control streams.
pub(crate) const CONTROL_PROTOCOL: &str = "/dragonfly/control/1";

/// The protocol of lanes over streams.
pub(crate) const LANE_PROTOCOL: &str = "/dragonfly/lane/1";

/// How many bytes are read at a time.
const READ_BYTES: usize = 16 << 10;

/// Why a control stream failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error("the connection failed")]
    Connection(#[from] std::io::Error),
    #[error("a malformed message: {0}")]
    Codec(#[from] CodecError),
}

/// Reads messages of one kind.
pub(crate) struct ControlReader<R, T> {
    input: R,
    buffer: BytesMut,
    decoder: FrameDecoder<T>,
}

impl<R: AsyncRead + Unpin, T: Framed> ControlReader<R, T> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, buffer: BytesMut::new(), decoder: FrameDecoder::new() }
    }

    /// The next message; `None` at the end of the stream. Cancel-safe: what was read stays in the reader.
    pub(crate) async fn next(&mut self) -> Result<Option<T>, ControlError> {
        loop {
            match self.decoder.next(&mut self.buffer)? {
                Some(Decoded::Message(message)) => return Ok(Some(message)),
                Some(Decoded::Ignored) => {}
                None => {
                    self.buffer.reserve(READ_BYTES);
                    if self.input.read_buf(&mut self.buffer).await? == 0 {
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
    let mut buffer = BytesMut::new();
    codec::encode(message, &mut buffer)?;
    output.write_all_buf(&mut buffer).await?;
    output.flush().await?;
    Ok(())
}

//! Frames: how messages are cut out of a stream of bytes. No I/O here: bytes go in, messages come out.
//!
//! A frame is a header of 5 bytes, then its body:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | the length of the body, big endian |
//! | 1 | the kind, see [`Kind`] |
//! | length | the body |
//!
//! A message is CBOR as `minicbor` derives it: an enum is `[variant, [fields]]`, a struct an array by field number.
//! Fields that the reader does not know are ignored. So is a message whose variant it does not know, if the variant's
//! number is [`IGNORABLE_FROM`] or more; any other unknown variant is an error. A block is not CBOR: request, piece
//! and offset as 4 bytes each, big endian, then the bytes of the piece.
//!
//! **What a stranger can make us allocate.** The decoder allocates no buffer: frames are split off what has arrived,
//! and a length beyond the kind's bound is refused with the header. Before CBOR becomes values its items are counted:
//! more than [`ITEMS_MAX`], or more than there are bytes for, are refused, so a message takes at most its own length
//! plus [`ITEMS_MAX`] times the largest element (under 300 bytes) of memory. Indefinite lengths, which we never send,
//! are refused. After that `check` holds every field to its bound.
//!
//! After an error the position in the stream means nothing: close it.

mod check;
#[cfg(test)]
mod tests;

use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes, BytesMut};

pub use check::{Check, OutOfBounds, decode_statement, encode_statement};

use super::control::{ToCoordinator, ToMember};
use super::lane::{self, BLOCK_BYTES_MAX};

/// The length of a frame's header in bytes.
pub const HEADER_BYTES: usize = 5;

/// The length of a block's own header in bytes.
pub const BLOCK_HEADER_BYTES: usize = 12;

/// The longest body of a control message in bytes: 31 neighbours with signed records of the longest kind fit, and
/// real records have a twentieth of that.
pub const CONTROL_BYTES_MAX: usize = 256 << 10;

/// The longest body of a lane message in bytes: 50 attestations of 64 pieces, or all the runs that one may hold.
pub const LANE_BYTES_MAX: usize = 128 << 10;

/// The most CBOR items of one message: 1024 runs take 3 each, 256 items of evidence up to 7 each.
pub const ITEMS_MAX: usize = 4096;

/// Unknown messages from this variant on are ignored: an extension that an old reader may miss gets such a number.
pub const IGNORABLE_FROM: u32 = 128;

/// What a frame's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// [`lane::Frame::Block`].
    Block,
    /// [`lane::Frame::Message`].
    Lane,
    /// [`ToCoordinator`].
    ToCoordinator,
    /// [`ToMember`].
    ToMember,
}

impl Kind {
    /// The byte on the wire.
    pub const fn byte(self) -> u8 {
        match self {
            Self::ToCoordinator => 1,
            Self::ToMember => 2,
            Self::Lane => 3,
            Self::Block => 4,
        }
    }

    /// The longest body in bytes.
    pub const fn body_max(self) -> usize {
        match self {
            Self::ToCoordinator | Self::ToMember => CONTROL_BYTES_MAX,
            Self::Lane => LANE_BYTES_MAX,
            Self::Block => BLOCK_HEADER_BYTES + BLOCK_BYTES_MAX,
        }
    }
}

/// Bytes that are no frame, or a message that must not be sent. The stream is of no use any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// A block without bytes or with too few for its header, or a frame of a kind that has no place here.
    #[error("malformed frame: {0}")]
    Frame(&'static str),
    /// The body is no CBOR of this message.
    #[error("malformed message: {0}")]
    Malformed(#[source] minicbor::decode::Error),
    /// A field exceeds its bound.
    #[error(transparent)]
    OutOfBounds(#[from] OutOfBounds),
    /// A body longer than its kind may have.
    #[error("a frame of {length} bytes, at most {max} are allowed")]
    TooLong {
        /// The body's length in bytes.
        length: usize,
        /// The bound.
        max: usize,
    },
    /// A variant that this version does not know and may not ignore.
    #[error("a message of a newer version that must not be ignored")]
    Unknown,
}

const NO_BYTES: CodecError = CodecError::Frame("a block without bytes");

/// What can be framed: [`ToCoordinator`], [`ToMember`] and [`lane::Frame`].
pub trait Framed: Sized + sealed::Sealed {
    /// The longest body in bytes for a kind byte, `None` if such frames have no place on this stream.
    fn body_max(kind: u8) -> Option<usize>;

    /// Reads a body; `None`: to be ignored.
    ///
    /// # Errors
    /// Malformed, unknown or out of bounds.
    fn read(kind: u8, body: Bytes) -> Result<Option<Self>, CodecError>;

    /// Appends the frame to `out`.
    ///
    /// # Errors
    /// A field exceeds its bound or the body is too long; `out` is as it was then.
    fn write(&self, out: &mut BytesMut) -> Result<(), CodecError>;
}

/// What [`FrameDecoder::next`] found.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded<T> {
    /// A frame of a newer version that may be ignored. It still counts as a sign of life.
    Ignored,
    /// A message.
    Message(T),
}

/// Cuts frames out of a stream that arrives in arbitrary parts.
///
/// The caller appends what it reads to a buffer and calls [`next`](Self::next) until that returns `None`.
/// [`wanted`](Self::wanted) says how many bytes are missing at least, for reads of the right size.
#[derive(Debug)]
pub struct FrameDecoder<T> {
    /// The header whose body is awaited: kind and length.
    header: Option<(u8, usize)>,
    framed: PhantomData<fn() -> T>,
}

impl<T> Default for FrameDecoder<T> {
    fn default() -> Self {
        Self { header: None, framed: PhantomData }
    }
}

impl<T: Framed> FrameDecoder<T> {
    /// A decoder at the start of a frame.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next frame at the start of `buffer`, which loses its bytes; `None` if more must arrive first. The bytes
    /// of a block share the buffer's memory.
    ///
    /// # Errors
    /// See [`CodecError`]. A frame that is too long is refused as soon as its header is there.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Decoded<T>>, CodecError> {
        let Some((kind, length)) = self.head(buffer)? else { return Ok(None) };
        if buffer.len() < length {
            return Ok(None);
        }
        self.header = None;
        let message = T::read(kind, buffer.split_to(length).freeze())?;
        Ok(Some(message.map_or(Decoded::Ignored, Decoded::Message)))
    }

    /// Kind and length of the frame that comes next; `None` if more must arrive first.
    fn head(&mut self, buffer: &mut BytesMut) -> Result<Option<(u8, usize)>, CodecError> {
        if self.header.is_none() && buffer.len() >= HEADER_BYTES {
            let (length, kind) = (buffer.get_u32() as usize, buffer.get_u8());
            let max = T::body_max(kind).ok_or(CodecError::Frame("no such kind on this stream"))?;
            if length > max {
                return Err(CodecError::TooLong { length, max });
            }
            self.header = Some((kind, length));
        }
        Ok(self.header)
    }

    /// Whether it waits for a frame to begin: what is buffered, if anything, is the next one's.
    pub const fn is_between(&self) -> bool {
        self.header.is_none()
    }

    /// How many bytes more than `buffered` must arrive before [`next`](Self::next) can return a frame; 0 if it can.
    /// At most the longest body: safe to reserve.
    pub fn wanted(&self, buffered: usize) -> usize {
        self.header.map_or(HEADER_BYTES, |(_, length)| length).saturating_sub(buffered)
    }
}

/// The head of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHead {
    /// The request that it answers.
    pub request: u32,
    /// The piece that it belongs to.
    pub piece: u32,
    /// Where in the piece it starts.
    pub offset: u32,
    /// How many bytes it has: 1 to [`BLOCK_BYTES_MAX`].
    pub length: usize,
}

impl FrameDecoder<lane::Frame> {
    /// The head of the block that comes next, which `buffer` loses; `None` if what comes is no block, or more must
    /// arrive first. The block's bytes are the caller's: those that `buffer` has, and the rest as it arrives, so that
    /// they can go where they belong at once. Anything else is had from [`next`](Self::next).
    ///
    /// # Errors
    /// As for [`next`](Self::next).
    pub fn block(&mut self, buffer: &mut BytesMut) -> Result<Option<BlockHead>, CodecError> {
        let Some((kind, body)) = self.head(buffer)? else { return Ok(None) };
        if kind != Kind::Block.byte() {
            return Ok(None);
        }
        let length = body.checked_sub(BLOCK_HEADER_BYTES).filter(|length| *length > 0).ok_or(NO_BYTES)?;
        if buffer.len() < BLOCK_HEADER_BYTES {
            return Ok(None);
        }
        self.header = None;
        let (request, piece, offset) = (buffer.get_u32(), buffer.get_u32(), buffer.get_u32());
        Ok(Some(BlockHead { request, piece, offset, length }))
    }
}

/// Appends a frame to `out`; see [`Framed::write`].
///
/// # Errors
/// A field exceeds its bound or the body is too long; `out` is as it was then.
pub fn encode<T: Framed>(message: &T, out: &mut BytesMut) -> Result<(), CodecError> {
    message.write(out)
}

/// The header of a block's frame and the block's own, for a sender that hands the bytes of the piece on without copying
/// them. `length` is the number of those bytes, 1 to [`BLOCK_BYTES_MAX`].
///
/// # Errors
/// No bytes, or too many.
pub fn block_header(
    request: u32,
    piece: u32,
    offset: u32,
    length: usize,
) -> Result<[u8; HEADER_BYTES + BLOCK_HEADER_BYTES], CodecError> {
    if length == 0 {
        return Err(NO_BYTES);
    }
    if length > BLOCK_BYTES_MAX {
        return Err(CodecError::TooLong { length, max: BLOCK_BYTES_MAX });
    }
    let mut header = [0; HEADER_BYTES + BLOCK_HEADER_BYTES];
    let mut out = &mut header[..];
    // At most 64 KiB and 12 bytes: it fits.
    out.put_u32((BLOCK_HEADER_BYTES + length) as u32);
    out.put_u8(Kind::Block.byte());
    out.put_u32(request);
    out.put_u32(piece);
    out.put_u32(offset);
    Ok(header)
}

mod sealed {
    /// Only the messages of this protocol are framed.
    pub trait Sealed {}
    impl Sealed for super::ToCoordinator {}
    impl Sealed for super::ToMember {}
    impl Sealed for super::lane::Frame {}
}

macro_rules! control {
    ($($message:ident),*) => {
        $(impl Framed for $message {
            fn body_max(kind: u8) -> Option<usize> {
                (kind == Kind::$message.byte()).then_some(Kind::$message.body_max())
            }

            fn read(_: u8, body: Bytes) -> Result<Option<Self>, CodecError> {
                decode_message(&body)
            }

            fn write(&self, out: &mut BytesMut) -> Result<(), CodecError> {
                encode_message(Kind::$message, self, out)
            }
        })*
    };
}
control!(ToCoordinator, ToMember);

impl Framed for lane::Frame {
    fn body_max(kind: u8) -> Option<usize> {
        [Kind::Block, Kind::Lane].into_iter().find(|known| known.byte() == kind).map(Kind::body_max)
    }

    fn read(kind: u8, mut body: Bytes) -> Result<Option<Self>, CodecError> {
        if kind != Kind::Block.byte() {
            return Ok(decode_message(&body)?.map(Self::Message));
        }
        if body.len() <= BLOCK_HEADER_BYTES {
            return Err(NO_BYTES);
        }
        let (request, piece, offset) = (body.get_u32(), body.get_u32(), body.get_u32());
        Ok(Some(Self::Block { request, piece, offset, bytes: body }))
    }

    fn write(&self, out: &mut BytesMut) -> Result<(), CodecError> {
        match self {
            Self::Block { request, piece, offset, bytes } => {
                out.extend_from_slice(&block_header(*request, *piece, *offset, bytes.len())?);
                out.extend_from_slice(bytes);
                Ok(())
            }
            Self::Message(message) => encode_message(Kind::Lane, message, out),
        }
    }
}

fn encode_message<T>(kind: Kind, message: &T, out: &mut BytesMut) -> Result<(), CodecError>
where
    T: minicbor::Encode<()> + Check,
{
    message.check()?;
    let start = out.len();
    out.put_u32(0);
    out.put_u8(kind.byte());
    if minicbor::encode(message, Sink(out)).is_err() {
        out.truncate(start);
        return Err(CodecError::Frame("a field that cannot be encoded"));
    }
    let length = out.len() - start - HEADER_BYTES;
    if length > kind.body_max() {
        out.truncate(start);
        return Err(CodecError::TooLong { length, max: kind.body_max() });
    }
    // A body is at most 256 KiB.
    out[start..start + 4].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(())
}

/// Reads a message of CBOR, whole and alone in `body`; `None` if it may be ignored.
fn decode_message<T>(body: &[u8]) -> Result<Option<T>, CodecError>
where
    T: for<'b> minicbor::Decode<'b, ()> + Check,
{
    check_items(body)?;
    match minicbor::decode::<T>(body) {
        Ok(message) => {
            message.check()?;
            Ok(Some(message))
        }
        Err(e) if !e.is_unknown_variant() => Err(CodecError::Malformed(e)),
        Err(_) if variant_of(body).is_some_and(|variant| variant >= IGNORABLE_FROM) => Ok(None),
        Err(_) => Err(CodecError::Unknown),
    }
}

/// The number of a message's variant, were it known or not.
fn variant_of(body: &[u8]) -> Option<u32> {
    let mut decoder = minicbor::Decoder::new(body);
    decoder.array().ok().filter(|length| *length == Some(2))?;
    decoder.u32().ok()
}

/// Walks over the heads of all items of `body` without decoding them: one item and no more, of definite lengths, no
/// more of them than [`ITEMS_MAX`], and none claimed that the remaining bytes cannot hold.
fn check_items(body: &[u8]) -> Result<(), CodecError> {
    let (mut rest, mut due, mut seen) = (body, 1_u64, 0);
    while due > 0 {
        seen += 1;
        if seen > ITEMS_MAX {
            return Err(CodecError::Frame("too many CBOR items"));
        }
        let Some((&head, after)) = rest.split_first() else { return Err(CodecError::Frame("CBOR ends early")) };
        let extra = match head & 0x1f {
            0..=23 => 0,
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            _ => return Err(CodecError::Frame("CBOR of indefinite length")),
        };
        let Some((argument, after)) = after.split_at_checked(extra) else {
            return Err(CodecError::Frame("CBOR ends early"));
        };
        let mut n = if extra == 0 { u64::from(head & 0x1f) } else { 0 };
        for byte in argument {
            n = n << 8 | u64::from(*byte);
        }
        rest = after;
        due -= 1;
        let left = rest.len() as u64;
        let items = match head >> 5 {
            // Byte and text strings.
            2 | 3 if n > left => return Err(CodecError::Frame("CBOR ends early")),
            2 | 3 => {
                // At most the rest's length, as just checked.
                rest = &rest[n as usize..];
                0
            }
            4 => n,
            5 => n.saturating_mul(2),
            6 => 1,
            _ => 0,
        };
        due = due.saturating_add(items);
        if due > left {
            return Err(CodecError::Frame("CBOR claims more items than it has bytes"));
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(CodecError::Frame("bytes behind the message")) }
}

/// Lets `minicbor` write into a growing buffer.
struct Sink<'a>(&'a mut BytesMut);

impl minicbor::encode::Write for Sink<'_> {
    type Error = std::convert::Infallible;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

//! The end of TLS on a lane that both ends let go on without it.
//!
//! No byte of the bare socket may get into the buffers of TLS: it would be lost, or be taken for a record. So each end sends
//! its first bare byte only once the other has read all that TLS had for it:
//!
//! 1. the dialer says over TLS whether it wants to go on bare, and then says nothing until it is answered;
//! 2. the acceptor, which has read that and nothing after it, answers over TLS what is to be, and then says nothing (unless it
//!    is to stay encrypted: then this was all);
//! 3. the dialer, which has read that and nothing after it, says one bare byte, and goes on as it likes;
//! 4. the acceptor reads that one byte from the socket, and goes on as it likes.
//!
//! Who finds more in its buffers than it should has another end, or somebody on the way, that does not keep to this: the lane
//! fails.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsStream;

use super::super::Refused;
use super::super::transport::HandshakeError;
use super::ahead::ReadAhead;
use super::plain::Plain;

/// What is said over TLS.
const ENCRYPTED: u8 = 0;
const PLAIN: u8 = 1;

/// The first byte on the bare socket. No TLS record begins with it.
pub(super) const GO: u8 = 0x70;

/// Whether this lane is to go on without TLS: if both ends want it. Not cancel-safe.
pub(super) async fn agree(tls: &mut TlsStream<ReadAhead>, dialer: bool, wants: bool) -> Result<bool, HandshakeError> {
    if dialer {
        say(tls, wants).await?;
        Ok(hear(tls).await? && wants)
    } else {
        let both = hear(tls).await? && wants;
        say(tls, both).await?;
        Ok(both)
    }
}

async fn say(tls: &mut TlsStream<ReadAhead>, plain: bool) -> Result<(), HandshakeError> {
    let said = async {
        tls.write_all(&[if plain { PLAIN } else { ENCRYPTED }]).await?;
        tls.flush().await
    };
    said.await.map_err(HandshakeError::Closed)
}

/// The other end's word. It has sent nothing after it if it wants to go on bare; else its lane has begun.
async fn hear(tls: &mut TlsStream<ReadAhead>) -> Result<bool, HandshakeError> {
    match tls.read_u8().await.map_err(HandshakeError::Closed)? {
        PLAIN if !is_clean(tls) => Err(HandshakeError::Unasked),
        PLAIN => Ok(true),
        ENCRYPTED => Ok(false),
        _ => Err(Refused::new("the other end speaks another version of the plain mode").into()),
    }
}

/// Whether TLS has nothing more for either side, and no part of a record.
fn is_clean(tls: &mut TlsStream<ReadAhead>) -> bool {
    let (io, session) = tls.get_mut();
    io.is_between() && session.wants_read() && !session.wants_write()
}

/// Leaves TLS, as both have agreed. Not cancel-safe.
pub(super) async fn cut(mut tls: TlsStream<ReadAhead>, dialer: bool) -> Result<Plain, HandshakeError> {
    if !is_clean(&mut tls) {
        return Err(HandshakeError::Unasked);
    }
    let io = match tls {
        TlsStream::Client(tls) => tls.into_inner().0,
        TlsStream::Server(tls) => tls.into_inner().0,
    };
    let mut tcp = io.into_tcp();
    if dialer {
        tcp.write_all(&[GO]).await.map_err(HandshakeError::Closed)?;
    } else if tcp.read_u8().await.map_err(HandshakeError::Closed)? != GO {
        return Err(HandshakeError::Unasked);
    }
    Ok(Plain::new(tcp))
}

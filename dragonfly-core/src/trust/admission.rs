//! Both ends of a connection prove that they are members, before anything else is said on it.
//!
//! ```text
//! dialer                                listener
//!   Hello{versions, nonce, key id}  ->            which gate secret is meant: a hash over it and the nonce
//!                                   <-  Hello     the same to everyone, member or not
//!   MAC                             ->            the dialer proves first: who scans learns nothing
//!                                   <-  MAC, credential
//!   credential                      ->
//!                                   <-  1         admitted
//! ```
//!
//! The MACs cover label, direction, both peers as the security layer proved them, both Hellos as they were sent, and
//! what the caller binds (a lane: the TLS exporter). Whatever is wrong, the one who refuses says nothing and the
//! caller drops the connection, so that refusals look alike. Roles and tenant come from the credential alone.

use std::io;

use futures::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use minicbor::{Decode, Encode};

use super::codec;
use super::credential::{CREDENTIAL_MAX, Claims, CredentialError};
use super::key::{self, Secret};
use super::membership::Membership;
use crate::wire::PeerId;

/// The versions of what is spoken after admission that this program knows, best first.
pub const VERSIONS: &[u16] = &[1];

/// The bytes of a Hello, at most: 16 versions, nonce and key id take 95.
const HELLO_MAX: usize = 128;

/// The versions that a Hello names, at most.
const VERSIONS_MAX: usize = 16;

/// The bytes of a MAC.
const MAC_LEN: usize = 32;

/// What is sent when the listener has accepted the dialer's credential.
const ADMITTED: u8 = 1;

/// Which end of the connection this host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that opened it.
    Dialer,
    /// The one that accepted it.
    Listener,
}

/// A connection whose other end is a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// What the other end may do, for which tenant, until when. The connection ends when they do.
    pub claims: Claims,
    /// Its encoded credential, to be shown to others.
    pub credential: Vec<u8>,
    /// The versions that both ends speak, best first; at least one.
    pub versions: Vec<u16>,
}

/// Why a connection is not used. For this host's own eyes: nothing of it is sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The other end closed: it may have refused us, or speak something else.
    #[error("the other end closed the connection: it may be of another network, or refuse this host")]
    Closed,
    /// Its credential fails a rule.
    #[error("the other end's credential: {0}")]
    Credential(#[from] CredentialError),
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[source] io::Error),
    /// The membership is not this end's, or both ends are one host.
    #[error("a host cannot be admitted by itself, nor with another host's membership")]
    Itself,
    /// Not the messages of an admission.
    #[error("the other end does not speak this protocol")]
    Malformed,
    /// It does not know a gate secret that is accepted.
    #[error("the other end is of another network, or has an outdated gate secret")]
    Stranger,
    /// No version in common.
    #[error("the other end speaks no version that this program knows")]
    Version,
}

#[derive(Debug, Encode, Decode)]
struct Hello {
    #[n(0)]
    versions: Vec<u16>,
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    nonce: [u8; 32],
    /// Which gate secret the dialer means (see [`key_id`]); absent from the listener's.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    key_id: Option<[u8; 8]>,
}

/// Admits the other end of a fresh connection, or refuses it. See [`admit_bound`]; nothing is bound here.
///
/// # Errors
/// Why it is refused. The caller then drops the connection without a word.
pub async fn admit<S>(
    io: &mut S,
    membership: &Membership,
    side: Side,
    local: PeerId,
    remote: PeerId,
    now_unix: u64,
) -> Result<Admitted, Refused>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    admit_bound(io, membership, side, local, remote, now_unix, &[]).await
}

/// Admits the other end of a fresh connection, or refuses it. `local` and `remote` are the peers as the security
/// layer proved them; `binding` is something that only this connection's two ends have in common (a TLS exporter),
/// or nothing; `now_unix` is in seconds since 1970.
///
/// The caller sets the time-out (5 s). Not cancel-safe: after cancellation the connection must be dropped.
///
/// # Errors
/// Why it is refused. The caller then drops the connection without a word.
pub async fn admit_bound<S>(
    io: &mut S,
    membership: &Membership,
    side: Side,
    local: PeerId,
    remote: PeerId,
    now_unix: u64,
    binding: &[u8],
) -> Result<Admitted, Refused>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if local == remote || local != membership.peer_id() {
        return Err(Refused::Itself);
    }
    let run = Run { io, membership, remote, now_unix };
    match side {
        Side::Dialer => run.dial(Transcript::new(local, remote, binding)).await,
        Side::Listener => run.listen(Transcript::new(remote, local, binding)).await,
    }
}

struct Run<'a, S> {
    io: &'a mut S,
    membership: &'a Membership,
    remote: PeerId,
    now_unix: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Run<'_, S> {
    async fn dial(mut self, mut transcript: Transcript) -> Result<Admitted, Refused> {
        let gate = &self.membership.gates()[0];
        let nonce = key::random();
        let hello = Hello { versions: VERSIONS.to_vec(), nonce, key_id: Some(key_id(gate, &nonce)) };
        let hello = codec::encode(&hello);
        self.write(&[&hello]).await?;
        transcript.dialer = hello;
        transcript.listener = self.read(HELLO_MAX).await?;
        let theirs = read_hello(&transcript.listener)?;

        self.write(&[&transcript.mac(gate, Side::Dialer)]).await?;
        let mac = self.read(MAC_LEN).await?;
        if !is_mac(&mac, &transcript.mac(gate, Side::Listener)) {
            return Err(Refused::Stranger);
        }
        let (claims, credential) = self.read_credential().await?;
        let versions = common(&theirs)?;

        self.write(&[self.membership.credential_bytes()]).await?;
        let mut answer = [0];
        self.io.read_exact(&mut answer).await.map_err(refused)?;
        if answer != [ADMITTED] {
            return Err(Refused::Malformed);
        }
        Ok(Admitted { claims, credential, versions })
    }

    async fn listen(mut self, mut transcript: Transcript) -> Result<Admitted, Refused> {
        transcript.dialer = self.read(HELLO_MAX).await?;
        let theirs = read_hello(&transcript.dialer)?;
        let hello = codec::encode(&Hello { versions: VERSIONS.to_vec(), nonce: key::random(), key_id: None });
        self.write(&[&hello]).await?;
        transcript.listener = hello;

        let mac = self.read(MAC_LEN).await?;
        let gates = self.membership.gates();
        let meant = gates.iter().find(|gate| theirs.key_id == Some(key_id(gate, &theirs.nonce)));
        // A stranger's MAC takes as long to refuse as a forger's.
        let gate = meant.unwrap_or(&gates[0]);
        if !is_mac(&mac, &transcript.mac(gate, Side::Dialer)) || meant.is_none() {
            return Err(Refused::Stranger);
        }
        let versions = common(&theirs)?;

        let mac = transcript.mac(gate, Side::Listener);
        self.write(&[&mac, self.membership.credential_bytes()]).await?;
        let (claims, credential) = self.read_credential().await?;
        self.io.write_all(&[ADMITTED]).await.map_err(refused)?;
        self.io.flush().await.map_err(refused)?;
        Ok(Admitted { claims, credential, versions })
    }

    async fn read_credential(&mut self) -> Result<(Claims, Vec<u8>), Refused> {
        let credential = self.read(CREDENTIAL_MAX).await?;
        let claims = self.membership.check(&credential, self.remote, self.now_unix)?;
        Ok((claims, credential))
    }

    /// Sends messages, each with its length before it, in one write.
    async fn write(&mut self, messages: &[&[u8]]) -> Result<(), Refused> {
        let mut bytes = Vec::new();
        for message in messages {
            // The longest message is a credential, of at most `CREDENTIAL_MAX` bytes.
            bytes.extend_from_slice(&(message.len() as u16).to_be_bytes());
            bytes.extend_from_slice(message);
        }
        self.io.write_all(&bytes).await.map_err(refused)?;
        self.io.flush().await.map_err(refused)
    }

    /// Receives one message of at most `max` bytes, and not a byte beyond it.
    async fn read(&mut self, max: usize) -> Result<Vec<u8>, Refused> {
        let mut length = [0; 2];
        self.io.read_exact(&mut length).await.map_err(refused)?;
        let length = usize::from(u16::from_be_bytes(length));
        if length > max {
            return Err(Refused::Malformed);
        }
        let mut message = vec![0; length];
        self.io.read_exact(&mut message).await.map_err(refused)?;
        Ok(message)
    }
}

fn refused(error: io::Error) -> Refused {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof, WriteZero};
    match error.kind() {
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof | WriteZero => Refused::Closed,
        _ => Refused::Io(error),
    }
}

fn read_hello(bytes: &[u8]) -> Result<Hello, Refused> {
    let hello: Hello = codec::decode(bytes).ok_or(Refused::Malformed)?;
    if hello.versions.len() > VERSIONS_MAX { Err(Refused::Malformed) } else { Ok(hello) }
}

fn common(theirs: &Hello) -> Result<Vec<u16>, Refused> {
    let common: Vec<u16> = VERSIONS.iter().copied().filter(|version| theirs.versions.contains(version)).collect();
    if common.is_empty() { Err(Refused::Version) } else { Ok(common) }
}

/// Tells the listener which secret is meant; bound to the nonce, so that strangers cannot tell a network by it.
fn key_id(gate: &Secret, nonce: &[u8; 32]) -> [u8; 8] {
    let id = gate.derive("dragonfly 2026 admission v1 key id", nonce);
    id.bytes().first_chunk().copied().unwrap_or_else(|| unreachable!("a secret has 32 bytes"))
}

fn is_mac(shown: &[u8], expected: &[u8; MAC_LEN]) -> bool {
    // `blake3::Hash` compares in constant time.
    <[u8; MAC_LEN]>::try_from(shown)
        .is_ok_and(|shown| blake3::Hash::from_bytes(shown) == blake3::Hash::from_bytes(*expected))
}

/// What both ends must have seen alike.
struct Transcript {
    peers: [PeerId; 2],
    binding: Vec<u8>,
    dialer: Vec<u8>,
    listener: Vec<u8>,
}

impl Transcript {
    fn new(dialer: PeerId, listener: PeerId, binding: &[u8]) -> Self {
        Self { peers: [dialer, listener], binding: binding.to_vec(), dialer: Vec::new(), listener: Vec::new() }
    }

    /// The proof of the end at `side`. Every part has its length before it, so that parts cannot be shifted.
    fn mac(&self, gate: &Secret, side: Side) -> [u8; MAC_LEN] {
        let direction: &[u8] = match side {
            Side::Dialer => b"dialer",
            Side::Listener => b"listener",
        };
        let [dialer, listener] = &self.peers;
        let parts =
            [direction, dialer.public_key(), listener.public_key(), &self.dialer, &self.listener, &self.binding];
        let key = gate.derive("dragonfly 2026 admission v1 mac", &[]);
        let mut hasher = blake3::Hasher::new_keyed(key.bytes());
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        *hasher.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests;

//! The errors of the host.

use std::fmt;

use crate::wire::{Address, PeerId};

/// Why a peer could not be connected. Cheap to clone: all who waited for one dial get the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// Too many callers wait for this dial already.
    #[error("too many callers wait for a connection to {peer}")]
    Busy {
        /// Who was to be connected.
        peer: PeerId,
    },
    /// Every address failed.
    #[error("cannot connect to {peer}: {}", Causes(.causes))]
    Failed {
        /// Who was to be connected.
        peer: PeerId,
        /// Each address that was tried, and why it failed.
        causes: Vec<(Option<Address>, String)>,
    },
    /// The peer is this host.
    #[error("a host does not connect to itself")]
    Itself,
    /// No address was given, and the peer is not connected.
    #[error("cannot connect to {peer}: no address is known")]
    NoAddress {
        /// Who was to be connected.
        peer: PeerId,
    },
    /// The host has shut down.
    #[error("the host has shut down")]
    Stopped,
    /// Not connected within the dial time-out. The attempt goes on and may yet succeed.
    #[error("cannot connect to {peer} in time at {}", List(.addresses))]
    TimedOut {
        /// Who was to be connected.
        peer: PeerId,
        /// The addresses that the caller gave.
        addresses: Vec<Address>,
    },
}

impl DialError {
    /// Whether there is a host that let nobody in, as one does that many come to at the same moment: it closed the connection
    /// before it was secure. Others are dead, elsewhere, or have refused for good.
    pub(crate) fn is_turned_away(&self) -> bool {
        // As `libp2p-core` says of an upgrade that failed; tested.
        let Self::Failed { causes, .. } = self else { return false };
        causes.iter().any(|(_, cause)| cause.contains(HANDSHAKE_FAILED))
    }
}

/// What a transport says whose TCP connection was there, and was closed in its handshake.
const HANDSHAKE_FAILED: &str = "Handshake failed";

/// Why a listener is not up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {cause}")]
    Failed {
        /// The address as configured.
        address: Address,
        /// Why it failed.
        cause: String,
    },
    /// The host has shut down.
    #[error("the host has shut down")]
    Stopped,
}

/// Why a stream could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// This host has as many streams on the connection as it may, or as many being opened.
    #[error("too many streams are open to {0}")]
    Busy(PeerId),
    /// The connection closed meanwhile.
    #[error("the connection to {0} closed")]
    Closed(PeerId),
    /// The peer, or the connection, refused the stream.
    #[error("no stream to {peer}: {cause}")]
    Failed {
        /// To whom.
        peer: PeerId,
        /// Why.
        cause: String,
    },
    /// The peer is this host.
    #[error("a host opens no stream to itself")]
    Itself,
    /// There is no connection to the peer: connect first.
    #[error("{0} is not connected")]
    NotConnected(PeerId),
    /// Not opened within the open time-out.
    #[error("no stream to {0} in time")]
    TimedOut(PeerId),
}

/// Why the host could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A protocol name is used twice, or does not begin with a slash.
    #[error("not a usable protocol name: {0:?}")]
    Protocol(&'static str),
    /// An address for lanes cannot be listened on.
    #[error("cannot accept lanes on {address}")]
    Lane {
        /// The address as configured.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The identity cannot be used for TLS.
    #[error("cannot use the identity of this host")]
    Identity(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The interfaces of this host cannot be watched, or there is no multicast.
    #[error("cannot look for peers on this host's links")]
    Discovery(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The resolver configuration could be read, and a moment later could not.
    #[error("cannot read the resolver configuration")]
    Resolver(#[source] std::io::Error),
}

struct Causes<'a>(&'a [(Option<Address>, String)]);

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (address, cause)) in self.0.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { "; " })?;
            match address {
                Some(address) => write!(f, "{address}: {cause}")?,
                None => f.write_str(cause)?,
            }
        }
        Ok(())
    }
}

struct List<'a>(&'a [Address]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, address) in self.0.iter().enumerate() {
            write!(f, "{}{address}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// An error and its causes in one line. What a wrapper repeats of its cause is said once.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

impl From<DialError> for crate::Error {
    fn from(error: DialError) -> Self {
        let context = error.to_string();
        Self::new(crate::ErrorKind::Network, context).temporary(true)
    }
}

impl From<OpenError> for crate::Error {
    fn from(error: OpenError) -> Self {
        let context = error.to_string();
        Self::new(crate::ErrorKind::Network, context).temporary(true)
    }
}

impl From<ListenError> for crate::Error {
    fn from(error: ListenError) -> Self {
        let context = error.to_string();
        Self::new(crate::ErrorKind::Config, context)
    }
}

impl From<StartError> for crate::Error {
    fn from(error: StartError) -> Self {
        Self::new(crate::ErrorKind::Config, "cannot start the network host").caused_by(error)
    }
}

//! What a task *is*: everything that may change the bytes behind a URL, and the id that is its hash.

use minicbor::{Decode, Encode};

use super::Digest;

/// Who may share the content of a task. Part of its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
#[non_exhaustive]
pub enum Class {
    /// Anyone in the network: no credential, no header of the caller's that selects content.
    #[n(0)]
    Public,
    /// Those who present the same credentials or headers: the id holds a keyed hash of them and is a capability.
    #[n(1)]
    Keyed,
    /// Those whom the origin lets in, each host asking for itself.
    #[n(2)]
    Reauth,
    /// This host alone: never leased, never served.
    #[n(3)]
    HostLocal,
}

/// The preimage of a [`TaskId`](super::TaskId).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct TaskSpec {
    /// The canonical URL without the filtered query parameters and without user information.
    #[n(0)]
    pub url: String,
    /// The names of the filtered query parameters, sorted, as given or by default.
    #[n(1)]
    pub filtered: Vec<String>,
    /// Keeps content apart that has one URL.
    #[n(2)]
    pub tag: String,
    /// The application that asks.
    #[n(3)]
    pub application: String,
    /// The account whose content may not mix with another's.
    #[n(4)]
    pub tenant: String,
    /// Who may share it.
    #[n(5)]
    pub class: Class,
    /// The keyed hash of credentials and headers, for [`Class::Keyed`].
    #[n(6)]
    #[cbor(with = "minicbor::bytes")]
    pub key: Option<[u8; 32]>,
    /// The fingerprint of any TLS trust that is not the default.
    #[n(7)]
    #[cbor(with = "minicbor::bytes")]
    pub tls: Option<[u8; 32]>,
    /// The caller's digest.
    #[n(8)]
    pub digest: Option<Digest>,
}

/// What tells two versions of one URL apart for certain (RFC 9110, 8.8.1: strong validators only).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Validator {
    /// A strong entity tag, with its quotes.
    #[n(0)]
    Etag(#[n(0)] String),
    /// A `Last-Modified` that RFC 9110, 8.8.2.2 lets us treat as strong.
    #[n(1)]
    LastModified(#[n(0)] String),
    /// A version or revision of an object store or hub.
    #[n(2)]
    Version(#[n(0)] String),
}

//! Who is who, who belongs, and whose word counts: identity, network, token, credential, admission, statements.
//!
//! Engines (`node`, `peer`, `seed`, the scheduler's shell) and `net` call it; the pure cores never do: they get
//! [`Claims`] and learnt values. It owns the files `identity`, `membership` and `contradicted` of a node's directory and every
//! secret in them. Checking is offline: nothing here asks the network or reads a clock; `now` is an argument, in
//! seconds since 1970. The rules are in `docs/design/trust.md`.
//!
//! - [`Identity`]: a host's key. [`Membership`]: what it holds as a member. [`Token`]: what makes one a member.
//! - [`admit`]: both ends of a connection prove membership before anything else is said.
//! - [`statement`]: signing and opening grants, attestations, seals and address records.
//! - [`EvidenceVerifier`]: which piece values one may believe, and what shows it to the next host.

mod admission;
mod checked;
mod codec;
mod contradicted;
mod credential;
mod evidence;
mod file;
mod identity;
mod key;
mod membership;
mod network;
mod record;
mod revocation;
pub mod statement;
mod token;

#[cfg(test)]
mod tests;

pub(crate) use contradicted::{CONTRADICTED_MAX, Contradicted};

pub use admission::{Admitted, Refused, Side, VERSIONS, admit, admit_bound};
pub use credential::{
    CREDENTIAL_MAX, Claims, Credential, CredentialError, InvalidRoles, InvalidTokenId, Roles, TokenId,
};
pub use evidence::{ATTESTATIONS_MAX, Conflict, Coordinators, EvidenceError, EvidenceVerifier, GRANTS_MAX, Outcome};
pub use file::FileError;
pub use identity::Identity;
pub use membership::{Membership, MembershipError, TENANT_DEFAULT};
pub use network::OriginTrust;
pub use record::{ADDRESSES_MAX, RECORD_MAX, open_record, sign_record};
pub use revocation::{REVOKED_MAX, Revocations};
pub use statement::StatementError;
pub use token::{BOOTSTRAP_MAX, TOKEN_TEXT_MAX, Token, TokenError};

use crate::wire::Bound;

/// What is kept of what others signed.
pub(crate) const BOUNDS: [Bound; 5] = [
    (
        "dragonfly_contradicted_limit",
        "Members that contradicted themselves about a task that are remembered.",
        CONTRADICTED_MAX as u64,
    ),
    ("dragonfly_evidence_grants_limit", "Grants kept of a task.", GRANTS_MAX as u64),
    ("dragonfly_evidence_attestations_limit", "Attestations kept of a task.", ATTESTATIONS_MAX as u64),
    ("dragonfly_credentials_checked_limit", "Checked credentials remembered.", checked::CHECKED_MAX as u64),
    ("dragonfly_revoked_limit", "Tokens and identities that a network may have revoked.", REVOKED_MAX as u64),
];

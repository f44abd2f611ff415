//! The bounds of every field of every message, checked before it is sent and after it was read.

use super::CodecError;
use crate::task::{InvalidLayout, InvalidSpec, Layout, NAME_BYTES_MAX, TaskSpec, Validator};
use crate::wire::control::{
    Announce, Answer, Current, Described, FETCHING_MAX, Failure, Granted, Held, Join, NEIGHBOURS_MAX, Neighbour, Share,
    TaskInfo, ToCoordinator, ToMember, Work, is_site,
};
use crate::wire::lane::{Message, Run, WHOLE_BYTES_MAX, WHOLE_EVIDENCE_MAX, request_values};
use crate::wire::statement::{Attestation, Evidence, Grant, GrantBundle, Seal, SealBundle, Signed};

/// The most bytes of a text for a person, a tenant or a validator.
pub(super) const TEXT_BYTES_MAX: usize = NAME_BYTES_MAX;

/// The most bytes of a signed envelope: an attestation of 64 pieces takes a quarter of it.
pub(super) const SIGNED_BYTES_MAX: usize = 8 << 10;

/// The most bytes of an encoded credential: a delegation and two signatures take a tenth of it.
pub(super) const CREDENTIAL_BYTES_MAX: usize = 4 << 10;

/// The most runs of one have-map frame: the next tick carries the rest.
pub(super) const RUNS_MAX: usize = 1024;

/// The most items of evidence of one frame: enough to fill it.
pub(super) const EVIDENCE_MAX: usize = 256;

/// The most digests of one seal.
pub(super) const DIGESTS_MAX: usize = 8;

/// A whole: progress is told in eighths.
pub(super) const EIGHTHS: u8 = 8;

/// The least urgent priority.
pub(super) const PRIORITY_MAX: u8 = 7;

/// A field that exceeds its bound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OutOfBounds {
    /// A field's value or length.
    #[error("out of bounds: {0}")]
    Field(&'static str),
    /// A length and a piece length that fit no task.
    #[error(transparent)]
    Layout(#[from] InvalidLayout),
    /// A specification that no host could have made.
    #[error(transparent)]
    Spec(#[from] InvalidSpec),
}

/// What has bounds beyond its type.
pub trait Check {
    /// Checks every field.
    ///
    /// # Errors
    /// The first one that is out of bounds.
    fn check(&self) -> Result<(), OutOfBounds>;
}

/// Reads the payload of a signed envelope ([`Grant`], [`Attestation`] or [`Seal`]), with the same care as a frame.
///
/// # Errors
/// Malformed, or a field is out of bounds.
pub fn decode_statement<T>(payload: &[u8]) -> Result<T, CodecError>
where
    T: for<'b> minicbor::Decode<'b, ()> + Check,
{
    at_most("signed", payload.len(), SIGNED_BYTES_MAX)?;
    super::decode_message(payload)?.ok_or(CodecError::Unknown)
}

/// The payload of a signed envelope.
///
/// # Errors
/// A field is out of bounds.
pub fn encode_statement<T: minicbor::Encode<()> + Check>(statement: &T) -> Result<Vec<u8>, CodecError> {
    statement.check()?;
    minicbor::to_vec(statement).map_err(|_| CodecError::Frame("a field that cannot be encoded"))
}

fn at_most(what: &'static str, n: usize, max: usize) -> Result<(), OutOfBounds> {
    ensure(what, n <= max)
}

fn ensure(what: &'static str, holds: bool) -> Result<(), OutOfBounds> {
    if holds { Ok(()) } else { Err(OutOfBounds::Field(what)) }
}

fn layout(length: u64, piece_length: u64) -> Result<(), OutOfBounds> {
    Layout::new(length, piece_length)?;
    Ok(())
}

impl<T: Check> Check for Option<T> {
    fn check(&self) -> Result<(), OutOfBounds> {
        self.as_ref().map_or(Ok(()), Check::check)
    }
}

impl<T: Check> Check for [T] {
    fn check(&self) -> Result<(), OutOfBounds> {
        self.iter().try_for_each(Check::check)
    }
}

impl Check for ToCoordinator {
    fn check(&self) -> Result<(), OutOfBounds> {
        match self {
            Self::Announce(announce) => announce.check(),
            Self::Join(join) => join.check(),
            Self::Described(described) => described.check(),
            Self::LeaseFailed { failure, .. } => failure.check(),
            Self::Report { eighths, .. } => ensure("eighths", *eighths <= EIGHTHS),
            Self::Sealed { seal, .. } => seal.check(),
            Self::AskLease(..)
            | Self::Progress { .. }
            | Self::Done { .. }
            | Self::Release { .. }
            | Self::AskNeighbours { .. }
            | Self::Leave(_)
            | Self::KeepAlive
            | Self::Seek { .. } => Ok(()),
        }
    }
}

impl Check for ToMember {
    fn check(&self) -> Result<(), OutOfBounds> {
        match self {
            Self::Current(current) => current.check(),
            Self::Neighbours { hosts, .. } => {
                at_most("neighbours", hosts.len(), NEIGHBOURS_MAX)?;
                hosts.check()
            }
            Self::Members(members) => {
                at_most("members", members.len(), NEIGHBOURS_MAX)?;
                members.check()
            }
            Self::Granted(granted) => granted.check(),
            Self::Failed { failure, .. } => failure.check(),
            Self::Trigger(info) => info.check(),
            Self::Redirect { to, .. } => to.check(),
            Self::Welcome { .. } | Self::NoLease { .. } | Self::Revoked { .. } => Ok(()),
        }
    }
}

impl Check for Announce {
    fn check(&self) -> Result<(), OutOfBounds> {
        ensure("site", self.site.as_deref().is_none_or(is_site))?;
        self.record.check()
    }
}

impl Check for TaskInfo {
    fn check(&self) -> Result<(), OutOfBounds> {
        let Some(spec) = &self.spec else { return Ok(()) };
        spec.check()?;
        // Else a member could have a seed fetch one URL into the task of another.
        ensure("specification of another task", spec.id() == self.task)
    }
}

impl Check for TaskSpec {
    fn check(&self) -> Result<(), OutOfBounds> {
        Ok(Self::check(self)?)
    }
}

impl Check for Validator {
    fn check(&self) -> Result<(), OutOfBounds> {
        let (Self::Etag(text) | Self::LastModified(text) | Self::Version(text)) = self;
        at_most("validator", text.len(), TEXT_BYTES_MAX)
    }
}

impl Check for Join {
    fn check(&self) -> Result<(), OutOfBounds> {
        ensure("priority", self.priority <= PRIORITY_MAX)?;
        self.info.check()?;
        self.held.check()
    }
}

impl Check for Held {
    fn check(&self) -> Result<(), OutOfBounds> {
        layout(self.length, self.piece_length)?;
        ensure("eighths", self.eighths <= EIGHTHS)?;
        at_most("ranges being fetched", self.fetching.len(), FETCHING_MAX)?;
        self.fetching.check()?;
        self.validator.check()
    }
}

impl Check for Described {
    fn check(&self) -> Result<(), OutOfBounds> {
        match &self.answer {
            Answer::Content { length, piece_length, validator, .. } => {
                layout(*length, *piece_length)?;
                validator.check()
            }
            Answer::Spooling | Answer::Unchanged => Ok(()),
        }
    }
}

impl Check for Current {
    fn check(&self) -> Result<(), OutOfBounds> {
        layout(self.length, self.piece_length)?;
        self.validator.check()?;
        self.seal.check()
    }
}

impl Check for Neighbour {
    fn check(&self) -> Result<(), OutOfBounds> {
        ensure("seen_ip", self.seen_ip.as_ref().is_none_or(|ip| matches!(ip.len(), 4 | 16)))?;
        ensure("share", self.share.is_none_or(|share| share.part < share.of || share == Share::NONE))?;
        self.record.check()
    }
}

impl Check for Granted {
    fn check(&self) -> Result<(), OutOfBounds> {
        match &self.work {
            Work::Describe { prior } => prior.check(),
            Work::Pieces { bundle, .. } => bundle.check(),
        }
    }
}

impl Check for Failure {
    fn check(&self) -> Result<(), OutOfBounds> {
        at_most("failure text", self.text.len(), TEXT_BYTES_MAX)
    }
}

impl Check for Message {
    fn check(&self) -> Result<(), OutOfBounds> {
        match self {
            Self::Open { length, piece_length, .. } => layout(*length, *piece_length),
            Self::Evidence { items, .. } => {
                at_most("evidence", items.len(), EVIDENCE_MAX)?;
                items.check()
            }
            Self::Have { runs, .. } | Self::Lost { runs, .. } | Self::Allot { runs, .. } => {
                at_most("runs", runs.len(), RUNS_MAX)?;
                runs.check()
            }
            Self::Request { values, .. } => ensure("requested values", request_values(values).is_some()),
            Self::Ask { length, .. } => {
                ensure("length of small content", (1..=WHOLE_BYTES_MAX as u64).contains(length))
            }
            Self::Whole { items, bytes, .. } => {
                at_most("evidence", items.len(), WHOLE_EVIDENCE_MAX)?;
                at_most("small content", bytes.len(), WHOLE_BYTES_MAX)?;
                items.check()
            }
            Self::Close { .. } | Self::Cancel { .. } | Self::Reject { .. } => Ok(()),
        }
    }
}

impl Check for Run {
    fn check(&self) -> Result<(), OutOfBounds> {
        ensure("run", self.range().is_some_and(|range| range.end <= crate::task::PIECES_MAX))
    }
}

impl Check for Evidence {
    fn check(&self) -> Result<(), OutOfBounds> {
        match self {
            Self::Attestation(signed) => signed.check(),
            Self::Grant(bundle) => bundle.check(),
            Self::Seal(bundle) => bundle.check(),
        }
    }
}

impl Check for Signed {
    fn check(&self) -> Result<(), OutOfBounds> {
        at_most("signed", self.0.len(), SIGNED_BYTES_MAX)
    }
}

impl Check for GrantBundle {
    fn check(&self) -> Result<(), OutOfBounds> {
        at_most("credential", self.grantor.len().max(self.holder.len()), CREDENTIAL_BYTES_MAX)?;
        self.grant.check()
    }
}

impl Check for SealBundle {
    fn check(&self) -> Result<(), OutOfBounds> {
        at_most("credential", self.signer.len(), CREDENTIAL_BYTES_MAX)?;
        self.seal.check()
    }
}

impl Check for Grant {
    fn check(&self) -> Result<(), OutOfBounds> {
        at_most("tenant", self.tenant.len(), TEXT_BYTES_MAX)?;
        let layout = Layout::new(self.length, self.piece_length)?;
        ensure("granted range", self.first <= self.end && self.end <= layout.pieces())
    }
}

impl Check for Attestation {
    fn check(&self) -> Result<(), OutOfBounds> {
        let pieces = u64::try_from(self.values().len()).unwrap_or(u64::MAX);
        let end = u64::from(self.first).saturating_add(pieces);
        ensure("attested values", self.is_well_formed() && end <= u64::from(crate::task::PIECES_MAX))
    }
}

impl Check for Seal {
    fn check(&self) -> Result<(), OutOfBounds> {
        layout(self.length, self.piece_length)?;
        at_most("digests", self.digests.len(), DIGESTS_MAX)
    }
}

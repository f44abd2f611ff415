//! What goes into the core and what comes out of it.

use std::net::IpAddr;

use crate::wire::PeerId;
use crate::wire::control::{LeaseId, ToCoordinator, ToMember};
use crate::wire::statement::Grant;

/// What happened.
// An input is made once and moved once, into the core: a box would cost more than it saves.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Input {
    /// A deadline of [`Core::next_deadline`](super::Core::next_deadline) has passed.
    Deadline,
    /// The control session with a host ended.
    HostDown {
        /// The host.
        peer: PeerId,
    },
    /// A control session with an admitted host began. One that was up already is taken to have ended first.
    HostUp {
        /// The host.
        peer: PeerId,
        /// Whether its credentials let it act as a seed.
        seed_role: bool,
        /// The account that its credentials name.
        tenant: String,
        /// The IP address from which it is seen.
        seen_ip: Option<IpAddr>,
        /// Whether it runs in this very process: then silence does not mean that it is down.
        local: bool,
    },
    /// Another coordinator is gone, as this host found: its members may come here, and those who come before them may
    /// ask for what they know.
    OtherLost,
    /// A host said something.
    Message {
        /// The host.
        from: PeerId,
        /// What it said.
        message: ToCoordinator,
    },
}

/// What the shell is to do.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Action {
    /// End the control session with this host; the core has forgotten it already.
    Close {
        /// The host.
        peer: PeerId,
        /// Why.
        reason: CloseReason,
    },
    /// Sign this grant and send it as [`ToMember::Granted`] with [`Work::Pieces`](crate::wire::control::Work::Pieces).
    Grant {
        /// The holder.
        to: PeerId,
        /// The lease.
        lease: LeaseId,
        /// Without progress for so long it lapses, in milliseconds.
        timeout_ms: u32,
        /// What is granted.
        grant: Grant,
    },
    /// Send this message.
    Send {
        /// To whom.
        to: PeerId,
        /// The message.
        message: ToMember,
    },
}

/// Why a session is to be closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// There are too many hosts.
    Full,
    /// It said nothing for too long.
    Silent,
}

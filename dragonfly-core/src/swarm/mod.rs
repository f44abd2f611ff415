//! The swarm core of one host: piece choice, upload slots, requests, allotment, leases as their holder sees them.
//! Pure: time and randomness are arguments, inputs go in, actions come out.

mod event;

pub use event::{Action, HostKey, Input, LeaseKey, RequestId, TaskKey, TaskOptions};

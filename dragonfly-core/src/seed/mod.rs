//! The Seed engine: a peer that is allowed and expected to go to the origin.

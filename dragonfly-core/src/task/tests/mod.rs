//! Tests of the task room.
#![allow(clippy::unwrap_used)]

mod content;
mod spec;
mod vectors;

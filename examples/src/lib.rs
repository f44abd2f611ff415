//! Small complete programs that embed Dragonfly; see `src/bin`.

pub mod shelf;

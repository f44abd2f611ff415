//! One table of behaviours for all languages, and what it runs against.
//!
//! `cases.txt` beside this crate says what the origin serves and what must come of it; each language has a runner that
//! reads it. [`World`] is the rest of the scene: a real origin, a scheduler that is also a seed, and two peers. The
//! program `suite-server` is a world for runners in other languages.

mod table;
mod world;

pub use table::{Case, Row, TABLE, crc32, given, table};
pub use world::World;

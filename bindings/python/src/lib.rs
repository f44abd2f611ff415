//! The native half of the Python package `dragonfly`: engines as Python objects, and operations that can be waited for
//! with or without an event loop. The half that users see is written in Python, in `python/dragonfly`.
//!
//! - Every operation that may take time is an [`op::Op`]. `run()` waits for it with the interpreter's lock released and
//!   Ctrl-C working; `on_done()` tells an event loop.
//! - Everything that has threads behind it remembers its process: a child made by fork(2) is told so instead of hanging.

mod convert;
mod engines;
mod fork;
mod log;
mod op;
mod own;
mod reader;
mod request;

use pyo3::prelude::*;

/// The native half of `dragonfly`.
#[pymodule]
mod _native {
    #[pymodule_export]
    use crate::engines::{
        NativeDownload, NativeNode, NativeNodeEvents, NativePeer, NativeScheduler, NativeSeed, node_start,
    };
    #[pymodule_export]
    use crate::log::log_set;
    #[pymodule_export]
    use crate::op::Op;
    #[pymodule_export]
    use crate::reader::NativeReader;

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}

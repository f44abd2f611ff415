//! Values and errors for Python.

use dragonfly_core::{Error, ErrorKind, Event, Exported, NodeEvent, Proof, Receipt, TaskInfo};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The exception for an error: `dragonfly._errors` decides its class.
pub(crate) fn raise(py: Python<'_>, error: &Error) -> PyErr {
    let made = py
        .import("dragonfly._errors")
        .and_then(|module| module.call_method1("make", (error.kind().name(), error.is_temporary(), error.report())));
    match made {
        Ok(exception) => PyErr::from_value(exception),
        Err(failure) => failure,
    }
}

/// A malformed argument.
pub(crate) fn invalid(py: Python<'_>, what: &str, cause: impl std::error::Error + Send + Sync + 'static) -> PyErr {
    raise(py, &Error::new(ErrorKind::InvalidInput, what).caused_by(cause))
}

pub(crate) fn receipt<'py>(py: Python<'py>, receipt: &Receipt) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("task", receipt.task.to_string())?;
    dict.set_item("generation", receipt.generation.to_string())?;
    dict.set_item("length", receipt.length)?;
    dict.set_item("blake3", receipt.blake3.to_string())?;
    dict.set_item("verified", receipt.proof == Proof::Verified)?;
    dict.set_item("bytes_from_origin", receipt.bytes_from_origin)?;
    dict.set_item("bytes_from_peers", receipt.bytes_from_peers)?;
    dict.set_item("bytes_held", receipt.bytes_held)?;
    dict.set_item("elapsed", receipt.elapsed.as_secs_f64())?;
    let exported = receipt.output.as_ref().map(|(_, exported)| match exported {
        Exported::Copy => "copy",
        Exported::HardLink => "hard_link",
        Exported::Reflink => "reflink",
    });
    dict.set_item("exported", exported)?;
    Ok(dict)
}

pub(crate) fn task<'py>(py: Python<'py>, info: &TaskInfo) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("task", info.task.to_string())?;
    dict.set_item("generation", info.generation.to_string())?;
    dict.set_item("label", &info.label)?;
    dict.set_item("length", info.length)?;
    dict.set_item("bytes_held", info.bytes_held)?;
    dict.set_item("complete", info.complete)?;
    dict.set_item("pinned", info.pinned)?;
    dict.set_item("neighbours", info.neighbours)?;
    Ok(dict)
}

/// `None` for events that this version has no words for.
pub(crate) fn event<'py>(py: Python<'py>, event: &Event) -> PyResult<Option<Bound<'py, PyDict>>> {
    let dict = PyDict::new(py);
    match event {
        Event::Described { length } => {
            dict.set_item("type", "described")?;
            dict.set_item("length", *length)?;
        }
        Event::Progress { bytes, length, from_origin, from_peers, neighbours } => {
            dict.set_item("type", "progress")?;
            dict.set_item("bytes", *bytes)?;
            dict.set_item("length", *length)?;
            dict.set_item("from_origin", *from_origin)?;
            dict.set_item("from_peers", *from_peers)?;
            dict.set_item("neighbours", *neighbours)?;
        }
        Event::Complete => dict.set_item("type", "complete")?,
        _ => return Ok(None),
    }
    Ok(Some(dict))
}

/// An empty one, if it is of a kind that this version has no words for.
pub(crate) fn node_event<'py>(py: Python<'py>, event: &NodeEvent) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let (kind, peer) = match event {
        NodeEvent::PeerUp(peer) => ("peer_up", peer),
        NodeEvent::PeerDown(peer) => ("peer_down", peer),
        _ => return Ok(dict),
    };
    dict.set_item("type", kind)?;
    dict.set_item("peer_id", peer.to_string())?;
    Ok(dict)
}

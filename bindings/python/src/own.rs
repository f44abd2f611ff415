//! What the program brings of its own: sources, a policy.

use std::borrow::Cow;
use std::io::{self, Read};
use std::time::Duration;

use dragonfly_core::source::{BlockingContent, BlockingSource, OpenRequest, SourceError, SourceErrorKind};
use dragonfly_core::{Claims, ErrorKind, PeerId, PeerRequest, Policy};
use pyo3::prelude::*;

/// What `dragonfly._own.opener` gives for content: body, length, offset, version, whether there are ranges, seconds that
/// it stays current.
type Opened = (Py<PyAny>, Option<u64>, u64, Option<String>, bool, Option<f64>);

/// A function of Python's that opens content, and the body that it gives.
pub(crate) struct Source(pub(crate) Py<PyAny>);

impl BlockingSource for Source {
    fn open(&self, request: &OpenRequest) -> Result<BlockingContent, SourceError> {
        let range = request.range.clone().unwrap_or(0..u64::MAX);
        let end = (range.end != u64::MAX).then_some(range.end);
        let arguments = (request.url.as_str(), range.start, end, request.headers.clone());
        let (body, length, offset, version, ranges, fresh) =
            call(|py| self.0.bind(py).call1(arguments.clone())?.extract::<Opened>())?;
        let mut content = BlockingContent::new(Body(Some(body)));
        content.length = length;
        content.offset = offset;
        content.version = version;
        content.ranges = ranges;
        content.fresh = fresh.map(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX));
        Ok(content)
    }
}

/// A binary file of Python's.
struct Body(Option<Py<PyAny>>);

impl Read for Body {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let Some(body) = &self.0 else { return Ok(0) };
        let read = call(|py| {
            let given = body.bind(py).call_method1("read", (room.len(),))?;
            let bytes: Cow<'_, [u8]> = given.extract()?;
            let place = room.get_mut(..bytes.len()).ok_or_else(|| {
                pyo3::exceptions::PyValueError::new_err("read() gave more bytes than it was asked for")
            })?;
            place.copy_from_slice(&bytes);
            Ok(bytes.len())
        });
        read.map_err(io::Error::other)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let Some(body) = self.0.take() else { return };
        // None: the interpreter is on its way out.
        let _ = Python::try_attach(|py| {
            if let Err(error) = body.bind(py).call_method0("close") {
                error.write_unraisable(py, None);
            }
            drop(body);
        });
    }
}

/// Calls Python from a thread that may wait for it. Exceptions are told apart by `dragonfly._errors.classify`.
fn call<T>(mut work: impl FnMut(Python<'_>) -> PyResult<T>) -> Result<T, SourceError> {
    let called = Python::try_attach(|py| {
        work(py).map_err(|raised| {
            let told = py
                .import("dragonfly._errors")
                .and_then(|module| module.call_method1("classify", (raised.value(py),)))
                .and_then(|told| told.extract::<(String, bool, String)>());
            match told {
                Ok((kind, temporary, message)) => SourceError::new(of(&kind), message).temporary(temporary),
                Err(failure) => SourceError::new(SourceErrorKind::Origin, failure.to_string()),
            }
        })
    });
    called.unwrap_or_else(|| Err(SourceError::new(SourceErrorKind::Local, "the interpreter is ending")))
}

fn of(kind: &str) -> SourceErrorKind {
    match ErrorKind::from_name(kind) {
        Some(ErrorKind::Forbidden) => SourceErrorKind::Forbidden,
        Some(ErrorKind::InvalidInput) => SourceErrorKind::InvalidInput,
        Some(ErrorKind::Io) => SourceErrorKind::Local,
        Some(ErrorKind::Network) => SourceErrorKind::Network,
        Some(ErrorKind::NotFound) => SourceErrorKind::NotFound,
        Some(ErrorKind::Timeout) => SourceErrorKind::Stalled,
        _ => SourceErrorKind::Origin,
    }
}

/// Functions of Python's that decide about members and their requests.
pub(crate) struct Rules {
    pub(crate) admit_peer: Py<PyAny>,
    pub(crate) admit_request: Py<PyAny>,
}

impl Rules {
    /// What they decide; what they raise is shown, and refuses. The other tasks of this thread move to another one while
    /// it waits for the interpreter.
    fn ask(&self, work: impl FnOnce(Python<'_>) -> PyResult<bool>) -> bool {
        tokio::task::block_in_place(|| {
            let asked = Python::try_attach(|py| {
                work(py).unwrap_or_else(|error| {
                    error.write_unraisable(py, None);
                    false
                })
            });
            asked.unwrap_or(false)
        })
    }
}

impl Policy for Rules {
    fn admit_peer(&self, peer: PeerId, claims: &Claims) -> bool {
        let member = (peer.to_string(), claims.roles.to_string(), claims.tenant.clone(), claims.not_after);
        self.ask(|py| self.admit_peer.bind(py).call1(member)?.is_truthy())
    }

    fn admit_request(&self, request: &PeerRequest<'_>) -> bool {
        let asked = match request {
            PeerRequest::Serve { peer, task, label } => {
                ("serve", Some(peer.to_string()), task.to_string(), (*label).to_owned())
            }
            PeerRequest::Fetch { task, label } => ("fetch", None, task.to_string(), (*label).to_owned()),
            // One that this version of the package has no words for, so that the program could not have an opinion.
            _ => return true,
        };
        self.ask(|py| self.admit_request.bind(py).call1(asked)?.is_truthy())
    }
}

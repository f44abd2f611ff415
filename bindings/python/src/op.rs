//! An operation under way.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dragonfly_core::{Error, ErrorKind, Event, NodeEvent, Reader, Receipt, Result, Runtime, Scheduler, Seed, TaskInfo};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use tokio_util::sync::CancellationToken;

use crate::convert;
use crate::engines::{NativeNode, NativePeer, NativeScheduler, NativeSeed, OnRuntime};
use crate::fork::Owned;
use crate::reader::NativeReader;

/// How long a wait goes on before it looks for signals, so that Ctrl-C ends it.
pub(crate) const SIGNALS: Duration = Duration::from_millis(50);

/// What an operation gives.
pub(crate) enum Value {
    Nothing,
    Bytes(Vec<u8>),
    Event(Option<Event>),
    Node(OnRuntime<dragonfly_core::Node>),
    NodeEvent(Option<NodeEvent>),
    Number(u64),
    Peer(OnRuntime<dragonfly_core::Peer>),
    Reader(Box<OnRuntime<Reader>>),
    Receipt(Box<Receipt>),
    Scheduler(OnRuntime<Scheduler>),
    Seed(OnRuntime<Seed>),
    Tasks(Vec<TaskInfo>),
    Text(String),
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    done: bool,
    outcome: Option<Result<Value>>,
    callbacks: Vec<Py<PyAny>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, outcome: Result<Value>) {
        let callbacks = {
            let mut state = self.lock();
            if std::mem::replace(&mut state.done, true) {
                return;
            }
            state.outcome = Some(outcome);
            std::mem::take(&mut state.callbacks)
        };
        self.changed.notify_all();
        if callbacks.is_empty() {
            return;
        }
        // None: the interpreter is on its way out, and nobody waits any more.
        let _ = Python::try_attach(|py| {
            for callback in &callbacks {
                if let Err(error) = callback.call0(py) {
                    error.write_unraisable(py, None);
                }
            }
        });
    }
}

/// An operation under way. It runs whether or not anyone waits for it.
#[pyclass(frozen, module = "dragonfly._native")]
pub(crate) struct Op {
    /// The threads go last: an operation that fails must not end those that tell of it.
    inner: Owned<(Arc<Shared>, CancellationToken, Runtime)>,
}

/// Ends an operation whose task was dropped before it was done.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.finish(Err(Error::new(ErrorKind::Cancelled, "the node's threads ended")));
    }
}

impl Op {
    /// Starts an operation.
    pub(crate) fn start(runtime: &Runtime, work: impl Future<Output = Result<Value>> + Send + 'static) -> Self {
        let (shared, cancel) = (Arc::new(Shared::default()), CancellationToken::new());
        let (ending, token) = (Ending(Arc::clone(&shared)), cancel.clone());
        runtime.handle().spawn(async move {
            let outcome = tokio::select! {
                biased;
                () = token.cancelled() => Err(Error::new(ErrorKind::Cancelled, "the caller withdrew")),
                outcome = work => outcome,
            };
            // On a thread that may wait for the interpreter.
            let _ = tokio::task::spawn_blocking(move || ending.0.finish(outcome)).await;
        });
        Self { inner: Owned::new((shared, cancel, runtime.clone())) }
    }
}

#[pymethods]
impl Op {
    /// Waits for it, with the interpreter's lock released, and gives its result or raises. A signal whose handler
    /// raises (Ctrl-C) withdraws from it. Raises TimeoutError after `timeout` seconds, which withdraws nothing.
    #[pyo3(signature = (timeout = None))]
    fn run<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        let (shared, cancel, _) = self.inner.get(py)?;
        let bound = timeout.map(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX));
        let started = std::time::Instant::now();
        loop {
            let slice = bound.map_or(SIGNALS, |bound| SIGNALS.min(bound.saturating_sub(started.elapsed())));
            let done = py.detach(|| {
                let state = shared.lock();
                let waited = shared.changed.wait_timeout_while(state, slice, |state| !state.done);
                waited.map_or_else(|poisoned| poisoned.into_inner().0.done, |(state, _)| state.done)
            });
            if done {
                return self.result(py);
            }
            py.check_signals().inspect_err(|_| cancel.cancel())?;
            if let Some(bound) = bound.filter(|bound| started.elapsed() >= *bound) {
                let error = Error::new(ErrorKind::Timeout, format!("not done after {bound:?}")).temporary(true);
                return Err(convert::raise(py, &error));
            }
        }
    }

    /// Its result, once it is done; it can be taken once. Raises what went wrong.
    fn result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (shared, ..) = self.inner.get(py)?;
        let outcome = shared.lock().outcome.take();
        let missing = || Err(Error::new(ErrorKind::InvalidInput, "not done yet, or its result was taken before"));
        match outcome.unwrap_or_else(missing) {
            Ok(value) => object(py, value),
            Err(error) => Err(convert::raise(py, &error)),
        }
    }

    /// Whether it is done.
    fn done(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.inner.get(py)?.0.lock().done)
    }

    /// Withdraws from it: it then raises CancelledError, unless it was done before.
    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        self.inner.get(py)?.1.cancel();
        Ok(())
    }

    /// Calls `callback()` when it is done, from a thread of the library's; at once if it is done already.
    fn on_done(&self, py: Python<'_>, callback: Py<PyAny>) -> PyResult<()> {
        let (shared, ..) = self.inner.get(py)?;
        {
            let mut state = shared.lock();
            if !state.done {
                state.callbacks.push(callback);
                return Ok(());
            }
        }
        callback.call0(py).map(drop)
    }
}

fn object(py: Python<'_>, value: Value) -> PyResult<Bound<'_, PyAny>> {
    Ok(match value {
        Value::Nothing => py.None().into_bound(py),
        Value::Bytes(bytes) => PyBytes::new(py, &bytes).into_any(),
        Value::Event(None) => py.None().into_bound(py),
        Value::Event(Some(event)) => match convert::event(py, &event)? {
            Some(dict) => dict.into_any(),
            None => pyo3::types::PyDict::new(py).into_any(),
        },
        Value::Node(node) => Bound::new(py, NativeNode::from(node))?.into_any(),
        Value::NodeEvent(event) => match event {
            None => py.None().into_bound(py),
            Some(event) => convert::node_event(py, &event)?.into_any(),
        },
        Value::Number(number) => number.into_pyobject(py)?.into_any(),
        Value::Peer(peer) => Bound::new(py, NativePeer::from(peer))?.into_any(),
        Value::Reader(reader) => Bound::new(py, NativeReader::new(*reader))?.into_any(),
        Value::Receipt(receipt) => convert::receipt(py, &receipt)?.into_any(),
        Value::Scheduler(scheduler) => Bound::new(py, NativeScheduler::from(scheduler))?.into_any(),
        Value::Seed(seed) => Bound::new(py, NativeSeed::from(seed))?.into_any(),
        Value::Tasks(tasks) => {
            let list = PyList::empty(py);
            for info in &tasks {
                list.append(convert::task(py, info)?)?;
            }
            list.into_any()
        }
        Value::Text(text) => text.into_pyobject(py)?.into_any(),
    })
}

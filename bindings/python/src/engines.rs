//! Node, peer, seed, scheduler, download.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use dragonfly_core::source::blocking;
use dragonfly_core::{
    Address, Download, Error, ErrorKind, Events, Generation, Identity, Node, NodeEvents, OriginTrust, Peer, Roles,
    Runtime, Scheduler, Seed, TaskId, Token, TokenOptions,
};
use futures::StreamExt as _;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::convert::{self, invalid, raise};
use crate::fork::Owned;
use crate::op::{Op, Value};
use crate::own::{Rules, Source};
use crate::request::{item, request};

/// How many threads carry the network and the engines of a node, unless it says otherwise.
const WORKERS: usize = 2;

/// Something with the threads that it runs on, which go last.
#[derive(Clone)]
pub(crate) struct OnRuntime<T> {
    pub(crate) value: T,
    pub(crate) runtime: Runtime,
}

impl<T> OnRuntime<T> {
    fn with<U>(&self, value: U) -> OnRuntime<U> {
        OnRuntime { value, runtime: self.runtime.clone() }
    }
}

macro_rules! native {
    ($(#[$doc:meta])* $name:ident, $value:ty) => {
        $(#[$doc])*
        #[pyclass(frozen, module = "dragonfly._native")]
        pub(crate) struct $name {
            inner: Owned<OnRuntime<$value>>,
        }

        impl From<OnRuntime<$value>> for $name {
            fn from(inner: OnRuntime<$value>) -> Self {
                Self { inner: Owned::new(inner) }
            }
        }
    };
}

native! {
    /// A node.
    NativeNode, Node
}
native! {
    /// A peer.
    NativePeer, Peer
}
native! {
    /// A seed.
    NativeSeed, Seed
}
native! {
    /// A scheduler.
    NativeScheduler, Scheduler
}
native! {
    /// The events of a node that were not asked for yet.
    NativeNodeEvents, Arc<tokio::sync::Mutex<NodeEvents>>
}
native! {
    /// A download, and the events that were not asked for yet.
    NativeDownload, (Download, Arc<tokio::sync::Mutex<Events>>)
}

fn addresses(py: Python<'_>, texts: Option<Vec<String>>) -> PyResult<Vec<Address>> {
    let parse = |text: String| text.parse().map_err(|e| raise(py, &Error::from(e)));
    texts.unwrap_or_default().into_iter().map(parse).collect()
}

/// Starts a node; the operation gives a NativeNode.
#[pyfunction]
pub(crate) fn node_start(py: Python<'_>, options: &Bound<'_, PyDict>) -> PyResult<Op> {
    let mut builder = Node::builder();
    if let Some(dir) = item::<std::path::PathBuf>(options, "data_dir")? {
        builder = builder.data_dir(dir);
    }
    if let Some(bytes) = item(options, "memory_bytes")? {
        builder = builder.memory_bytes(bytes);
    }
    if let Some(bytes) = item(options, "quota_bytes")? {
        builder = builder.quota_bytes(bytes);
    }
    for address in addresses(py, item(options, "listen")?)? {
        builder = builder.listen(address);
    }
    if let Some(token) = item::<String>(options, "token")? {
        builder = builder.join(token.parse::<Token>().map_err(|e| raise(py, &Error::from(e)))?);
    }
    for address in addresses(py, item(options, "schedulers")?)? {
        builder = builder.scheduler(address);
    }
    for address in addresses(py, item(options, "bootstrap")?)? {
        builder = builder.bootstrap(address);
    }
    if let Some(slots) = item(options, "upload_slots")? {
        builder = builder.upload_slots(slots);
    }
    if let Some(site) = item::<String>(options, "site")? {
        builder = builder.site(&site);
    }
    if let Some(allow) = item(options, "allow_loopback_origins")? {
        builder = builder.allow_loopback_origins(allow);
    }
    if item(options, "trust_seeds_only")?.unwrap_or(false) {
        builder = builder.origin_trust(OriginTrust::Seeds);
    }
    if let Some(identity) = item::<Vec<u8>>(options, "identity")? {
        let seed = <[u8; 32]>::try_from(identity).map_err(|given| {
            let text = format!("an identity has 32 bytes, not {}", given.len());
            raise(py, &Error::new(ErrorKind::InvalidInput, text))
        })?;
        builder = builder.identity(Identity::from_seed(seed));
    }
    for (scheme, open) in item::<Vec<(String, Py<PyAny>)>>(options, "sources")?.unwrap_or_default() {
        builder = builder.source_for(scheme, blocking(Source(open)));
    }
    if let Some((admit_peer, admit_request)) = item(options, "policy")? {
        builder = builder.policy(Arc::new(Rules { admit_peer, admit_request }));
    }
    let workers = item(options, "workers")?.unwrap_or(WORKERS);
    let runtime = Runtime::new(workers).map_err(|e| raise(py, &e))?;
    let own = runtime.clone();
    Ok(Op::start(&runtime, async move { Ok(Value::Node(OnRuntime { value: builder.start().await?, runtime: own })) }))
}

#[pymethods]
impl NativeNode {
    /// Who this host is.
    fn peer_id(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.inner.get(py)?.value.peer_id().to_string())
    }

    /// Where it listens.
    fn listeners(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let node = self.inner.get(py)?;
        Ok(py.detach(|| node.value.listeners().iter().map(ToString::to_string).collect()))
    }

    /// Who is connected.
    fn peers(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let node = self.inner.get(py)?;
        Ok(py.detach(|| node.value.peers().iter().map(ToString::to_string).collect()))
    }

    /// Its metrics, for Prometheus.
    fn metrics(&self, py: Python<'_>) -> PyResult<String> {
        let node = self.inner.get(py)?;
        Ok(py.detach(|| node.value.metrics_text()))
    }

    /// Members that come and go from now on.
    fn events(&self, py: Python<'_>) -> PyResult<NativeNodeEvents> {
        let node = self.inner.get(py)?;
        Ok(NativeNodeEvents::from(node.with(Arc::new(tokio::sync::Mutex::new(node.value.events())))))
    }

    /// A token to join with.
    fn token(
        &self,
        py: Python<'_>,
        roles: &str,
        not_after: Option<u64>,
        addresses_given: Option<Vec<String>>,
    ) -> PyResult<String> {
        let mut options = TokenOptions::default();
        options.roles = roles.parse::<Roles>().map_err(|e| invalid(py, "the token's roles", e))?;
        options.not_after = not_after.and_then(|at| UNIX_EPOCH.checked_add(Duration::from_secs(at)));
        options.addresses = addresses(py, addresses_given)?;
        self.inner.get(py)?.value.token(options).map(|token| token.to_text()).map_err(|e| raise(py, &e))
    }

    /// Starts its peer.
    fn peer_start(&self, py: Python<'_>) -> PyResult<Op> {
        let node = self.inner.get(py)?.clone();
        let start = async move { Ok(Value::Peer(node.with(Peer::builder(&node.value).start().await?))) };
        Ok(Op::start(&self.inner.get(py)?.runtime, start))
    }

    /// Starts its seed.
    fn seed_start(&self, py: Python<'_>) -> PyResult<Op> {
        let node = self.inner.get(py)?.clone();
        let start = async move { Ok(Value::Seed(node.with(Seed::builder(&node.value).start().await?))) };
        Ok(Op::start(&self.inner.get(py)?.runtime, start))
    }

    /// Starts its scheduler.
    fn scheduler_start(&self, py: Python<'_>) -> PyResult<Op> {
        let node = self.inner.get(py)?.clone();
        let start = async move { Ok(Value::Scheduler(node.with(Scheduler::builder(&node.value).start().await?))) };
        Ok(Op::start(&self.inner.get(py)?.runtime, start))
    }

    /// Stops it.
    fn shutdown(&self, py: Python<'_>) -> PyResult<Op> {
        let node = self.inner.get(py)?;
        let stopping = node.value.clone();
        Ok(Op::start(&node.runtime, async move { stopping.shutdown().await.map(|()| Value::Nothing) }))
    }
}

fn download(on: &OnRuntime<impl Sized>, started: Download) -> NativeDownload {
    let events = Arc::new(tokio::sync::Mutex::new(started.events()));
    NativeDownload::from(on.with((started, events)))
}

fn task_of(py: Python<'_>, text: &str) -> PyResult<TaskId> {
    text.parse().map_err(|e| invalid(py, "the task", e))
}

#[pymethods]
impl NativePeer {
    /// Starts a download.
    fn fetch(&self, py: Python<'_>, wanted: &Bound<'_, PyDict>) -> PyResult<NativeDownload> {
        let peer = self.inner.get(py)?;
        Ok(download(peer, peer.value.fetch(request(py, wanted)?)))
    }

    /// Opens content; the operation gives a NativeReader.
    fn open(&self, py: Python<'_>, wanted: &Bound<'_, PyDict>) -> PyResult<Op> {
        let (peer, wanted) = (self.inner.get(py)?.clone(), request(py, wanted)?);
        let open = async move { Ok(Value::Reader(Box::new(peer.with(peer.value.open(wanted).await?)))) };
        Ok(Op::start(&self.inner.get(py)?.runtime, open))
    }

    /// The task that a request names.
    fn task_id(&self, py: Python<'_>, wanted: &Bound<'_, PyDict>) -> PyResult<String> {
        let id = self.inner.get(py)?.value.task_id(&request(py, wanted)?);
        id.map(|id| id.to_string()).map_err(|e| raise(py, &e))
    }

    /// What the store holds of a task.
    fn stat(&self, py: Python<'_>, task: &str) -> PyResult<Op> {
        let (peer, task) = (self.inner.get(py)?, task_of(py, task)?);
        let asked = peer.value.clone();
        Ok(Op::start(&peer.runtime, async move { asked.stat(task).await.map(Value::Tasks) }))
    }

    /// What the store holds.
    fn list(&self, py: Python<'_>, after: Option<(String, String)>, max: usize) -> PyResult<Op> {
        let peer = self.inner.get(py)?;
        let after = match after {
            None => None,
            Some((task, generation)) => {
                let generation = generation.parse::<Generation>().map_err(|e| invalid(py, "the generation", e))?;
                Some((task_of(py, &task)?, generation))
            }
        };
        let asked = peer.value.clone();
        Ok(Op::start(&peer.runtime, async move { asked.list(after, max).await.map(Value::Tasks) }))
    }

    /// Removes a task; the operation gives the bytes that it freed.
    fn remove(&self, py: Python<'_>, task: &str) -> PyResult<Op> {
        let (peer, task) = (self.inner.get(py)?, task_of(py, task)?);
        let asked = peer.value.clone();
        Ok(Op::start(&peer.runtime, async move { asked.remove(task).await.map(Value::Number) }))
    }

    /// Keeps a task, or no longer.
    fn pin(&self, py: Python<'_>, task: &str, pinned: bool) -> PyResult<Op> {
        let (peer, task) = (self.inner.get(py)?, task_of(py, task)?);
        let asked = peer.value.clone();
        Ok(Op::start(&peer.runtime, async move { asked.pin(task, pinned).await.map(|()| Value::Nothing) }))
    }

    /// Stops the engine.
    fn shutdown(&self, py: Python<'_>) -> PyResult<Op> {
        let peer = self.inner.get(py)?;
        let stopping = peer.value.clone();
        Ok(Op::start(&peer.runtime, async move { stopping.shutdown().await.map(|()| Value::Nothing) }))
    }
}

#[pymethods]
impl NativeSeed {
    /// Fetches before anyone asks.
    fn preheat(&self, py: Python<'_>, wanted: &Bound<'_, PyDict>) -> PyResult<NativeDownload> {
        let seed = self.inner.get(py)?;
        Ok(download(seed, seed.value.preheat(request(py, wanted)?)))
    }

    /// The peer that it is.
    fn peer(&self, py: Python<'_>) -> PyResult<NativePeer> {
        let seed = self.inner.get(py)?;
        Ok(NativePeer::from(seed.with(seed.value.peer().clone())))
    }

    /// Stops the engine.
    fn shutdown(&self, py: Python<'_>) -> PyResult<Op> {
        let seed = self.inner.get(py)?;
        let stopping = seed.value.clone();
        Ok(Op::start(&seed.runtime, async move { stopping.shutdown().await.map(|()| Value::Nothing) }))
    }
}

#[pymethods]
impl NativeScheduler {
    /// What it knows, as JSON.
    fn snapshot(&self, py: Python<'_>) -> PyResult<Op> {
        let scheduler = self.inner.get(py)?;
        let asked = scheduler.value.clone();
        Ok(Op::start(&scheduler.runtime, async move {
            let snapshot = asked.snapshot().await?;
            let text = serde_json::to_string(&snapshot)
                .map_err(|e| Error::new(ErrorKind::Internal, "a snapshot is no JSON").caused_by(e))?;
            Ok(Value::Text(text))
        }))
    }

    /// Stops the engine.
    fn shutdown(&self, py: Python<'_>) -> PyResult<Op> {
        let scheduler = self.inner.get(py)?;
        let stopping = scheduler.value.clone();
        Ok(Op::start(&scheduler.runtime, async move { stopping.shutdown().await.map(|()| Value::Nothing) }))
    }
}

#[pymethods]
impl NativeNodeEvents {
    /// The next event; the operation gives None when the node is gone.
    fn next(&self, py: Python<'_>) -> PyResult<Op> {
        let on = self.inner.get(py)?;
        let events = Arc::clone(&on.value);
        Ok(Op::start(&on.runtime, async move { Ok(Value::NodeEvent(events.lock().await.next().await)) }))
    }
}

#[pymethods]
impl NativeDownload {
    /// Its end; the operation gives a receipt.
    fn wait(&self, py: Python<'_>) -> PyResult<Op> {
        let on = self.inner.get(py)?;
        let whole = on.value.0.clone();
        Ok(Op::start(&on.runtime, async move { whole.await.map(|receipt| Value::Receipt(Box::new(receipt))) }))
    }

    /// The next event; the operation gives None at the end.
    fn next_event(&self, py: Python<'_>) -> PyResult<Op> {
        let on = self.inner.get(py)?;
        let events = Arc::clone(&on.value.1);
        Ok(Op::start(&on.runtime, async move { Ok(Value::Event(events.lock().await.next().await)) }))
    }

    /// Calls `callback(event)` for progress from now on, from a thread of the library's, one call at a time.
    fn watch(&self, py: Python<'_>, callback: Py<PyAny>) -> PyResult<()> {
        let on = self.inner.get(py)?;
        let mut events = on.value.0.events();
        let callback = Arc::new(callback);
        on.runtime.handle().spawn(async move {
            while let Some(event) = events.next().await {
                let callback = Arc::clone(&callback);
                let call = move || {
                    let _ = Python::try_attach(|py| {
                        let called = match convert::event(py, &event) {
                            Ok(Some(dict)) => callback.call1(py, (dict,)).map(drop),
                            Ok(None) => Ok(()),
                            Err(error) => Err(error),
                        };
                        if let Err(error) = called {
                            error.write_unraisable(py, None);
                        }
                    });
                };
                if tokio::task::spawn_blocking(call).await.is_err() {
                    return;
                }
            }
        });
        Ok(())
    }

    /// Withdraws from it.
    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        self.inner.get(py)?.value.0.cancel();
        Ok(())
    }
}

//! A tokio runtime for programs that have none.

pub(crate) mod pipe;

use std::sync::Arc;
use std::time::Duration;

use crate::{Error, ErrorKind, Result};

/// How long the end of a runtime waits for its threads: what blocks them by then (a caller's own callback) is left to
/// itself.
const END_MAX: Duration = Duration::from_secs(2);

/// A tokio runtime that this library owns, for programs that are not built on tokio and for bindings.
///
/// A cheap handle; the runtime ends with its last handle, and everything that still runs on it ends with it. Programs
/// that have a runtime need none of this: a [`Node`](crate::Node) runs on the one that it is started from, or on
/// [any other](crate::NodeBuilder::runtime).
///
/// Its threads, and on Linux a thread in [`block_on`](Self::block_on), get no `SIGPIPE`: in a program that does not
/// ignore it, as programs in Rust do, a connection that its other end closes would end the program.
///
/// ```no_run
/// # fn example() -> dragonfly_core::Result<()> {
/// use dragonfly_core::{Node, Peer, Request, Runtime};
///
/// let runtime = Runtime::new(2)?;
/// let node = runtime.block_on(Node::builder().start())?;
/// let peer = runtime.block_on(Peer::builder(&node).start())?;
/// let receipt = runtime.block_on(peer.fetch(Request::new("https://example.org/model.bin").output("model.bin")))?;
/// println!("{} bytes", receipt.length);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Runtime(Arc<Owned>);

#[derive(Debug)]
struct Owned {
    handle: tokio::runtime::Handle,
    /// Taken when it is dropped, which is the only way to end it without waiting for ever.
    runtime: Option<tokio::runtime::Runtime>,
}

impl Runtime {
    /// A runtime with so many worker threads, at least one.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn new(workers: usize) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers.max(1))
            .thread_name("dragonfly")
            .on_thread_start(pipe::block)
            .enable_all()
            .build()
            .map_err(|e| Error::new(ErrorKind::Config, "cannot start a runtime").caused_by(e))?;
        Ok(Self(Arc::new(Owned { handle: runtime.handle().clone(), runtime: Some(runtime) })))
    }

    /// The handle, to [start a node on](crate::NodeBuilder::runtime) or to spawn tasks of one's own with.
    pub fn handle(&self) -> &tokio::runtime::Handle {
        &self.0.handle
    }

    /// Runs a future on the calling thread until it is done.
    ///
    /// # Panics
    /// If the calling thread is one that runs asynchronous tasks: it must not be blocked.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let _guard = pipe::Guard::new();
        self.0.handle.block_on(future)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        if tokio::runtime::Handle::try_current().is_ok() {
            // The last handle went on one of its own threads, which cannot wait for itself.
            runtime.shutdown_background();
        } else {
            runtime.shutdown_timeout(END_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Runtime;

    #[cfg(target_os = "linux")]
    #[test]
    fn no_thread_of_it_gets_the_signal_of_a_closed_connection() {
        use nix::sys::signal::{SigSet, Signal};

        let blocked = || SigSet::thread_get_mask().is_ok_and(|mask| mask.contains(Signal::SIGPIPE));
        let runtime = Runtime::new(1).unwrap_or_else(|e| panic!("{e:?}"));
        let handle = runtime.handle();
        assert!(runtime.block_on(async { blocked() }), "the calling thread");
        assert_eq!(runtime.block_on(handle.spawn(async move { blocked() })).ok(), Some(true), "a worker");
        assert_eq!(runtime.block_on(handle.spawn_blocking(blocked)).ok(), Some(true), "a thread that blocks");
        assert!(!blocked(), "the calling thread is as it was");
    }

    #[test]
    fn it_runs_futures_and_ends_on_any_thread() {
        let runtime = Runtime::new(0).unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(runtime.block_on(async { tokio::spawn(async { 7 }).await.ok() }), Some(7));
        let (ended, wait) = std::sync::mpsc::channel();
        let last = runtime.clone();
        let handle = runtime.handle().clone();
        drop(runtime);
        handle.spawn(async move {
            drop(last);
            let _ = ended.send(());
        });
        assert!(wait.recv().is_ok(), "dropping the last handle on its own thread does not panic");
    }
}

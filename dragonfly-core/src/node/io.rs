//! The node's own threads for disk work, so that neither the async threads nor the embedder's blocking pool wait
//! for a disk.

use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, oneshot};

use crate::runtime::pipe;
use crate::{Error, ErrorKind, Result};

/// How many threads: enough to keep a disk's queue busy, few enough that a slow disk holds little memory.
const THREADS: usize = 4;

/// How many jobs may wait. Each holds at most one piece, so this also bounds memory.
pub(super) const QUEUE_MAX: usize = 64;

type Job = Box<dyn FnOnce() + Send>;

/// A bounded pool of threads for blocking jobs. The threads end when the last handle is dropped.
#[derive(Clone)]
pub(crate) struct IoPool {
    jobs: mpsc::Sender<Job>,
}

impl IoPool {
    pub(crate) fn start() -> Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>(QUEUE_MAX);
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..THREADS {
            let queue = Arc::clone(&queue);
            std::thread::Builder::new()
                .name(format!("dragonfly-io-{number}"))
                .spawn(move || {
                    // What it says may go to a program's own log, whose other end may be gone.
                    pipe::block();
                    loop {
                        // Only the wait is under the lock: one thread waits for the next job, the others work.
                        let job = queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).blocking_recv();
                        match job {
                            Some(job) => job(),
                            None => return,
                        }
                    }
                })
                .map_err(|e| Error::new(ErrorKind::Config, "cannot start a thread for disk work").caused_by(e))?;
        }
        Ok(Self { jobs })
    }

    /// Room for one job: waits for it.
    pub(crate) async fn room(&self) -> Result<Room<'_>> {
        self.jobs.reserve().await.map(Room).map_err(|_| stopped())
    }

    /// Runs `job` on one of the threads. Dropping the future does not stop a job that was queued.
    pub(crate) async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.room().await?.run(move || drop(reply.send(job())));
        answer.await.map_err(|_| stopped())
    }
}

/// A place in the queue of the disk threads.
pub(crate) struct Room<'a>(mpsc::Permit<'a, Job>);

impl Room<'_> {
    /// Has `job` run on one of the threads, and does not wait for its end: what it has to say, it says itself.
    pub(crate) fn run(self, job: impl FnOnce() + Send + 'static) {
        self.0.send(Box::new(job));
    }
}

fn stopped() -> Error {
    Error::new(ErrorKind::Cancelled, "the node has stopped")
}

impl std::fmt::Debug for IoPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IoPool")
    }
}

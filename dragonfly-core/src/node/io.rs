//! The node's own threads for disk work, so that neither the async threads nor the embedder's blocking pool wait
//! for a disk.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::runtime::pipe;
use crate::{Error, ErrorKind, Result};

/// How many threads: enough to keep a disk's queue busy, few enough that a slow disk holds little memory.
const THREADS: usize = 4;

/// How many jobs may wait. Each holds at most one piece, so this also bounds memory.
pub(super) const QUEUE_MAX: usize = 64;

/// A disk that has not done one job in so long does nothing any more. As long as a download waits for anything.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(120);

/// A job that is as long as its content, such as a proof after an unclean end, says nothing until it is done.
pub(super) const LONG_MAX: Duration = Duration::from_secs(600);

/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce() + Send>;

/// A bounded pool of threads for blocking jobs. The threads end when the last handle is dropped.
#[derive(Clone)]
pub(crate) struct IoPool {
    jobs: mpsc::Sender<Job>,
    /// How many jobs are done.
    done: Arc<AtomicU64>,
    /// When each that is at work and takes its time began: see [`IoPool::run_long`].
    long: Arc<Mutex<Vec<Instant>>>,
}

impl IoPool {
    pub(crate) fn start() -> Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>(QUEUE_MAX);
        let queue = Arc::new(Mutex::new(queue));
        let done = Arc::new(AtomicU64::new(0));
        for number in 0..THREADS {
            let (queue, done) = (Arc::clone(&queue), Arc::clone(&done));
            std::thread::Builder::new()
                .name(format!("dragonfly-io-{number}"))
                .spawn(move || {
                    // What it says may go to a program's own log, whose other end may be gone.
                    pipe::block();
                    loop {
                        // Only the wait is under the lock: one thread waits for the next job, the others work.
                        let job = queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).blocking_recv();
                        match job {
                            Some(job) => {
                                job();
                                done.fetch_add(1, Ordering::Relaxed);
                            }
                            None => return,
                        }
                    }
                })
                .map_err(|e| Error::new(ErrorKind::Config, "cannot start a thread for disk work").caused_by(e))?;
        }
        Ok(Self { jobs, done, long: Arc::default() })
    }

    /// How many jobs wait.
    pub(crate) fn waiting(&self) -> usize {
        QUEUE_MAX - self.jobs.capacity()
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

    /// The same for a job that is as long as its content. For so long as [`LONG_MAX`] nobody takes the disk for dead for it.
    pub(crate) async fn run_long<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let long = Arc::clone(&self.long);
        let counted = move || {
            let lock = || long.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let began = Instant::now();
            lock().push(began);
            let done = job();
            let mut long = lock();
            long.iter().position(|other| *other == began).map(|at| long.swap_remove(at));
            done
        };
        self.run(counted).await
    }

    /// The same for a job that is short, on which somebody waits: an error once the disk does nothing any more.
    pub(crate) async fn run_short<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        tokio::select! {
            done = self.run(job) => done,
            () = self.ceased() => {
                let context = format!("the disk of this host has done nothing for {SILENCE_MAX:?}");
                Err(Error::new(ErrorKind::Timeout, context).temporary(true))
            }
        }
    }

    /// Resolves once no job was done for so long that none will be, counted from the first poll.
    async fn ceased(&self) {
        let done = || self.done.load(Ordering::Relaxed);
        let (mut seen, mut since) = (done(), Instant::now());
        while since.elapsed() < SILENCE_MAX {
            tokio::time::sleep(LOOK).await;
            let now = done();
            let is_proving = {
                let long = self.long.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                long.iter().any(|began| began.elapsed() < LONG_MAX)
            };
            if now != seen || is_proving {
                (seen, since) = (now, Instant::now());
            }
        }
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn so_many_jobs_wait_for_the_disk_and_the_next_one_for_room() {
        let pool = IoPool::start().unwrap();
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        // At work they wait for their turn at the gate.
        let job = || {
            let gate = Arc::clone(&gate);
            move || {
                let _ = gate.lock().unwrap().recv();
            }
        };
        for _ in 0..THREADS + QUEUE_MAX {
            pool.room().await.unwrap().run(job());
        }
        assert_eq!(pool.waiting(), QUEUE_MAX);
        let mut room = std::pin::pin!(pool.room());
        assert!((&mut room).now_or_never().is_none());
        open.send(()).unwrap();
        room.await.unwrap().run(job());
        drop(open);
        assert_eq!(pool.run(|| 7).await.unwrap(), 7);
        assert_eq!(pool.waiting(), 0);
    }
}

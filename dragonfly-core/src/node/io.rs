//! The node's own threads for disk work, so that neither the async threads nor the embedder's blocking pool wait
//! for a disk.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::runtime::pipe;
use crate::store::progress;
use crate::{Error, ErrorKind, Result};

/// How many threads: enough to keep a disk's queue busy, few enough that a slow disk holds little memory.
const THREADS: usize = 4;

/// How many jobs may wait. Each holds at most one piece, so this also bounds memory.
pub(super) const QUEUE_MAX: usize = 64;

/// A disk that has done no job in so long, and no block of a long one, does nothing any more. As long as a download waits for anything.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(120);

/// How often that is looked at meanwhile.
const LOOKS: u32 = 24;

type Job = Box<dyn FnOnce() + Send>;

/// A bounded pool of threads for blocking jobs. The threads end when the last handle is dropped.
#[derive(Clone)]
pub(crate) struct IoPool {
    jobs: mpsc::Sender<Job>,
    /// How many jobs, and blocks of long ones, are done.
    done: Arc<AtomicU64>,
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
        Ok(Self { jobs, done })
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
    ///
    /// # Errors
    /// The disk does nothing any more: for [`SILENCE_MAX`] no job was done, nor a block of one, while this one waited for its turn,
    /// or this one was no block further. Temporary. The job may still be done later.
    pub(crate) async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let blocks = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&blocks);
        // Other jobs may be done by other threads, which says nothing of one that has begun.
        let progress = || match blocks.load(Ordering::Relaxed) {
            0 => (false, self.done.load(Ordering::Relaxed)),
            blocks => (true, blocks),
        };
        let of_all = Arc::clone(&self.done);
        let work = self.run_however_long(move || progress::counted([counted, of_all], job));
        unless_silent(work, progress).await?
    }

    /// The same where whoever waits has another way to learn that the disk does nothing any more, or nobody waits.
    pub(crate) async fn run_however_long<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.room().await?.run(move || drop(reply.send(job())));
        answer.await.map_err(|_| stopped())
    }
}

/// What `work`, which waits for the disk, comes to.
///
/// # Errors
/// For [`SILENCE_MAX`] `progress` was the same. Temporary.
pub(crate) async fn unless_silent<T, P: PartialEq>(
    work: impl Future<Output = T>,
    progress: impl Fn() -> P,
) -> Result<T> {
    let silent = async {
        let (mut seen, mut looks) = (progress(), 0);
        // Looks are counted, and not time: a process that was stopped for a while did nothing either.
        while looks < LOOKS {
            tokio::time::sleep(SILENCE_MAX / LOOKS).await;
            let now = progress();
            looks = if now == seen { looks + 1 } else { 0 };
            seen = now;
        }
    };
    tokio::select! {
        biased;
        done = work => Ok(done),
        () = silent => {
            let context = format!("the disk of this host has done nothing for {SILENCE_MAX:?}");
            Err(Error::new(ErrorKind::Timeout, context).temporary(true))
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
    use tokio::time::Instant;

    use std::pin::pin;

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

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_disk_that_does_nothing_any_more_is_told() {
        let pool = IoPool::start().unwrap();
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let (begun, beginning) = std::sync::mpsc::channel();
        let since = Instant::now();
        let job = move || {
            begun.send(()).unwrap();
            gate.recv()
        };
        // What other threads do, such as to look for what is to be evicted, says nothing of the one that is stuck.
        let others = async {
            loop {
                tokio::time::sleep(Duration::from_secs(30)).await;
                let (done, other) = std::sync::mpsc::channel();
                pool.room().await.unwrap().run(move || done.send(()).unwrap());
                // The clock stands still meanwhile.
                other.recv().unwrap();
            }
        };
        let stuck = pin!(pool.run(job));
        let stuck = futures::future::select(stuck, futures::future::ready(())).await;
        beginning.recv().unwrap();
        let futures::future::Either::Right((_, stuck)) = stuck else { panic!("it is done") };
        let error = tokio::select! {
            done = stuck => done.unwrap_err(),
            () = others => unreachable!(),
        };
        assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Timeout, true), "{error}");
        let after = since.elapsed();
        assert!((SILENCE_MAX..=SILENCE_MAX + SILENCE_MAX / LOOKS).contains(&after), "{after:?}");
        drop(open);
    }

    /// A proof, or a copy, of whole content takes as long as it takes, if it gets on.
    #[tokio::test(start_paused = true)]
    async fn a_long_job_that_gets_on_is_waited_for() {
        let pool = IoPool::start().unwrap();
        let (go_on, gate) = std::sync::mpsc::channel::<()>();
        let (further, got_on) = std::sync::mpsc::channel::<()>();
        let job = move || {
            let mut blocks = 0;
            while gate.recv().is_ok() {
                crate::store::progress::block_done();
                further.send(()).unwrap();
                blocks += 1;
            }
            blocks
        };
        let since = Instant::now();
        let driving = async {
            for _ in 0..10 {
                tokio::time::sleep(SILENCE_MAX - 2 * (SILENCE_MAX / LOOKS)).await;
                go_on.send(()).unwrap();
                // The clock stands still meanwhile.
                got_on.recv().unwrap();
            }
            // Its end is the other thread's, in its own time.
            tokio::time::resume();
            drop(go_on);
        };
        let (blocks, ()) = tokio::join!(pool.run(job), driving);
        assert_eq!(blocks.unwrap(), 10);
        assert!(since.elapsed() > 5 * SILENCE_MAX);
    }

    /// All threads are at long jobs, which get on: the disk is not dead for who waits for his turn.
    #[tokio::test(start_paused = true)]
    async fn who_waits_behind_long_jobs_is_not_told_of_a_dead_disk() {
        let pool = IoPool::start().unwrap();
        let mut ends = Vec::new();
        let (further, got_on) = std::sync::mpsc::channel::<()>();
        let mut long = Vec::new();
        for _ in 0..THREADS {
            let (go_on, gate) = std::sync::mpsc::channel::<()>();
            ends.push(go_on);
            let further = further.clone();
            long.push(pool.run(move || {
                while gate.recv().is_ok() {
                    crate::store::progress::block_done();
                    further.send(()).unwrap();
                }
            }));
        }
        let long = futures::future::join_all(long);
        let behind = async {
            tokio::task::yield_now().await;
            pool.run(|| 7).await.unwrap()
        };
        let driving = async {
            for _ in 0..5 {
                tokio::time::sleep(SILENCE_MAX - 2 * (SILENCE_MAX / LOOKS)).await;
                for go_on in &ends {
                    go_on.send(()).unwrap();
                    got_on.recv().unwrap();
                }
            }
            tokio::time::resume();
            drop(ends);
        };
        let (long, seven, ()) = tokio::join!(long, behind, driving);
        assert!(long.into_iter().all(|done| done.is_ok()));
        assert_eq!(seven, 7);
    }
}

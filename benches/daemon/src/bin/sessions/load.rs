//! What hosts say to the scheduler, and what that takes.

use std::time::{Duration, Instant};

use dragonfly_core::task::{Generation, TaskId, Validator};
use dragonfly_core::wire::control::{Held, Join, LeaseId, TaskInfo, ToCoordinator};
use tokio::task::JoinSet;

use crate::host::{Answers, Heard, Host};
use crate::served::Served;

/// Pieces of a task: as many as there may be, so that there are leases to the end.
const PIECES: u32 = 1 << 16;
const PIECE: u64 = 4 << 20;

/// The task whose pieces are leased: where somebody holds everything, as in the others in the end, nothing is.
const LEASED: u32 = u32::MAX;

/// Hosts that fetch from the origin: as many as a scheduler lets.
const HOLDERS: u32 = 16;

/// One of so many peer-tasks asks for more neighbours once.
const ASKS: u32 = 4;

/// Reports after which a host waits until it is heard, where they are measured by themselves.
const BURST: usize = 50;

/// One of the tasks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    pub(crate) number: u32,
    pub(crate) id: TaskId,
    generation: Generation,
}

impl Task {
    pub(crate) fn new(number: u32) -> Self {
        let mut hash = [3; 32];
        hash[..4].copy_from_slice(&number.to_be_bytes());
        let id = TaskId::from_hash(hash);
        let generation = Generation::derive(&id, Some(&validator()), Some(length()), PIECE, None);
        Self { number, id, generation }
    }

    /// Takes part. `knows`: it says what the content is, as one who held some of it before.
    pub(crate) fn join(&self, knows: bool) -> Join {
        let held = Held {
            generation: self.generation,
            length: length(),
            piece_length: PIECE,
            validator: Some(validator()),
            splittable: true,
            eighths: 0,
            live: false,
            fetching: Vec::new(),
        };
        Join {
            info: TaskInfo { task: self.id, spec: None, fixed: true },
            held: knows.then_some(held),
            wanted: true,
            may_lease: true,
            age_max_ms: None,
            stale_ok: true,
            priority: 3,
            earlier: None,
        }
    }

    const fn report(&self, eighths: u8) -> ToCoordinator {
        ToCoordinator::Report { task: self.id, generation: self.generation, eighths }
    }
}

fn validator() -> Validator {
    Validator::Etag("\"v\"".to_owned())
}

const fn length() -> u64 {
    PIECES as u64 * PIECE
}

/// What was measured of a part of the run.
#[derive(Debug)]
pub(crate) struct Phase {
    begun: Instant,
    processor: f64,
    messages: u64,
    /// Messages that came to the hosts.
    pub(crate) heard: u64,
    answers: Answers,
}

impl Phase {
    pub(crate) fn begin(served: &mut Served, hosts: &[Host]) -> anyhow::Result<Self> {
        let heard = hosts.iter().map(Host::heard).sum();
        let (messages, processor) = (served.messages()?, served.processor()?);
        Ok(Self { begun: Instant::now(), processor, messages, heard, answers: Answers::default() })
    }

    /// Prints what it took, and keeps how long answers took.
    pub(crate) fn end(self, served: &mut Served, hosts: &mut [Host], what: &str) -> anyhow::Result<Self> {
        let seconds = self.begun.elapsed().as_secs_f64();
        let used = served.processor()? - self.processor;
        // Those who ask for no answer may be ahead of what was taken in: by what one host says at a time, at the most.
        let messages = served.messages()? - self.messages;
        let heard = hosts.iter().map(Host::heard).sum::<u64>() - self.heard;
        let mut answers = Answers::default();
        hosts.iter_mut().for_each(|host| answers.absorb(host.take_answers()));
        println!(
            "{what}: {messages} messages in {seconds:.1} s, {:.0} a second, {:.0} a second of the scheduler's processor time \
             ({used:.1} s, {:.0}% of a processor); {heard} messages to the hosts",
            messages as f64 / seconds,
            messages as f64 / used.max(0.01),
            used / seconds * 100.0,
        );
        Ok(Self { heard, answers, ..self })
    }

    /// Prints how long answers took.
    pub(crate) fn print_latencies(&self) {
        crate::print_latencies(&self.answers);
    }
}

/// Has every host do something, all at once.
async fn each<W>(hosts: &mut Vec<Host>, work: impl Fn(Host) -> W) -> anyhow::Result<()>
where
    W: Future<Output = anyhow::Result<Host>> + Send + 'static,
{
    let mut all = JoinSet::new();
    for host in std::mem::take(hosts) {
        all.spawn(work(host));
    }
    while let Some(host) = all.join_next().await {
        hosts.push(host??);
    }
    Ok(())
}

/// Joins, and waits for neighbours.
async fn join(host: &mut Host, task: &Task, knows: bool) -> anyhow::Result<()> {
    // Neighbours may have been named for an earlier part in it: those of this one come after what is current.
    let mut is_current = false;
    let is_it = |heard: &Heard| {
        is_current |= matches!(heard, Heard::Current);
        is_current && matches!(heard, Heard::Neighbours)
    };
    let (took, _) = host.ask(&ToCoordinator::Join(task.join(knows)), is_it).await?;
    host.answers.joins.push(took);
    Ok(())
}

/// Every host joins every task.
pub(crate) async fn standing(hosts: &mut Vec<Host>, tasks: &[Task]) -> anyhow::Result<()> {
    // Nobody is there to be named to the first of all.
    let first = hosts.iter_mut().find(|host| host.number == 0);
    if let Some(first) = first {
        for task in tasks {
            let joined = ToCoordinator::Join(task.join(true));
            first.ask(&joined, |heard| matches!(heard, Heard::Current)).await?;
        }
    }
    each(hosts, |mut host| {
        let tasks = tasks.to_vec();
        async move {
            // The first is there already.
            let tasks = if host.number == 0 { &[] } else { &tasks[..] };
            for task in tasks {
                join(&mut host, task, true).await?;
            }
            Ok(host)
        }
    })
    .await
}

/// Hosts leave and join again, `count` times in all.
pub(crate) async fn joins(hosts: &mut Vec<Host>, tasks: &[Task], count: usize) -> anyhow::Result<()> {
    let times = count.div_ceil(hosts.len().max(1));
    each(hosts, |mut host| {
        let tasks = tasks.to_vec();
        async move {
            for time in 0..times {
                let task = &tasks[(time + host.number as usize) % tasks.len()];
                host.say(&ToCoordinator::Leave(task.id)).await?;
                join(&mut host, task, false).await?;
            }
            Ok(host)
        }
    })
    .await
}

/// Hosts report how far they are, `count` times in all.
pub(crate) async fn reports(hosts: &mut Vec<Host>, tasks: &[Task], count: usize) -> anyhow::Result<()> {
    let times = count.div_ceil(hosts.len().max(1)).div_ceil(BURST);
    each(hosts, |mut host| {
        let tasks = tasks.to_vec();
        async move {
            for time in 0..times {
                let task = &tasks[(time + host.number as usize) % tasks.len()];
                for report in 0..BURST {
                    // Never all of it: that is another matter.
                    host.say(&task.report(1 + (report % 7) as u8)).await?;
                }
                // There is no lease of such a task: the answer says that all before it was heard.
                let unknown = TaskId::from_hash([9; 32]);
                host.ask(&ToCoordinator::AskLease(unknown, None), |heard| matches!(heard, Heard::NoLease)).await?;
            }
            Ok(host)
        }
    })
    .await
}

/// A few hosts fetch a task by leases, `count` of them in all.
pub(crate) async fn leases(hosts: &mut Vec<Host>, count: usize) -> anyhow::Result<()> {
    let task = Task::new(LEASED);
    let times = count.div_ceil(HOLDERS as usize);
    each(hosts, |mut host| async move {
        if host.number < HOLDERS {
            let joined = ToCoordinator::Join(task.join(true));
            host.ask(&joined, |heard| matches!(heard, Heard::Current)).await?;
            for _ in 0..times {
                fetch(&mut host, &task).await?;
            }
            host.say(&ToCoordinator::Leave(task.id)).await?;
        }
        Ok(host)
    })
    .await
}

async fn fetch(host: &mut Host, task: &Task) -> anyhow::Result<()> {
    // One that is not granted at once is remembered, and granted later.
    let ask = ToCoordinator::AskLease(task.id, None);
    let (took, heard) = host.ask(&ask, |heard| matches!(heard, Heard::Granted { .. })).await?;
    host.answers.leases.push(took);
    if let Heard::Granted { lease, first, end } = heard {
        for piece in first + 1..end {
            host.say(&progress(task.id, lease, piece)).await?;
        }
        host.say(&ToCoordinator::Done { task: task.id, lease }).await?;
    }
    Ok(())
}

const fn progress(task: TaskId, lease: LeaseId, end: u32) -> ToCoordinator {
    ToCoordinator::Progress { task, lease, end }
}

/// Peer-tasks from one end to the other, `count` in all: a host leaves, joins again, reports these eighths, and one in four
/// asks for neighbours. `rate`: messages a second of all hosts together. How many messages there were.
pub(crate) async fn mixed(
    hosts: &mut Vec<Host>,
    tasks: &[Task],
    count: usize,
    eighths: &[u8],
    rate: u32,
) -> anyhow::Result<u64> {
    let times = count.div_ceil(hosts.len().max(1));
    let pause = Duration::from_secs_f64(hosts.len() as f64 / f64::from(rate.max(1)));
    let said = hosts.iter().map(|host| host.said).sum::<u64>();
    each(hosts, |mut host| {
        let (tasks, eighths) = (tasks.to_vec(), eighths.to_vec());
        async move {
            // Each at its own time, spread over a whole peer-task: at any moment some join while others report.
            let part = f64::from(host.number.wrapping_mul(0x9e37_79b9)) / f64::from(u32::MAX);
            let whole = pause * (eighths.len() as u32 + 2);
            let mut due = tokio::time::Instant::now() + whole.mul_f64(part);
            let mut wait = async || {
                tokio::time::sleep_until(due).await;
                due += pause;
            };
            for time in 0..times {
                let task = &tasks[(time + host.number as usize) % tasks.len()];
                wait().await;
                host.say(&ToCoordinator::Leave(task.id)).await?;
                wait().await;
                join(&mut host, task, false).await?;
                let asks = (host.number + time as u32).is_multiple_of(ASKS);
                for eighths in &eighths {
                    wait().await;
                    host.say(&task.report(*eighths)).await?;
                }
                if asks {
                    wait().await;
                    let ask = ToCoordinator::AskNeighbours { task: task.id, lacking: false, starved_ms: None };
                    let (took, _) = host.ask(&ask, |heard| matches!(heard, Heard::Neighbours)).await?;
                    host.answers.questions.push(took);
                }
            }
            Ok(host)
        }
    })
    .await?;
    Ok(hosts.iter().map(|host| host.said).sum::<u64>() - said)
}

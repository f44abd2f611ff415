//! What is asked of the daemons: tasks of many sizes, from an origin that fails now and then, read by a few each.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use dfget::client::Client;
use dfget::model::{FetchRequest, ReceiptBody};
use dragonfly_testkit::{Origin, Resource, content};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::cast::Door;

/// Fetches under way at a time: what is beyond waits, however long that makes the run.
const FETCHES_MAX: usize = 24;

/// For one fetch; beyond it something hangs.
const FETCH_MAX: Duration = Duration::from_secs(240);

/// What was asked and what came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) fetches: u64,
    pub(crate) bytes: u64,
    pub(crate) from_origin: u64,
    pub(crate) from_peers: u64,
    pub(crate) held: u64,
    /// Clients that left in the middle.
    pub(crate) left: u64,
    /// Fetches whose daemon went while they ran.
    pub(crate) lost: u64,
    /// Daemons that were not there when they were to be asked.
    pub(crate) absent: u64,
    /// What must not be.
    pub(crate) faults: Vec<String>,
    /// Tasks of which somebody got all.
    pub(crate) delivered: BTreeSet<u64>,
    /// Tasks that were asked for again after a while.
    pub(crate) again: BTreeSet<u64>,
}

/// The tasks of a run, drawn from a seed.
pub(crate) struct Load {
    pub(crate) origin: Arc<Origin>,
    pub(crate) doors: Vec<Arc<Door>>,
    pub(crate) seed: u64,
}

/// One fetch.
#[derive(Clone, Debug)]
struct Fetch {
    task: u64,
    url: String,
    length: u64,
    after: Duration,
    door: Arc<Door>,
    leaves: bool,
}

impl Load {
    /// Starts `tasks` tasks spread over `time` and waits for all that is asked of them.
    pub(crate) async fn run(&self, tasks: u64, time: Duration) -> Outcome {
        let mut random = StdRng::seed_from_u64(self.seed);
        let outcome = Arc::new(Mutex::new(Outcome::default()));
        let room = Arc::new(Semaphore::new(FETCHES_MAX));
        let mut work = JoinSet::new();
        let mut tick = tokio::time::interval(time.div_f64(tasks.max(1) as f64));
        for task in 0..tasks {
            tick.tick().await;
            let length = self.length(task);
            self.origin.set(path(task), resource(task, length, &mut random));
            let mut fetches = self.readers(task, &mut random);
            // Something from before, which may have been evicted meanwhile.
            if task > 0 && random.random_bool(0.15) {
                let old = random.random_range(0..task);
                outcome.lock().unwrap_or_else(PoisonError::into_inner).again.insert(old);
                fetches.extend(self.readers(old, &mut random).into_iter().take(1));
            }
            for fetch in fetches {
                let (outcome, room) = (outcome.clone(), room.clone());
                work.spawn(async move {
                    tokio::time::sleep(fetch.after).await;
                    let Ok(_permit) = room.acquire().await else { return };
                    run(&fetch, &outcome).await;
                });
            }
            while work.try_join_next().is_some() {}
        }
        while work.join_next().await.is_some() {}
        let outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.clone()
    }

    /// Most files are small, most bytes are in large ones.
    pub(crate) fn length(&self, task: u64) -> u64 {
        let mut random = StdRng::seed_from_u64(self.seed ^ (task + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        match random.random_range(0..100) {
            0..50 => random.random_range(1..64 << 10),
            50..85 => random.random_range(64 << 10..1 << 20),
            85..98 => random.random_range(1 << 20..8 << 20),
            _ => random.random_range(8 << 20..32 << 20),
        }
    }

    fn readers(&self, task: u64, random: &mut StdRng) -> Vec<Fetch> {
        let count = random.random_range(1..=self.doors.len());
        let chosen = rand::seq::index::sample(random, self.doors.len(), count);
        let (url, length) = (self.origin.url(&path(task)), self.length(task));
        let fetch = |index: usize| Fetch {
            task,
            url: url.clone(),
            length,
            after: Duration::from_millis(random.random_range(0..400)),
            door: self.doors[index].clone(),
            leaves: random.random_bool(0.04),
        };
        chosen.into_iter().map(fetch).collect()
    }
}

pub(crate) fn path(task: u64) -> String {
    format!("/{task}")
}

/// One in seven has something the matter with it, which must not be seen by who fetches it.
fn resource(task: u64, length: u64, random: &mut StdRng) -> Resource {
    let resource = Resource::seeded(task, length);
    match random.random_range(0..100) {
        0..5 => resource.fail_first(1, 503, Some(0)),
        5..10 => resource.reset_after(length / 2, 1),
        10..12 => resource.chunked(),
        12..14 => resource.hang_up_first(1),
        _ => resource,
    }
}

async fn run(fetch: &Fetch, outcome: &Mutex<Outcome>) {
    let before = fetch.door.lost();
    let socket = fetch.door.socket();
    let note = |change: &dyn Fn(&mut Outcome)| change(&mut outcome.lock().unwrap_or_else(PoisonError::into_inner));
    note(&|outcome| outcome.fetches += 1);
    let Some(socket) = socket else { return note(&|outcome| outcome.absent += 1) };
    let done = async {
        let mut client = Client::connect(&socket).await?;
        deliver(&mut client, fetch).await
    };
    match tokio::time::timeout(FETCH_MAX, done).await.context("nothing came of it").flatten() {
        Ok(Some(receipt)) => note(&|outcome| {
            outcome.bytes += receipt.length;
            outcome.from_origin += receipt.bytes_from_origin;
            outcome.from_peers += receipt.bytes_from_peers;
            outcome.held += receipt.bytes_held;
            outcome.delivered.insert(fetch.task);
        }),
        Ok(None) => note(&|outcome| outcome.left += 1),
        Err(_) if fetch.door.comes_and_goes && fetch.door.lost() != before => note(&|outcome| outcome.lost += 1),
        Err(e) => {
            let fault = format!("task {} of {} bytes through {}: {e:#}", fetch.task, fetch.length, fetch.door.name);
            println!("FAULT {fault}");
            note(&|outcome| outcome.faults.push(fault.clone()));
        }
    }
}

/// Reads all of it and compares every byte; none if the client left.
async fn deliver(client: &mut Client, fetch: &Fetch) -> anyhow::Result<Option<ReceiptBody>> {
    let request: FetchRequest = serde_json::from_value(serde_json::json!({ "url": fetch.url }))?;
    let mut body = client.fetch(&request).await?;
    let mut position = 0;
    while let Some(chunk) = body.chunk().await? {
        ensure!(chunk == content::bytes(fetch.task, position, chunk.len()), "WRONG BYTES at {position}");
        position += chunk.len() as u64;
        if fetch.leaves {
            return Ok(None);
        }
    }
    let receipt = body.receipt()?;
    ensure!(position == fetch.length, "{position} bytes came");
    Ok(Some(receipt))
}

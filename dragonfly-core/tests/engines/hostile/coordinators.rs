//! Schedulers that a test plays by hand.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dragonfly_core::net::Incoming;
use dragonfly_core::task::{Generation, Layout, TaskId, Validator, piece_length_for, rendezvous_score};
use dragonfly_core::trust::statement::sign_grant;
use dragonfly_core::wire::control::{Answer, Current, Granted, LeaseId, ToCoordinator, ToMember, Work};
use dragonfly_core::wire::statement::{Grant, GrantBundle};
use dragonfly_core::{Node, Peer, PeerId, Request, Scheduler};
use dragonfly_testkit::{Origin, Resource};
use tokio::sync::{Mutex, mpsc};

use super::BOUND;
use super::peer::{Hostile, Wire};
use crate::harness::{Network, SEED, all_roles, digest, eventually, log, logged, loopback};

const LENGTH: u64 = 8 << 20;

/// The lease that one coordinator gives to describe, and the other one on the second half.
const LEASE: LeaseId = LeaseId { number: 7, epoch: 1 };

/// Shorter than the time for which a coordinator that said nothing is waited for.
const STILL_MUTE: std::time::Duration = std::time::Duration::from_secs(20);

/// Before a download gives up for want of bytes.
const IN_VAIN: std::time::Duration = std::time::Duration::from_secs(115);

/// What both coordinators know of the task.
#[derive(Default)]
struct Plot {
    /// What was described to one of them, which died of it.
    answer: Option<Answer>,
    /// The ranges that are to be granted by the other one, the next one last.
    ranges: Vec<(u32, u32)>,
    granted: u64,
}

/// Coordinates the task of one member. Whoever has it described dies of the answer.
async fn coordinate(fake: Arc<Hostile>, mut sessions: mpsc::Receiver<Incoming>, plot: Arc<Mutex<Plot>>) {
    while let Some(incoming) = sessions.recv().await {
        let member = incoming.peer;
        let mut session = Wire::<ToCoordinator>::over(incoming.stream);
        while let Some(message) = session.hear().await {
            let mut plot = plot.lock().await;
            let mut answers = Vec::new();
            match message {
                ToCoordinator::Announce(_) | ToCoordinator::KeepAlive => {
                    answers.push(ToMember::Welcome { interval_ms: 10_000, scheduler: true });
                }
                ToCoordinator::Join(join) if plot.answer.is_none() => {
                    let work = Work::Describe { prior: None };
                    answers.push(ToMember::Granted(Granted {
                        task: join.info.task,
                        lease: LEASE,
                        timeout_ms: 30_000,
                        work,
                    }));
                }
                ToCoordinator::Described(described) => {
                    let Answer::Content { length, .. } = described.answer else { panic!("{described:?}") };
                    let pieces = Layout::of_length(length).unwrap().pieces();
                    plot.ranges = vec![(0, pieces / 2), (pieces / 2, pieces)];
                    plot.answer = Some(described.answer.clone());
                    drop(plot);
                    // It dies: the response to the request that describes is still being read.
                    return fake.host.clone().shutdown().await;
                }
                ToCoordinator::Join(join) => {
                    answers.push(ToMember::Current(current(join.info.task, plot.answer.as_ref().unwrap())));
                }
                ToCoordinator::AskLease(task, _) => {
                    let Some(range) = plot.ranges.pop() else { continue };
                    let lease = LeaseId { number: LEASE.number + plot.granted, epoch: LEASE.epoch + plot.granted };
                    plot.granted += 1;
                    let current = current(task, plot.answer.as_ref().unwrap());
                    answers.push(ToMember::Granted(grant(&fake, member, &current, lease, range)));
                }
                _ => {}
            }
            drop(plot);
            for answer in answers {
                session.say(&answer).await.unwrap();
            }
        }
    }
}

fn current(task: TaskId, answer: &Answer) -> Current {
    let Answer::Content { length, piece_length, validator, .. } = answer else { panic!("{answer:?}") };
    let generation = Generation::derive(&task, validator.as_ref(), Some(*length), *piece_length, None);
    Current {
        task,
        generation,
        length: *length,
        piece_length: *piece_length,
        validator: validator.clone(),
        splittable: true,
        age_ms: 0,
        seal: None,
    }
}

fn grant(fake: &Hostile, holder: PeerId, current: &Current, lease: LeaseId, (first, end): (u32, u32)) -> Granted {
    let grant = Grant {
        version: 1,
        network: *fake.membership.network_id(),
        tenant: "default".to_owned(),
        task: current.task,
        generation: current.generation,
        length: current.length,
        piece_length: current.piece_length,
        first,
        end,
        holder,
        epoch: lease.epoch,
    };
    let bundle = GrantBundle {
        grant: sign_grant(&fake.identity, &grant),
        grantor: fake.membership.credential_bytes().to_vec(),
        holder: fake.credential_of(holder),
    };
    Granted { task: current.task, lease, timeout_ms: 30_000, work: Work::Pieces { bundle, grant: None } }
}

/// A coordinator dies while the response to its describing request is read, and the next one gives a lease from the
/// middle under the very same number and epoch: what that response brings is not taken for the middle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_coordinators_that_number_alike() {
    log();
    // On a busy machine the host may take the second one for silent and go on by itself; the bytes are right then, too.
    for _ in 0..5 {
        if are_numbered_alike().await {
            return;
        }
    }
    panic!("the second one never leased both halves");
}

/// Whether the second one leased both halves.
async fn are_numbered_alike() -> bool {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(SEED, LENGTH).rate(LENGTH));
    // It founds the network, and is gone.
    let founder = Node::builder().listen(loopback()).allow_loopback_origins(true).start().await.unwrap();
    let token = founder.token(all_roles()).unwrap();
    founder.shutdown().await.unwrap();
    let plot = Arc::new(Mutex::new(Plot::default()));
    let mut victim = Node::builder().data_dir(dir.path().join("victim")).listen(loopback()).join(token.clone());
    let mut fakes = Vec::new();
    for _ in 0..2 {
        let fake = Arc::new(Hostile::coordinator(&token).await);
        let address = fake.host.listeners()[0].clone().with_peer(fake.identity.peer_id());
        victim = victim.scheduler(address);
        tokio::spawn(coordinate(Arc::clone(&fake), fake.take_sessions(), Arc::clone(&plot)));
        fakes.push(fake);
    }
    let victim = victim.start().await.unwrap();
    let peer = Peer::builder(&victim).start().await.unwrap();
    let output = dir.path().join("output");
    let fetched = peer.fetch(Request::new(origin.url("/file")).output(&output));
    let receipt = tokio::time::timeout(BOUND, fetched).await.expect("the second coordinator takes over").unwrap();
    assert_eq!((receipt.length, &receipt.blake3), (LENGTH, &digest(SEED, LENGTH)));
    assert_eq!(blake3::hash(&std::fs::read(&output).unwrap()).as_bytes()[..], digest(SEED, LENGTH).bytes()[..]);
    let is_played = plot.lock().await.ranges.is_empty();
    peer.shutdown().await.unwrap();
    victim.shutdown().await.unwrap();
    for fake in fakes {
        fake.host.clone().shutdown().await;
    }
    is_played
}

/// A coordinator of nothing, that writes down which tasks a member joins, and in how many sessions.
async fn listen(mut sessions: mpsc::Receiver<Incoming>, joined: Arc<Mutex<Vec<TaskId>>>, asked: Arc<AtomicUsize>) {
    while let Some(incoming) = sessions.recv().await {
        let mut session = Wire::<ToCoordinator>::over(incoming.stream);
        while let Some(message) = session.hear().await {
            match message {
                ToCoordinator::Announce(_) | ToCoordinator::KeepAlive => {
                    asked.fetch_add(1, Ordering::Relaxed);
                    let welcome = ToMember::Welcome { interval_ms: 1000, scheduler: true };
                    if session.say(&welcome).await.is_err() {
                        break;
                    }
                }
                ToCoordinator::Join(join) => joined.lock().await.push(join.info.task),
                _ => {}
            }
        }
    }
}

/// A scheduler that comes back is told of every task that a member holds, of each once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_comes_back_is_told_once_of_each_task() {
    const TASKS: usize = 150;
    let mut network = Network::start(1, false).await;
    let token = network.scheduler.as_ref().unwrap().0.token(all_roles()).unwrap();
    let member = network.peers.remove(0);
    for number in 0..TASKS {
        let url = network.serve(&format!("/{number}"), Resource::seeded(number as u64, 1000));
        member.peer.fetch(Request::new(url)).await.unwrap();
    }
    member.peer.shutdown().await.unwrap();
    member.node.shutdown().await.unwrap();
    drop(member);

    let (seed, mut at) = (Hostile::seed(), loopback());
    let mut lives: Option<(Node, Peer)> = None;
    for life in ["first", "second"] {
        let fake = Hostile::coordinator_at(&token, seed, at.clone()).await;
        at = fake.host.listeners()[0].without_peer();
        let (joined, asked) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        tokio::spawn(listen(fake.take_sessions(), Arc::clone(&joined), Arc::clone(&asked)));
        if lives.is_none() {
            let builder = network.builder(0, &token, loopback());
            let node = builder.scheduler(at.clone().with_peer(fake.identity.peer_id())).start().await.unwrap();
            lives = Some((node.clone(), Peer::builder(&node).start().await.unwrap()));
        }
        eventually(&format!("all are joined in its {life} life"), async || {
            let distinct: BTreeSet<TaskId> = joined.lock().await.iter().copied().collect();
            (distinct.len() == TASKS).then_some(())
        })
        .await;
        // Whatever else it has to say is said before it is asked twice more whether it lives.
        let then = asked.load(Ordering::Relaxed);
        eventually("it is asked", async || (asked.load(Ordering::Relaxed) >= then + 2).then_some(())).await;
        assert_eq!(joined.lock().await.len(), TASKS, "in its {life} life");
        fake.host.shutdown().await;
    }
    let (node, peer) = lives.unwrap();
    peer.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
    network.stop().await;
}

/// A scheduler that lives, and never says what the content of a task is: it is done without.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_says_nothing_is_done_without() {
    log();
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(SEED, LENGTH));
    let founder = Node::builder().listen(loopback()).allow_loopback_origins(true).start().await.unwrap();
    let token = founder.token(all_roles()).unwrap();
    founder.shutdown().await.unwrap();
    let fake = Hostile::coordinator(&token).await;
    let (joined, asked) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    tokio::spawn(listen(fake.take_sessions(), Arc::clone(&joined), Arc::clone(&asked)));
    let address = fake.host.listeners()[0].clone().with_peer(fake.identity.peer_id());
    let node = Node::builder().data_dir(dir.path().join("data")).listen(loopback()).join(token).scheduler(address);
    let node = node.start().await.unwrap();
    let peer = Peer::builder(&node).start().await.unwrap();
    let request = Request::new(origin.url("/file"));
    let receipt =
        tokio::time::timeout(BOUND, peer.fetch(request.clone())).await.expect("another way is found").unwrap();
    assert_eq!((receipt.length, &receipt.blake3), (LENGTH, &digest(SEED, LENGTH)));
    assert_eq!(*joined.lock().await, [receipt.task], "it was asked, once");
    assert_eq!(origin.body_bytes("/file"), LENGTH);
    let mute = fake.identity.peer_id().to_string();
    let told = logged(&mute).into_iter().filter(|line| line.contains("says nothing of what it was asked")).count();
    assert_eq!(told, 1);
    // It is not waited for again meanwhile.
    origin.set("/next", Resource::seeded(SEED + 1, LENGTH));
    let next = tokio::time::timeout(STILL_MUTE, peer.fetch(Request::new(origin.url("/next")))).await;
    assert_eq!(next.expect("nobody waits for it").unwrap().length, LENGTH);
    assert_eq!(joined.lock().await.len(), 1);
    peer.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
    fake.host.clone().shutdown().await;
}

/// Downloads that are under way when a scheduler falls silent, all of its tasks.
const TASKS: usize = 12;

/// Content of each of them.
const SMALL: u64 = 1 << 20;

/// A network of two schedulers, one of which a test plays by hand, and a member of it.
struct Pair {
    origin: Origin,
    fake: Hostile,
    scheduler: Scheduler,
    nodes: Vec<Node>,
    peer: Peer,
    _dir: tempfile::TempDir,
}

impl Pair {
    /// `both`: whether there is a real scheduler, too.
    async fn start(both: bool) -> Self {
        log();
        let dir = tempfile::tempdir().unwrap();
        let origin = Origin::start().await.unwrap();
        let at = |name: &str| Node::builder().data_dir(dir.path().join(name)).listen(loopback());
        let real = at("real").allow_loopback_origins(true).start().await.unwrap();
        let scheduler = Scheduler::builder(&real).start().await.unwrap();
        let token = real.token(all_roles()).unwrap();
        let fake = Hostile::coordinator(&token).await;
        let member =
            at("member").join(token).scheduler(fake.host.listeners()[0].clone().with_peer(fake.identity.peer_id()));
        let member =
            if both { member.scheduler(real.listeners()[0].without_peer().with_peer(real.peer_id())) } else { member };
        let member = member.start().await.unwrap();
        let peer = Peer::builder(&member).start().await.unwrap();
        Self { origin, fake, scheduler, nodes: vec![member, real], peer, _dir: dir }
    }

    /// Requests of so many tasks that belong to the one that is played by hand, whatever else there is.
    fn requests(&self, count: usize) -> Vec<(String, Request)> {
        let real = self.nodes[1].peer_id();
        let is_of_fake = |(_, request): &(String, Request)| {
            let task = self.peer.task_id(request).unwrap();
            let score = |peer: PeerId| rendezvous_score(&task, peer.public_key());
            score(self.fake.identity.peer_id()) > score(real)
        };
        let all = (0_u32..).map(|number| {
            let path = format!("/{number}");
            self.origin.set(&path, Resource::seeded(SEED, SMALL));
            let request = Request::new(self.origin.url(&path));
            (path, request)
        });
        all.filter(is_of_fake).take(count).collect()
    }

    /// Everybody gets everything, and one copy of each leaves the origin.
    async fn fetch_all(&self, requests: &[(String, Request)], bound: std::time::Duration) {
        let downloads = requests.iter().map(|(_, request)| self.peer.fetch(request.clone()));
        let all = tokio::time::timeout(bound, futures::future::join_all(downloads)).await;
        for receipt in all.expect("another way is found") {
            assert_eq!(receipt.unwrap().blake3, digest(SEED, SMALL));
        }
        for (path, _) in requests {
            assert_eq!(self.origin.body_bytes(path), SMALL, "{path}");
        }
    }

    async fn stop(self) {
        self.peer.shutdown().await.unwrap();
        self.scheduler.shutdown().await.unwrap();
        for node in self.nodes {
            node.shutdown().await.unwrap();
        }
        self.fake.host.clone().shutdown().await;
    }
}

/// Waits until the member knows that a coordinator played by hand is a scheduler: it asks it as often as that said.
async fn known(asked: &AtomicUsize) {
    eventually("the member knows it", async || (asked.load(Ordering::Relaxed) > 1).then_some(())).await;
}

/// One silence is enough for all: a scheduler that has fallen silent is found out once, and each of its tasks, and each
/// that comes after, goes to the next scheduler.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tasks_of_a_silent_scheduler_move_to_the_next_one_together() {
    let pair = Pair::start(true).await;
    let (joined, asked) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    tokio::spawn(listen(pair.fake.take_sessions(), Arc::clone(&joined), Arc::clone(&asked)));
    let requests = pair.requests(2 * TASKS);
    known(&asked).await;
    let (first, later) = requests.split_at(TASKS);
    pair.fetch_all(first, BOUND).await;
    assert_eq!(joined.lock().await.len(), TASKS, "it was asked for each, once");
    // From now on it is not asked, and not waited for.
    pair.fetch_all(later, STILL_MUTE).await;
    assert_eq!(joined.lock().await.len(), TASKS, "it is not asked for what comes after");
    assert_eq!(pair.scheduler.snapshot().await.unwrap().tasks.len(), 2 * TASKS, "the next one has them all");
    let silent = pair.fake.identity.peer_id().to_string();
    let told = logged(&silent).into_iter().filter(|line| line.contains("says nothing of what it was asked")).count();
    assert_eq!(told, 1, "one silence");
    pair.stop().await;
}

/// A scheduler that is gone: what is asked for after that goes to the next one at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_downloads_go_to_the_next_scheduler_when_one_is_gone() {
    let pair = Pair::start(true).await;
    let (joined, asked) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    tokio::spawn(listen(pair.fake.take_sessions(), Arc::clone(&joined), Arc::clone(&asked)));
    let requests = pair.requests(TASKS);
    known(&asked).await;
    pair.fake.host.clone().shutdown().await;
    pair.fetch_all(&requests, STILL_MUTE).await;
    assert_eq!(pair.scheduler.snapshot().await.unwrap().tasks.len(), TASKS, "the next one has them all");
    // Whoever asked before it was seen to be gone asked it once.
    assert!(joined.lock().await.len() <= TASKS);
    let silent = pair.fake.identity.peer_id().to_string();
    assert!(!logged(&silent).iter().any(|line| line.contains("says nothing")), "nobody waits for it to speak");
    pair.stop().await;
}

/// What every small file is.
fn small() -> Answer {
    Answer::Content {
        length: SMALL,
        piece_length: piece_length_for(SMALL),
        validator: Some(Validator::Etag(format!("\"{SEED:x}-{SMALL:x}\""))),
        ranges: true,
        taking: 0,
        spooled: false,
    }
}

/// What a coordinator was asked.
#[derive(Default)]
struct Asked {
    whether_it_lives: AtomicUsize,
    for_leases: AtomicUsize,
}

/// Coordinates every task in words alone: it says what is current, that there is nothing to lease now, and that it knows
/// of nobody who has it.
async fn promise(mut sessions: mpsc::Receiver<Incoming>, asked: Arc<Asked>) {
    while let Some(incoming) = sessions.recv().await {
        let asked = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut session = Wire::<ToCoordinator>::over(incoming.stream);
            while let Some(message) = session.hear().await {
                let answer = match message {
                    ToCoordinator::Announce(_) | ToCoordinator::KeepAlive => {
                        asked.whether_it_lives.fetch_add(1, Ordering::Relaxed);
                        ToMember::Welcome { interval_ms: 1000, scheduler: true }
                    }
                    ToCoordinator::Join(join) => ToMember::Current(current(join.info.task, &small())),
                    ToCoordinator::AskLease(task, _) => {
                        asked.for_leases.fetch_add(1, Ordering::Relaxed);
                        ToMember::NoLease { task, retry_ms: Some(500) }
                    }
                    ToCoordinator::AskNeighbours { task, .. } => ToMember::Neighbours { task, hosts: Vec::new() },
                    _ => continue,
                };
                if session.say(&answer).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// A coordinator that answers everything and lets nobody have anything: after a minute the next one is asked, or, where
/// there is none, this host coordinates the task itself.
async fn promises_are_not_enough(both: bool) {
    let pair = Pair::start(both).await;
    let asked = Arc::new(Asked::default());
    tokio::spawn(promise(pair.fake.take_sessions(), Arc::clone(&asked)));
    let requests = pair.requests(2);
    known(&asked.whether_it_lives).await;
    pair.fetch_all(&requests, IN_VAIN).await;
    let for_leases = asked.for_leases.load(Ordering::Relaxed);
    assert!(for_leases >= requests.len(), "it was asked for leases");
    let idle = pair.fake.identity.peer_id().to_string();
    let told = logged(&idle).into_iter().filter(|line| line.contains("nothing has come of")).count();
    assert_eq!(told, requests.len(), "one line for each task");
    let tasks = pair.scheduler.snapshot().await.unwrap().tasks.len();
    assert_eq!(tasks, if both { requests.len() } else { 0 });
    println!("asked {for_leases} times for a lease, then done without");
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_never_grants_anything_is_done_without() {
    tokio::join!(promises_are_not_enough(true), promises_are_not_enough(false));
}

/// A coordinator that comes back is asked for a lease before it knows what is current, and has none to give. The member
/// asks again when it hears what is current, not when it has starved for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_came_too_early_is_asked_again() {
    let pair = Pair::start(false).await;
    let mut sessions = pair.fake.take_sessions();
    let (_, request) = pair.requests(1).remove(0);
    let download = pair.peer.fetch(request);
    let welcome = ToMember::Welcome { interval_ms: 10_000, scheduler: true };
    let asking = async {
        // In its first life it says what is current, and dies of the question.
        let mut session = Wire::<ToCoordinator>::over(sessions.recv().await.unwrap().stream);
        loop {
            match session.hear().await.unwrap() {
                ToCoordinator::Announce(_) => session.say(&welcome).await.unwrap(),
                ToCoordinator::Join(join) => {
                    session.say(&ToMember::Current(current(join.info.task, &small()))).await.unwrap();
                }
                ToCoordinator::AskLease(..) => break,
                _ => {}
            }
        }
        drop(session);
        let mut session = Wire::<ToCoordinator>::over(sessions.recv().await.unwrap().stream);
        let mut told = 0;
        loop {
            match session.hear().await.unwrap() {
                ToCoordinator::Announce(_) => session.say(&welcome).await.unwrap(),
                ToCoordinator::AskLease(task, _) if told == 0 => {
                    told += 1;
                    session.say(&ToMember::NoLease { task, retry_ms: None }).await.unwrap();
                    session.say(&ToMember::Current(current(task, &small()))).await.unwrap();
                }
                ToCoordinator::AskLease(..) => return,
                ToCoordinator::AskNeighbours { starved_ms: Some(time), .. } => panic!("starved for {time} ms before"),
                _ => {}
            }
        }
    };
    tokio::time::timeout(BOUND, asking).await.expect("it is asked again");
    download.cancel();
    pair.stop().await;
}

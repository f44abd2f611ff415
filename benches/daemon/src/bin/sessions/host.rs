//! A host that speaks the control protocol over a connection of its own, as a peer's session does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use bytes::BytesMut;
use dragonfly_core::net::{Admission, Admitted, Duplex, HostConfig, Refused, Stream};
use dragonfly_core::trust::statement::open_grant;
use dragonfly_core::trust::{self, Membership, Side};
use dragonfly_core::wire::codec::{self, Decoded, FrameDecoder};
use dragonfly_core::wire::control::{Announce, LeaseId, ToCoordinator, ToMember, VERSION, Work};
use dragonfly_core::{Address, Identity, PeerId, Token};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use crate::ANSWER_MAX;

const CONTROL: &str = "/dragonfly/control/1";

/// How often a host says that it lives: what schedulers ask for.
const INTERVAL: Duration = Duration::from_secs(10);

/// How often a connection is tried.
const TRIES: u32 = 20;

/// The least pause after one that failed.
const PAUSE: Duration = Duration::from_millis(20);

/// What was waited for.
#[derive(Debug)]
pub(crate) enum Heard {
    Current,
    Neighbours,
    /// A lease on these pieces.
    Granted {
        lease: LeaseId,
        first: u32,
        end: u32,
    },
    NoLease,
}

/// How long answers took.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub(crate) joins: Vec<Duration>,
    pub(crate) questions: Vec<Duration>,
    pub(crate) leases: Vec<Duration>,
    pub(crate) keepalives: Vec<Duration>,
}

impl Answers {
    pub(crate) fn absorb(&mut self, other: Self) {
        self.joins.extend(other.joins);
        self.questions.extend(other.questions);
        self.leases.extend(other.leases);
        self.keepalives.extend(other.keepalives);
    }

    /// Each kind, its times in order.
    pub(crate) fn by_kind(&self) -> [(&'static str, Vec<Duration>); 4] {
        let sorted = |times: &[Duration]| {
            let mut times = times.to_vec();
            times.sort_unstable();
            times
        };
        [
            ("a join, until neighbours are named", sorted(&self.joins)),
            ("a question for neighbours", sorted(&self.questions)),
            ("a question for a lease", sorted(&self.leases)),
            ("a keepalive", sorted(&self.keepalives)),
        ]
    }
}

/// What its tasks have in common.
#[derive(Debug, Default)]
struct Shared {
    /// Messages that came.
    heard: AtomicU64,
    /// When it said last that it lives, until that is answered.
    asked: Mutex<Option<Instant>>,
    keepalives: Mutex<Vec<Duration>>,
}

/// One of the hosts.
pub(crate) struct Host {
    /// Its connection ends with it.
    _host: dragonfly_core::net::Host,
    output: Arc<tokio::sync::Mutex<WriteHalf<Stream>>>,
    queue: mpsc::UnboundedReceiver<Heard>,
    shared: Arc<Shared>,
    pub(crate) number: u32,
    /// Messages that it said, keepalives not counted.
    pub(crate) said: u64,
    pub(crate) answers: Answers,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Host {
    /// Connects, is admitted, and announces itself.
    pub(crate) async fn connect(number: u32, token: Token, scheduler: Address) -> anyhow::Result<Self> {
        let mut seed = [0x5e; 32];
        seed[..4].copy_from_slice(&number.to_be_bytes());
        let identity = Identity::from_seed(seed);
        let membership = Arc::new(Membership::join(&identity, &token));
        let config = HostConfig::new(seed, Arc::new(Gate(membership)));
        let (host, _) = dragonfly_core::net::Host::start(config, &tokio::runtime::Handle::current())?;
        let peer = scheduler.peer().context("an address of a peer")?;
        let mut tries = 0;
        while let Err(error) = host.connect(peer, vec![scheduler.without_peer()]).await {
            tries += 1;
            if tries >= TRIES {
                bail!("host {number} cannot connect: {error}");
            }
            tokio::time::sleep(PAUSE * tries).await;
        }
        let stream = host.open(peer, CONTROL).await?;
        let (input, output) = tokio::io::split(stream);
        let (shared, output) = (Arc::new(Shared::default()), Arc::new(tokio::sync::Mutex::new(output)));
        let (events, queue) = mpsc::unbounded_channel();
        tokio::spawn(listen(input, Arc::clone(&shared), events));
        let answers = Answers::default();
        let mut own = Self { _host: host, output, queue, shared, number, said: 0, answers };
        // Where nobody is: members that are named to others are dialled by these alone.
        let [_, a, b, c] = number.to_be_bytes();
        let at: Address = format!("/ip4/127.{a}.{b}.{c}/tcp/4001").parse()?;
        let record = Some(trust::sign_record(&identity, &[at])?);
        own.say(&ToCoordinator::Announce(Announce { version: VERSION, record, seed: false, slots: 8, site: None }))
            .await?;
        tokio::spawn(live(number, Arc::clone(&own.output), Arc::clone(&own.shared)));
        Ok(own)
    }

    pub(crate) async fn say(&mut self, message: &ToCoordinator) -> anyhow::Result<()> {
        self.said += 1;
        write(&self.output, message).await
    }

    /// Says it and waits for an answer: how long that took, and what the answer is. `is_it`: whether this is the answer.
    pub(crate) async fn ask(
        &mut self,
        message: &ToCoordinator,
        mut is_it: impl FnMut(&Heard) -> bool,
    ) -> anyhow::Result<(Duration, Heard)> {
        // What it was told before answers nothing.
        while self.queue.try_recv().is_ok() {}
        let asked = Instant::now();
        self.say(message).await?;
        loop {
            let heard = tokio::time::timeout(ANSWER_MAX, self.queue.recv()).await;
            let heard = heard.with_context(|| format!("no answer to {message:?}"))?.context("the session ended")?;
            if is_it(&heard) {
                return Ok((asked.elapsed(), heard));
            }
        }
    }

    /// Messages that came to it.
    pub(crate) fn heard(&self) -> u64 {
        self.shared.heard.load(Ordering::Relaxed)
    }

    /// How long answers took since this was asked last.
    pub(crate) fn take_answers(&mut self) -> Answers {
        let mut answers = std::mem::take(&mut self.answers);
        answers.keepalives = std::mem::take(&mut lock(&self.shared.keepalives));
        answers
    }
}

/// Reads what it is told, until the session ends.
async fn listen(mut input: ReadHalf<Stream>, shared: Arc<Shared>, events: mpsc::UnboundedSender<Heard>) {
    let (mut buffer, mut decoder) = (BytesMut::new(), FrameDecoder::<ToMember>::new());
    loop {
        let message = match decoder.next(&mut buffer) {
            Ok(Some(Decoded::Message(message))) => message,
            Ok(Some(Decoded::Ignored)) => continue,
            Ok(None) => match input.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => continue,
            },
            Err(_) => return,
        };
        shared.heard.fetch_add(1, Ordering::Relaxed);
        let heard = match message {
            ToMember::Current(_) => Heard::Current,
            ToMember::Neighbours { .. } => Heard::Neighbours,
            ToMember::NoLease { .. } => Heard::NoLease,
            ToMember::Granted(granted) => match granted.work {
                Work::Pieces { bundle, .. } => match open_grant(&bundle.grant) {
                    Ok((grant, _)) => Heard::Granted { lease: granted.lease, first: grant.first, end: grant.end },
                    Err(_) => return,
                },
                Work::Describe { .. } => continue,
            },
            ToMember::Welcome { .. } => {
                let asked = lock(&shared.asked).take();
                lock(&shared.keepalives).extend(asked.map(|asked| asked.elapsed()));
                continue;
            }
            _ => continue,
        };
        if events.send(heard).is_err() {
            return;
        }
    }
}

/// Says from time to time that it lives, until the session ends.
async fn live(number: u32, output: Arc<tokio::sync::Mutex<WriteHalf<Stream>>>, shared: Arc<Shared>) {
    // Not all at once.
    let first = INTERVAL.mul_f64(f64::from(number.wrapping_mul(0x9e37_79b9)) / f64::from(u32::MAX));
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + first, INTERVAL);
    loop {
        ticks.tick().await;
        *lock(&shared.asked) = Some(Instant::now());
        if write(&output, &ToCoordinator::KeepAlive).await.is_err() {
            return;
        }
    }
}

async fn write(output: &tokio::sync::Mutex<WriteHalf<Stream>>, message: &ToCoordinator) -> anyhow::Result<()> {
    let mut frame = BytesMut::new();
    codec::encode(message, &mut frame)?;
    let mut output = output.lock().await;
    output.write_all(&frame).await?;
    Ok(output.flush().await?)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Proves that it is a member, and has the scheduler prove it.
struct Gate(Arc<Membership>);

impl Admission for Gate {
    fn admit<'a>(
        &'a self,
        mut io: &'a mut dyn Duplex,
        dialer: bool,
        local: PeerId,
        remote: PeerId,
        binding: &'a [u8],
    ) -> BoxFuture<'a, Result<Admitted, Refused>> {
        async move {
            let side = if dialer { Side::Dialer } else { Side::Listener };
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            let admitted = trust::admit_bound(&mut io, &self.0, side, local, remote, now, binding).await;
            let admitted = admitted.map_err(|error| Refused::new(error.to_string()))?;
            Ok(Admitted { claims: Arc::new(admitted.credential), not_after: None })
        }
        .boxed()
    }
}

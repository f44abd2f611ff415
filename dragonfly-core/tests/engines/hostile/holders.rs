//! Members that take the lease, say that they hold everything, and are of no use: the others go to the origin themselves
//! once nothing has come to any of them for a while, long before their downloads give up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dragonfly_core::task::{Layout, PieceHash, TaskId, Validator, piece_length_for};
use dragonfly_core::trust::statement::{Attester, open_grant};
use dragonfly_core::wire::control::{Answer, Described, Granted, Join, TaskInfo, ToCoordinator, Work};
use dragonfly_core::wire::lane::{Frame, Message, Run};
use dragonfly_core::wire::statement::{ATTESTED_PIECES_MAX, Evidence, Signed};
use dragonfly_core::{PeerId, Request};
use dragonfly_testkit::{Resource, content};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::peer::{Hostile, Lane, Wire};
use super::{BOUND, LENGTH, granted, joining, value};
use crate::harness::{Network, SEED, logged, metric};

/// A download ends when nothing has come for two minutes.
const GIVEN_UP: Duration = Duration::from_secs(200);

const STALLED: &str = "dragonfly_neighbours_stalled_total";

/// A network whose scheduler takes `hostile` for the holder of all of a file, the file's task and URL, the lease on it, and
/// what keeps the session up: it says that it is there, and listens to nothing else.
pub(super) struct Taken {
    pub(super) network: Network,
    pub(super) hostile: Arc<Hostile>,
    task: TaskId,
    pub(super) url: String,
    pub(super) granted: Granted,
    keeping: JoinHandle<()>,
}

impl Taken {
    pub(super) async fn start() -> Self {
        let network = Network::start(2, false).await;
        let url = network.serve("/file", Resource::seeded(SEED, LENGTH));
        let task = network.peers[0].peer.task_id(&Request::new(&url)).unwrap();
        let hostile = Arc::new(Hostile::join(&network.token()).await);
        let mut session = hostile.session(&network.scheduler.as_ref().unwrap().0).await;
        let join = Join { may_lease: true, ..joining(TaskInfo { task, spec: None, fixed: false }) };
        session.say(&ToCoordinator::Join(join)).await.unwrap();
        let lease = granted(&mut session).await.lease;
        let layout = Layout::of_length(LENGTH).unwrap();
        let answer = Answer::Content {
            length: LENGTH,
            piece_length: layout.piece_length(),
            validator: Some(Validator::Etag(format!("\"{SEED:x}-{LENGTH:x}\""))),
            ranges: true,
            taking: layout.pieces(),
            spooled: false,
        };
        let described = Described { task, lease, fresh_ms: Some(600_000), answer };
        session.say(&ToCoordinator::Described(described)).await.unwrap();
        let granted = granted(&mut session).await;
        session.say(&ToCoordinator::Done { task, lease: granted.lease }).await.unwrap();
        let keeping = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_secs(2));
            loop {
                tokio::select! {
                    _ = ticks.tick() => if session.say(&ToCoordinator::KeepAlive).await.is_err() { return },
                    heard = session.hear() => if heard.is_none() { return },
                }
            }
        });
        Self { network, hostile, task, url, granted, keeping }
    }

    pub(super) async fn stop(self) {
        self.keeping.abort();
        self.hostile.host.clone().shutdown().await;
        self.network.stop().await;
    }
}

/// It serves nobody. What is opened and offered to it stays without an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sole_holder_that_serves_nobody() {
    let taken = Taken::start().await;
    let bytes = taken.network.fetch_all(&taken.url, LENGTH).await;
    assert!(bytes.iter().all(|receipt| receipt.bytes_from_peers + receipt.bytes_from_origin >= LENGTH));
    assert_eq!(taken.network.origin.body_bytes("/file"), LENGTH, "the honest fetch it once between them");
    taken.stop().await;
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// As it should be.
    Honest,
    /// The head of a block, and nothing more.
    Head,
    /// A byte every half second, each in a frame of its own.
    Drip,
}

/// What a member says that holds everything: the truth.
pub(super) struct Holder {
    open: Message,
    evidence: Vec<Evidence>,
    /// Another value of the first piece.
    contradiction: Evidence,
    pieces: u32,
    pub(super) asked: AtomicUsize,
    /// Whether it contradicts itself now, on every lane.
    pub(super) turned: watch::Sender<bool>,
}

impl Holder {
    /// Says what it has on a lane, and serves it at that pace.
    async fn serve(self: Arc<Self>, mut lane: Lane, pace: Pace) -> std::io::Result<()> {
        self.offer(&mut lane).await?;
        let mut turned = self.turned.subscribe();
        loop {
            let frame = tokio::select! {
                frame = lane.hear() => frame,
                Ok(()) = turned.changed() => {
                    self.contradict(&mut lane).await?;
                    continue;
                }
            };
            let Some(frame) = frame else { return Ok(()) };
            match frame {
                // It did not know the content when it was offered.
                Frame::Message(Message::Open { .. }) => self.offer(&mut lane).await?,
                Frame::Message(Message::Request { request, first, values, .. }) => {
                    self.asked.fetch_add(1, Ordering::Relaxed);
                    match pace {
                        Pace::Honest => pieces(&mut lane, request, first, values.len() as u32 / 32).await?,
                        Pace::Head => lane.raw(&[0, 0, 64, 0, 4, 0]).await?,
                        Pace::Drip => drip(&mut lane, request, first).await?,
                    }
                }
                _ => {}
            }
        }
    }

    /// Shows a second value of a piece.
    async fn contradict(&self, lane: &mut Lane) -> std::io::Result<()> {
        lane.say(&Frame::Message(self.open.clone())).await?;
        let items = vec![self.evidence[0].clone(), self.contradiction.clone()];
        lane.say(&Frame::Message(Message::Evidence { slot: 1, items })).await
    }

    async fn offer(&self, lane: &mut Lane) -> std::io::Result<()> {
        lane.say(&Frame::Message(self.open.clone())).await?;
        lane.say(&Frame::Message(Message::Evidence { slot: 1, items: self.evidence.clone() })).await?;
        let runs = vec![Run { first: 0, count: self.pieces }];
        lane.say(&Frame::Message(Message::Have { slot: 1, runs, complete: true })).await
    }
}

/// The pieces as they are.
async fn pieces(lane: &mut Lane, request: u32, first: u32, count: u32) -> std::io::Result<()> {
    let length = piece_length_for(LENGTH);
    for piece in first..first + count {
        let start = u64::from(piece) * length;
        for offset in (0..length.min(LENGTH - start)).step_by(64 << 10) {
            let most = (LENGTH - start - offset).min(64 << 10).min(length - offset);
            let bytes = content::bytes(SEED, start + offset, most as usize);
            lane.say(&Frame::Block { request, piece, offset: offset as u32, bytes }).await?;
        }
    }
    Ok(())
}

async fn drip(lane: &mut Lane, request: u32, piece: u32) -> std::io::Result<()> {
    let start = u64::from(piece) * piece_length_for(LENGTH);
    for offset in 0.. {
        let bytes = content::bytes(SEED, start + u64::from(offset), 1);
        lane.say(&Frame::Block { request, piece, offset, bytes }).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sole_holder_that_begins_to_serve_counts_as_stalled() {
    a_sole_holder_at(Pace::Head).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sole_holder_that_drips_counts_as_stalled() {
    a_sole_holder_at(Pace::Drip).await;
}

/// The grant that comes first.
fn granted_to(evidence: &[Evidence]) -> Signed {
    let Some(Evidence::Grant(bundle)) = evidence.first() else { panic!("{evidence:?}") };
    bundle.grant.clone()
}

/// Has it serve at that pace everyone who opens a lane to it.
pub(super) fn serving(taken: &Taken, pace: Pace) -> (Arc<Holder>, JoinHandle<()>) {
    let hostile = &taken.hostile;
    let Work::Pieces { bundle, .. } = taken.granted.work.clone() else { panic!("a lease on pieces") };
    let grant = open_grant(&bundle.grant).unwrap().0;
    let layout = Layout::of_length(LENGTH).unwrap();
    let open = Message::Open {
        slot: 1,
        task: taken.task,
        generation: grant.generation,
        length: LENGTH,
        piece_length: layout.piece_length(),
        wanted: false,
    };
    let values: Vec<PieceHash> = (0..layout.pieces()).map(|piece| value(&layout, piece)).collect();
    let mut attester = Attester::new(&bundle.grant);
    let mut evidence = vec![Evidence::Grant(bundle)];
    for (batch, first) in values.chunks(ATTESTED_PIECES_MAX).zip((0..).step_by(ATTESTED_PIECES_MAX)) {
        evidence.push(Evidence::Attestation(attester.attest(&hostile.identity, first, batch).unwrap()));
    }
    let lie = Attester::new(&granted_to(&evidence)).attest(&hostile.identity, 0, &[[9; 32]]).unwrap();
    let contradiction = Evidence::Attestation(lie);
    let holder = Arc::new(Holder {
        open,
        evidence,
        contradiction,
        pieces: layout.pieces(),
        asked: AtomicUsize::new(0),
        turned: watch::Sender::new(false),
    });
    let (mut incoming, serving) = (hostile.take_lanes(), Arc::clone(&holder));
    let lanes = tokio::spawn(async move {
        while let Some(lane) = incoming.recv().await {
            tokio::spawn(Arc::clone(&serving).serve(Wire::over(lane.stream), pace));
        }
    });
    (holder, lanes)
}

/// It holds the content, truly, and serves it at a pace that is of no use: it counts as stalled, which is told and counted.
async fn a_sole_holder_at(pace: Pace) {
    let taken = Taken::start().await;
    let (network, hostile) = (&taken.network, &taken.hostile);
    let (holder, lanes) = serving(&taken, pace);
    let fetched = tokio::time::timeout(BOUND, network.fetch_all(&taken.url, LENGTH)).await;
    fetched.unwrap_or_else(|_| panic!("honest downloads do not finish"));
    assert_eq!(network.origin.body_bytes("/file"), LENGTH, "the honest fetch it once between them");
    let asked = holder.asked.load(Ordering::Relaxed);
    let stalled: u64 = network.peers.iter().map(|member| metric(&member.node, STALLED)).sum();
    assert!(asked > 0 && stalled > 0, "asked {asked} times, found to be stalled {stalled} times");
    let told = told_of(hostile.identity.peer_id());
    assert_eq!(told.len() as u64, stalled, "one line each time: {told:?}");
    println!("{pace:?}: asked {asked} times, found to be stalled {stalled} times");
    lanes.abort();
    taken.stop().await;
}

/// Who may not go to the origin has it from that holder or not at all: the error says that it was this neighbour that sent
/// nothing, and neither an origin nor the caller's time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_neighbour_is_named_to_who_waits() {
    let taken = Taken::start().await;
    let (holder, lanes) = serving(&taken, Pace::Head);
    let download = taken.network.peers[0].peer.fetch(Request::new(&taken.url).back_to_source(false));
    let failed = tokio::time::timeout(GIVEN_UP, download).await.expect("it does not wait for ever");
    let error = failed.expect_err("nobody sends it");
    let culprit = taken.hostile.identity.peer_id().to_string();
    let said = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    let said: Vec<String> = said.map(ToString::to_string).collect();
    assert!(
        said.iter().any(|text| text.contains("sent nothing of what it was asked for") && text.contains(&culprit)),
        "{said:?}"
    );
    assert!(holder.asked.load(Ordering::Relaxed) > 0);
    assert_eq!(taken.network.origin.body_bytes("/file"), 0);
    lanes.abort();
    taken.stop().await;
}

fn told_of(culprit: PeerId) -> Vec<String> {
    let lines = logged(&culprit.to_string());
    assert!(!lines.iter().any(|line| line.contains("took nothing")), "{lines:?}");
    lines.into_iter().filter(|line| line.contains("sends nothing of what it was asked for")).collect()
}

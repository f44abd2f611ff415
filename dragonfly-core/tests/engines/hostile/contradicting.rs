//! A member that fetched some content, attests it rightly and serves it, and then signs another value of a piece.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dragonfly_core::task::{Layout, PieceHash};
use dragonfly_core::trust::statement::{Attester, sign_grant};
use dragonfly_core::wire::control::{Current, ToMember};
use dragonfly_core::wire::lane::{Frame, Message};
use dragonfly_core::wire::statement::{ATTESTED_PIECES_MAX, Evidence, Grant, GrantBundle, Signed};
use dragonfly_core::{Node, Request};
use dragonfly_testkit::{Resource, content};
use tokio::task::JoinHandle;

use super::holders::{Pace, Taken, serving};
use super::peer::{Hostile, Lane, Wire};
use super::{BOUND, EVIDENCE_SAID, LENGTH, current, value};
use crate::harness::{Network, SEED, eventually, logged, metric};

const BLAMED: &str = "dragonfly_neighbours_blamed_total";
const REFUSED: &str = "dragonfly_evidence_refused_total";

/// Everyone has the content on its word. Nothing of what they hold goes when its word is void.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_stays() {
    let taken = Taken::start().await;
    let (holder, lanes) = serving(&taken, Pace::Honest);
    let network = &taken.network;
    tokio::time::timeout(BOUND, network.fetch_all(&taken.url, LENGTH)).await.expect("it is served");
    assert_eq!(network.origin.body_bytes("/file"), 0, "all of it came from that member");
    assert!(holder.asked.load(Ordering::Relaxed) > 0);
    holder.turned.send(true).unwrap();
    // By those who have a lane with it; one may have had all from the other.
    let blamed = || network.peers.iter().map(|member| metric(&member.node, BLAMED)).sum::<u64>();
    eventually("it is blamed", async || (blamed() > 0).then_some(())).await;
    for member in &network.peers {
        assert!(metric(&member.node, "dragonfly_store_bytes") >= LENGTH, "what is held stays");
        let again = member.peer.fetch(Request::new(&taken.url).output(network.output("again")).overwrite(true));
        let receipt = tokio::time::timeout(BOUND, again).await.expect("it is held").unwrap();
        assert_eq!((receipt.bytes_held, receipt.blake3.bytes()), (LENGTH, &content::blake3(SEED, LENGTH)[..]));
    }
    let lines = logged(&taken.hostile.identity.peer_id().to_string());
    assert_eq!(lines.iter().filter(|line| line.contains("is to blame")).count() as u64, blamed(), "{lines:?}");
    assert_eq!(network.origin.body_bytes("/file"), 0);
    lanes.abort();
    taken.stop().await;
}

/// Where a word becomes void that content was taken on, its task is closed and opened anew on the lanes of whoever noticed; what
/// else these carry goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recall_is_of_one_task() {
    let taken = Taken::start().await;
    let (holder, lanes) = serving(&taken, Pace::Honest);
    let network = &taken.network;
    tokio::time::timeout(BOUND, network.fetch_all(&taken.url, LENGTH)).await.expect("it is served");
    let other = network.serve("/other", Resource::seeded(SEED, LENGTH));
    tokio::time::timeout(BOUND, network.fetch_all(&other, LENGTH)).await.expect("it is served");
    let observer = Hostile::join(&network.token()).await;
    let mut session = observer.session(&network.scheduler.as_ref().unwrap().0).await;
    let mut tasks = Vec::new();
    for url in [&taken.url, &other] {
        let task = network.peers[0].peer.task_id(&Request::new(url)).unwrap();
        tasks.push(current(&mut session, task).await);
    }
    let mut watched = Vec::new();
    for member in &network.peers {
        let mut lane = observer.lane(&member.node).await.unwrap();
        for (slot, current) in (1..).zip(&tasks) {
            lane.say(&Frame::Message(opening(slot, current))).await.unwrap();
        }
        let mut complete = 0;
        while complete < tasks.len() {
            let frame = tokio::time::timeout(BOUND, lane.hear()).await.unwrap().expect("the lane lives");
            complete += usize::from(matches!(frame, Frame::Message(Message::Have { complete: true, .. })));
        }
        watched.push(lane);
    }
    holder.turned.send(true).unwrap();
    let noticed =
        eventually("it is blamed", async || network.peers.iter().position(|member| metric(&member.node, BLAMED) > 0))
            .await;
    let mut lane = watched.swap_remove(noticed);
    let mut closed = false;
    let reopened = async {
        loop {
            match lane.hear().await.expect("the lane lives") {
                Frame::Message(Message::Close { task, .. }) => {
                    assert_eq!(task, tasks[0].task, "the other task goes on");
                    closed = true;
                }
                Frame::Message(Message::Open { task, .. }) if closed => {
                    assert_eq!(task, tasks[0].task);
                    return;
                }
                _ => {}
            }
        }
    };
    tokio::time::timeout(BOUND, reopened).await.expect("it is opened anew");
    let layout = Layout::of_length(LENGTH).unwrap();
    let values = value(&layout, 0).to_vec();
    lane.say(&Frame::Message(Message::Request { slot: 2, request: 1, first: 0, skip: 0, values })).await.unwrap();
    let served = async {
        let mut left = layout.length_of(0).unwrap();
        while left > 0 {
            if let Frame::Block { bytes, .. } = lane.hear().await.expect("the lane lives") {
                left -= bytes.len() as u64;
            }
        }
    };
    tokio::time::timeout(BOUND, served).await.expect("it is served on the same lane");
    assert_eq!(network.origin.body_bytes("/file"), 0);
    lanes.abort();
    observer.host.clone().shutdown().await;
    taken.stop().await;
}

/// The one host that has the content fetched it all itself. A member grants itself the highest epoch, says otherwise of every
/// piece, and contradicts that: what the host had attested counts again, and who comes next has it from there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_liar_took_the_place_of_counts_again() {
    what_they_took_the_place_of_counts_again(1).await;
}

/// Who holds a token has as many identities as it likes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_many_liars_took_the_place_of_counts_again() {
    what_they_took_the_place_of_counts_again(6).await;
}

async fn what_they_took_the_place_of_counts_again(liars: u64) {
    let scene = Held::start().await;
    let (holder, late) = (&scene.network.peers[0], &scene.network.peers[1]);
    let mut all = Vec::new();
    for number in 0..liars {
        let hostile = Hostile::join(&scene.network.token()).await;
        let said = scene.said(&hostile, |hostile, grant| {
            let own = hostile.membership.credential_bytes().to_vec();
            let signed = sign_grant(&hostile.identity, &grant);
            let granted = GrantBundle { grant: signed.clone(), grantor: own.clone(), holder: own };
            let mut items = vec![Evidence::Grant(granted)];
            for value in [[3 + number as u8; 32], [4 + number as u8; 32]] {
                items.extend(attested(hostile, &signed, value));
            }
            items
        });
        all.push(Liar::speak(hostile, said));
    }
    eventually("they are blamed", async || {
        for liar in &all {
            liar.call(&holder.node).await;
        }
        (metric(&holder.node, BLAMED) == liars).then_some(())
    })
    .await;
    let fetched =
        tokio::time::timeout(BOUND, late.peer.fetch(scene.request.clone())).await.expect("it is served").unwrap();
    assert_eq!((fetched.bytes_from_peers, fetched.blake3.bytes()), (LENGTH, &content::blake3(SEED, LENGTH)[..]));
    assert_eq!(scene.network.origin.body_bytes("/file"), LENGTH, "one copy");
    for liar in all {
        liar.stop().await;
    }
    scene.network.stop().await;
}

/// Grants that nothing is known under, and statements that hold and say nothing new, without end: who sends them waits, and
/// others are served meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_that_teaches_nothing() {
    let scene = Held::start().await;
    let (holder, late) = (&scene.network.peers[0], &scene.network.peers[1]);
    let hostile = Hostile::join(&scene.network.token()).await;
    let right = (0..scene.pieces()).map(|piece| value(&scene.layout(), piece)).collect::<Vec<PieceHash>>();
    let said = scene.said(&hostile, |hostile, grant| {
        let own = hostile.membership.credential_bytes().to_vec();
        let mut items = Vec::new();
        for epoch in 0..FLOOD_ITEMS {
            let signed = sign_grant(&hostile.identity, &Grant { epoch, ..grant.clone() });
            let granted = GrantBundle { grant: signed.clone(), grantor: own.clone(), holder: own.clone() };
            let same = Attester::new(&signed).attest(&hostile.identity, 0, &right[..1]).unwrap();
            items.extend([Evidence::Grant(granted), Evidence::Attestation(same)]);
        }
        items
    });
    let began = Instant::now();
    let flood = Liar::speak(hostile, said);
    let calls = async {
        loop {
            flood.call(&holder.node).await;
        }
    };
    let checks = || metric(&holder.node, "dragonfly_vain_checks_total");
    let (at_once, rate) = (metric(&holder.node, VAIN), metric(&holder.node, VAIN_RATE));
    // While the one who says it waits for every further check.
    let served = async {
        eventually("it waits", async || (checks() > at_once).then_some(())).await;
        let fetch = late.peer.fetch(scene.request.clone());
        let fetched = tokio::time::timeout(BOUND, fetch).await.expect("it is served").unwrap();
        eventually("a second's worth more", async || (checks() > at_once + rate).then_some(())).await;
        fetched
    };
    let fetched = tokio::select! {
        fetched = served => fetched,
        () = calls => unreachable!("it goes on"),
    };
    // The other member's lane has its own.
    let (made, most) = (checks(), at_once as f64 + rate as f64 * began.elapsed().as_secs_f64());
    println!("{made} checks in vain in {:?}", began.elapsed());
    assert!(made as f64 <= most + 1.0, "{made} checks where {most} may be");
    assert_eq!((fetched.bytes_from_peers, fetched.blake3.bytes()), (LENGTH, &content::blake3(SEED, LENGTH)[..]));
    assert_eq!(scene.network.origin.body_bytes("/file"), LENGTH, "one copy");
    for member in &scene.network.peers {
        assert_eq!((metric(&member.node, BLAMED), metric(&member.node, REFUSED)), (0, 0), "all that it says holds");
    }
    flood.stop().await;
    scene.network.stop().await;
}

/// How much may be said in vain at once, and a second.
const VAIN: &str = "dragonfly_lane_vain_checks_limit";
const VAIN_RATE: &str = "dragonfly_lane_vain_checks_per_second_limit";

/// How many grants a flood has, each with an attestation.
const FLOOD_ITEMS: u64 = 3000;

/// Two members, of whom the first has fetched some content all by itself.
struct Held {
    network: Network,
    request: Request,
    current: Current,
    _session: Wire<ToMember>,
}

impl Held {
    async fn start() -> Self {
        let network = Network::start(2, false).await;
        let request = Request::new(network.serve("/file", Resource::seeded(SEED, LENGTH)));
        let holder = &network.peers[0];
        holder.peer.fetch(request.clone()).await.unwrap();
        let asker = Hostile::join(&network.token()).await;
        let mut session = asker.session(&network.scheduler.as_ref().unwrap().0).await;
        let current = current(&mut session, holder.peer.task_id(&request).unwrap()).await;
        asker.host.clone().shutdown().await;
        Self { network, request, current, _session: session }
    }

    fn layout(&self) -> Layout {
        Layout::of_length(LENGTH).unwrap()
    }

    fn pieces(&self) -> u32 {
        self.layout().pieces()
    }

    /// The task opened, and what `items` makes of a grant to that member of all pieces under the highest epoch.
    fn said(&self, hostile: &Hostile, items: impl FnOnce(&Hostile, Grant) -> Vec<Evidence>) -> Vec<Frame> {
        let current = &self.current;
        let grant = Grant {
            version: 1,
            network: *hostile.membership.network_id(),
            tenant: "default".into(),
            task: current.task,
            generation: current.generation,
            length: current.length,
            piece_length: current.piece_length,
            first: 0,
            end: self.pieces(),
            holder: hostile.identity.peer_id(),
            epoch: u64::MAX,
        };
        let mut said = vec![Frame::Message(opening(1, current))];
        for items in items(hostile, grant).chunks(EVIDENCE_SAID) {
            said.push(Frame::Message(Message::Evidence { slot: 1, items: items.to_vec() }));
        }
        said
    }
}

fn opening(slot: u32, current: &Current) -> Message {
    Message::Open {
        slot,
        task: current.task,
        generation: current.generation,
        length: current.length,
        piece_length: current.piece_length,
        wanted: true,
    }
}

/// Attestations of one value for every piece.
fn attested(hostile: &Hostile, grant: &Signed, value: PieceHash) -> Vec<Evidence> {
    let values: Vec<PieceHash> = vec![value; Layout::of_length(LENGTH).unwrap().pieces() as usize];
    let mut attester = Attester::new(grant);
    let batches = values.chunks(ATTESTED_PIECES_MAX).zip((0..).step_by(ATTESTED_PIECES_MAX));
    let signed = batches.map(|(batch, first)| attester.attest(&hostile.identity, first, batch).unwrap());
    signed.map(Evidence::Attestation).collect()
}

/// A member that says one thing to whoever opens a lane to it, and to whom it calls.
struct Liar {
    hostile: Hostile,
    said: Vec<Frame>,
    lanes: JoinHandle<()>,
}

impl Liar {
    fn speak(hostile: Hostile, said: Vec<Frame>) -> Self {
        // The other host may have opened a lane, too: of two one stays.
        let (mut incoming, theirs) = (hostile.take_lanes(), said.clone());
        let lanes = tokio::spawn(async move {
            while let Some(lane) = incoming.recv().await {
                say_all(&mut Wire::over(lane.stream), &theirs).await;
            }
        });
        Self { hostile, said, lanes }
    }

    async fn call(&self, node: &Node) {
        match self.hostile.lane(node).await {
            Some(mut lane) => say_all(&mut lane, &self.said).await,
            None => tokio::task::yield_now().await,
        }
    }

    async fn stop(self) {
        self.lanes.abort();
        self.hostile.host.clone().shutdown().await;
    }
}

/// And hears the other end out for a moment.
async fn say_all(lane: &mut Lane, said: &[Frame]) {
    for frame in said {
        let _ = lane.say(frame).await;
    }
    let _ = tokio::time::timeout(Duration::from_millis(500), lane.hear()).await;
}

//! Evidence that is well formed, signed, and does not hold: every item is refused, nobody believes a value of it, and
//! honest downloads finish.

use std::sync::Arc;
use std::time::Duration;

use dragonfly_core::Node;
use dragonfly_core::task::{Layout, PieceHash, TaskId, Validator, piece_length_for};
use dragonfly_core::trust::statement::{Attester, sign_grant, sign_seal};
use dragonfly_core::trust::{Membership, OriginTrust};
use dragonfly_core::wire::control::{Answer, Current, Described, Join, TaskInfo, ToCoordinator, Work};
use dragonfly_core::wire::lane::{Frame, Message};
use dragonfly_core::wire::statement::{ATTESTED_PIECES_MAX, Evidence, Grant, GrantBundle, Seal, SealBundle, Signed};
use dragonfly_testkit::{Resource, content};
use tokio::sync::Mutex;

use super::peer::{Hostile, Lane, Wire};
use super::{BOUND, LENGTH, ORIGIN_RATE, Request, current, granted, joining};
use crate::harness::{Network, SEED, all_roles, eventually, logged, metric};

const REFUSED: &str = "dragonfly_evidence_refused_total";
const BLAMED: &str = "dragonfly_neighbours_blamed_total";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Forgery {
    /// What it heard, as it is: to see that nothing of that is refused.
    None,
    /// An attestation of what it heard, with one bit flipped.
    FlippedAttestation,
    /// A grant of what it heard, with one bit flipped.
    FlippedGrant,
    /// The scheduler's own grant to it, of another task, and what it attests under that.
    OtherTask,
    /// Its own grant to itself, in a network in which seeds alone attest and schedulers grant.
    WithoutRole,
    /// The same under the scheduler's credential.
    BorrowedCredential,
    /// The scheduler's grant to the seed, and what this one, which is not the seed, attests under it.
    AnothersGrant,
    /// A seal, from one that is neither scheduler nor seed.
    Seal,
    /// Two values for the same pieces, both signed by it, in a network in which that would count.
    Contradiction,
    /// The same where there is no seed, whose seal would say what is right.
    ContradictionAlone,
    /// A seal of what the content is not, from one that has every role.
    FalseSeal,
    /// A grant of a network of its own, in which it has every role.
    OtherNetwork,
    /// The same that says to be of this network.
    OtherNetworksCredential,
}

/// What a forger has to work with.
struct Forger {
    hostile: Hostile,
    current: Current,
    scheduler: Node,
    /// What the scheduler granted it of another task.
    granted: Option<GrantBundle>,
    heard: Mutex<Vec<Evidence>>,
}

impl Forger {
    fn grant(&self) -> Grant {
        Grant {
            version: 1,
            network: *self.hostile.membership.network_id(),
            tenant: "default".into(),
            task: self.current.task,
            generation: self.current.generation,
            length: self.current.length,
            piece_length: self.current.piece_length,
            first: 0,
            end: self.pieces(),
            holder: self.hostile.identity.peer_id(),
            // Above all others: if it counted, it would take the place of what is true.
            epoch: u64::MAX,
        }
    }

    fn pieces(&self) -> u32 {
        Layout::of_length(self.current.length).unwrap().pieces()
    }

    /// Values that no piece has, for every piece, under a grant.
    fn lies(&self, grant: &Signed) -> Vec<Evidence> {
        self.saying(grant, [3; 32])
    }

    /// The same value for every piece.
    fn saying(&self, grant: &Signed, value: PieceHash) -> Vec<Evidence> {
        let values: Vec<PieceHash> = vec![value; self.pieces() as usize];
        let mut attester = Attester::new(grant);
        let batches = values.chunks(ATTESTED_PIECES_MAX).zip((0..).step_by(ATTESTED_PIECES_MAX));
        let signed = batches.map(|(values, first)| attester.attest(&self.hostile.identity, first, values).unwrap());
        signed.map(Evidence::Attestation).collect()
    }

    fn granted_by_itself(&self, grant: &Grant, grantor: Vec<u8>, holder: Vec<u8>) -> Vec<Evidence> {
        let signed = sign_grant(&self.hostile.identity, grant);
        let lies = self.lies(&signed);
        [vec![Evidence::Grant(GrantBundle { grant: signed, grantor, holder })], lies].concat()
    }

    /// What it shows next; nothing as long as it has not heard what it takes.
    async fn forge(&self, forgery: Forgery) -> Vec<Evidence> {
        let heard = self.heard.lock().await.clone();
        let grant = heard.iter().find_map(|item| match item {
            Evidence::Grant(bundle) => Some(bundle.clone()),
            _ => None,
        });
        let attestation = heard.iter().find(|item| matches!(item, Evidence::Attestation(_)));
        let (Some(bundle), Some(Evidence::Attestation(attestation))) = (grant, attestation) else { return Vec::new() };
        let own = self.hostile.membership.credential_bytes().to_vec();
        match forgery {
            Forgery::None => heard,
            Forgery::FlippedAttestation => vec![Evidence::Attestation(flipped(attestation))],
            Forgery::FlippedGrant => vec![Evidence::Grant(GrantBundle { grant: flipped(&bundle.grant), ..bundle })],
            Forgery::OtherTask => {
                let bundle = self.granted.clone().unwrap();
                let lies = self.lies(&bundle.grant);
                [vec![Evidence::Grant(bundle)], lies].concat()
            }
            Forgery::WithoutRole => self.granted_by_itself(&self.grant(), own.clone(), own),
            Forgery::BorrowedCredential => {
                let borrowed = self.hostile.credential_of(self.scheduler.peer_id());
                self.granted_by_itself(&self.grant(), borrowed, own)
            }
            Forgery::AnothersGrant => {
                let lies = self.lies(&bundle.grant);
                [vec![Evidence::Grant(bundle)], lies].concat()
            }
            Forgery::Contradiction | Forgery::ContradictionAlone => {
                let signed = sign_grant(&self.hostile.identity, &self.grant());
                let both = [self.saying(&signed, [3; 32]), self.saying(&signed, [4; 32])].concat();
                let grant = GrantBundle { grant: signed, grantor: own.clone(), holder: own };
                [vec![Evidence::Grant(grant)], both].concat()
            }
            Forgery::Seal | Forgery::FalseSeal => {
                let seal = Seal {
                    version: 1,
                    network: *self.hostile.membership.network_id(),
                    task: self.current.task,
                    generation: self.current.generation,
                    length: self.current.length,
                    piece_length: self.current.piece_length,
                    root: [4; 32],
                    digests: Vec::new(),
                };
                vec![Evidence::Seal(SealBundle { seal: sign_seal(&self.hostile.identity, &seal), signer: own })]
            }
            Forgery::OtherNetwork | Forgery::OtherNetworksCredential => {
                let other = Membership::found(&self.hostile.identity, OriginTrust::Members);
                let credential = other.credential_bytes().to_vec();
                let mut grant = self.grant();
                if forgery == Forgery::OtherNetwork {
                    grant.network = *other.network_id();
                }
                self.granted_by_itself(&grant, credential.clone(), credential)
            }
        }
    }

    /// Shows it again and again on a lane, until the other end has enough.
    async fn show(self: Arc<Self>, mut lane: Lane, forgery: Forgery) -> std::io::Result<()> {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        loop {
            tokio::select! {
                frame = lane.hear() => match frame {
                    None => return Ok(()),
                    Some(Frame::Message(Message::Evidence { items, .. })) => {
                        let mut heard = self.heard.lock().await;
                        let fresh: Vec<_> = items.into_iter().filter(|item| !heard.contains(item)).collect();
                        heard.extend(fresh);
                    }
                    Some(_) => {}
                },
                _ = ticks.tick() => {
                    // Again each time: whoever did not know the content yet knows it later.
                    let Current { task, generation, length, piece_length, .. } = self.current;
                    let open = Message::Open { slot: 1, task, generation, length, piece_length, wanted: true };
                    lane.say(&Frame::Message(open)).await?;
                    let items = self.forge(forgery).await;
                    if !items.is_empty() {
                        lane.say(&Frame::Message(Message::Evidence { slot: 1, items })).await?;
                    }
                }
            }
        }
    }
}

/// The same with one bit of the signature flipped, which is at the end.
fn flipped(signed: &Signed) -> Signed {
    let mut bytes = signed.0.clone();
    *bytes.last_mut().unwrap() ^= 1;
    Signed(bytes)
}

/// Has the scheduler lease another task to it, of which nobody else knows.
async fn granted_another(hostile: &Hostile, scheduler: &Node) -> GrantBundle {
    let mut session = hostile.session(scheduler).await;
    let task = TaskId::from_hash([8; 32]);
    let join = Join { may_lease: true, ..joining(TaskInfo { task, spec: None, fixed: false }) };
    session.say(&ToCoordinator::Join(join)).await.unwrap();
    let lease = granted(&mut session).await.lease;
    let answer = Answer::Content {
        length: LENGTH,
        piece_length: piece_length_for(LENGTH),
        validator: Some(Validator::Etag("\"another\"".into())),
        ranges: true,
        taking: Layout::of_length(LENGTH).unwrap().pieces(),
        spooled: false,
    };
    let described = Described { task, lease, fresh_ms: None, answer };
    session.say(&ToCoordinator::Described(described)).await.unwrap();
    let Work::Pieces { bundle, .. } = granted(&mut session).await.work else { panic!("a lease on pieces") };
    bundle
}

/// Two honest peers and a seed fetch while a member shows forgeries to each. Everybody gets what is right, and
/// everybody refuses what is not. How many items were refused.
async fn under(forgery: Forgery) -> u64 {
    // Where any member may attest and grant, what a member says of itself holds: the guide says so.
    let network = match forgery {
        Forgery::None | Forgery::OtherTask | Forgery::Contradiction | Forgery::FalseSeal => {
            Network::start(2, true).await
        }
        Forgery::ContradictionAlone => Network::start(2, false).await,
        _ => Network::of_seeds(2).await,
    };
    let url = network.serve("/file", Resource::seeded(SEED, LENGTH).rate(ORIGIN_RATE));
    let request = Request::new(&url);
    let scheduler = network.scheduler.as_ref().unwrap().0.clone();
    let hostile = Hostile::join(&match forgery {
        Forgery::FalseSeal => scheduler.token(all_roles()).unwrap(),
        _ => network.token(),
    })
    .await;
    let granted = match forgery {
        Forgery::OtherTask => Some(granted_another(&hostile, &scheduler).await),
        _ => None,
    };
    let downloads = network.begin_all(&request);
    let task = network.peers[0].peer.task_id(&request).unwrap();
    let mut session = hostile.session(&scheduler).await;
    let current = current(&mut session, task).await;
    let (heard, mut incoming) = (Mutex::default(), hostile.take_lanes());
    let forger = Arc::new(Forger { hostile, current, scheduler: scheduler.clone(), granted, heard });
    let nodes: Vec<Node> = network.peers.iter().map(|member| member.node.clone()).chain([scheduler]).collect();
    for node in &nodes {
        if let Some(lane) = forger.hostile.lane(node).await {
            tokio::spawn(Arc::clone(&forger).show(lane, forgery));
        }
    }
    let theirs = Arc::clone(&forger);
    tokio::spawn(async move {
        while let Some(lane) = incoming.recv().await {
            tokio::spawn(Arc::clone(&theirs).show(Wire::over(lane.stream), forgery));
        }
    });
    let outcomes = tokio::time::timeout(BOUND, futures::future::join_all(downloads)).await;
    for outcome in outcomes.unwrap_or_else(|_| panic!("{forgery:?}: honest downloads do not finish")) {
        let receipt = outcome.unwrap_or_else(|error| panic!("{forgery:?}: {error:?}"));
        assert_eq!(receipt.blake3.bytes(), content::blake3(SEED, LENGTH), "{forgery:?}");
    }
    network.all_have(LENGTH);
    let origin = network.origin.body_bytes("/file");
    // Where nobody's word counts any more, each takes it from the origin.
    let most = if forgery == Forgery::FalseSeal { 4 * LENGTH } else { LENGTH * 3 / 2 };
    assert!(origin <= most, "{forgery:?}: {origin} bytes left the origin");
    let sum = |name| nodes.iter().map(|node| metric(node, name)).sum::<u64>();
    match forgery {
        Forgery::None => {
            eventually("it has shown what it heard", async || (!forger.heard.lock().await.is_empty()).then_some(()))
                .await;
            assert_eq!(sum(BLAMED), 0);
        }
        Forgery::Contradiction | Forgery::ContradictionAlone | Forgery::FalseSeal => {
            eventually(&format!("who waits blames it for {forgery:?}"), async || (sum(BLAMED) > 0).then_some(())).await;
            let lines = logged(&forger.hostile.identity.peer_id().to_string());
            let told = |what: &str| lines.iter().filter(|line| line.contains(what)).count() as u64;
            assert_eq!(told("is to blame"), sum(BLAMED), "one line each time: {lines:?}");
            match forgery {
                Forgery::FalseSeal => assert!(told("is not what the origin sends") > 0, "{lines:?}"),
                _ => assert!(told("it attested two values of one piece") > 0, "{lines:?}"),
            }
        }
        // No honest member passes on what was signed by nobody.
        Forgery::FlippedAttestation | Forgery::FlippedGrant => {
            eventually(&format!("somebody blames it for {forgery:?}"), async || (sum(BLAMED) > 0).then_some(())).await;
        }
        // Views of who may say what differ for a while: that is not believed, and nobody is blamed.
        _ => {
            let every = || nodes.iter().all(|node| metric(node, REFUSED) > 0);
            eventually(&format!("everybody refuses {forgery:?}"), async || every().then_some(())).await;
            assert_eq!(sum(BLAMED), 0, "{forgery:?}");
        }
    }
    // Of two values the first is believed until the second is heard.
    let believed = matches!(forgery, Forgery::Contradiction | Forgery::ContradictionAlone);
    assert!(believed || sum("dragonfly_pieces_refuted_total") == 0, "{forgery:?}: no value of it was believed");
    let refused = sum(REFUSED);
    println!("{forgery:?}: {refused} items refused, {} blame it, {origin} bytes left the origin", sum(BLAMED));
    drop(session);
    forger.hostile.host.clone().shutdown().await;
    network.stop().await;
    refused
}

/// What honest members say of each other is never refused, also when another one repeats it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn honest_evidence_is_not_refused() {
    assert_eq!(under(Forgery::None).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bit_that_was_flipped() {
    assert!(under(Forgery::FlippedAttestation).await > 0);
    assert!(under(Forgery::FlippedGrant).await > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_of_another_task() {
    assert!(under(Forgery::OtherTask).await > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_of_one_without_the_role() {
    for forgery in [Forgery::WithoutRole, Forgery::BorrowedCredential, Forgery::AnothersGrant, Forgery::Seal] {
        assert!(under(forgery).await > 0);
    }
}

/// Its word is void from then on, it is blamed in one line, and the content is what it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_that_contradicts_itself() {
    under(Forgery::Contradiction).await;
    under(Forgery::ContradictionAlone).await;
}

/// Who has the right to seal and lies is found out by way of the origin, and blamed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seal_of_something_else() {
    under(Forgery::FalseSeal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_of_another_network() {
    assert!(under(Forgery::OtherNetwork).await > 0);
    assert!(under(Forgery::OtherNetworksCredential).await > 0);
}

//! Small content in one answer: what a neighbour gets that asks, and what becomes of what one answers.

use super::*;
use crate::swarm::Answered;
use crate::trust::statement::{Attester, sign_grant};
use crate::trust::{Identity, Membership};
use crate::wire::lane::ASKS_MAX;
use crate::wire::statement::{Evidence, Grant, GrantBundle};

const LENGTH: u64 = 1000;

/// A lane to a neighbour that a test plays.
struct Rig {
    commands: mpsc::Sender<LaneCommand>,
    told: mpsc::Receiver<Event>,
    there: DuplexStream,
    decoder: FrameDecoder<Frame>,
    buffer: BytesMut,
    stop: CancellationToken,
}

impl Rig {
    fn start(node: &Node, registry: &Registry) -> Self {
        let (there, here) = tokio::io::duplex(1 << 20);
        let (commands, queue) = mpsc::channel(4 * ASKS_MAX);
        let (events, told) = mpsc::channel(4 * ASKS_MAX);
        let stop = CancellationToken::new();
        let names = (HostKey(0), PeerId::from_public_key([7; 32]), LaneNumber(1));
        let ended = (queue, stop.clone());
        let own = (Arc::new(Checks::new()), Requests::default());
        tokio::spawn(run(node.clone(), names, own, registry.clone(), here, ended, events));
        Self { commands, told, there, decoder: FrameDecoder::new(), buffer: BytesMut::new(), stop }
    }

    async fn say(&mut self, message: Message) {
        let mut frame = BytesMut::new();
        codec::encode(&Frame::Message(message), &mut frame).unwrap();
        self.there.write_all(&frame).await.unwrap();
    }

    async fn heard(&mut self) -> Message {
        loop {
            if let Some(Decoded::Message(Frame::Message(message))) = self.decoder.next(&mut self.buffer).unwrap() {
                return message;
            }
            assert_ne!(self.there.read_buf(&mut self.buffer).await.unwrap(), 0, "the lane ended");
        }
    }

    async fn told(&mut self) -> Event {
        self.told.recv().await.unwrap()
    }

    async fn blamed(&mut self) -> String {
        match self.told().await {
            Event::Lane { event: LaneEvent::Down { blame: Some(why) }, .. } => why,
            other => panic!("{other:?}"),
        }
    }

    /// What came of an answer, as the core is told.
    async fn outcome(&mut self) -> Answered {
        match input(self.told().await) {
            Input::Answered { answered, .. } => answered,
            other => panic!("{other:?}"),
        }
    }
}

/// A member that holds small content, and what it says of it.
struct Holder {
    identity: Identity,
    membership: Membership,
    bytes: Vec<u8>,
}

const TASK: TaskId = TaskId::from_hash([1; 32]);
const GENERATION: Generation = Generation::from_hash([2; 32]);

impl Holder {
    fn of(node: &Node) -> Self {
        let identity = Identity::generate();
        let membership = Membership::join(&identity, &node.token(TokenOptions::default()).unwrap());
        Self { identity, membership, bytes: vec![7; LENGTH as usize] }
    }

    /// That the content has this value, by its own word under its own grant.
    fn says(&self, value: [u8; 32]) -> Vec<Evidence> {
        let grant = Grant {
            version: 1,
            network: *self.membership.network_id(),
            tenant: "default".into(),
            task: TASK,
            generation: GENERATION,
            length: LENGTH,
            piece_length: piece_length_for(LENGTH),
            first: 0,
            end: 1,
            holder: self.identity.peer_id(),
            epoch: 1,
        };
        let grant = sign_grant(&self.identity, &grant);
        let attested = Attester::new(&grant).attest(&self.identity, 0, &[value]).unwrap();
        let credential = self.membership.credential_bytes().to_vec();
        let bundle = GrantBundle { grant, grantor: credential.clone(), holder: credential };
        vec![Evidence::Grant(bundle), Evidence::Attestation(attested)]
    }

    fn value(&self) -> [u8; 32] {
        *blake3::hash(&self.bytes).as_bytes()
    }
}

/// Small content of which nothing is held yet.
fn missing(node: &Node, key: u32) -> Arc<Content> {
    let layout = Layout::of_length(LENGTH).unwrap();
    let current = Current {
        task: TASK,
        generation: GENERATION,
        length: LENGTH,
        piece_length: layout.piece_length(),
        validator: None,
        splittable: true,
        age_ms: 0,
        seal: None,
    };
    let scope = Scope { class: Class::Public, tenant: "default".into(), fixed: false };
    let key_of = EntryKey {
        network: node.network(),
        tenant: scope.tenant.clone(),
        task: TASK,
        class: scope.class,
        generation: GENERATION,
    };
    let described =
        Described { layout, validator: None, splittable: true, label: String::new(), spec: None, fixed: false };
    let entry = node.store().open(&key_of, &described).unwrap();
    Arc::new(content_of(node, TaskKey(key), entry, &current, &scope).unwrap())
}

/// A lane on which small content was asked for.
async fn asking(node: &Node) -> (Rig, Arc<Content>) {
    let content = missing(node, 1);
    let mut rig = Rig::start(node, &Registry::default());
    rig.commands.send(LaneCommand::Ask { content: Arc::clone(&content) }).await.unwrap();
    assert_eq!(rig.heard().await, Message::Ask { task: TASK, generation: GENERATION, length: LENGTH });
    (rig, content)
}

fn whole(items: Vec<Evidence>, bytes: Vec<u8>) -> Message {
    Message::Whole { task: TASK, generation: GENERATION, items, bytes }
}

#[tokio::test]
async fn what_is_proven_is_held_with_what_proves_it_and_passed_on_as_it_came() {
    let node = Node::builder().start().await.unwrap();
    let holder = Holder::of(&node);
    let (mut rig, content) = asking(&node).await;
    let answer = whole(holder.says(holder.value()), holder.bytes.clone());
    rig.say(answer.clone()).await;
    assert_eq!(rig.outcome().await, Answered::Proven);
    assert!(matches!(input(rig.told().await), Input::Stored { piece: 0, .. }));
    assert_eq!((content.entry.is_complete(), content.entry.evidence().len()), (true, 2));
    assert_eq!(content.counts().from_peers, LENGTH);
    // The next one that asks is given the same, without the task being open anywhere.
    let registry = Registry::default();
    registry.insert(&content);
    let mut next = Rig::start(&node, &registry);
    next.say(Message::Ask { task: TASK, generation: GENERATION, length: LENGTH }).await;
    let asked = next.told().await;
    let Event::Lane { event: LaneEvent::Asked { task, generation, content }, .. } = asked else { panic!("{asked:?}") };
    next.commands.send(LaneCommand::Answer { task, generation, content: content.clone() }).await.unwrap();
    assert_eq!(next.heard().await, answer);
    // While an answer waits for its turn what it would give may be withdrawn.
    registry.remove(content.as_ref().unwrap());
    next.commands.send(LaneCommand::Answer { task, generation, content }).await.unwrap();
    assert_eq!(next.heard().await, whole(Vec::new(), Vec::new()));
    node.shutdown().await.unwrap();
}

/// Nothing that does not prove is held, and who is to blame is blamed.
#[tokio::test]
async fn what_does_not_prove_is_refused() {
    let wrong = || vec![8; LENGTH as usize];
    // What shows what it is is kept, though it came with other bytes: it is not shown again.
    for (shown, bytes, answered, kept) in [
        (0..0, Vec::new(), Answered::Nothing, 0),
        (0..2, wrong(), Answered::Refuted, 2),
        // Nothing shows what it is: that is no fault, and it is not held.
        (0..0, vec![7; LENGTH as usize], Answered::Nothing, 0),
        (1..2, vec![7; LENGTH as usize], Answered::Nothing, 0),
    ] {
        let node = Node::builder().start().await.unwrap();
        let holder = Holder::of(&node);
        let (mut rig, content) = asking(&node).await;
        rig.say(whole(holder.says(holder.value())[shown].to_vec(), bytes)).await;
        assert_eq!(rig.outcome().await, answered);
        assert_eq!((content.entry.have().held(), content.entry.evidence().len()), (0, kept));
        node.shutdown().await.unwrap();
    }
    let node = Node::builder().start().await.unwrap();
    let holder = Holder::of(&node);
    for (items, bytes, why) in [
        (holder.says(holder.value()), vec![7; LENGTH as usize + 1], "another length"),
        (vec![Evidence::Attestation(crate::wire::statement::Signed(vec![1; 90]))], wrong(), "nobody signed"),
    ] {
        let (mut rig, content) = asking(&node).await;
        rig.say(whole(items, bytes)).await;
        let blamed = rig.blamed().await;
        assert!(blamed.contains(why), "{blamed}");
        assert_eq!(content.entry.have().held(), 0);
    }
    node.shutdown().await.unwrap();
}

/// Two members that were told different things by one origin: who answers with what it was told is no liar.
#[tokio::test]
async fn who_shows_that_it_was_told_so_is_not_blamed() {
    let node = Node::builder().start().await.unwrap();
    let (one, other) = (Holder::of(&node), Holder { bytes: vec![9; LENGTH as usize], ..Holder::of(&node) });
    let (mut rig, content) = asking(&node).await;
    let now = crate::node::now_unix();
    for item in one.says(one.value()) {
        content.evidence().accept(&item, now).unwrap();
    }
    rig.say(whole(other.says(other.value()), other.bytes.clone())).await;
    assert_eq!(rig.outcome().await, Answered::Nothing);
    assert_eq!(content.entry.have().held(), 0);
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_answer_to_no_question_ends_the_lane() {
    let node = Node::builder().start().await.unwrap();
    let holder = Holder::of(&node);
    let mut rig = Rig::start(&node, &Registry::default());
    rig.say(whole(holder.says(holder.value()), holder.bytes.clone())).await;
    assert!(rig.blamed().await.contains("no question"));
    // Nor is a second answer to one.
    let (mut rig, _content) = asking(&node).await;
    for _ in 0..2 {
        rig.say(whole(Vec::new(), Vec::new())).await;
    }
    assert_eq!(rig.outcome().await, Answered::Nothing);
    assert!(rig.blamed().await.contains("no question"));
    node.shutdown().await.unwrap();
}

/// Either way so many questions wait for an answer, and no more.
#[tokio::test]
async fn questions_are_bounded() {
    let node = Node::builder().start().await.unwrap();
    let mut rig = Rig::start(&node, &Registry::default());
    for _ in 0..ASKS_MAX {
        rig.say(Message::Ask { task: TASK, generation: GENERATION, length: LENGTH }).await;
        let asked = rig.told().await;
        assert!(matches!(asked, Event::Lane { event: LaneEvent::Asked { content: None, .. }, .. }), "{asked:?}");
    }
    // One that is answered makes room for another.
    let (task, generation) = (TASK, GENERATION);
    rig.commands.send(LaneCommand::Answer { task, generation, content: None }).await.unwrap();
    assert_eq!(rig.heard().await, whole(Vec::new(), Vec::new()));
    for _ in 0..2 {
        rig.say(Message::Ask { task: TASK, generation: GENERATION, length: LENGTH }).await;
    }
    assert!(matches!(rig.told().await, Event::Lane { event: LaneEvent::Asked { .. }, .. }));
    assert!(rig.blamed().await.contains("more questions"));
    node.shutdown().await.unwrap();
}

/// Whoever asks for another length, or for content of more than one piece, is told of nothing.
#[tokio::test]
async fn what_is_not_as_it_is_asked_for_is_not_had() {
    let node = Node::builder().start().await.unwrap();
    let (registry, content) = (Registry::default(), content(&node));
    registry.insert(&content);
    let mut rig = Rig::start(&node, &registry);
    for (generation, length) in [(content.generation, 5), (Generation::from_hash([9; 32]), PIECE.len() as u64)] {
        rig.say(Message::Ask { task: content.task, generation, length }).await;
        let asked = rig.told().await;
        assert!(matches!(asked, Event::Lane { event: LaneEvent::Asked { content: None, .. }, .. }), "{asked:?}");
    }
    // Held, and attested by nobody: who is shown no proof could not use it.
    let generation = content.generation;
    rig.say(Message::Ask { task: content.task, generation, length: PIECE.len() as u64 }).await;
    let asked = rig.told().await;
    let Event::Lane { event: LaneEvent::Asked { task, content: Some(content), .. }, .. } = asked else {
        panic!("{asked:?}")
    };
    rig.commands.send(LaneCommand::Answer { task, generation, content: Some(content) }).await.unwrap();
    let answer = rig.heard().await;
    assert!(
        matches!(&answer, Message::Whole { bytes, items, .. } if bytes.is_empty() && items.is_empty()),
        "{answer:?}"
    );
    node.shutdown().await.unwrap();
}

/// Whoever asks for what cannot be had takes nothing of the rate at which others are served.
#[tokio::test]
async fn what_is_not_had_costs_nothing_of_the_rate() {
    let node = Node::builder().start().await.unwrap();
    // Held, and attested by nobody.
    let content = content(&node);
    let (registry, (task, generation)) = (Registry::default(), (content.task, content.generation));
    registry.insert(&content);
    let mut rig = Rig::start(&node, &registry);
    // A byte a second: what is counted would be waited for a day.
    node.set_upload_limit(Some(1));
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    for content in [None, Some(content)] {
        rig.commands.send(LaneCommand::Answer { task, generation, content }).await.unwrap();
        let answer = rig.heard().await;
        assert!(matches!(&answer, Message::Whole { bytes, .. } if bytes.is_empty()), "{answer:?}");
    }
    node.throttles().upload.pass(1).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    tokio::time::resume();
    node.shutdown().await.unwrap();
}

/// What a neighbour showed is known and never shown again: it is kept although the lane ends while the bytes wait for the disk.
#[tokio::test]
async fn what_was_shown_is_kept_although_the_lane_ends_before_there_is_room() {
    let node = Node::builder().start().await.unwrap();
    let holder = Holder::of(&node);
    let (mut rig, content) = asking(&node).await;
    let all = node.write_budget(usize::MAX).await;
    rig.say(whole(holder.says(holder.value()), holder.bytes.clone())).await;
    let waits = input(rig.told().await);
    assert!(matches!(waits, Input::AnswerHeldUp { .. }), "{waits:?}");
    assert_eq!(content.entry.evidence().len(), 0);
    rig.stop.cancel();
    let down = async {
        while !matches!(rig.told().await, Event::Lane { event: LaneEvent::Down { blame: None }, .. }) {}
        while content.entry.evidence().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), down).await.unwrap();
    assert_eq!(content.entry.have().held(), 0, "nobody was told that it is proven");
    drop(all);
    node.shutdown().await.unwrap();
}

/// Answers and blocks have turns, and a message goes ahead of both.
#[tokio::test]
async fn answers_and_blocks_have_turns_and_a_message_goes_ahead() {
    /// What is being sent, and what was begun before the lane looked.
    const FRAMES_AHEAD: usize = 2;
    let node = Node::builder().start().await.unwrap();
    let holder = Holder::of(&node);
    let small = missing(&node, 1);
    for item in holder.says(holder.value()) {
        small.evidence().accept(&item, crate::node::now_unix()).unwrap();
    }
    small.entry.write_piece(0, &holder.bytes, &holder.value()).unwrap();
    let registry = Registry::default();
    registry.insert(&small);
    let large = serving::held(&node);
    let answer = || LaneCommand::Answer { task: TASK, generation: GENERATION, content: Some(Arc::clone(&small)) };
    let mut queued: Vec<LaneCommand> = (0..6).map(|_| answer()).collect();
    queued.push(LaneCommand::Serve { content: large, request: 1, piece: 0, skip: 0 });
    let mut rig = serving::Rig::start(&node, &registry, queued);
    let is_answer = |frame: &Frame| match frame {
        Frame::Message(Message::Whole { bytes, .. }) => {
            assert_eq!(bytes.len() as u64, LENGTH);
            true
        }
        Frame::Block { request: 1, .. } => false,
        other => panic!("{other:?}"),
    };
    let mut turns = Vec::new();
    for _ in 0..4 {
        turns.push(is_answer(&rig.heard().await));
    }
    rig.commands.send(LaneCommand::Cancel { request: 9 }).await.unwrap();
    let ahead = turns.len();
    let rest = async {
        let mut cancelled = false;
        while turns.len() < 12 {
            match rig.heard().await {
                Frame::Message(Message::Cancel { request: 9 }) => {
                    assert!(turns.len() <= ahead + FRAMES_AHEAD, "behind {} of {turns:?}", turns.len() - ahead);
                    cancelled = true;
                }
                frame => turns.push(is_answer(&frame)),
            }
        }
        cancelled
    };
    assert!(rest.await, "it was heard");
    let expected: Vec<bool> = (0..12).map(|turn| turn % 2 == 0).collect();
    assert_eq!(turns, expected);
    node.shutdown().await.unwrap();
}

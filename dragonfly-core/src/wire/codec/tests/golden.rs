//! Frozen bytes of one of each message: a change of these is a new protocol version.

use data_encoding::HEXLOWER;

use super::*;
use crate::task::{Digest, Generation, SpecOptions, TaskId, TaskSpec, Validator};
use crate::wire::PeerId;
use crate::wire::control::*;
use crate::wire::lane::{Message, RejectReason, Run};
use crate::wire::statement::*;

const TASK: TaskId = TaskId::from_hash([0x11; 32]);
const GENERATION: Generation = Generation::from_hash([0x22; 32]);
const PEER: PeerId = PeerId::from_public_key([0x33; 32]);
const LEASE: LeaseId = LeaseId { number: 7, epoch: 300 };

fn seal_bundle() -> SealBundle {
    SealBundle { seal: Signed(vec![1, 2]), signer: vec![3] }
}

fn grant_bundle() -> GrantBundle {
    GrantBundle { grant: Signed(vec![1, 2]), grantor: vec![3], holder: vec![4] }
}

fn failure() -> Failure {
    Failure { kind: FailureKind::NotFound, temporary: false, status: Some(404), retry_ms: None, text: "gone".into() }
}

fn info() -> TaskInfo {
    let digest: Digest = "crc32c:01020304".parse().unwrap();
    let options =
        SpecOptions { tag: "t", application: "a", tenant: "n", digest: Some(digest), ..SpecOptions::default() };
    let spec = TaskSpec::of_url("https://h/a?b", &options).unwrap().spec;
    TaskInfo { task: spec.id(), spec: Some(spec), fixed: true }
}

fn to_coordinator() -> Vec<ToCoordinator> {
    let (task, generation, lease) = (TASK, GENERATION, LEASE);
    let held = Held {
        generation,
        length: 65_537,
        piece_length: 65_536,
        validator: Some(Validator::Etag("\"e\"".into())),
        splittable: true,
        eighths: 4,
        live: true,
        fetching: vec![Run { first: 1, count: 1 }],
    };
    let answer = Answer::Content {
        length: 65_537,
        piece_length: 65_536,
        validator: Some(Validator::Version("v".into())),
        ranges: true,
        taking: 2,
        spooled: false,
    };
    vec![
        ToCoordinator::Announce(Announce {
            version: 1,
            record: Some(Signed(vec![9])),
            seed: true,
            slots: 8,
            site: None,
        }),
        ToCoordinator::Join(Join {
            info: info(),
            held: Some(held),
            wanted: true,
            may_lease: false,
            age_max_ms: Some(10_000),
            stale_ok: false,
            priority: 4,
            earlier: None,
        }),
        ToCoordinator::AskLease(task, None),
        ToCoordinator::Described(Described { task, lease, fresh_ms: None, answer }),
        ToCoordinator::Described(Described { task, lease, fresh_ms: Some(0), answer: Answer::Spooling }),
        ToCoordinator::Described(Described { task, lease, fresh_ms: Some(1), answer: Answer::Unchanged }),
        ToCoordinator::Progress { task, lease, end: 5 },
        ToCoordinator::Done { task, lease },
        ToCoordinator::Release { task, lease, end: 5 },
        ToCoordinator::LeaseFailed { task, lease, end: 5, failure: failure() },
        ToCoordinator::AskNeighbours { task, lacking: true, starved_ms: None },
        ToCoordinator::Report { task, generation, eighths: 8 },
        ToCoordinator::Sealed { task, generation, seal: seal_bundle() },
        ToCoordinator::Leave(task),
        ToCoordinator::KeepAlive,
        ToCoordinator::Seek { task, lost: Some(PEER) },
        ToCoordinator::AskNeighbours { task, lacking: true, starved_ms: Some(20_000) },
        ToCoordinator::Join(Join {
            info: info(),
            held: None,
            wanted: true,
            may_lease: true,
            age_max_ms: None,
            stale_ok: false,
            priority: 0,
            earlier: Some(Earlier::Asked),
        }),
    ]
}

fn to_member() -> Vec<ToMember> {
    let (task, generation, lease) = (TASK, GENERATION, LEASE);
    let neighbour = Neighbour {
        peer: PEER,
        record: Some(Signed(vec![9])),
        seen_ip: Some(vec![10, 0, 0, 7]),
        seed: true,
        share: None,
    };
    let granted = |work| ToMember::Granted(Granted { task, lease, timeout_ms: 5_000, work });
    vec![
        ToMember::Welcome { interval_ms: 10_000, scheduler: true },
        ToMember::Current(Current {
            task,
            generation,
            length: 65_537,
            piece_length: 65_536,
            validator: Some(Validator::LastModified("Tue, 15 Nov 1994 12:45:26 GMT".into())),
            splittable: true,
            age_ms: 12,
            seal: Some(seal_bundle()),
        }),
        ToMember::Neighbours { task, hosts: vec![neighbour.clone()] },
        granted(Work::Describe { prior: None }),
        granted(Work::Pieces { bundle: grant_bundle(), grant: None }),
        ToMember::NoLease { task, retry_ms: Some(100) },
        ToMember::Revoked { task, lease },
        ToMember::Failed { task, failure: failure() },
        ToMember::Trigger(info()),
        ToMember::Redirect { task, to: neighbour.clone() },
        ToMember::Members(vec![neighbour]),
    ]
}

fn lane() -> Vec<Frame> {
    let runs = || vec![Run { first: 0, count: 3 }, Run { first: 300, count: 1 }];
    let items =
        vec![Evidence::Grant(grant_bundle()), Evidence::Attestation(Signed(vec![5])), Evidence::Seal(seal_bundle())];
    let (task, generation) = (TASK, GENERATION);
    let messages = vec![
        Message::Open { slot: 1, task, generation, length: 65_537, piece_length: 65_536, wanted: true },
        Message::Close { slot: Some(1), task, generation },
        Message::Evidence { slot: 1, items },
        Message::Have { slot: 1, runs: runs(), complete: false },
        Message::Lost { slot: 1, runs: runs() },
        Message::Allot { slot: 1, runs: runs() },
        Message::Request { slot: 1, request: 2, first: 3, skip: 4, values: vec![0x44; 32] },
        Message::Cancel { request: 2 },
        Message::Reject { request: 2, reason: RejectReason::NotHeld },
    ];
    let block = Frame::Block { request: 2, piece: 3, offset: 65_536, bytes: Bytes::from_static(b"abc") };
    std::iter::once(block).chain(messages.into_iter().map(Frame::Message)).collect()
}

fn hex<T: Framed>(messages: &[T]) -> Vec<String> {
    let hex = |message: &T| {
        let mut out = BytesMut::new();
        encode(message, &mut out).unwrap();
        HEXLOWER.encode(&out)
    };
    messages.iter().map(hex).collect()
}

#[test]
fn every_message_has_its_frozen_bytes() {
    let frames = [hex(&to_coordinator()), hex(&to_member()), hex(&lane())].concat();
    let frozen: Vec<&str> = include_str!("golden.txt").lines().filter(|line| !line.starts_with('#')).collect();
    for (i, frame) in frames.iter().enumerate() {
        assert_eq!(Some(&frame.as_str()), frozen.get(i), "frame {i}; now:\n{}", frames.join("\n"));
    }
    assert_eq!(frames.len(), frozen.len());
}

#[test]
fn statements_have_their_frozen_bytes() {
    let grant = Grant {
        version: 1,
        network: [0x55; 32],
        tenant: "n".into(),
        task: TASK,
        generation: GENERATION,
        length: 65_537,
        piece_length: 65_536,
        first: 0,
        end: 2,
        holder: PEER,
        epoch: 300,
    };
    let attestation = Attestation::new([0x66; 32], 1, [0x77; 32], 0, &[[0x44; 32]; 2]);
    let seal = Seal {
        version: 1,
        network: [0x55; 32],
        task: TASK,
        generation: GENERATION,
        length: 65_537,
        piece_length: 65_536,
        root: [0x88; 32],
        digests: vec!["crc32c:01020304".parse().unwrap()],
    };
    let n = |byte: &str, times: usize| byte.repeat(times);
    let ids = format!("582101{}582101{}", n("11", 32), n("22", 32));
    let lengths = "1a000100011a00010000";
    assert_eq!(
        HEXLOWER.encode(&encode_statement(&grant).unwrap()),
        format!("8b015820{}616e{ids}{lengths}00025820{}19012c", n("55", 32), n("33", 32))
    );
    assert_eq!(
        HEXLOWER.encode(&encode_statement(&attestation).unwrap()),
        format!("855820{}015820{}005840{}", n("66", 32), n("77", 32), n("44", 64))
    );
    assert_eq!(
        HEXLOWER.encode(&encode_statement(&seal).unwrap()),
        format!("88015820{}{ids}{lengths}5820{}81826663726333326344{}", n("55", 32), n("88", 32), "01020304")
    );
}

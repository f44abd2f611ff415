//! What a stranger may send: nothing panics, nothing is allocated by a claim, everything has its error.

use proptest::prelude::*;

use super::super::check::*;
use super::*;
use crate::task::{Generation, SpecOptions, TaskId, TaskSpec, Validator};
use crate::wire::PeerId;
use crate::wire::control::{Announce, Failure, FailureKind, NEIGHBOURS_MAX, Neighbour, SITE_BYTES_MAX, TaskInfo};
use crate::wire::lane::{Message, REQUEST_PIECES_MAX, Run, WHOLE_BYTES_MAX, WHOLE_EVIDENCE_MAX};
use crate::wire::statement::{Attestation, Evidence, Grant, GrantBundle, Seal, Signed};

const TASK: TaskId = TaskId::from_hash([1; 32]);
const GENERATION: Generation = Generation::from_hash([2; 32]);
const PEER: PeerId = PeerId::from_public_key([3; 32]);

fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32).to_be_bytes().to_vec();
    bytes.push(kind);
    bytes.extend_from_slice(body);
    bytes
}

fn read<T: Framed>(kind: Kind, body: &[u8]) -> Result<Decoded<T>, CodecError> {
    let (mut found, _) = decode_all(&framed(kind.byte(), body), usize::MAX)?;
    assert_eq!(found.len(), 1);
    Ok(found.remove(0))
}

/// A CBOR body, by hand.
fn cbor(build: impl FnOnce(&mut minicbor::Encoder<Vec<u8>>)) -> Vec<u8> {
    let mut encoder = minicbor::Encoder::new(Vec::new());
    build(&mut encoder);
    encoder.into_writer()
}

#[test]
fn a_length_beyond_the_bound_is_refused_with_the_header() {
    for (kind, max) in [
        (Kind::ToCoordinator, CONTROL_BYTES_MAX),
        (Kind::ToMember, CONTROL_BYTES_MAX),
        (Kind::Lane, LANE_BYTES_MAX),
        (Kind::Block, BLOCK_BYTES_MAX + BLOCK_HEADER_BYTES),
    ] {
        for (length, fits) in [(max, true), (max + 1, false), (u32::MAX as usize, false)] {
            let mut header = BytesMut::from(&(length as u32).to_be_bytes()[..]);
            header.put_u8(kind.byte());
            let result = match kind {
                Kind::ToCoordinator => FrameDecoder::<ToCoordinator>::new().next(&mut header).map(|_| ()),
                Kind::ToMember => FrameDecoder::<ToMember>::new().next(&mut header).map(|_| ()),
                Kind::Lane | Kind::Block => FrameDecoder::<Frame>::new().next(&mut header).map(|_| ()),
            };
            match result {
                Ok(()) => assert!(fits, "{kind:?} {length}"),
                Err(CodecError::TooLong { .. }) => assert!(!fits, "{kind:?} {length}"),
                Err(e) => panic!("{e}"),
            }
        }
    }
}

#[test]
fn a_frame_of_another_stream_is_refused() {
    for kind in [0, Kind::ToMember.byte(), Kind::Lane.byte(), Kind::Block.byte(), 5, 255] {
        let result = decode_all::<ToCoordinator>(&framed(kind, b"x"), 100);
        assert!(matches!(result, Err(CodecError::Frame(_))), "{kind}");
    }
    for kind in [Kind::ToCoordinator.byte(), Kind::ToMember.byte(), 0] {
        assert!(matches!(decode_all::<Frame>(&framed(kind, b"x"), 100), Err(CodecError::Frame(_))), "{kind}");
    }
}

#[test]
fn a_block_without_bytes_is_refused() {
    for length in 0..=BLOCK_HEADER_BYTES {
        assert!(matches!(read::<Frame>(Kind::Block, &vec![0; length]), Err(CodecError::Frame(_))), "{length}");
    }
    assert!(read::<Frame>(Kind::Block, &[0; BLOCK_HEADER_BYTES + 1]).is_ok());
}

#[test]
fn a_claimed_number_of_items_allocates_nothing() {
    for claimed in [1 << 32, u64::MAX, 1 << 16] {
        // Runs, evidence and neighbours, each of an array that claims more than there is.
        for variant in [2, 3] {
            let body = cbor(|e| {
                e.array(2).unwrap().u8(variant).unwrap().array(2).unwrap().u8(0).unwrap().array(claimed).unwrap();
            });
            assert!(matches!(read::<Frame>(Kind::Lane, &body), Err(CodecError::Frame(_))), "{claimed}");
        }
        let body = cbor(|e| {
            e.array(2).unwrap().u8(200).unwrap().map(claimed).unwrap();
        });
        assert!(matches!(read::<Frame>(Kind::Lane, &body), Err(CodecError::Frame(_))), "also in what is ignored");
    }
    for head in [0x5b_u8, 0x7b] {
        let body = [&[head][..], &u64::MAX.to_be_bytes()].concat();
        assert!(matches!(read::<Frame>(Kind::Lane, &body), Err(CodecError::Frame(_))));
    }
}

#[test]
fn more_items_than_any_message_has_are_refused_before_they_are_values() {
    let body = |items: usize| {
        cbor(|e| {
            e.array(2).unwrap().u8(200).unwrap().array(items as u64).unwrap();
            for _ in 0..items {
                e.u8(0).unwrap();
            }
        })
    };
    assert_eq!(read::<Frame>(Kind::Lane, &body(ITEMS_MAX - 3)).unwrap(), Decoded::Ignored);
    assert!(matches!(read::<Frame>(Kind::Lane, &body(ITEMS_MAX - 2)), Err(CodecError::Frame(_))));
}

#[test]
fn cbor_must_be_one_whole_item_of_definite_length() {
    let good = cbor(|e| {
        e.array(2).unwrap().u8(7).unwrap().array(1).unwrap().u8(0).unwrap();
    });
    assert_eq!(
        read::<Frame>(Kind::Lane, &good).unwrap(),
        Decoded::Message(Frame::Message(Message::Cancel { request: 0 }))
    );
    for length in 0..good.len() {
        assert!(matches!(read::<Frame>(Kind::Lane, &good[..length]), Err(CodecError::Frame(_))), "{length}");
    }
    assert!(matches!(read::<Frame>(Kind::Lane, &[&good[..], &[0]].concat()), Err(CodecError::Frame(_))));
    let indefinite = [0x9f, 0x07, 0x81, 0x00, 0xff];
    assert!(matches!(read::<Frame>(Kind::Lane, &indefinite), Err(CodecError::Frame(_))));
    let deep = vec![0x81; LANE_BYTES_MAX];
    assert!(matches!(read::<Frame>(Kind::Lane, &deep), Err(CodecError::Frame(_))));
}

#[test]
fn a_newer_version_may_add_fields_and_ignorable_messages() {
    let more = cbor(|e| {
        e.array(2).unwrap().u8(7).unwrap().array(3).unwrap().u8(9).unwrap().str("new").unwrap().map(1).unwrap();
        e.u8(1).unwrap().array(0).unwrap();
    });
    assert_eq!(
        read::<Frame>(Kind::Lane, &more).unwrap(),
        Decoded::Message(Frame::Message(Message::Cancel { request: 9 }))
    );
    let variant = |n: u32| {
        cbor(|e| {
            e.array(2).unwrap().u32(n).unwrap().array(1).unwrap().str("new").unwrap();
        })
    };
    for (n, ignored) in [(100, false), (127, false), (130, true), (u32::MAX, true)] {
        for result in [
            read::<Frame>(Kind::Lane, &variant(n)).map(|found| found == Decoded::Ignored),
            read::<ToCoordinator>(Kind::ToCoordinator, &variant(n)).map(|found| found == Decoded::Ignored),
            read::<ToMember>(Kind::ToMember, &variant(n)).map(|found| found == Decoded::Ignored),
        ] {
            match result {
                Ok(is_ignored) => assert!(ignored && is_ignored, "{n}"),
                Err(CodecError::Unknown) => assert!(!ignored, "{n}"),
                Err(e) => panic!("{n}: {e}"),
            }
        }
    }
    // The unknown reason of a known message cannot be passed over.
    let reason = cbor(|e| {
        e.array(2).unwrap().u8(8).unwrap().array(2).unwrap().u8(0).unwrap().u8(200).unwrap();
    });
    assert!(matches!(read::<Frame>(Kind::Lane, &reason), Err(CodecError::Unknown)));
}

/// That `message` is refused on the way out (leaving the buffer as it was) and on the way in.
fn refused<T>(kind: Kind, frame: T, message: impl minicbor::Encode<()>)
where
    T: Framed + std::fmt::Debug,
{
    let mut out = BytesMut::from(&b"before"[..]);
    assert!(matches!(encode(&frame, &mut out), Err(CodecError::OutOfBounds(_))), "{frame:?}");
    assert_eq!(out, &b"before"[..]);
    let body = minicbor::to_vec(message).unwrap();
    assert!(matches!(read::<T>(kind, &body), Err(CodecError::OutOfBounds(_))), "{frame:?}");
}

#[test]
fn what_a_coordinator_is_told_is_bounded() {
    let record = Some(Signed(vec![0; SIGNED_BYTES_MAX + 1]));
    let failure =
        |n| Failure { kind: FailureKind::Local, temporary: false, status: None, retry_ms: None, text: "x".repeat(n) };
    let lease = crate::wire::control::LeaseId { number: 0, epoch: 0 };
    let spec = TaskSpec::of_url("https://h/a", &SpecOptions::default()).unwrap().spec;
    let join = |spec: TaskSpec, priority| {
        let info = TaskInfo { task: spec.id(), spec: Some(spec), fixed: false };
        crate::wire::control::Join {
            info,
            held: None,
            wanted: true,
            may_lease: true,
            age_max_ms: None,
            stale_ok: false,
            priority,
            earlier: None,
        }
    };
    let mut other = join(spec.clone(), 0);
    other.info.task = TASK;
    let mut bad = spec.clone();
    bad.url.push('#');
    let mut held = join(spec.clone(), 0);
    held.held = Some(crate::wire::control::Held {
        generation: GENERATION,
        length: 1,
        piece_length: 3,
        validator: None,
        splittable: false,
        eighths: 0,
        live: false,
        fetching: Vec::new(),
    });
    let site = |bytes| {
        let site = Some("x".repeat(bytes));
        ToCoordinator::Announce(Announce { version: 1, record: None, seed: false, slots: 0, site })
    };
    for message in [
        ToCoordinator::Announce(Announce { version: 1, record, seed: false, slots: 0, site: None }),
        site(SITE_BYTES_MAX + 1),
        ToCoordinator::LeaseFailed { task: TASK, lease, end: 0, failure: failure(TEXT_BYTES_MAX + 1) },
        ToCoordinator::Report { task: TASK, generation: GENERATION, eighths: EIGHTHS + 1 },
        ToCoordinator::Join(join(spec.clone(), PRIORITY_MAX + 1)),
        ToCoordinator::Join(other),
        ToCoordinator::Join(join(bad, 0)),
        ToCoordinator::Join(held),
    ] {
        refused(Kind::ToCoordinator, message.clone(), message);
    }
    round_trip(&[ToCoordinator::LeaseFailed { task: TASK, lease, end: 0, failure: failure(TEXT_BYTES_MAX) }], 9);
    round_trip(&[ToCoordinator::Join(join(spec, PRIORITY_MAX)), site(SITE_BYTES_MAX)], 9);
}

#[test]
fn what_a_member_is_told_is_bounded() {
    let neighbour =
        |ip: usize| Neighbour { peer: PEER, record: None, seen_ip: Some(vec![0; ip]), seed: false, share: None };
    let hosts = |n| ToMember::Neighbours { task: TASK, hosts: vec![neighbour(4); n] };
    let members = |n| ToMember::Members(vec![neighbour(16); n]);
    let across = |part, of| {
        let share = Some(crate::wire::control::Share { part, of });
        ToMember::Neighbours { task: TASK, hosts: vec![Neighbour { share, ..neighbour(4) }] }
    };
    let granted = |work| {
        let lease = crate::wire::control::LeaseId { number: 0, epoch: 0 };
        ToMember::Granted(crate::wire::control::Granted { task: TASK, lease, timeout_ms: 0, work })
    };
    let prior = Some(Validator::Etag("x".repeat(TEXT_BYTES_MAX + 1)));
    let bundle = |n| GrantBundle { grant: Signed(vec![]), grantor: vec![], holder: vec![0; n] };
    for message in [
        hosts(NEIGHBOURS_MAX + 1),
        ToMember::Neighbours { task: TASK, hosts: vec![neighbour(5)] },
        members(NEIGHBOURS_MAX + 1),
        across(8, 8),
        across(1, 0),
        ToMember::Redirect { task: TASK, to: neighbour(5) },
        granted(crate::wire::control::Work::Describe { prior }),
        granted(crate::wire::control::Work::Pieces { bundle: bundle(CREDENTIAL_BYTES_MAX + 1), grant: None }),
    ] {
        refused(Kind::ToMember, message.clone(), message);
    }
    round_trip(&[hosts(NEIGHBOURS_MAX), members(NEIGHBOURS_MAX), across(7, 8), across(0, 0)], 99);
}

#[test]
fn what_a_neighbour_says_is_bounded() {
    let run = |first, count| Run { first, count };
    let have = |runs| Message::Have { slot: 0, runs, complete: false };
    let evidence = |n| Message::Evidence { slot: 0, items: vec![Evidence::Attestation(Signed(vec![])); n] };
    let request = |n| Message::Request { slot: 0, request: 0, first: 0, skip: 0, values: vec![0; n] };
    let ask = |length| Message::Ask { task: TASK, generation: GENERATION, length };
    let whole = |n, bytes| {
        let items = vec![Evidence::Attestation(Signed(vec![0; SIGNED_BYTES_MAX])); n];
        Message::Whole { task: TASK, generation: GENERATION, items, bytes: vec![7; bytes] }
    };
    for message in [
        ask(0),
        ask(WHOLE_BYTES_MAX as u64 + 1),
        whole(WHOLE_EVIDENCE_MAX + 1, 0),
        whole(0, WHOLE_BYTES_MAX + 1),
        have(vec![run(0, 1); RUNS_MAX + 1]),
        have(vec![run(0, 0)]),
        have(vec![run(1, u32::MAX)]),
        Message::Lost { slot: 0, runs: vec![run(crate::task::PIECES_MAX, 1)] },
        Message::Allot { slot: 0, runs: vec![run(1, crate::task::PIECES_MAX)] },
        evidence(EVIDENCE_MAX + 1),
        Message::Evidence { slot: 0, items: vec![Evidence::Attestation(Signed(vec![0; SIGNED_BYTES_MAX + 1]))] },
        request(0),
        request(33),
        request((REQUEST_PIECES_MAX + 1) * 32),
        Message::Open { slot: 0, task: TASK, generation: GENERATION, length: 1, piece_length: 0, wanted: true },
    ] {
        refused(Kind::Lane, Frame::Message(message.clone()), message);
    }
    // The fullest of each still fit.
    let bundle = GrantBundle { grant: Signed(vec![0; 80]), grantor: vec![0; 200], holder: vec![0; 150] };
    let grants = Message::Evidence { slot: 0, items: vec![Evidence::Grant(bundle); EVIDENCE_MAX] };
    let fullest = [
        have(vec![run(65_000, 536); RUNS_MAX]),
        evidence(EVIDENCE_MAX),
        grants,
        request(REQUEST_PIECES_MAX * 32),
        ask(WHOLE_BYTES_MAX as u64),
        whole(WHOLE_EVIDENCE_MAX, WHOLE_BYTES_MAX),
    ];
    round_trip(&fullest.map(Frame::Message), 4096);
}

#[test]
fn a_message_that_grew_too_long_is_not_sent() {
    let items = vec![Evidence::Attestation(Signed(vec![0; SIGNED_BYTES_MAX])); 17];
    let mut out = BytesMut::from(&b"before"[..]);
    let result = encode(&Frame::Message(Message::Evidence { slot: 0, items }), &mut out);
    assert!(matches!(result, Err(CodecError::TooLong { .. })));
    assert_eq!(out, &b"before"[..]);
}

#[test]
fn statements_are_bounded() {
    let grant = |first, end, tenant: usize| Grant {
        version: 1,
        network: [0; 32],
        tenant: "x".repeat(tenant),
        task: TASK,
        generation: GENERATION,
        length: 200_000,
        piece_length: 65_536,
        first,
        end,
        holder: PEER,
        epoch: 0,
    };
    assert!(encode_statement(&grant(0, 4, TEXT_BYTES_MAX)).is_ok());
    for bad in [grant(0, 5, 0), grant(3, 2, 0), grant(0, 4, TEXT_BYTES_MAX + 1)] {
        assert!(matches!(encode_statement(&bad), Err(CodecError::OutOfBounds(_))));
        let bytes = minicbor::to_vec(&bad).unwrap();
        assert!(matches!(decode_statement::<Grant>(&bytes), Err(CodecError::OutOfBounds(_))));
    }
    for (first, values, fits) in [(0, 0, false), (0, 64, true), (0, 65, false), (65_535, 1, true), (65_535, 2, false)] {
        let attestation = Attestation::new([0; 32], 0, [0; 32], first, &vec![[0; 32]; values]);
        assert_eq!(encode_statement(&attestation).is_ok(), fits, "{first} {values}");
    }
    let seal = |digests| Seal {
        version: 1,
        network: [0; 32],
        task: TASK,
        generation: GENERATION,
        length: 0,
        piece_length: 65_536,
        root: [0; 32],
        digests: vec!["crc32c:00000000".parse().unwrap(); digests],
    };
    assert!(encode_statement(&seal(DIGESTS_MAX)).is_ok());
    assert!(encode_statement(&seal(DIGESTS_MAX + 1)).is_err());
    let long = vec![0; SIGNED_BYTES_MAX + 1];
    assert!(matches!(decode_statement::<Seal>(&long), Err(CodecError::OutOfBounds(_))));
}

/// Feeds bytes to every kind of decoder; what comes out must itself be sendable.
fn survives(bytes: &[u8], part: usize) {
    fn one<T: Framed>(bytes: &[u8], part: usize) {
        for found in decode_all::<T>(bytes, part).into_iter().flat_map(|(found, _)| found) {
            if let Decoded::Message(message) = found {
                let mut out = BytesMut::new();
                encode(&message, &mut out).unwrap();
                assert!(decode_all::<T>(&out, usize::MAX).is_ok());
            }
        }
    }
    one::<ToCoordinator>(bytes, part);
    one::<ToMember>(bytes, part);
    one::<Frame>(bytes, part);
}

proptest! {
    #[test]
    fn random_bytes_do_no_harm(kind in 0_u8..6, body in proptest::collection::vec(any::<u8>(), 0..200), part in 1_usize..50) {
        survives(&body, part);
        survives(&framed(kind, &body), part);
        let _ = decode_statement::<Grant>(&body);
        let _ = decode_statement::<Attestation>(&body);
        let _ = decode_statement::<Seal>(&body);
    }

    #[test]
    fn mutated_messages_do_no_harm(
        control in strategies::to_coordinator(), member in strategies::to_member(), frame in strategies::frame(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>(), 0_u8..3), 1..6),
    ) {
        let mut frames = [BytesMut::new(), BytesMut::new(), BytesMut::new()];
        encode(&control, &mut frames[0]).unwrap();
        encode(&member, &mut frames[1]).unwrap();
        encode(&frame, &mut frames[2]).unwrap();
        for frame in frames {
            let (kind, mut body) = (frame[4], frame[HEADER_BYTES..].to_vec());
            for (at, byte, how) in &changes {
                if body.is_empty() {
                    break;
                }
                let at = at.index(body.len().min(400));
                match how {
                    0 => body[at] = *byte,
                    1 => body.insert(at, *byte),
                    _ => {
                        body.remove(at);
                    }
                }
            }
            survives(&framed(kind, &body), 64 << 10);
        }
    }
}

//! Arbitrary messages, every variant of each, all within bounds.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use crate::task::*;
use crate::wire::PeerId;
use crate::wire::control::*;
use crate::wire::lane::{Frame, Message, RejectReason, Run, WHOLE_BYTES_MAX, WHOLE_EVIDENCE_MAX};
use crate::wire::statement::*;

fn task() -> impl Strategy<Value = TaskId> {
    any::<[u8; 32]>().prop_map(TaskId::from_hash)
}

fn generation() -> impl Strategy<Value = Generation> {
    any::<[u8; 32]>().prop_map(Generation::from_hash)
}

fn peer() -> impl Strategy<Value = PeerId> {
    any::<[u8; 32]>().prop_map(PeerId::from_public_key)
}

fn lease() -> impl Strategy<Value = LeaseId> {
    any::<(u64, u64)>().prop_map(|(number, epoch)| LeaseId { number, epoch })
}

fn layout() -> impl Strategy<Value = Layout> {
    (0_u64..=1 << 62, 0_u32..62).prop_map(|(length, shift)| Layout::of_length(length >> shift).unwrap())
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["\\PC{0,20}", Just("x".repeat(256))]
}

fn validator() -> impl Strategy<Value = Validator> {
    prop_oneof![
        text().prop_map(Validator::Etag),
        text().prop_map(Validator::LastModified),
        text().prop_map(Validator::Version)
    ]
}

fn digest() -> impl Strategy<Value = Digest> {
    (select(Algorithm::ALL.to_vec()), any::<[u8; 64]>()).prop_map(|(a, b)| Digest::new(a, &b[..a.length()]).unwrap())
}

fn signed() -> impl Strategy<Value = Signed> {
    prop_oneof![vec(any::<u8>(), 0..60), Just(vec![1; 8 << 10])].prop_map(Signed)
}

fn credential() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..60), Just(vec![1; 4 << 10])]
}

fn bundle() -> impl Strategy<Value = GrantBundle> {
    (signed(), credential(), credential()).prop_map(|(grant, grantor, holder)| GrantBundle { grant, grantor, holder })
}

fn seal_bundle() -> impl Strategy<Value = SealBundle> {
    (signed(), credential()).prop_map(|(seal, signer)| SealBundle { seal, signer })
}

fn spec() -> impl Strategy<Value = TaskSpec> {
    let names = of(vec("[a-z]{1,8}", 0..5));
    ("[a-z?&=/%A-F]{0,30}", names, text(), text(), text(), of(any::<[u8; 32]>()), of(digest())).prop_map(
        |(rest, filtered, tag, application, tenant, tls, digest)| {
            let options = SpecOptions {
                filtered: filtered.as_deref(),
                tag: &tag,
                application: &application,
                tenant: &tenant,
                tls,
                digest,
                ..Default::default()
            };
            TaskSpec::of_url(&format!("https://h/{rest}"), &options).unwrap().spec
        },
    )
}

fn info() -> impl Strategy<Value = TaskInfo> {
    (task(), of(spec()), any::<bool>()).prop_map(|(task, spec, fixed)| TaskInfo {
        task: spec.as_ref().map_or(task, TaskSpec::id),
        spec,
        fixed,
    })
}

fn failure() -> impl Strategy<Value = Failure> {
    use FailureKind::{Changed, Forbidden, Local, NotFound, Origin, Overloaded};
    let kind = select(vec![Changed, Forbidden, Local, NotFound, Origin, Overloaded]);
    (kind, any::<bool>(), any::<Option<u16>>(), any::<Option<u32>>(), text())
        .prop_map(|(kind, temporary, status, retry_ms, text)| Failure { kind, temporary, status, retry_ms, text })
}

fn join() -> impl Strategy<Value = Join> {
    let fetching = vec((0..9_u32, 1..9_u32).prop_map(|(first, count)| Run { first, count }), 0..=FETCHING_MAX);
    let held = (generation(), layout(), of(validator()), any::<[bool; 2]>(), 0..=8_u8, fetching).prop_map(
        |(generation, layout, validator, [splittable, live], eighths, fetching)| Held {
            generation,
            length: layout.length(),
            piece_length: layout.piece_length(),
            validator,
            splittable,
            eighths,
            live,
            fetching,
        },
    );
    let earlier = of(select(vec![Earlier::Moved, Earlier::Asked]));
    (info(), of(held), any::<[bool; 3]>(), any::<Option<u64>>(), 0..=7_u8, earlier).prop_map(
        |(info, held, [wanted, may_lease, stale_ok], age_max_ms, priority, earlier)| Join {
            info,
            held,
            wanted,
            may_lease,
            age_max_ms,
            stale_ok,
            priority,
            earlier,
        },
    )
}

fn answer() -> impl Strategy<Value = Answer> {
    let content = (layout(), of(validator()), any::<bool>(), any::<u32>(), any::<bool>()).prop_map(
        |(layout, validator, ranges, taking, spooled)| Answer::Content {
            length: layout.length(),
            piece_length: layout.piece_length(),
            validator,
            ranges,
            taking,
            spooled,
        },
    );
    prop_oneof![content, Just(Answer::Spooling), Just(Answer::Unchanged)]
}

pub(super) fn to_coordinator() -> impl Strategy<Value = ToCoordinator> {
    let announce = (any::<u16>(), of(signed()), any::<bool>(), any::<u16>(), of("[a-zA-Z0-9._-]{1,64}")).prop_map(
        |(version, record, seed, slots, site)| ToCoordinator::Announce(Announce { version, record, seed, slots, site }),
    );
    let described = (task(), lease(), any::<Option<u64>>(), answer()).prop_map(|(task, lease, fresh_ms, answer)| {
        ToCoordinator::Described(Described { task, lease, fresh_ms, answer })
    });
    let leased = (task(), lease(), any::<u32>(), 0..3_u8).prop_map(|(task, lease, end, kind)| match kind {
        0 => ToCoordinator::Progress { task, lease, end },
        1 => ToCoordinator::Done { task, lease },
        _ => ToCoordinator::Release { task, lease, end },
    });
    prop_oneof![
        announce,
        join().prop_map(ToCoordinator::Join),
        (task(), any::<Option<u32>>()).prop_map(|(task, near)| ToCoordinator::AskLease(task, near)),
        described,
        leased,
        (task(), lease(), any::<u32>(), failure()).prop_map(|(task, lease, end, failure)| ToCoordinator::LeaseFailed {
            task,
            lease,
            end,
            failure
        }),
        (task(), any::<bool>(), any::<Option<u32>>())
            .prop_map(|(task, lacking, starved_ms)| { ToCoordinator::AskNeighbours { task, lacking, starved_ms } }),
        (task(), generation(), 0..=8_u8).prop_map(|(task, generation, eighths)| ToCoordinator::Report {
            task,
            generation,
            eighths
        }),
        (task(), generation(), seal_bundle()).prop_map(|(task, generation, seal)| ToCoordinator::Sealed {
            task,
            generation,
            seal
        }),
        task().prop_map(ToCoordinator::Leave),
        Just(ToCoordinator::KeepAlive),
        (task(), of(peer())).prop_map(|(task, lost)| ToCoordinator::Seek { task, lost }),
    ]
}

fn neighbour() -> impl Strategy<Value = Neighbour> {
    let ip = of(prop_oneof![vec(any::<u8>(), 4), vec(any::<u8>(), 16)]);
    let share = (1..=u16::MAX).prop_flat_map(|of| (0..of).prop_map(move |part| Share { part, of }));
    (peer(), of(vec(any::<u8>(), 0..60).prop_map(Signed)), ip, any::<bool>(), of(share))
        .prop_map(|(peer, record, seen_ip, seed, share)| Neighbour { peer, record, seen_ip, seed, share })
}

fn current() -> impl Strategy<Value = Current> {
    (task(), generation(), layout(), of(validator()), any::<bool>(), any::<u64>(), of(seal_bundle())).prop_map(
        |(task, generation, layout, validator, splittable, age_ms, seal)| Current {
            task,
            generation,
            length: layout.length(),
            piece_length: layout.piece_length(),
            validator,
            splittable,
            age_ms,
            seal,
        },
    )
}

fn granted() -> impl Strategy<Value = Granted> {
    let work = prop_oneof![
        of(validator()).prop_map(|prior| Work::Describe { prior }),
        bundle().prop_map(|bundle| Work::Pieces { bundle, grant: None }),
    ];
    (task(), lease(), any::<u32>(), work).prop_map(|(task, lease, timeout_ms, work)| Granted {
        task,
        lease,
        timeout_ms,
        work,
    })
}

pub(super) fn to_member() -> impl Strategy<Value = ToMember> {
    prop_oneof![
        (any::<u32>(), any::<bool>()).prop_map(|(interval_ms, scheduler)| ToMember::Welcome { interval_ms, scheduler }),
        vec(neighbour(), 0..=NEIGHBOURS_MAX).prop_map(ToMember::Members),
        current().prop_map(ToMember::Current),
        (task(), vec(neighbour(), 0..=NEIGHBOURS_MAX)).prop_map(|(task, hosts)| ToMember::Neighbours { task, hosts }),
        granted().prop_map(ToMember::Granted),
        (task(), any::<Option<u32>>()).prop_map(|(task, retry_ms)| ToMember::NoLease { task, retry_ms }),
        (task(), lease()).prop_map(|(task, lease)| ToMember::Revoked { task, lease }),
        (task(), failure()).prop_map(|(task, failure)| ToMember::Failed { task, failure }),
        info().prop_map(ToMember::Trigger),
        (task(), neighbour()).prop_map(|(task, to)| ToMember::Redirect { task, to }),
    ]
}

fn runs() -> impl Strategy<Value = Vec<Run>> {
    vec(
        (0..PIECES_MAX).prop_flat_map(|first| (1..=PIECES_MAX - first).prop_map(move |n| Run { first, count: n })),
        0..9,
    )
}

fn message() -> impl Strategy<Value = Message> {
    let evidence = prop_oneof![
        vec(any::<u8>(), 0..60).prop_map(|bytes| Evidence::Attestation(Signed(bytes))),
        bundle().prop_map(Evidence::Grant),
        seal_bundle().prop_map(Evidence::Seal),
    ];
    let reason = select(vec![
        RejectReason::Busy,
        RejectReason::Conflict,
        RejectReason::NotHeld,
        RejectReason::Unreadable,
        RejectReason::Malformed,
    ]);
    let item = prop_oneof![
        vec(any::<u8>(), 0..60).prop_map(|bytes| Evidence::Attestation(Signed(bytes))),
        bundle().prop_map(Evidence::Grant),
    ];
    let bytes = prop_oneof![vec(any::<u8>(), 0..50), Just(vec![7; WHOLE_BYTES_MAX])];
    prop_oneof![
        (task(), generation(), 1..=WHOLE_BYTES_MAX as u64).prop_map(|(task, generation, length)| Message::Ask {
            task,
            generation,
            length
        }),
        (task(), generation(), vec(item, 0..=WHOLE_EVIDENCE_MAX), bytes)
            .prop_map(|(task, generation, items, bytes)| Message::Whole { task, generation, items, bytes }),
        (any::<u32>(), task(), generation(), layout(), any::<bool>()).prop_map(
            |(slot, task, generation, layout, wanted)| Message::Open {
                slot,
                task,
                generation,
                length: layout.length(),
                piece_length: layout.piece_length(),
                wanted,
            }
        ),
        (any::<Option<u32>>(), task(), generation()).prop_map(|(slot, task, generation)| Message::Close {
            slot,
            task,
            generation
        }),
        (any::<u32>(), vec(evidence, 0..5)).prop_map(|(slot, items)| Message::Evidence { slot, items }),
        (any::<u32>(), runs(), any::<bool>()).prop_map(|(slot, runs, complete)| Message::Have { slot, runs, complete }),
        (any::<u32>(), runs()).prop_map(|(slot, runs)| Message::Lost { slot, runs }),
        (any::<u32>(), runs()).prop_map(|(slot, runs)| Message::Allot { slot, runs }),
        (any::<[u32; 4]>(), vec(any::<[u8; 32]>(), 1..=64)).prop_map(|([slot, request, first, skip], values)| {
            Message::Request { slot, request, first, skip, values: values.concat() }
        }),
        any::<u32>().prop_map(|request| Message::Cancel { request }),
        (any::<u32>(), reason).prop_map(|(request, reason)| Message::Reject { request, reason }),
    ]
}

pub(super) fn frame() -> impl Strategy<Value = Frame> {
    let bytes = prop_oneof![vec(any::<u8>(), 1..50), Just(vec![7; 64 << 10])];
    let block = (any::<[u32; 3]>(), bytes).prop_map(|([request, piece, offset], bytes)| Frame::Block {
        request,
        piece,
        offset,
        bytes: Bytes::from(bytes),
    });
    prop_oneof![1 => block, 4 => message().prop_map(Frame::Message)]
}

pub(super) fn grant() -> impl Strategy<Value = Grant> {
    (any::<[u8; 32]>(), text(), task(), generation(), layout(), any::<(u32, u32)>(), peer(), any::<u64>()).prop_map(
        |(network, tenant, task, generation, layout, (a, b), holder, epoch)| {
            let (a, b) = (a % (layout.pieces() + 1), b % (layout.pieces() + 1));
            Grant {
                version: 1,
                network,
                tenant,
                task,
                generation,
                length: layout.length(),
                piece_length: layout.piece_length(),
                first: a.min(b),
                end: a.max(b),
                holder,
                epoch,
            }
        },
    )
}

pub(super) fn attestation() -> impl Strategy<Value = Attestation> {
    (any::<[u8; 32]>(), any::<u32>(), any::<[u8; 32]>(), 0..PIECES_MAX - 64, vec(any::<[u8; 32]>(), 1..=64))
        .prop_map(|(grant, batch, previous, first, values)| Attestation::new(grant, batch, previous, first, &values))
}

pub(super) fn seal() -> impl Strategy<Value = Seal> {
    (any::<[u8; 32]>(), task(), generation(), layout(), any::<[u8; 32]>(), vec(digest(), 0..=8)).prop_map(
        |(network, task, generation, layout, root, digests)| Seal {
            version: 1,
            network,
            task,
            generation,
            length: layout.length(),
            piece_length: layout.piece_length(),
            root,
            digests,
        },
    )
}

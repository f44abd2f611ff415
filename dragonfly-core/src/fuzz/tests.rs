#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::store::seed_rows;
use crate::task::{Generation, TaskId, Validator};
use crate::trust::{Identity, Membership, OriginTrust, Roles};
use crate::wire::control::{Announce, Current, Held, Join, TaskInfo, VERSION};
use crate::wire::lane::Run;

/// Changes tried on each file of a corpus.
const CHANGES: u64 = 200;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

/// The inputs of a corpus by name.
fn inputs(target: &str) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(corpus(target)).unwrap_or_else(|e| panic!("the corpus of {target}: {e}"));
    files
        .map(|file| file.unwrap())
        .map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap()))
        .collect()
}

#[test]
fn corpora_are_replayed() {
    for target in TARGETS {
        let inputs = inputs(target.name);
        assert!(inputs.len() >= 3, "the corpus of {} has {} inputs", target.name, inputs.len());
        for input in inputs.values() {
            (target.run)(input);
        }
    }
}

#[test]
fn changes_of_the_corpora_are_read_without_a_panic() {
    for target in TARGETS {
        let inputs: Vec<Vec<u8>> = inputs(target.name).into_values().collect();
        for (number, input) in (0..).zip(&inputs) {
            for change in 0..CHANGES {
                let other = &inputs[change as usize % inputs.len()];
                (target.run)(&mutate(number << 32 | change, input, other));
            }
        }
    }
}

fn framed<T: Framed>(messages: &[T]) -> Vec<u8> {
    let mut out = BytesMut::new();
    for message in messages {
        codec::encode(message, &mut out).unwrap();
    }
    out.to_vec()
}

/// Inputs that are read whole: what a corpus starts from.
fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let (task, generation) = (TaskId::from_hash([1; 32]), Generation::from_hash([2; 32]));
    let validator = Some(Validator::Etag("\"a\"".into()));
    let held = Held {
        generation,
        length: 300,
        piece_length: 65_536,
        validator: validator.clone(),
        splittable: true,
        eighths: 8,
        live: true,
        fetching: Vec::new(),
    };
    let info = TaskInfo { task, spec: None, fixed: true };
    let join = Join {
        info,
        held: Some(held),
        wanted: true,
        may_lease: true,
        age_max_ms: Some(5),
        stale_ok: false,
        priority: 3,
        earlier: None,
    };
    let announce = Announce { version: VERSION, record: None, seed: true, slots: 8, site: None };
    let current = Current {
        task,
        generation,
        length: 1 << 20,
        piece_length: 65_536,
        validator,
        splittable: true,
        age_ms: 9,
        seal: None,
    };
    let run = |first, count| Run { first, count };
    let open = Message::Open { slot: 1, task, generation, length: 1 << 20, piece_length: 65_536, wanted: true };
    let gains = Message::Have { slot: 1, runs: vec![run(0, 3), run(9, 1)], complete: false };
    let lost = Message::Lost { slot: 1, runs: vec![run(1, 1)] };
    let request = Message::Request { slot: 1, request: 7, first: 2, skip: 0, values: vec![5; 64] };
    let block = Frame::Block { request: 7, piece: 2, offset: 0, bytes: vec![6; 100].into() };
    let items = vec![Evidence::Attestation(Signed(vec![4; 90]))];
    let whole = Message::Whole { task, generation, items, bytes: vec![6; 300] };
    let none = Message::Whole { task, generation, items: Vec::new(), bytes: Vec::new() };
    let message = |message: &Message| framed(&[Frame::Message(message.clone())]);
    let sized = |pieces: u16, messages: &[&Message]| {
        let frames: Vec<u8> = messages.iter().flat_map(|m| message(m)).collect();
        [&pieces.to_le_bytes()[..], &frames].concat()
    };
    let mut seeds = vec![
        ("control", "announce", framed(&[ToCoordinator::Announce(announce)])),
        ("control", "join", framed(&[ToCoordinator::Join(join), ToCoordinator::KeepAlive])),
        ("control", "ask", framed(&[ToCoordinator::AskLease(task, Some(7)), ToCoordinator::Leave(task)])),
        (
            "control",
            "current",
            framed(&[ToMember::Current(current), ToMember::Welcome { interval_ms: 10_000, scheduler: true }]),
        ),
        ("lane", "open", message(&open)),
        ("lane", "have-and-lost", [message(&gains), message(&lost)].concat()),
        ("lane", "request", message(&request)),
        ("lane", "block", framed(&[block])),
        ("lane", "ask", message(&Message::Ask { task, generation, length: 300 })),
        ("lane", "whole", [message(&whole), message(&none)].concat()),
        ("have", "gains", sized(16, &[&gains])),
        ("have", "losses", sized(16, &[&gains, &lost])),
        ("have", "too-small", sized(2, &[&gains])),
        ("address", "tcp", b"/ip4/127.0.0.1/tcp/4001".to_vec()),
        ("address", "quic", b"/ip6/::1/udp/4001/quic-v1".to_vec()),
        (
            "address",
            "named",
            b"/dns4/example.org/tcp/1/p2p/12D3KooWQYV9dGMFoRzNStwpXztXaBUjtPqi6aU76ZgUriHhKust".to_vec(),
        ),
        (
            "header",
            "range",
            b"content-range: bytes 0-99/200\netag: \"a\"\nlast-modified: Mon, 01 Jan 2024 00:00:00 GMT".to_vec(),
        ),
        (
            "header",
            "caching",
            b"cache-control: max-age=10, private, no-cache=\"x\"\nage: 5\nvary: cookie\nexpires: 0".to_vec(),
        ),
        (
            "header",
            "pause",
            b"retry-after: 120\ncontent-range: bytes */7\ndate: Mon, 01 Jan 2024 00:00:00 GMT".to_vec(),
        ),
    ];
    seeds.extend(seed_rows().into_iter().map(|(name, row)| ("index", name, row)));
    seeds
}

/// Inputs with keys of their own in them: made once, and then as they are.
fn signed_seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    use crate::trust::statement::{Attester, sign_grant};
    use crate::wire::statement::{Grant, GrantBundle};

    let identity = Identity::generate();
    let membership = Membership::found(&identity, OriginTrust::Members);
    let (task, generation) = (TaskId::from_hash([1; 32]), Generation::from_hash([2; 32]));
    let grant = Grant {
        version: 1,
        network: *membership.network_id(),
        tenant: "default".into(),
        task,
        generation,
        length: 1 << 20,
        piece_length: 65_536,
        first: 0,
        end: 4,
        holder: identity.peer_id(),
        epoch: 1,
    };
    let signed = sign_grant(&identity, &grant);
    let attested = Attester::new(&signed).attest(&identity, 0, &[[3; 32]; 4]).unwrap();
    let credential = membership.credential_bytes().to_vec();
    let bundle = GrantBundle { grant: signed.clone(), grantor: credential.clone(), holder: credential };
    let at = "/ip4/127.0.0.1/tcp/1".parse::<Address>().unwrap().with_peer(identity.peer_id());
    let token = |roles, addresses| membership.token(roles, None, addresses).unwrap().to_text().into_bytes();
    vec![
        ("statement", "grant", signed.0),
        ("statement", "attestation", attested.0.clone()),
        ("statement", "evidence", encode_statement(&Evidence::Grant(bundle)).unwrap()),
        ("statement", "kept", encode_statement(&Evidence::Attestation(attested)).unwrap()),
        ("token", "all", token(Roles::ALL, vec![at])),
        ("token", "peer", token(Roles::PEER, Vec::new())),
        ("token", "prefix", b"df1:".to_vec()),
    ]
}

/// The corpora start from what this version writes. `DRAGONFLY_WRITE_CORPUS=1` writes them anew.
#[test]
fn corpora_have_what_this_version_writes() {
    let writes = std::env::var_os("DRAGONFLY_WRITE_CORPUS").is_some();
    for (target, name, bytes) in seeds() {
        let path = corpus(target).join(name);
        if writes {
            fs::create_dir_all(corpus(target)).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        assert_eq!(fs::read(&path).ok(), Some(bytes), "{target}/{name} is not what is written now");
    }
    for (target, name, bytes) in signed_seeds() {
        let path = corpus(target).join(name);
        if writes && !path.exists() {
            fs::create_dir_all(corpus(target)).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        assert!(path.exists(), "{target}/{name}");
    }
    let text = String::from_utf8(fs::read(corpus("token").join("all")).unwrap()).unwrap();
    assert!(text.parse::<Token>().is_ok(), "tokens of earlier versions are read");
    let grant = Signed(fs::read(corpus("statement").join("grant")).unwrap());
    assert!(open_grant(&grant).is_ok(), "statements of earlier versions are read");
}

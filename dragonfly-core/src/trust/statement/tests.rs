#![allow(clippy::unwrap_used)]

use super::*;
use crate::task::{Generation, TaskId};
use crate::trust::{ADDRESSES_MAX, RECORD_MAX, open_record, sign_record, statement};
use crate::wire::Address;

fn grant() -> Grant {
    Grant {
        version: 1,
        network: [3; 32],
        tenant: "t".repeat(64),
        task: TaskId::from_hash([1; 32]),
        generation: Generation::from_hash([2; 32]),
        length: u64::MAX,
        piece_length: u64::MAX,
        first: 70_000,
        end: u32::MAX,
        holder: Identity::generate().peer_id(),
        epoch: u64::MAX,
    }
}

fn seal() -> Seal {
    let Grant { network, task, generation, length, piece_length, .. } = grant();
    let digests = vec![crate::task::Digest::new(crate::task::Algorithm::Sha512, &[9; 64]).unwrap(); 8];
    Seal { version: 1, network, task, generation, length, piece_length, root: [4; 32], digests }
}

#[test]
fn statements_say_what_was_signed_and_by_whom_and_nothing_else() {
    let identity = Identity::generate();
    let signed = statement::sign_grant(&identity, &grant());
    let (_, signer) = statement::open_grant(&signed).unwrap();
    assert_eq!(signer, identity.peer_id());
    let signed_seal = statement::sign_seal(&identity, &seal());
    assert_eq!(statement::open_seal(&signed_seal).unwrap().0, seal());
    let attestation = Attestation::new([1; 32], u32::MAX, [2; 32], u32::MAX, &[[5; 32]; 64]);
    let attested = statement::sign_attestation(&identity, &attestation);
    assert_eq!(statement::open_attestation(&attested).unwrap(), (attestation, identity.peer_id()));

    for at in 0..signed.0.len() {
        let mut bytes = signed.0.clone();
        bytes[at] ^= 1;
        assert!(statement::open_grant(&Signed(bytes)).is_err(), "byte {at}");
    }
    assert!(statement::open_seal(&signed).is_err(), "a grant is no seal");
    assert_eq!(statement::open_grant(&Signed([&signed.0[..], &[0x32, 0x00]].concat())), Err(StatementError::Malformed));
    assert_eq!(statement::open_grant(&Signed(vec![0; 5000])), Err(StatementError::TooLong));
}

#[test]
fn statements_break_no_bound() {
    let identity = Identity::generate();
    let opened = |grant: &Grant| statement::open_grant(&statement::sign_grant(&identity, grant)).map(|_| ());
    assert_eq!(opened(&Grant { version: 2, ..grant() }), Err(StatementError::Version));
    assert_eq!(opened(&Grant { end: 70_000, ..grant() }), Err(StatementError::Malformed));
    assert_eq!(opened(&Grant { tenant: String::new(), ..grant() }), Err(StatementError::Malformed));
    let mut long = seal();
    long.digests.push(long.digests[0].clone());
    assert_eq!(statement::open_seal(&statement::sign_seal(&identity, &long)), Err(StatementError::TooLong));
    let open = |values: &[[u8; 32]]| {
        let attestation = Attestation::new([1; 32], 0, [0; 32], 0, values);
        statement::open_attestation(&statement::sign_attestation(&identity, &attestation)).map(|_| ())
    };
    assert_eq!(open(&[]), Err(StatementError::Malformed));
    assert!(open(&[[0; 32]; 65]).is_err());
}

#[test]
fn an_attester_numbers_and_chains() {
    let (identity, grant) = (Identity::generate(), Signed(vec![1, 2, 3]));
    let mut attester = Attester::new(&grant);
    let first = attester.attest(&identity, 4, &[[1; 32]; 2]).unwrap();
    assert!(attester.attest(&identity, 4, &[]).is_none());
    let second = attester.attest(&identity, 6, &[[2; 32]]).unwrap();
    let (a, b) = (statement::open_attestation(&first).unwrap().0, statement::open_attestation(&second).unwrap().0);
    assert_eq!((a.grant, a.batch, a.previous), (hash_of(&grant), 0, [0; 32]));
    assert_eq!((b.grant, b.batch, b.previous), (hash_of(&grant), 1, hash_of(&first)));
}

#[test]
fn a_record_counts_only_for_its_signer() {
    let (identity, other) = (Identity::generate(), Identity::generate());
    let own: Address = "/ip4/10.0.0.7/tcp/4001".parse().unwrap();
    let addresses = vec![own.clone(), own.with_peer(identity.peer_id())];
    let signed = sign_record(&identity, &addresses).unwrap();
    assert_eq!(open_record(&signed, identity.peer_id()).unwrap(), addresses);
    assert_eq!(open_record(&signed, other.peer_id()), Err(StatementError::OtherSigner));
    assert_eq!(sign_record(&identity, &[own.with_peer(other.peer_id())]), Err(StatementError::OtherSigner));
    assert_eq!(sign_record(&identity, &vec![own; ADDRESSES_MAX + 1]), Err(StatementError::TooLong));
    let long: Address = format!("/dns4/{}/tcp/1", "a".repeat(300)).parse().unwrap();
    assert_eq!(sign_record(&identity, &vec![long; ADDRESSES_MAX]), Err(StatementError::TooLong));
    assert_eq!(open_record(&Signed(vec![0; RECORD_MAX + 1]), identity.peer_id()), Err(StatementError::TooLong));
    for at in 0..signed.0.len() {
        let mut bytes = signed.0.clone();
        bytes[at] ^= 1;
        assert!(open_record(&Signed(bytes), identity.peer_id()).is_err(), "byte {at}");
    }
}

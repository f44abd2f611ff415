#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::trust::statement::{Attester, sign_attestation, sign_grant, sign_seal};
use crate::trust::{Identity, Roles};

const NOW: u64 = 1_800_000_000;
const TASK: TaskId = TaskId::from_hash([1; 32]);
const GENERATION: Generation = Generation::from_hash([2; 32]);

struct Host {
    identity: Identity,
    membership: Membership,
}

/// A network with one host of each kind, all of one tenant.
struct World {
    founder: Membership,
    scheduler: Host,
    seed: Host,
    peer: Host,
    layout: Layout,
}

fn host(founder: &Membership, tenant: &str, roles: Roles) -> Host {
    let identity = Identity::generate();
    let token = founder.tenant_token(tenant, roles, None, vec![]).unwrap();
    Host { membership: Membership::join(&identity, &token), identity }
}

impl World {
    fn new(origin_trust: OriginTrust) -> Self {
        let founder = Membership::found(&Identity::generate(), origin_trust);
        let [scheduler, seed, peer] =
            [Roles::SCHEDULER, Roles::SEED.with(Roles::PEER), Roles::PEER].map(|roles| host(&founder, "a", roles));
        // 100 pieces of 64 KiB.
        Self { founder, scheduler, seed, peer, layout: Layout::of_length(100 << 16).unwrap() }
    }

    fn verifier(&self, coordinators: Coordinators) -> EvidenceVerifier {
        EvidenceVerifier::new(&self.peer.membership, TASK, GENERATION, self.layout, coordinators)
    }

    fn grant(&self, holder: &Host, pieces: Range<u32>, epoch: u64) -> Grant {
        Grant {
            version: 1,
            network: *self.founder.network_id(),
            tenant: "a".into(),
            task: TASK,
            generation: GENERATION,
            length: self.layout.length(),
            piece_length: self.layout.piece_length(),
            first: pieces.start,
            end: pieces.end,
            holder: holder.membership.peer_id(),
            epoch,
        }
    }

    fn bundle(&self, grantor: &Host, holder: &Host, grant: &Grant) -> GrantBundle {
        GrantBundle {
            grant: sign_grant(&grantor.identity, grant),
            grantor: grantor.membership.credential_bytes().to_vec(),
            holder: holder.membership.credential_bytes().to_vec(),
        }
    }

    /// A grant by the scheduler.
    fn granted(&self, holder: &Host, pieces: Range<u32>, epoch: u64) -> GrantBundle {
        self.bundle(&self.scheduler, holder, &self.grant(holder, pieces, epoch))
    }

    fn seal(&self) -> Seal {
        Seal {
            version: 1,
            network: *self.founder.network_id(),
            task: TASK,
            generation: GENERATION,
            length: self.layout.length(),
            piece_length: self.layout.piece_length(),
            root: [9; 32],
            digests: vec![],
        }
    }

    fn sealed(&self, signer: &Host, seal: &Seal) -> Evidence {
        let signed = sign_seal(&signer.identity, seal);
        Evidence::Seal(SealBundle { seal: signed, signer: signer.membership.credential_bytes().to_vec() })
    }
}

fn attest(holder: &Host, bundle: &GrantBundle, first: u32, values: &[PieceHash]) -> Evidence {
    Evidence::Attestation(Attester::new(&bundle.grant).attest(&holder.identity, first, values).unwrap())
}

fn values(outcome: Result<Outcome, EvidenceError>) -> Vec<(PieceIndex, PieceHash)> {
    match outcome {
        Ok(Outcome::Values { values, .. }) => values,
        other => panic!("expected values, got {other:?}"),
    }
}

#[test]
fn attested_values_are_learnt_once() {
    let world = World::new(OriginTrust::Seeds);
    let mut verifier = world.verifier(Coordinators::Schedulers);
    let bundle = world.granted(&world.seed, 10..20, 1);
    let attested = attest(&world.seed, &bundle, 18, &[[1; 32], [2; 32]]);
    assert_eq!(verifier.accept(&attested, NOW), Err(EvidenceError::UnknownGrant));
    let holder = world.seed.membership.peer_id();
    let grant = Evidence::Grant(bundle.clone());
    assert_eq!(verifier.accept(&grant, NOW), Ok(Outcome::Granted { holder, pieces: 10..20 }));
    assert_eq!(verifier.accept(&grant, NOW), Ok(Outcome::Known));
    let learnt = vec![(18, [1; 32]), (19, [2; 32])];
    assert_eq!(
        verifier.accept(&attested, NOW),
        Ok(Outcome::Values { signer: holder, values: learnt, grant: Some(Box::new(bundle)), first: true })
    );
    assert_eq!(verifier.accept(&attested, NOW), Ok(Outcome::Known));
    assert_eq!(verifier.value(19), Some((holder, [2; 32])));
    assert_eq!(verifier.value(17), None);
}

#[test]
fn a_grant_counts_only_within_its_scope() {
    let world = World::new(OriginTrust::Members);
    let mut verifier = world.verifier(Coordinators::Schedulers);
    let mut refused = |change: &dyn Fn(&mut Grant)| {
        let mut grant = world.grant(&world.peer, 0..100, 1);
        change(&mut grant);
        verifier.accept(&Evidence::Grant(world.bundle(&world.scheduler, &world.peer, &grant)), NOW).unwrap_err()
    };
    assert_eq!(refused(&|grant| grant.network = [0; 32]), EvidenceError::OtherNetwork);
    assert_eq!(refused(&|grant| grant.tenant = "b".into()), EvidenceError::OtherTenant);
    assert_eq!(refused(&|grant| grant.task = TaskId::from_hash([7; 32])), EvidenceError::OtherTask);
    let other = Generation::from_hash([7; 32]);
    assert_eq!(refused(&|grant| grant.generation = other), EvidenceError::OtherGeneration);
    assert_eq!(refused(&|grant| grant.length += 1), EvidenceError::Layout);
    assert_eq!(refused(&|grant| grant.piece_length *= 2), EvidenceError::Layout);
    assert_eq!(refused(&|grant| grant.end = 101), EvidenceError::Range);
    assert_eq!(refused(&|grant| grant.end = 0), EvidenceError::Statement(StatementError::Malformed));
    let stranger = Identity::generate().peer_id();
    let other_holder = EvidenceError::Credential(CredentialError::OtherHolder);
    assert_eq!(refused(&|grant| grant.holder = stranger), other_holder);
    assert!(verifier.accept(&Evidence::Grant(world.granted(&world.peer, 0..100, 1)), NOW).is_ok());
}

#[test]
fn who_may_grant_and_who_may_hold() {
    let world = World::new(OriginTrust::Seeds);
    let by = |grantor: &Host, holder: &Host, coordinators| {
        let bundle = world.bundle(grantor, holder, &world.grant(holder, 0..4, 1));
        world.verifier(coordinators).accept(&Evidence::Grant(bundle), NOW).map(|_| ())
    };
    let World { scheduler, seed, peer, .. } = &world;
    assert_eq!(by(scheduler, seed, Coordinators::Schedulers), Ok(()));
    assert_eq!(by(peer, seed, Coordinators::Schedulers), Err(EvidenceError::Grantor));
    assert_eq!(by(peer, seed, Coordinators::AnyMember), Ok(()));
    assert_eq!(by(seed, seed, Coordinators::AnyMember), Ok(()));
    assert_eq!(by(scheduler, peer, Coordinators::Schedulers), Err(EvidenceError::Holder));
    assert_eq!(by(scheduler, peer, Coordinators::AnyMember), Err(EvidenceError::Holder));

    let abroad = host(&world.founder, "b", Roles::ALL);
    let neighbour = host(&world.founder, "b", Roles::PEER);
    assert_eq!(by(&abroad, seed, Coordinators::Schedulers), Ok(()), "schedulers serve every tenant");
    assert_eq!(by(&neighbour, seed, Coordinators::AnyMember), Err(EvidenceError::Grantor));
    assert_eq!(by(scheduler, &abroad, Coordinators::Schedulers), Err(EvidenceError::OtherTenant));
    let foreign = host(&Membership::found(&Identity::generate(), OriginTrust::Seeds), "a", Roles::ALL);
    let forged = Err(EvidenceError::Credential(CredentialError::Forged));
    assert_eq!(by(&foreign, seed, Coordinators::AnyMember), forged);
    assert_eq!(by(scheduler, &foreign, Coordinators::Schedulers), forged);
}

#[test]
fn expired_and_revoked_hosts_prove_nothing_more() {
    let mut world = World::new(OriginTrust::Members);
    let identity = Identity::generate();
    let token = world.founder.tenant_token("a", Roles::PEER, Some(NOW + 1), vec![]).unwrap();
    let brief = Host { membership: Membership::join(&identity, &token), identity };
    let mut verifier = world.verifier(Coordinators::Schedulers);
    assert!(verifier.accept(&Evidence::Grant(world.granted(&brief, 0..4, 1)), NOW).is_ok());
    // Its credential was checked and remembered: the end counts all the same.
    let later = Evidence::Grant(world.granted(&brief, 4..8, 2));
    let expired = Err(EvidenceError::Credential(CredentialError::Expired));
    assert_eq!(verifier.accept(&later, NOW + 1), expired);

    let bundle = world.granted(&world.peer, 8..16, 3);
    verifier.accept(&Evidence::Grant(bundle.clone()), NOW).unwrap();
    assert_eq!(values(verifier.accept(&attest(&world.peer, &bundle, 8, &[[1; 32]]), NOW)).len(), 1);
    world.founder.revoke(&[], &[world.peer.membership.peer_id()]).unwrap();
    verifier.set_revocations(Arc::clone(world.founder.revocations()));
    let revoked = Err(EvidenceError::Credential(CredentialError::Revoked));
    assert_eq!(verifier.accept(&attest(&world.peer, &bundle, 9, &[[1; 32]]), NOW), revoked);
    assert_eq!(verifier.accept(&Evidence::Grant(world.granted(&world.peer, 16..20, 4)), NOW), revoked);
}

#[test]
fn an_attestation_counts_only_from_the_holder_within_the_grant() {
    let world = World::new(OriginTrust::Members);
    let mut verifier = world.verifier(Coordinators::Schedulers);
    let bundle = world.granted(&world.peer, 10..20, 1);
    verifier.accept(&Evidence::Grant(bundle.clone()), NOW).unwrap();
    let mut refused = |item| verifier.accept(&item, NOW).unwrap_err();
    assert_eq!(refused(attest(&world.seed, &bundle, 10, &[[1; 32]])), EvidenceError::OtherSigner);
    assert_eq!(refused(attest(&world.peer, &bundle, 9, &[[1; 32]])), EvidenceError::Range);
    assert_eq!(refused(attest(&world.peer, &bundle, 19, &[[1; 32]; 2])), EvidenceError::Range);
    assert_eq!(refused(attest(&world.peer, &bundle, u32::MAX, &[[1; 32]])), EvidenceError::Range);
    let Evidence::Attestation(mut signed) = attest(&world.peer, &bundle, 10, &[[1; 32]]) else { panic!() };
    *signed.0.last_mut().unwrap() ^= 1;
    assert_eq!(refused(Evidence::Attestation(signed)), EvidenceError::Statement(StatementError::Forged));
    assert!(verifier.evidence_for(0..100).is_empty());
}

#[test]
fn batches_are_taken_in_any_order_and_passed_on_for_just_the_pieces_wanted() {
    let world = World::new(OriginTrust::Members);
    let mut first = world.verifier(Coordinators::Schedulers);
    let (left, right) = (world.granted(&world.peer, 0..50, 1), world.granted(&world.seed, 50..100, 2));
    let mut attester = Attester::new(&left.grant);
    let batches: Vec<_> = (0..5)
        .map(|n| attester.attest(&world.peer.identity, n * 10, &[[n as u8; 32]; 10]).unwrap())
        .map(Evidence::Attestation)
        .collect();
    let far = attest(&world.seed, &right, 60, &[[60; 32]]);
    for item in [Evidence::Grant(right), Evidence::Grant(left)].iter().chain(&[far]).chain(batches.iter().rev()) {
        first.accept(item, NOW).unwrap();
    }
    let shown = first.evidence_for([29, 60, 21, 99, 5]);
    assert_eq!(shown.len(), 2 + 3);
    assert!(shown[..2].iter().all(|item| matches!(item, Evidence::Grant(_))));
    assert!(shown[2..].iter().all(|item| matches!(item, Evidence::Attestation(_))));

    let mut second = world.verifier(Coordinators::Schedulers);
    for item in &shown {
        second.accept(item, NOW).unwrap();
    }
    for piece in [5, 21, 29, 60] {
        assert_eq!(second.value(piece), first.value(piece));
        assert!(second.value(piece).is_some());
    }
    assert_eq!((second.value(30), second.value(99)), (None, None));
    assert_eq!(first.evidence_for([21]).len(), 2);
}

/// Neighbours show the same items: those that are kept cost no second check of their signature.
#[test]
fn what_is_kept_is_known_by_its_bytes() {
    let world = World::new(OriginTrust::Members);
    let mut verifier = world.verifier(Coordinators::Schedulers);
    let (low, high) = (world.granted(&world.peer, 0..10, 1), world.granted(&world.seed, 0..10, 2));
    let honest = attest(&world.peer, &low, 4, &[[1; 32], [2; 32]]);
    let other = attest(&world.seed, &high, 5, &[[3; 32]]);
    for item in [&Evidence::Grant(low), &Evidence::Grant(high), &honest] {
        verifier.accept(item, NOW).unwrap();
    }
    assert_eq!(verifier.accept(&honest, NOW), Ok(Outcome::Known));
    // Partly superseded it is looked at again, and is news again once the other's word is void.
    let outcome = verifier.accept(&other, NOW);
    assert!(matches!(outcome, Ok(Outcome::Values { first: false, .. })), "{outcome:?}");
    assert_eq!(values(outcome), [(5, [3; 32])]);
    assert_eq!(verifier.accept(&honest, NOW), Ok(Outcome::Stale));
    verifier.void(&BTreeSet::from([world.seed.membership.peer_id()]));
    assert_eq!((verifier.value(4).unwrap().1, verifier.value(5)), ([1; 32], None));
    assert_eq!(values(verifier.accept(&honest, NOW)), [(5, [2; 32])]);
    let hashes: BTreeSet<_> = verifier.attestations.values().map(|kept| kept.hash).collect();
    assert_eq!(verifier.by_hash.keys().copied().collect::<BTreeSet<_>>(), hashes);
}

#[test]
fn two_values_by_one_signer_are_proof_against_it() {
    let world = World::new(OriginTrust::Members);
    let mut verifier = world.verifier(Coordinators::Schedulers);
    let (old, new) = (world.granted(&world.seed, 0..10, 1), world.granted(&world.seed, 5..15, 2));
    let honest = attest(&world.seed, &old, 4, &[[1; 32], [2; 32]]);
    let lie = attest(&world.seed, &new, 5, &[[3; 32]]);
    for item in [&Evidence::Grant(old.clone()), &Evidence::Grant(new.clone()), &honest] {
        verifier.accept(item, NOW).unwrap();
    }
    let Ok(Outcome::Conflict(conflict)) = verifier.accept(&lie, NOW) else { panic!("the lie was taken") };
    assert_eq!((conflict.signer, conflict.piece), (world.seed.membership.peer_id(), 5));
    assert_eq!(Evidence::Attestation(conflict.first.clone()), honest);
    assert_eq!(Evidence::Attestation(conflict.second.clone()), lie);
    assert_eq!(conflict.grants, [old.clone(), new]);
    assert_eq!(verifier.value(5).unwrap().1, [2; 32]);
    let more = attest(&world.seed, &old, 8, &[[4; 32]]);
    assert_eq!(verifier.accept(&more, NOW), Err(EvidenceError::Contradicted));

    // Whoever is shown the proof comes to the same end.
    let mut other = world.verifier(Coordinators::Schedulers);
    let [first, second] = conflict.grants.clone().map(Evidence::Grant);
    for item in [first, second, Evidence::Attestation(conflict.second.clone())] {
        other.accept(&item, NOW).unwrap();
    }
    let outcome = other.accept(&Evidence::Attestation(conflict.first.clone()), NOW);
    assert!(matches!(outcome, Ok(Outcome::Conflict(_))), "{outcome:?}");
}

/// An origin that changes what it sends under one entity tag brings an honest host to two values.
#[test]
fn of_a_hosts_own_words_the_last_counts() {
    let world = World::new(OriginTrust::Members);
    let mut verifier = world.verifier(Coordinators::Schedulers);
    let (old, new) = (world.granted(&world.peer, 0..10, 1), world.granted(&world.peer, 0..10, 2));
    let (first, second) = (attest(&world.peer, &old, 5, &[[1; 32]]), attest(&world.peer, &new, 5, &[[2; 32]]));
    for bundle in [&old, &new] {
        verifier.accept(&Evidence::Grant(bundle.clone()), NOW).unwrap();
    }
    for item in [&first, &second] {
        assert_eq!(values(verifier.accept(item, NOW)).len(), 1);
    }
    assert_eq!(verifier.accept(&first, NOW), Ok(Outcome::Stale), "whoever shows it");
    assert_eq!(verifier.value(5).unwrap().1, [2; 32]);
}

#[test]
fn of_two_holders_the_one_of_the_higher_epoch_counts() {
    let world = World::new(OriginTrust::Members);
    let mut verifier = world.verifier(Coordinators::Schedulers);
    let (stale, fresh) = (world.granted(&world.peer, 0..10, 1), world.granted(&world.seed, 0..10, 2));
    for bundle in [&stale, &fresh] {
        verifier.accept(&Evidence::Grant(bundle.clone()), NOW).unwrap();
    }
    assert_eq!(values(verifier.accept(&attest(&world.peer, &stale, 0, &[[1; 32], [1; 32]]), NOW)).len(), 2);
    // An equal value is no news; a different one takes the stale one's place.
    let second = attest(&world.seed, &fresh, 0, &[[1; 32], [2; 32]]);
    assert_eq!(values(verifier.accept(&second, NOW)), [(1, [2; 32])]);
    assert_eq!(verifier.accept(&attest(&world.peer, &stale, 1, &[[1; 32]]), NOW), Ok(Outcome::Stale));
    assert_eq!(verifier.value(0).unwrap().0, world.peer.membership.peer_id());
    assert_eq!(verifier.value(1).unwrap(), (world.seed.membership.peer_id(), [2; 32]));
    // What no piece needs any more is let go.
    assert_eq!(
        values(verifier.accept(&attest(&world.seed, &world.granted(&world.seed, 0..10, 2), 2, &[[5; 32]]), NOW)).len(),
        1
    );
    assert_eq!(verifier.attestations.len(), 3);
    assert_eq!(values(verifier.accept(&attest(&world.seed, &fresh, 3, &[[5; 32]]), NOW)).len(), 1);
    let newest = world.granted(&world.scheduler, 0..10, 3);
    verifier.accept(&Evidence::Grant(newest.clone()), NOW).unwrap();
    values(verifier.accept(&attest(&world.scheduler, &newest, 0, &[[8; 32]; 4]), NOW));
    assert_eq!(verifier.attestations.len(), 1);
}

#[test]
fn seals_come_from_schedulers_and_seeds() {
    let world = World::new(OriginTrust::Members);
    let mut verifier = world.verifier(Coordinators::AnyMember);
    let seal = world.seal();
    assert_eq!(verifier.accept(&world.sealed(&world.peer, &seal), NOW), Err(EvidenceError::Sealer));
    let abroad = host(&world.founder, "b", Roles::SEED);
    assert_eq!(verifier.accept(&world.sealed(&abroad, &seal), NOW), Err(EvidenceError::Sealer));
    let longer = Seal { length: seal.length + 1, ..seal.clone() };
    assert_eq!(verifier.accept(&world.sealed(&world.seed, &longer), NOW), Err(EvidenceError::Layout));
    let other = Seal { generation: Generation::from_hash([7; 32]), ..seal.clone() };
    assert_eq!(verifier.accept(&world.sealed(&world.seed, &other), NOW), Err(EvidenceError::OtherGeneration));
    assert!(verifier.seal().is_none());
    let signer = world.seed.membership.peer_id();
    let expected = Outcome::Sealed { root: [9; 32], signer, digests: vec![] };
    assert_eq!(verifier.accept(&world.sealed(&world.seed, &seal), NOW), Ok(expected));
    assert!(verifier.seal().is_some());
    assert_eq!(verifier.accept(&world.sealed(&world.seed, &seal), NOW), Ok(Outcome::Known));
    assert_eq!(verifier.accept(&world.sealed(&world.scheduler, &seal), NOW), Ok(Outcome::Stale));
    let differs = Seal { root: [8; 32], ..seal };
    assert_eq!(verifier.accept(&world.sealed(&world.scheduler, &differs), NOW), Err(EvidenceError::Sealed));
}

#[test]
fn the_chain_of_batches_is_not_needed_to_believe_one() {
    let world = World::new(OriginTrust::Members);
    let mut verifier = world.verifier(Coordinators::Schedulers);
    let bundle = world.granted(&world.peer, 0..10, 1);
    verifier.accept(&Evidence::Grant(bundle.clone()), NOW).unwrap();
    let hash = statement::hash_of(&bundle.grant);
    let attestation = Attestation::new(hash, 7, [6; 32], 3, &[[1; 32]]);
    let item = Evidence::Attestation(sign_attestation(&world.peer.identity, &attestation));
    assert_eq!(values(verifier.accept(&item, NOW)), [(3, [1; 32])]);
}

/// Has it know so many grants of the peer's, and a value under each if `needed`.
fn flood(verifier: &mut EvidenceVerifier, world: &World, count: u32, needed: bool) {
    let bundle = world.granted(&world.peer, 0..10, 1);
    verifier.accept(&Evidence::Grant(bundle.clone()), NOW).unwrap();
    let parties = verifier.grants.remove(&statement::hash_of(&bundle.grant)).unwrap().parties;
    for number in 0..count {
        let mut grant = [0; 32];
        grant[..4].copy_from_slice(&number.to_be_bytes());
        let (bundle, parties, order) = (bundle.clone(), parties.clone(), verifier.next_grant);
        verifier.next_grant += 1;
        verifier.grants.insert(grant, Granted { bundle, parties, pieces: 0..10, epoch: 1, order, used: needed });
        if needed {
            let signer = world.peer.membership.peer_id();
            let attested =
                Attested { signed: Signed(vec![]), hash: grant, grant, signer, epoch: 1, pieces: 1, live: 1 };
            verifier.attestations.insert(u64::from(number), attested);
        }
    }
}

/// Those of the one that made most of them go, the older first, and not another's.
#[test]
fn grants_are_bounded() {
    let world = World::new(OriginTrust::Members);
    let mut verifier = world.verifier(Coordinators::Schedulers);
    let (before, after) = (world.granted(&world.scheduler, 0..10, 1), world.granted(&world.seed, 0..10, 1));
    verifier.accept(&Evidence::Grant(before.clone()), NOW).unwrap();
    flood(&mut verifier, &world, GRANTS_MAX as u32 - 1, false);
    assert_eq!(verifier.grants.len(), GRANTS_MAX);
    verifier.accept(&Evidence::Grant(after.clone()), NOW).unwrap();
    assert_eq!(verifier.grants.len(), GRANTS_MAX / 2 + 1);
    assert!(!verifier.grants.contains_key(&[0; 32]), "the oldest is gone");
    values(verifier.accept(&attest(&world.scheduler, &before, 0, &[[1; 32]]), NOW));
    values(verifier.accept(&attest(&world.seed, &after, 1, &[[1; 32]]), NOW));
}

#[test]
fn grants_that_show_values_stay() {
    let world = World::new(OriginTrust::Members);
    let mut verifier = world.verifier(Coordinators::Schedulers);
    flood(&mut verifier, &world, GRANTS_MAX as u32, true);
    let more = Evidence::Grant(world.granted(&world.seed, 0..10, 1));
    assert_eq!(verifier.accept(&more, NOW), Err(EvidenceError::Full));
}

#[test]
fn a_grant_is_worth_keeping_once_something_is_known_under_it() {
    let world = World::new(OriginTrust::Members);
    let mut verifier = world.verifier(Coordinators::Schedulers);
    let bundle = world.granted(&world.peer, 0..10, 1);
    verifier.accept(&Evidence::Grant(bundle.clone()), NOW).unwrap();
    for (piece, first) in [(0, true), (1, false)] {
        let outcome = verifier.accept(&attest(&world.peer, &bundle, piece, &[[1; 32]]), NOW);
        let Ok(Outcome::Values { grant, .. }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(grant.as_deref(), first.then_some(&bundle));
    }
}

#[test]
fn nothing_is_left_of_what_a_void_signer_said() {
    let world = World::new(OriginTrust::Members);
    let mut verifier = world.verifier(Coordinators::Schedulers);
    let (void, honest) = (world.granted(&world.peer, 0..10, 2), world.granted(&world.seed, 0..10, 1));
    for bundle in [&void, &honest] {
        verifier.accept(&Evidence::Grant(bundle.clone()), NOW).unwrap();
    }
    values(verifier.accept(&attest(&world.peer, &void, 0, &[[1; 32]; 2]), NOW));
    values(verifier.accept(&attest(&world.seed, &honest, 2, &[[2; 32]; 2]), NOW));
    verifier.void(&BTreeSet::from([world.peer.membership.peer_id()]));
    assert_eq!([0, 1].map(|piece| verifier.value(piece)), [None, None]);
    assert_eq!(verifier.value(2).unwrap().1, [2; 32]);
    assert_eq!(verifier.grants.len(), 1);
    // What was kept of it is known by its bytes, and what is new of it is refused.
    assert_eq!(verifier.accept(&Evidence::Grant(void.clone()), NOW), Ok(Outcome::Known));
    assert_eq!(verifier.accept(&attest(&world.peer, &void, 0, &[[1; 32]; 2]), NOW), Ok(Outcome::Known));
    let more = world.granted(&world.peer, 0..10, 7);
    assert_eq!(verifier.accept(&Evidence::Grant(more), NOW), Err(EvidenceError::Contradicted));
    assert_eq!([0, 1].map(|piece| verifier.value(piece)), [None, None]);
    values(verifier.accept(&attest(&world.seed, &honest, 0, &[[3; 32]]), NOW));
}

proptest! {
    #[test]
    fn no_bytes_make_the_verifier_panic_or_learn(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..2000, byte: u8) {
        let world = World::new(OriginTrust::Members);
        let mut verifier = world.verifier(Coordinators::AnyMember);
        let bundle = world.granted(&world.peer, 0..10, 1);
        let grant = Evidence::Grant(bundle.clone());
        verifier.accept(&grant, NOW).unwrap();
        let random = Signed(bytes.clone());
        let (grantor, holder) = (bytes.clone(), bytes.clone());
        let items = [
            Evidence::Attestation(random.clone()),
            Evidence::Grant(GrantBundle { grant: random.clone(), grantor, holder }),
            Evidence::Seal(SealBundle { seal: random, signer: bytes }),
        ];
        for item in items {
            prop_assert!(verifier.accept(&item, NOW).is_err());
        }

        // One byte of sound items changed: an error, unless it stayed what it was.
        for item in [attest(&world.peer, &bundle, 0, &[[1; 32]; 10]), world.sealed(&world.seed, &world.seal()), grant] {
            let mut encoded = minicbor::to_vec(&item).unwrap();
            let at = at % encoded.len();
            encoded[at] = byte;
            let Ok(changed) = minicbor::decode::<Evidence>(&encoded) else { continue };
            let mut fresh = world.verifier(Coordinators::AnyMember);
            fresh.accept(&Evidence::Grant(bundle.clone()), NOW).unwrap();
            let outcome = fresh.accept(&changed, NOW);
            prop_assert!(changed == item || matches!(outcome, Err(_) | Ok(Outcome::Known | Outcome::Stale)), "{outcome:?}");
        }
    }
}

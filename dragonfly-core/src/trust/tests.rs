#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;

use super::credential::{CHAIN_MAX, Chain, Delegation};
use super::key::{Secret, SigningKey};
use super::network::Network;
use super::token::Parts;
use super::*;
use crate::wire::Address;
use crate::wire::statement::{Evidence, Signed};

const NOW: u64 = 1_800_000_000;

fn founder() -> Membership {
    Membership::found(&Identity::generate(), OriginTrust::Members)
}

fn joined(token: &Token) -> Membership {
    Membership::join(&Identity::generate(), token)
}

fn checked(by: &Membership, of: &Membership) -> Result<Claims, CredentialError> {
    by.check(of.credential_bytes(), of.peer_id(), NOW)
}

fn address() -> Address {
    let address: Address = "/dns4/seed.example/tcp/4001".parse().unwrap();
    address.with_peer(Identity::generate().peer_id())
}

#[test]
fn a_token_survives_its_text_and_makes_a_member() {
    let founder = founder();
    let token = founder.token(Roles::PEER, Some(NOW + 10), vec![address()]).unwrap();
    let read = Token::from_text(&format!("\n {} \n", token.to_text())).unwrap();
    assert!(read == token);
    assert_eq!(read.addresses(), token.addresses());
    let member = joined(&read);
    let claims = checked(&founder, &member).unwrap();
    assert_eq!(claims, *member.claims());
    assert_eq!((claims.roles, claims.tenant.as_str(), claims.not_after), (Roles::PEER, "default", Some(NOW + 10)));
    assert_eq!(claims.token_ids, [token.id()]);
    assert_eq!(checked(&member, &founder).unwrap().roles, Roles::ALL);
    assert_eq!(member.tenant_key(), founder.tenant_key());
    assert_eq!(member.network_id(), founder.network_id());
    assert!(!member.is_founder() && founder.is_founder());
}

#[test]
fn no_secret_is_shown() {
    let founder = founder();
    let token = founder.token(Roles::ALL, None, vec![]).unwrap();
    let shown = format!("{token} {token:?} {founder:?} {:?}", Identity::generate());
    for secret in [&token.parts.gate, &token.parts.key, &token.parts.tenant_key] {
        for form in [format!("{:?}", secret.bytes()), data_encoding::HEXLOWER.encode(secret.bytes())] {
            assert!(!shown.contains(&form));
        }
    }
    assert!(!shown.contains("df1:"));
}

#[test]
fn a_token_that_is_cut_or_mistyped_says_so() {
    let text = founder().token(Roles::PEER, None, vec![address()]).unwrap().to_text();
    for length in 4..text.len() {
        assert_eq!(Token::from_text(&text[..length]), Err(TokenError::Checksum), "cut to {length}");
    }
    let swapped = if text.as_bytes()[60] == b'A' { "B" } else { "A" };
    assert_eq!(Token::from_text(&format!("{}{swapped}{}", &text[..60], &text[61..])), Err(TokenError::Checksum));
    assert_eq!(Token::from_text(&text.replacen("df1:", "df1:=", 1)), Err(TokenError::Character));
    assert_eq!(Token::from_text(&text.replacen("df1", "df2", 1)), Err(TokenError::Version));
    assert_eq!(Token::from_text(&text[4..]), Err(TokenError::Prefix));
    assert_eq!(Token::from_text(""), Err(TokenError::Prefix));
    assert_eq!(Token::from_text(&"df1:".repeat(5000)), Err(TokenError::TooLong));
}

#[test]
fn a_token_whose_parts_do_not_belong_together_is_refused() {
    let (ours, theirs) = (founder(), founder());
    let token = ours.token(Roles::PEER, None, vec![]).unwrap();
    let other = theirs.token(Roles::PEER, None, vec![]).unwrap();
    let with = |change: &dyn Fn(&mut Parts)| {
        let mut parts = token.parts.clone();
        change(&mut parts);
        Token::new(parts).map(|_| ())
    };
    assert_eq!(with(&|_| ()), Ok(()));
    let forged = Err(TokenError::Credential(CredentialError::Forged));
    assert_eq!(with(&|parts| parts.network = *theirs.network_id()), forged);
    assert_eq!(with(&|parts| parts.chain = other.parts.chain.clone()), forged);
    assert_eq!(with(&|parts| parts.key = other.parts.key.clone()), Err(TokenError::Key));
    assert_eq!(with(&|parts| parts.descriptor = other.parts.descriptor.clone()), Err(TokenError::Descriptor));
    assert_eq!(with(&|parts| parts.addresses = vec![address(); BOOTSTRAP_MAX + 1]), Err(TokenError::TooLong));
    assert_eq!(with(&|parts| parts.addresses = vec![address(); BOOTSTRAP_MAX]), Ok(()));
    let bare = address().without_peer();
    assert_eq!(with(&|parts| parts.addresses = vec![bare.clone()]), Err(TokenError::Address(bare.clone())));
}

#[test]
fn members_print_at_most_what_they_joined_with() {
    let founder = founder();
    let seed = joined(&founder.token(Roles::PEER.with(Roles::SEED), Some(NOW + 100), vec![]).unwrap());
    let widened = |result: Result<Token, TokenError>| matches!(result, Err(TokenError::Narrow(_)));
    assert!(widened(seed.token(Roles::SCHEDULER, None, vec![])));
    assert!(widened(seed.token(Roles::ALL, None, vec![])));
    assert!(widened(seed.token(Roles::NONE, None, vec![])));
    assert!(widened(seed.token(Roles::PEER, Some(NOW + 101), vec![])));
    assert!(widened(seed.tenant_token("other", Roles::PEER, None, vec![])));

    let mut member = seed;
    for depth in 2..=CHAIN_MAX {
        let token = member.token(Roles::PEER, None, vec![]).unwrap();
        assert_eq!(token.claims().not_after, Some(NOW + 100));
        member = joined(&Token::from_text(&token.to_text()).unwrap());
        assert_eq!(checked(&founder, &member).unwrap().token_ids.len(), depth);
        assert!(member.credential_bytes().len() <= CREDENTIAL_MAX);
    }
    assert!(widened(member.token(Roles::PEER, None, vec![])));
}

#[test]
fn the_longest_credential_fits_its_bound() {
    let tenant = "t".repeat(64);
    let mut member = joined(&founder().tenant_token(&tenant, Roles::ALL, Some(u64::MAX), vec![]).unwrap());
    for _ in 1..CHAIN_MAX {
        member = joined(&member.token(Roles::ALL, None, vec![]).unwrap());
    }
    assert!(member.credential_bytes().len() <= CREDENTIAL_MAX, "{}", member.credential_bytes().len());
}

/// A credential whose second link gives what `change` makes of the first, rightly signed by the first one's key.
fn second_link(change: impl Fn(&mut Delegation)) -> Result<Claims, CredentialError> {
    let (network, first, second) = (SigningKey::generate(), SigningKey::generate(), SigningKey::generate());
    let (id, holder) = (network.public(), Identity::generate().peer_id());
    let mut delegation = Delegation {
        token: TokenId::generate(),
        key: first.public(),
        roles: Roles::PEER.with(Roles::SEED),
        tenant: "a".into(),
        not_after: Some(NOW + 10),
    };
    let chain = Chain::empty().extended(&network, &id, &delegation);
    delegation.key = second.public();
    change(&mut delegation);
    let chain = chain.extended(&first, &id, &delegation);
    Credential::new(&chain, &second, &id, holder).check(&id, holder, NOW, &Revocations::default())
}

#[test]
fn a_link_that_gives_more_than_its_issuer_has_is_refused() {
    assert!(second_link(|_| ()).is_ok());
    assert!(second_link(|next| next.roles = Roles::SEED).is_ok());
    assert!(second_link(|next| next.not_after = Some(NOW + 5)).is_ok());
    let widened = Err(CredentialError::Widened);
    assert_eq!(second_link(|next| next.roles = Roles::ALL), widened);
    assert_eq!(second_link(|next| next.roles = Roles::SCHEDULER), widened);
    assert_eq!(second_link(|next| next.tenant = "b".into()), widened);
    assert_eq!(second_link(|next| next.not_after = None), widened);
    assert_eq!(second_link(|next| next.not_after = Some(NOW + 11)), widened);
    assert_eq!(second_link(|next| next.tenant = "a\nb".into()), Err(CredentialError::Malformed));
    assert_eq!(second_link(|next| next.not_after = Some(NOW)), Err(CredentialError::Expired));
    assert_eq!(second_link(|next| next.key = [7; 32]), Err(CredentialError::Forged));
}

#[test]
fn credentials_of_others_other_networks_or_with_changed_bytes_are_refused() {
    let (ours, theirs) = (founder(), founder());
    let member = joined(&ours.token(Roles::PEER, None, vec![]).unwrap());
    let stranger = Identity::generate().peer_id();
    assert_eq!(ours.check(member.credential_bytes(), stranger, NOW), Err(CredentialError::OtherHolder));
    assert_eq!(checked(&theirs, &member), Err(CredentialError::Forged));
    for at in 0..member.credential_bytes().len() {
        let mut bytes = member.credential_bytes().to_vec();
        bytes[at] ^= 1;
        assert!(ours.check(&bytes, member.peer_id(), NOW).is_err(), "byte {at}");
    }
    let long = vec![0x80; CREDENTIAL_MAX + 1];
    assert_eq!(ours.check(&long, stranger, NOW), Err(CredentialError::Malformed));
    assert_eq!(ours.check(&[0x80], stranger, NOW), Err(CredentialError::UnknownKind));
}

#[test]
fn unknown_kinds_are_ignored_and_unknown_restrictions_are_not() {
    let ours = founder();
    // An item of kind 9 before the one that is known.
    let mut bytes = vec![0x82, 0x82, 0x09, 0x41, 0x00];
    bytes.extend_from_slice(&ours.credential_bytes()[1..]);
    assert!(ours.check(&bytes, ours.peer_id(), NOW).is_ok());

    // A delegation with a sixth field: it may restrict, so it is not to be ignored.
    let (network, key) = (SigningKey::generate(), SigningKey::generate());
    let id = network.public();
    let delegation = Delegation {
        token: TokenId::generate(),
        key: key.public(),
        roles: Roles::PEER,
        tenant: "a".into(),
        not_after: Some(1),
    };
    let mut longer = codec::encode(&delegation);
    assert_eq!(longer[0], 0x85);
    assert!(codec::decode_canonical::<Delegation>(&longer).is_some());
    longer[0] = 0x86;
    longer.push(0x00);
    assert!(codec::decode::<Delegation>(&longer).is_some());
    assert!(codec::decode_canonical::<Delegation>(&longer).is_none());
    assert_eq!(Chain::empty().check(&id).unwrap_err(), CredentialError::TooDeep);
    let chain = (0..=CHAIN_MAX).fold(Chain::empty(), |chain, _| chain.extended(&network, &id, &delegation));
    assert_eq!(chain.check(&id).unwrap_err(), CredentialError::TooDeep);
}

#[test]
fn expired_credentials_are_refused_from_that_second_on() {
    let founder = founder();
    let member = joined(&founder.token(Roles::PEER, Some(NOW), vec![]).unwrap());
    let check = |now| founder.check(member.credential_bytes(), member.peer_id(), now);
    assert!(check(NOW - 1).is_ok());
    assert_eq!(check(NOW), Err(CredentialError::Expired));
}

#[test]
fn revoking_a_token_or_a_peer_refuses_all_that_comes_from_it() {
    let mut founder = founder();
    let token = founder.token(Roles::ALL, None, vec![]).unwrap();
    let (parent, sibling) = (joined(&token), joined(&token));
    let child = joined(&parent.token(Roles::PEER, None, vec![]).unwrap());
    let mut bystander = joined(&founder.token(Roles::PEER, None, vec![]).unwrap());

    founder.revoke(&[], &[sibling.peer_id()]).unwrap();
    assert_eq!(checked(&founder, &sibling), Err(CredentialError::Revoked));
    assert!(checked(&founder, &parent).is_ok());
    let first = founder.revocations().signed().unwrap().clone();
    founder.revoke(&[token.id()], &[]).unwrap();
    let second = founder.revocations().signed().unwrap().clone();

    assert!(bystander.learn_revocations(&second).unwrap());
    assert!(!bystander.learn_revocations(&second).unwrap());
    assert!(!bystander.learn_revocations(&first).unwrap(), "an older list never wins");
    assert_eq!(bystander.revocations().serial(), 2);
    for refused in [&parent, &child, &sibling] {
        assert_eq!(checked(&bystander, refused), Err(CredentialError::Revoked));
    }
    assert!(checked(&founder, &bystander).is_ok());
}

#[test]
fn only_the_founder_revokes_and_the_list_is_bounded() {
    let mut ours = founder();
    let mut member = joined(&ours.token(Roles::ALL, None, vec![]).unwrap());
    assert!(matches!(member.revoke(&[], &[]), Err(MembershipError::NotFounder)));
    let mut theirs = founder();
    theirs.revoke(&[], &[ours.peer_id()]).unwrap();
    let foreign = theirs.revocations().signed().unwrap();
    assert_eq!(member.learn_revocations(foreign), Err(StatementError::OtherSigner));
    let ids = |n: usize| -> Vec<TokenId> { (0..n).map(|i| TokenId::from_bytes((i as u128).to_be_bytes())).collect() };
    assert!(ours.revoke(&ids(REVOKED_MAX), &[]).is_ok());
    assert!(member.learn_revocations(ours.revocations().signed().unwrap()).unwrap());
    assert!(matches!(
        ours.revoke(&ids(REVOKED_MAX + 1), &[]),
        Err(MembershipError::Statement(StatementError::TooLong))
    ));
}

#[test]
fn origin_trust_is_tightened_and_never_loosened() {
    let mut founder = founder();
    let mut member = joined(&founder.token(Roles::PEER, None, vec![]).unwrap());
    assert!(founder.may_attest(member.claims()));
    let before = founder.descriptor().clone();
    founder.trust_seeds_only().unwrap();
    assert!(member.learn_descriptor(founder.descriptor()).unwrap());
    assert!(!member.learn_descriptor(&before).unwrap());
    assert_eq!(member.origin_trust(), OriginTrust::Seeds);
    assert!(!member.may_attest(member.claims()) && member.may_attest(founder.claims()));

    let network = Network { key: SigningKey::generate(), tenant_root: Secret::generate() };
    let foreign = network.descriptor(9, OriginTrust::Seeds);
    assert!(matches!(member.learn_descriptor(&foreign), Err(MembershipError::Statement(_))));
    assert!(!OriginTrust::Seeds.allows(OriginTrust::Members));
}

#[test]
fn tenants_have_keys_of_their_own() {
    let founder = founder();
    let one = founder.tenant_token("one", Roles::PEER, None, vec![]).unwrap();
    let again = founder.tenant_token("one", Roles::PEER, None, vec![]).unwrap();
    assert_eq!(one.claims().tenant, "one");
    assert!(one.parts.tenant_key == again.parts.tenant_key);
    assert!(joined(&one).tenant_key() != founder.tenant_key());
    assert!(founder.tenant_token("../x", Roles::PEER, None, vec![]).is_err());
}

#[test]
fn an_identity_is_kept_private_and_bound_to_its_machine() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("new");
    let file = home.join("identity");
    let here = Some([1; 32]);
    let first = Identity::load_or_create_on(&home, here).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(&home).unwrap().count(), 1, "no temporary file is left");
    let load = |machine| Identity::load_or_create_on(&home, machine).map(|identity| identity.peer_id());
    assert_eq!(load(here).unwrap(), first.peer_id());
    assert_eq!(load(None).unwrap(), first.peer_id());
    let second = load(Some([2; 32])).unwrap();
    assert_ne!(second, first.peer_id());
    assert_eq!(load(Some([2; 32])).unwrap(), second);

    let whole = std::fs::read(&file).unwrap();
    for damaged in [&whole[..whole.len() - 1], &whole[..10], b"", &[&whole[..], b"x"].concat()] {
        std::fs::write(&file, damaged).unwrap();
        assert!(matches!(load(here), Err(FileError::Corrupt { .. })));
        assert_eq!(std::fs::read(&file).unwrap(), damaged, "never replaced");
    }
    std::fs::write(&file, &whole).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(load(here), Err(FileError::Open { mode: 0o640, .. })));
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
    assert!(matches!(load(here), Err(FileError::Io { .. })));
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert!(matches!(load(here), Err(FileError::Unfit { .. })));
}

#[test]
fn a_membership_survives_its_file_also_under_a_new_identity() {
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity::generate();
    assert!(Membership::load(dir.path(), &identity).unwrap().is_none());
    let mut founder = Membership::found(&identity, OriginTrust::Seeds);
    founder.revoke(&[], &[Identity::generate().peer_id()]).unwrap();
    founder.rotate_gate().unwrap();
    founder.save(dir.path()).unwrap();
    let mode = std::fs::metadata(dir.path().join("membership")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let loaded = Membership::load(dir.path(), &identity).unwrap().unwrap();
    assert_eq!(loaded.credential_bytes(), founder.credential_bytes());
    assert!(loaded.gates() == founder.gates() && loaded.gates().len() == 2);
    assert_eq!((loaded.is_founder(), loaded.revocations().serial()), (true, 1));
    assert_eq!((loaded.origin_trust(), loaded.tenant_key()), (OriginTrust::Seeds, founder.tenant_key()));
    let cloned = Membership::load(dir.path(), &Identity::generate()).unwrap().unwrap();
    assert_ne!(cloned.peer_id(), founder.peer_id());
    assert!(checked(&founder, &cloned).is_ok());

    let token = founder.token(Roles::PEER, None, vec![address()]).unwrap();
    let member = joined(&token);
    member.save(dir.path()).unwrap();
    let loaded = Membership::load(dir.path(), &identity).unwrap().unwrap();
    assert_eq!(loaded.bootstrap(), token.addresses());
    assert!(!loaded.is_founder());
    std::fs::write(dir.path().join("membership"), b"dragonfly membership 1\nabc").unwrap();
    assert!(matches!(Membership::load(dir.path(), &identity), Err(FileError::Corrupt { .. })));
}

#[test]
fn gate_secrets_rotate_by_token() {
    let mut ours = founder();
    let mut member = joined(&ours.token(Roles::PEER, None, vec![]).unwrap());
    assert!(matches!(member.rotate_gate(), Err(MembershipError::NotFounder)));
    let first = ours.gates()[0].clone();
    ours.rotate_gate().unwrap();
    let token = ours.token(Roles::PEER, None, vec![address()]).unwrap();
    member.adopt(&token).unwrap();
    member.adopt(&token).unwrap();
    assert!(member.gates() == ours.gates() && member.gates()[1] == first);
    assert_eq!(member.bootstrap(), token.addresses());
    ours.rotate_gate().unwrap();
    assert_eq!(ours.gates().len(), 2);
    assert!(!ours.gates().contains(&first));
    let foreign = founder().token(Roles::PEER, None, vec![]).unwrap();
    assert!(matches!(member.adopt(&foreign), Err(MembershipError::OtherNetwork)));
}

#[test]
fn roles_are_read_and_written() {
    assert_eq!("peer, seed".parse(), Ok(Roles::PEER.with(Roles::SEED)));
    assert_eq!(Roles::ALL.to_string().parse(), Ok(Roles::ALL));
    assert_eq!(Roles::NONE.to_string(), "none");
    assert!("admin".parse::<Roles>().is_err() && "".parse::<Roles>().is_err());
    let id = TokenId::generate();
    assert_eq!(id.to_string().parse(), Ok(id));
    assert_eq!("12".parse::<TokenId>(), Err(InvalidTokenId));
}

/// Tokens are written down and live long: this one must be readable by every later version.
#[test]
fn the_token_text_is_frozen() {
    let secret = |byte| Secret::from_bytes([byte; 32]);
    let network = Network { key: SigningKey::from_seed(secret(1)), tenant_root: secret(2) };
    let (id, key) = (network.key.public(), SigningKey::from_seed(secret(4)));
    let delegation = Delegation {
        token: TokenId::from_bytes([5; 16]),
        key: key.public(),
        roles: Roles::PEER.with(Roles::SEED),
        tenant: "default".into(),
        not_after: Some(NOW),
    };
    let address: Address = "/ip4/192.0.2.7/tcp/4001".parse().unwrap();
    let token = Token::new(Parts {
        network: id,
        gate: secret(3),
        tenant_key: network.tenant_key("default"),
        key: key.seed().clone(),
        chain: Chain::empty().extended(&network.key, &id, &delegation),
        descriptor: network.descriptor(1, OriginTrust::Seeds),
        addresses: vec![address.with_peer(crate::wire::PeerId::from_public_key(id))],
    });
    let frozen = include_str!("token-v1.txt");
    assert_eq!(token.unwrap().to_text(), frozen.trim());
    let read = Token::from_text(frozen).unwrap();
    assert_eq!(read.claims().roles, Roles::PEER.with(Roles::SEED));
    assert_eq!(read.origin_trust(), OriginTrust::Seeds);
}

proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in ".{0,80}") {
        let signed = Signed(bytes.clone());
        let peer = crate::wire::PeerId::from_public_key([1; 32]);
        let _ = Token::from_text(&text);
        let _ = Token::from_text(&format!("df1:{}", data_encoding::BASE64URL_NOPAD.encode(&bytes)));
        let _ = codec::decode::<Parts>(&bytes).map(Token::new);
        let _ = Credential::decode(&bytes).map(|shown| shown.check(&[1; 32], peer, 0, &Revocations::default()));
        let _ = Revocations::open(&signed, &[1; 32]);
        let _ = statement::open_grant(&signed);
        let _ = statement::open_attestation(&signed);
        let _ = statement::open_seal(&signed);
        let _ = open_record(&signed, peer);
        let _ = minicbor::decode::<Evidence>(&bytes);
    }

    #[test]
    fn no_damage_makes_a_sound_token_panic(at in 0usize..600, byte in any::<u8>()) {
        let token = founder().token(Roles::PEER, None, vec![address()]).unwrap();
        let mut bytes = codec::encode(&token.parts);
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Some(Ok(read)) = codec::decode::<Parts>(&bytes).map(Token::new) {
            let _ = joined(&read);
        }
    }
}

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;
use tokio_util::compat::TokioAsyncReadCompatExt as _;

use super::*;
use crate::trust::{Identity, OriginTrust, Roles};

const NOW: u64 = 1_800_000_000;

fn found() -> Membership {
    Membership::found(&Identity::generate(), OriginTrust::Members)
}

fn join(founder: &Membership, roles: Roles, not_after: Option<u64>) -> Membership {
    Membership::join(&Identity::generate(), &founder.token(roles, not_after, vec![]).unwrap())
}

struct End<'a> {
    membership: &'a Membership,
    binding: &'a [u8],
    sees: PeerId,
}

async fn run(end: End<'_>, io: tokio::io::DuplexStream, side: Side) -> Result<Admitted, Refused> {
    let local = end.membership.peer_id();
    admit_bound(&mut io.compat(), end.membership, side, local, end.sees, NOW, end.binding).await
}

/// Runs both ends; each drops its stream when it is done, as a caller does. Results: dialer's, listener's.
async fn meet(dialer: End<'_>, listener: End<'_>) -> [Result<Admitted, Refused>; 2] {
    let (a, b) = tokio::io::duplex(64);
    let (dialer, listener) = tokio::join!(run(dialer, a, Side::Dialer), run(listener, b, Side::Listener));
    [dialer, listener]
}

async fn between(dialer: &Membership, listener: &Membership) -> [Result<Admitted, Refused>; 2] {
    meet(
        End { membership: dialer, binding: &[], sees: listener.peer_id() },
        End { membership: listener, binding: &[], sees: dialer.peer_id() },
    )
    .await
}

#[tokio::test]
async fn members_admit_each_other_and_learn_the_others_claims() {
    let founder = found();
    let member = join(&founder, Roles::PEER, Some(NOW + 1));
    let [dialer, listener] = between(&member, &founder).await;
    let credential = founder.credential_bytes().to_vec();
    assert_eq!(dialer.unwrap(), Admitted { claims: founder.claims().clone(), credential, versions: VERSIONS.to_vec() });
    let credential = member.credential_bytes().to_vec();
    assert_eq!(
        listener.unwrap(),
        Admitted { claims: member.claims().clone(), credential, versions: VERSIONS.to_vec() }
    );
}

#[tokio::test]
async fn what_follows_is_left_in_the_stream() {
    let founder = found();
    let member = join(&founder, Roles::PEER, None);
    let (a, b) = tokio::io::duplex(4096);
    let (mut a, mut b) = (a.compat(), b.compat());
    let (ours, theirs) = (member.peer_id(), founder.peer_id());
    let dial = async {
        admit(&mut a, &member, Side::Dialer, ours, theirs, NOW).await.unwrap();
        a.get_mut().write_all(b"hello").await.unwrap();
    };
    let listen = async {
        admit(&mut b, &founder, Side::Listener, theirs, ours, NOW).await.unwrap();
        let mut next = [0; 5];
        b.read_exact(&mut next).await.unwrap();
        next
    };
    assert_eq!(&tokio::join!(dial, listen).1, b"hello");
}

#[tokio::test]
async fn another_network_is_refused_in_silence() {
    let (ours, theirs) = (found(), found());
    let [dialer, listener] = between(&ours, &theirs).await;
    assert!(matches!(dialer, Err(Refused::Closed)), "{dialer:?}");
    assert!(matches!(listener, Err(Refused::Stranger)), "{listener:?}");
}

#[tokio::test]
async fn a_wrong_secret_is_refused_on_either_side_also_with_a_sound_credential() {
    let founder = found();
    let mut outdated = join(&founder, Roles::PEER, None);
    let mut newer = founder.clone();
    newer.rotate_gate().unwrap();
    newer.rotate_gate().unwrap();
    let [dialer, listener] = between(&outdated, &newer).await;
    assert!(matches!((&dialer, &listener), (Err(Refused::Closed), Err(Refused::Stranger))), "{dialer:?} {listener:?}");
    let [dialer, listener] = between(&newer, &outdated).await;
    assert!(matches!((&dialer, &listener), (Err(Refused::Closed), Err(Refused::Stranger))), "{dialer:?} {listener:?}");
    outdated.adopt(&newer.token(Roles::PEER, None, vec![]).unwrap()).unwrap();
    assert!(between(&outdated, &newer).await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn the_secret_before_the_newest_still_opens() {
    let mut founder = found();
    let member = join(&founder, Roles::PEER, None);
    founder.rotate_gate().unwrap();
    assert!(between(&member, &founder).await.iter().all(Result::is_ok));
    founder.rotate_gate().unwrap();
    assert!(between(&member, &founder).await.iter().all(Result::is_err));
}

#[tokio::test]
async fn a_listener_that_cannot_prove_itself_gets_no_credential() {
    let founder = found();
    let member = join(&founder, Roles::PEER, None);
    let (a, b) = tokio::io::duplex(4096);
    let (mut a, mut b) = (a.compat(), b.compat());
    let fake = async {
        let mut io = Run { io: &mut b, membership: &founder, remote: member.peer_id(), now_unix: NOW };
        io.read(HELLO_MAX).await.unwrap();
        let hello = Hello { versions: vec![1], nonce: [0; 32], key_id: None };
        io.write(&[&codec::encode(&hello)]).await.unwrap();
        let mac = io.read(MAC_LEN).await.unwrap();
        // It has a true credential, and plays the dialer's own proof back.
        io.write(&[&mac, founder.credential_bytes()]).await.unwrap();
        io.read(CREDENTIAL_MAX).await
    };
    let dial = async {
        let result = admit(&mut a, &member, Side::Dialer, member.peer_id(), founder.peer_id(), NOW).await;
        drop(a);
        result
    };
    let (dialer, got) = tokio::join!(dial, fake);
    assert!(matches!(dialer, Err(Refused::Stranger)), "{dialer:?}");
    assert!(matches!(got, Err(Refused::Closed)), "{got:?}");
}

#[tokio::test]
async fn revoked_and_expired_members_are_refused_in_silence() {
    let mut founder = found();
    let expired = join(&founder, Roles::PEER, Some(NOW));
    let revoked = join(&founder, Roles::PEER, None);
    founder.revoke(&[], &[revoked.peer_id()]).unwrap();
    for (member, rule) in [(&expired, CredentialError::Expired), (&revoked, CredentialError::Revoked)] {
        let [dialer, listener] = between(member, &founder).await;
        assert!(matches!(dialer, Err(Refused::Closed)), "{dialer:?}");
        assert!(matches!(listener, Err(Refused::Credential(found)) if found == rule), "{listener:?}");
        let [dialer, listener] = between(&founder, member).await;
        assert!(matches!(dialer, Err(Refused::Credential(found)) if found == rule), "{dialer:?}");
        assert!(matches!(listener, Err(Refused::Closed)), "{listener:?}");
    }
}

#[tokio::test]
async fn one_in_the_middle_and_another_session_are_refused() {
    let founder = found();
    let member = join(&founder, Roles::PEER, None);
    let other = Identity::generate().peer_id();
    // Messages are carried over by someone who is neither: the security layers saw another peer.
    let [dialer, listener] = meet(
        End { membership: &member, binding: &[], sees: other },
        End { membership: &founder, binding: &[], sees: other },
    )
    .await;
    assert!(matches!((&dialer, &listener), (Err(Refused::Closed), Err(Refused::Stranger))), "{dialer:?} {listener:?}");
    let [dialer, listener] = meet(
        End { membership: &member, binding: b"one session", sees: founder.peer_id() },
        End { membership: &founder, binding: b"another one", sees: member.peer_id() },
    )
    .await;
    assert!(matches!((&dialer, &listener), (Err(Refused::Closed), Err(Refused::Stranger))), "{dialer:?} {listener:?}");
}

#[tokio::test]
async fn a_host_does_not_admit_itself() {
    let founder = found();
    let [dialer, listener] = between(&founder, &founder).await;
    assert!(matches!((&dialer, &listener), (Err(Refused::Itself), Err(Refused::Itself))));
}

#[tokio::test]
async fn a_dialer_of_no_common_version_is_refused() {
    let founder = found();
    let member = join(&founder, Roles::PEER, None);
    let (a, b) = tokio::io::duplex(4096);
    let (mut a, mut b) = (a.compat(), b.compat());
    let dial = async {
        let mut io = Run { io: &mut a, membership: &member, remote: founder.peer_id(), now_unix: NOW };
        let gate = &member.gates()[0];
        let hello = Hello { versions: vec![999], nonce: [7; 32], key_id: Some(key_id(gate, &[7; 32])) };
        let mut transcript = Transcript::new(member.peer_id(), founder.peer_id(), &[]);
        transcript.dialer = codec::encode(&hello);
        io.write(&[&transcript.dialer]).await.unwrap();
        transcript.listener = io.read(HELLO_MAX).await.unwrap();
        io.write(&[&transcript.mac(gate, Side::Dialer)]).await.unwrap();
    };
    let listen = admit(&mut b, &founder, Side::Listener, founder.peer_id(), member.peer_id(), NOW);
    let ((), listener) = tokio::join!(dial, listen);
    assert!(matches!(listener, Err(Refused::Version)), "{listener:?}");
}

#[test]
fn the_mac_is_frozen() {
    let gate = Secret::from_bytes([3; 32]);
    let mut transcript =
        Transcript::new(PeerId::from_public_key([1; 32]), PeerId::from_public_key([2; 32]), b"binding");
    let hello = Hello { versions: vec![1], nonce: [4; 32], key_id: Some(key_id(&gate, &[4; 32])) };
    transcript.dialer = codec::encode(&hello);
    transcript.listener = codec::encode(&Hello { versions: vec![1, 2], nonce: [5; 32], key_id: None });
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    assert_eq!(
        hex(&transcript.dialer),
        "8381015820040404040404040404040404040404040404040404040404040404040404040448cc3750a2b60b66e5"
    );
    assert_eq!(
        hex(&transcript.mac(&gate, Side::Dialer)),
        "675193be461e953958b5ba592ec66fa0562e27393f563de8c80457f9101e75a4"
    );
    assert_eq!(
        hex(&transcript.mac(&gate, Side::Listener)),
        "d72c148b20f03b05da7557fbc80c8548f8653fdd6ce815872a99be311ba5b4df"
    );
}

proptest! {
    #[test]
    fn no_bytes_make_either_side_panic_or_admit(bytes in proptest::collection::vec(any::<u8>(), 0..400), framed in any::<bool>()) {
        let founder = found();
        let remote = Identity::generate().peer_id();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for side in [Side::Dialer, Side::Listener] {
            let result = runtime.block_on(async {
                let (a, mut b) = tokio::io::duplex(8192);
                if framed {
                    let hello = codec::encode(&Hello { versions: vec![1], nonce: [0; 32], key_id: None });
                    b.write_all(&(hello.len() as u16).to_be_bytes()).await.unwrap();
                    b.write_all(&hello).await.unwrap();
                }
                b.write_all(&bytes).await.unwrap();
                b.shutdown().await.unwrap();
                admit(&mut a.compat(), &founder, side, founder.peer_id(), remote, NOW).await
            });
            prop_assert!(result.is_err());
        }
    }
}

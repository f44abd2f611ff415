//! Lanes between real sockets: who gets in, who does not, and when one ends.

use std::net::Ipv4Addr;
use std::sync::atomic::AtomicU64;

use futures::future::BoxFuture;
use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::identity::Keypair;
use rcgen::{CertificateParams, CustomExtension, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::super::{Admission, Duplex, Host, HostConfig, Limits, Refused};
use super::*;

mod plain;

const LANE: &str = "/test/lane/1";

/// Admits who says the same secret, and notes what the proofs are to be bound to.
struct Secret {
    secret: [u8; 8],
    bindings: Mutex<Vec<Vec<u8>>>,
    /// The end of the credentials that it finds, in seconds since 1970; 0 is none.
    not_after: AtomicU64,
}

impl Admission for Secret {
    fn admit<'a>(
        &'a self,
        io: &'a mut dyn Duplex,
        _: bool,
        _: PeerId,
        remote: PeerId,
        binding: &'a [u8],
    ) -> BoxFuture<'a, Result<super::super::Admitted, Refused>> {
        Box::pin(async move {
            let mut theirs = [0; 8];
            let said = async {
                io.write_all(&self.secret).await?;
                io.flush().await?;
                io.read_exact(&mut theirs).await
            };
            said.await.map_err(|e| Refused::new(e.to_string()))?;
            if theirs != self.secret {
                return Err(Refused::new("another secret"));
            }
            self.bindings.lock().unwrap().push(binding.to_vec());
            let not_after = Some(self.not_after.load(Ordering::Relaxed)).filter(|end| *end > 0);
            Ok(super::super::Admitted { claims: Arc::new(remote), not_after })
        })
    }
}

struct Member {
    host: Host,
    incoming: mpsc::Receiver<Incoming>,
    admission: Arc<Secret>,
}

impl Member {
    fn start(seed: u8, secret: &[u8; 8], limits: Limits) -> Self {
        Self::set(seed, secret, limits, false)
    }

    /// `plain`: whether it lets lanes go on without encryption.
    fn set(seed: u8, secret: &[u8; 8], limits: Limits, plain: bool) -> Self {
        let bindings = Mutex::default();
        let admission = Arc::new(Secret { secret: *secret, bindings, not_after: AtomicU64::new(0) });
        let listen = vec![(Ipv4Addr::LOCALHOST, 0).into()];
        let config = HostConfig {
            protocols: vec![LANE],
            lanes: Some((LANE, LaneConfig { listen, plain, ..LaneConfig::default() })),
            limits,
            ..HostConfig::new([seed; 32], admission.clone())
        };
        let (host, mut queues) = Host::start(config, &Handle::current()).unwrap();
        Self { host, incoming: queues.remove(LANE).unwrap(), admission }
    }

    fn new(seed: u8) -> Self {
        Self::of(seed, false)
    }

    fn of(seed: u8, plain: bool) -> Self {
        Self::set(seed, b"members!", Limits::default(), plain)
    }

    fn socket(&self) -> SocketAddr {
        self.host.lane_listeners()[0].lane().unwrap()
    }

    async fn dial(&self, other: &Self) -> Result<Stream, DialError> {
        self.host.lane(other.host.local(), &other.host.lane_listeners()).await
    }

    /// Lanes are neither open nor known of.
    async fn has_none(&self) {
        soon(async {
            while !self.host.peers().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// A bound that only a broken host reaches.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("nothing happened for a minute")
}

#[tokio::test]
async fn bytes_go_both_ways_and_both_ends_are_proven() {
    for plain in [false, true] {
        carries(plain).await;
    }
}

async fn carries(plain: bool) {
    let (a, mut b) = (Member::of(1, plain), Member::of(2, plain));
    let mut ours = soon(a.dial(&b)).await.unwrap();
    let mut theirs = soon(b.incoming.recv()).await.unwrap();
    assert_eq!((theirs.peer, theirs.protocol), (a.host.local(), LANE));
    assert_eq!(theirs.remote_ip, Some(Ipv4Addr::LOCALHOST.into()));
    assert_eq!(a.host.claims(b.host.local()).unwrap().downcast_ref::<PeerId>(), Some(&b.host.local()));
    assert_eq!(b.host.claims(a.host.local()).unwrap().downcast_ref::<PeerId>(), Some(&a.host.local()));
    assert_eq!((a.host.peers(), b.host.peers()), (vec![b.host.local()], vec![a.host.local()]));
    assert!(!a.host.is_connected(b.host.local()), "no libp2p connection is behind it");

    let content: Vec<u8> = (0..3_u32 << 20).map(|n| (n ^ (n >> 9)) as u8).collect();
    let echo = async {
        let mut bytes = vec![0; content.len()];
        theirs.stream.read_exact(&mut bytes).await.unwrap();
        theirs.stream.write_all(&bytes).await.unwrap();
        theirs.stream.shutdown().await.unwrap();
    };
    let (mut input, mut output) = tokio::io::split(&mut ours);
    let mut back = Vec::new();
    let send = async {
        output.write_all(&content).await.unwrap();
        output.flush().await.unwrap();
    };
    let receive = async { input.read_to_end(&mut back).await.unwrap() };
    soon(async { tokio::join!(echo, send, receive) }).await;
    assert!(back == content);

    drop((ours, theirs));
    a.has_none().await;
    b.has_none().await;
    assert!(a.host.claims(b.host.local()).is_none());
}

/// What is fast on this processor, and little in the kernel that nobody can take back: at both ends.
#[tokio::test]
async fn a_lane_has_the_suite_and_the_socket_that_it_should() {
    let (a, mut b) = (Member::new(1), Member::new(2));
    let ours = soon(a.dial(&b)).await.unwrap();
    let theirs = soon(b.incoming.recv()).await.unwrap().stream;
    let suite = match tls::has_aes() {
        true => rustls::CipherSuite::TLS13_AES_128_GCM_SHA256,
        false => rustls::CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    };
    for stream in [&ours, &theirs] {
        let Wire::Tls(tls) = &stream.lane().unwrap().wire else { panic!("nobody let it go on without TLS") };
        let (ahead, session) = tls.get_ref();
        assert_eq!(session.negotiated_cipher_suite().unwrap().suite(), suite);
        assert_eq!(session.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        let socket = socket2::SockRef::from(ahead.tcp());
        assert!(socket.tcp_nodelay().unwrap());
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), NOT_SENT_BYTES);
    }
}

#[tokio::test]
async fn proofs_are_bound_to_the_session() {
    for plain in [false, true] {
        binds(plain).await;
    }
}

async fn binds(plain: bool) {
    let (a, b) = (Member::of(1, plain), Member::of(2, plain));
    let lanes = (soon(a.dial(&b)).await.unwrap(), soon(a.dial(&b)).await.unwrap());
    let (ours, theirs) = (a.admission.bindings.lock().unwrap().clone(), b.admission.bindings.lock().unwrap().clone());
    assert_eq!(ours, theirs, "both ends see the same");
    assert_eq!(ours.len(), 2);
    assert_ne!(ours[0], ours[1], "and no other session does");
    assert!(ours.iter().all(|binding| binding.len() == 32));
    drop(lanes);
}

#[tokio::test]
async fn who_is_not_expected_there_or_no_member_is_refused() {
    for plain in [false, true] {
        refuses_others(plain).await;
    }
}

async fn refuses_others(plain: bool) {
    let (a, b, c) = (Member::of(1, plain), Member::of(2, plain), Member::of(3, plain));
    let error = soon(a.host.lane(c.host.local(), &b.host.lane_listeners())).await.unwrap_err();
    assert!(matches!(error, DialError::Failed { .. }), "{error}");
    assert!(b.admission.bindings.lock().unwrap().is_empty(), "nothing was proven to the wrong peer");

    let mut stranger = Member::set(4, b"stranger", Limits::default(), plain);
    soon(stranger.dial(&b)).await.unwrap_err();
    soon(b.dial(&stranger)).await.unwrap_err();
    b.has_none().await;
    stranger.has_none().await;
    stranger.host.clone().shutdown().await;
    assert!(stranger.incoming.recv().await.is_none());

    assert!(matches!(a.dial(&a).await, Err(DialError::Itself)));
    assert!(matches!(a.host.lane(b.host.local(), &[]).await, Err(DialError::NoAddress { .. })));
}

#[tokio::test]
async fn a_lane_ends_with_the_credential_the_peer_and_the_host() {
    for plain in [false, true] {
        ends(plain).await;
    }
}

async fn ends(plain: bool) {
    let (a, mut b) = (Member::of(1, plain), Member::of(2, plain));
    let mut lane = soon(a.dial(&b)).await.unwrap();
    let incoming = soon(b.incoming.recv()).await.unwrap();
    b.host.disconnect(a.host.local());
    let mut theirs = incoming.stream;
    assert_eq!(theirs.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    drop(theirs);
    assert!(soon(lane.read_u8()).await.is_err());

    // In the past: it ends at once, and so on both sides.
    a.admission.not_after.store(1, Ordering::Relaxed);
    let mut lane = soon(a.dial(&b)).await.unwrap();
    assert_eq!(soon(lane.read_u8()).await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    a.admission.not_after.store(0, Ordering::Relaxed);

    let mut lane = soon(a.dial(&b)).await.unwrap();
    let socket = b.socket();
    soon(b.host.clone().shutdown()).await;
    while let Ok(incoming) = b.incoming.try_recv() {
        let mut theirs = incoming.stream;
        assert!(theirs.read_u8().await.is_err());
    }
    assert!(soon(lane.read_u8()).await.is_err());
    assert!(TcpStream::connect(socket).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn strangers_hold_few_handshakes() {
    let limits = Limits { handshakes_per_ip: 2, handshake_timeout: Duration::from_secs(3600), ..Limits::default() };
    let (a, b) = (Member::new(1), Member::start(2, b"members!", limits));
    let mut held = Vec::new();
    let dropped = soon(async {
        loop {
            let mut silent = TcpStream::connect(b.socket()).await.unwrap();
            if held.len() >= 2 {
                // One too many: it is closed, not answered.
                return silent.read(&mut [0]).await.map_or(0, |count| count);
            }
            held.push(silent);
        }
    });
    assert_eq!(dropped.await, 0);
    soon(a.dial(&b)).await.unwrap_err();
    drop(held);
    // As soon as these are gone there is room again.
    soon(async {
        while a.dial(&b).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Whoever opens them: one too many is closed at once, and its place is free again.
#[tokio::test]
async fn open_lanes_are_bounded() {
    let (a, mut b, c) = (Member::new(1), Member::new(2), Member::new(3));
    let mut open = Vec::new();
    for number in 0..super::LANES_MAX {
        // Either has room for more itself.
        let from = if number % 2 == 0 { &a } else { &c };
        let ours = soon(from.dial(&b)).await.unwrap();
        open.push((ours, soon(b.incoming.recv()).await.unwrap()));
    }
    assert_eq!((b.host.lanes_open(), b.host.overflowed()), (super::LANES_MAX, 0));
    for round in 1..=3 {
        if let Ok(mut more) = soon(a.dial(&b)).await {
            let heard = soon(more.read(&mut [0])).await;
            assert!(matches!(heard, Ok(0) | Err(_)), "{heard:?}");
        }
        soon(async {
            while b.host.overflowed() < round {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert!(b.incoming.try_recv().is_err(), "nobody hears of it");
        assert_eq!((b.host.lanes_open(), b.host.overflowed()), (super::LANES_MAX, round));
    }
    soon(b.dial(&a)).await.unwrap_err();
    // One that was let in and is over gives its place to the next.
    drop(open.pop());
    open.push((soon(c.dial(&b)).await.unwrap(), soon(b.incoming.recv()).await.unwrap()));
    assert_eq!((b.host.lanes_open(), b.host.overflowed()), (super::LANES_MAX, 3));
    drop(open);
    // What was dialled at `a` may wait there for somebody to take it.
    for member in [b, c] {
        member.has_none().await;
    }
}

/// A key, and a certificate for it that claims to be `identity`'s.
struct Forged {
    identity: Keypair,
    signer: Keypair,
    age: std::ops::Range<i32>,
}

impl Forged {
    fn sound(seed: u8) -> Self {
        let identity = Keypair::ed25519_from_bytes([seed; 32]).unwrap();
        Self { signer: identity.clone(), identity, age: 2000..4000 }
    }

    fn make(&self) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let message = [b"libp2p-tls-handshake:".as_slice(), &key.subject_public_key_info()].concat();
        let signature = self.signer.sign(&message).unwrap();
        let octets = |bytes: &[u8]| [&[0x04, bytes.len() as u8], bytes].concat();
        let inner = [octets(&self.identity.public().encode_protobuf()), octets(&signature)].concat();
        let content = [&[0x30, inner.len() as u8], inner.as_slice()].concat();
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 53594, 1, 1], content);
        extension.set_criticality(true);
        let mut params = CertificateParams::default();
        params.custom_extensions.push(extension);
        params.not_before = rcgen::date_time_ymd(self.age.start, 1, 1);
        params.not_after = rcgen::date_time_ymd(self.age.end, 1, 1);
        let certificate = params.self_signed(&key).unwrap();
        (certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }
}

/// Connects as a TLS client that believes everything; `Ok` if the other end let it finish and said something.
async fn attack(to: &Member, config: rustls::ClientConfig) -> io::Result<u8> {
    let tcp = TcpStream::connect(to.socket()).await?;
    let name = ServerName::IpAddress(to.socket().ip().into());
    let mut tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
    // The admission says its secret first: who hears it was taken for somebody.
    tls.read_u8().await
}

/// A client's settings with a certificate chain and a key of one's own choice.
fn client(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    alpn: &[&[u8]],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> rustls::ClientConfig {
    #[derive(Debug)]
    struct Believer;
    impl rustls::client::danger::ServerCertVerifier for Believer {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: rustls::pki_types::UnixTime,
        ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
            Ok(rustls::client::danger::ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
        }
    }
    #[derive(Debug)]
    struct Always(Arc<rustls::sign::CertifiedKey>);
    impl rustls::client::ResolvesClientCert for Always {
        fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
            (!self.0.cert.is_empty()).then(|| Arc::clone(&self.0))
        }
        fn has_certs(&self) -> bool {
            !self.0.cert.is_empty()
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = provider.key_provider.load_private_key(key).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Believer))
        .with_client_cert_resolver(Arc::new(Always(Arc::new(rustls::sign::CertifiedKey::new(chain, key)))));
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}

#[tokio::test]
async fn forged_certificates_and_other_protocols_are_refused() {
    for plain in [false, true] {
        refuses_forgers(plain).await;
    }
}

async fn refuses_forgers(plain: bool) {
    let to = Member::of(1, plain);
    let lane: &[&[u8]] = if plain { &[tls::ALPN_PLAIN, tls::ALPN] } else { &[tls::ALPN] };
    let other_mode: &[&[u8]] = if plain { &[b"dragonfly-lane-plain/2"] } else { &[tls::ALPN_PLAIN] };
    let tls13: &[&'static rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
    let (certificate, key) = Forged::sound(7).make();
    let sound = client(vec![certificate.clone()], key.clone_key(), lane, tls13);
    assert_eq!(soon(attack(&to, sound)).await.unwrap(), b'm', "as it should be, it comes as far as the admission");

    let other = Keypair::ed25519_from_bytes([8; 32]).unwrap();
    let forged = Forged { signer: other, ..Forged::sound(7) }.make();
    let expired = Forged { age: 2000..2020, ..Forged::sound(7) }.make();
    let coming = Forged { age: 3000..4000, ..Forged::sound(7) }.make();
    let (second, _) = Forged::sound(9).make();
    let (_, other_key) = Forged::sound(7).make();
    let refused = [
        ("signed by another identity", client(vec![forged.0], forged.1, lane, tls13)),
        ("expired", client(vec![expired.0], expired.1, lane, tls13)),
        ("not valid yet", client(vec![coming.0], coming.1, lane, tls13)),
        ("stolen: the key is another", client(vec![certificate.clone()], other_key, lane, tls13)),
        ("two certificates", client(vec![certificate.clone(), second], key.clone_key(), lane, tls13)),
        ("none", client(Vec::new(), key.clone_key(), lane, tls13)),
        ("no protocol named", client(vec![certificate.clone()], key.clone_key(), &[], tls13)),
        ("another protocol", client(vec![certificate.clone()], key.clone_key(), &[b"libp2p"], tls13)),
        ("a protocol of another mode", client(vec![certificate.clone()], key.clone_key(), other_mode, tls13)),
        ("TLS 1.2", client(vec![certificate.clone()], key.clone_key(), lane, &[&rustls::version::TLS12])),
    ];
    for (what, config) in refused {
        assert!(soon(attack(&to, config)).await.is_err(), "{what}");
    }
    let mut plain = TcpStream::connect(to.socket()).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: lane\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = soon(plain.read_to_end(&mut answer)).await;
    // An alert at most.
    assert!(answer.len() <= 7, "{answer:?}");
    to.has_none().await;
}

#[tokio::test]
async fn nothing_can_be_resumed() {
    for plain in [false, true] {
        resumes_nothing(plain).await;
    }
}

async fn resumes_nothing(plain: bool) {
    let to = Member::of(1, plain);
    let (certificate, key) = Forged::sound(7).make();
    let config = client(
        vec![certificate],
        key,
        if plain { &[tls::ALPN_PLAIN] } else { &[tls::ALPN] },
        &[&rustls::version::TLS13],
    );
    let config = Arc::new(config);
    for _ in 0..2 {
        let tcp = TcpStream::connect(to.socket()).await.unwrap();
        let name = ServerName::IpAddress(to.socket().ip().into());
        let mut tls = soon(TlsConnector::from(Arc::clone(&config)).connect(name, tcp)).await.unwrap();
        assert_eq!(soon(tls.read_u8()).await.unwrap(), b'm');
        let (_, session) = tls.get_ref();
        assert_eq!(session.handshake_kind(), Some(rustls::HandshakeKind::Full));
        assert_eq!(session.tls13_tickets_received(), 0);
    }
}

/// The other implementation of the specification, with our name for the protocol.
#[tokio::test]
async fn libp2p_tls_is_understood_both_ways() {
    let us = Member::new(1);
    let them = Keypair::ed25519_from_bytes([7; 32]).unwrap();
    let mut config = libp2p_tls::make_client_config(&them, Some(us.host.local().to_libp2p())).unwrap();
    config.alpn_protocols = vec![tls::ALPN.to_vec()];
    assert_eq!(soon(attack(&us, config)).await.unwrap(), b'm');

    let mut config = libp2p_tls::make_server_config(&them).unwrap();
    config.alpn_protocols = vec![tls::ALPN.to_vec()];
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = Address::of_lane(listener.local_addr().unwrap());
    let serve = async {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut tls = TlsAcceptor::from(Arc::new(config)).accept(tcp).await.unwrap();
        let mut said = [0; 8];
        tls.read_exact(&mut said).await.unwrap();
        let (_, session) = tls.get_ref();
        let certificates = session.peer_certificates().unwrap();
        assert_eq!(tls::peer_of(Some(certificates)).unwrap(), us.host.local());
        said
    };
    let peer = PeerId::from_libp2p(&them.public().to_peer_id()).unwrap();
    let addresses = [address];
    let dial = us.host.lane(peer, &addresses);
    let (said, dialled) = soon(async { tokio::join!(serve, dial) }).await;
    assert_eq!(&said, b"members!");
    dialled.unwrap_err();
}

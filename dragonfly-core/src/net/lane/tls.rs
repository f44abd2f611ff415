//! TLS 1.3 between two hosts, each known by the key of its identity: certificates as the libp2p TLS specification has
//! them (<https://github.com/libp2p/specs/blob/master/tls/tls.md>), nothing resumed, nothing sent early.

use std::sync::Arc;

use libp2p::identity::Keypair;
use libp2p_tls::certificate;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    SupportedCipherSuite,
};

use super::super::error::StartError;
use crate::wire::PeerId;

/// What both ends must have agreed on. The version of the lane is in it: headers are fixed for each.
pub(super) const ALPN: &[u8] = b"dragonfly-lane/1";

/// The same, of both ends whose operators let lanes go on without encryption.
pub(super) const ALPN_PLAIN: &[u8] = b"dragonfly-lane-plain/1";

/// The signatures that a certificate's key may make, best first. The specification forbids nothing else, but every
/// host makes an ECDSA key on P-256.
const SCHEMES: &[SignatureScheme] =
    &[SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP384_SHA384];

/// This host's end of every lane's TLS.
pub(super) struct Tls {
    client: ClientConfig,
    server: Arc<ServerConfig>,
}

impl Tls {
    /// Makes a certificate with a fresh key, signed by this host's identity. `plain`: whether lanes without encryption are
    /// offered.
    pub(super) fn new(keypair: &Keypair, plain: bool) -> Result<Self, StartError> {
        let failed = |e: Box<dyn std::error::Error + Send + Sync>| StartError::Identity(e);
        let (certificate, key) = certificate::generate(keypair).map_err(|e| failed(Box::new(e)))?;
        let provider = Arc::new(provider());
        let key = provider.key_provider.load_private_key(key).map_err(|e| failed(Box::new(e)))?;
        // Not checked against each other by rustls, which refuses the critical extension that it does not know.
        let own = Arc::new(Own(Arc::new(CertifiedKey::new(vec![certificate], key))));

        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| failed(Box::new(e)))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier { expected: None }))
            .with_client_cert_resolver(Arc::clone(&own) as _);
        client.alpn_protocols = names(plain);
        // A resumed session skips the verifier.
        client.resumption = Resumption::disabled();
        client.enable_sni = false;

        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| failed(Box::new(e)))?
            .with_client_cert_verifier(Arc::new(Verifier { expected: None }))
            .with_cert_resolver(own);
        server.alpn_protocols = names(plain);
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        server.max_early_data_size = 0;
        Ok(Self { client, server: Arc::new(server) })
    }

    /// For a lane to `peer`, and nobody else.
    pub(super) fn client(&self, peer: PeerId) -> Arc<ClientConfig> {
        let mut config = self.client.clone();
        let verifier = Verifier { expected: Some(peer) };
        config.dangerous().set_certificate_verifier(Arc::new(verifier));
        Arc::new(config)
    }

    /// For a lane from whoever comes.
    pub(super) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }
}

/// The protocols that are offered, best first: rustls' server takes its own first one that the client has, too.
fn names(plain: bool) -> Vec<Vec<u8>> {
    let names: &[&[u8]] = if plain { &[ALPN_PLAIN, ALPN] } else { &[ALPN] };
    names.iter().map(|name| name.to_vec()).collect()
}

/// Whose certificate this is: the only one, self-signed, valid now, its key signed by the peer's identity.
pub(super) fn peer_of(certificates: Option<&[CertificateDer<'_>]>) -> Result<PeerId, rustls::Error> {
    match certificates {
        Some([one]) => peer_in(one, &[]),
        _ => Err(rustls::Error::NoCertificatesPresented),
    }
}

fn peer_in(certificate: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<PeerId, rustls::Error> {
    if !others.is_empty() {
        return Err(rustls::Error::General("more than one certificate".to_owned()));
    }
    let parsed = certificate::parse(certificate)?;
    PeerId::from_libp2p(&parsed.peer_id())
        .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
}

/// AES-GCM first where the processor has instructions for it: ChaCha20 costs two to three times as much there.
fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    let aes: [SupportedCipherSuite; 2] =
        [aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256, aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384];
    let chacha = aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
    provider.cipher_suites = if has_aes() { vec![aes[0], aes[1], chacha] } else { vec![chacha, aes[0], aes[1]] };
    provider
}

#[cfg(target_arch = "x86_64")]
pub(super) fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
pub(super) fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn has_aes() -> bool {
    false
}

/// This host's certificate, whoever asks for one.
#[derive(Debug)]
struct Own(Arc<CertifiedKey>);

impl rustls::client::ResolvesClientCert for Own {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Own {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// Accepts certificates as the specification demands, of one peer alone where one is expected. What it lets through
/// has only named itself: the handshake then has it sign with the certificate's key.
#[derive(Debug)]
struct Verifier {
    expected: Option<PeerId>,
}

impl Verifier {
    fn check(&self, certificate: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        let peer = peer_in(certificate, others)?;
        if self.expected.is_some_and(|expected| expected != peer) {
            return Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
        }
        Ok(())
    }

    fn check_signature(
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        certificate::parse(certificate)?.verify_signature(signed.scheme, message, signed.signature())?;
        Ok(HandshakeSignatureValid::assertion())
    }
}

/// Both traits have the same two methods for signatures.
macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Err(rustls::Error::General("TLS 1.3 alone".to_owned()))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Self::check_signature(message, certificate, signed)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            SCHEMES.to_vec()
        }
    };
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(certificate, others).map(|()| ServerCertVerified::assertion())
    }

    signatures!();
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(certificate, others).map(|()| ClientCertVerified::assertion())
    }

    signatures!();
}

//! TLS towards origins: rustls with aws-lc, the system's authorities and the caller's. No process-wide default is
//! read or installed.

use std::sync::{Arc, Once, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::super::{OriginTrust, SourceError, SourceErrorKind};

/// The configuration for `trust`; absent: for a client that never speaks TLS, so that the system's authorities need
/// not be read.
pub(super) fn config(trust: Option<&OriginTrust>) -> Result<ClientConfig, SourceError> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let provider = PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())).clone();
    let failed = |error: rustls::Error| SourceError::new(SourceErrorKind::Tls, "TLS cannot be set up").caused_by(error);
    let builder =
        ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().map_err(failed)?;
    let mut config = match trust {
        None => builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth(),
        Some(trust) if trust.insecure => {
            static WARNED: Once = Once::new();
            WARNED.call_once(|| tracing::warn!("an origin's TLS certificate is accepted unseen, as the caller asked"));
            let verifier = Arc::new(AcceptAny(provider));
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
        Some(trust) => builder.with_root_certificates(roots(trust)?).with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The system's authorities, read once, and the caller's.
fn roots(trust: &OriginTrust) -> Result<RootCertStore, SourceError> {
    static SYSTEM: OnceLock<RootCertStore> = OnceLock::new();
    let mut roots = SYSTEM
        .get_or_init(|| {
            let mut roots = RootCertStore::empty();
            let found = rustls_native_certs::load_native_certs();
            let (good, bad) = roots.add_parsable_certificates(found.certs);
            if good == 0 {
                tracing::warn!(bad, errors = ?found.errors, "the system has no usable certificate authority");
            }
            roots
        })
        .clone();
    let invalid = |why: &str| {
        SourceError::new(SourceErrorKind::InvalidInput, format!("the certificate authorities given: {why}"))
    };
    for pem in &trust.ca_pem {
        let mut any = false;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|_| invalid("malformed PEM"))?;
            roots.add(certificate).map_err(|_| invalid("not a certificate of an authority"))?;
            any = true;
        }
        if !any {
            return Err(invalid("no certificate in it"));
        }
    }
    Ok(roots)
}

/// Accepts any certificate, but still wants the peer to own the key in it.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

//! A private certificate authority and a server that it vouches for.

use std::io;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

/// What is wrong with a server's certificate, which its authority vouches for all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Its time is over.
    Expired,
    /// It is for another host.
    OtherName,
}

/// The authority's certificate as PEM, and what accepts connections for `localhost`, 127.0.0.1 and ::1.
pub(crate) fn private_ca(flaw: Option<Flaw>) -> io::Result<(String, TlsAcceptor)> {
    let mut ca = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca.distinguished_name.push(rcgen::DnType::CommonName, "Dragonfly testkit CA");
    let issuer =
        CertifiedIssuer::self_signed(ca, KeyPair::generate().map_err(io::Error::other)?).map_err(io::Error::other)?;

    let names = match flaw {
        Some(Flaw::OtherName) => vec!["elsewhere.test".to_owned()],
        _ => ["localhost", "127.0.0.1", "::1"].map(String::from).to_vec(),
    };
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let mut leaf = CertificateParams::new(names).map_err(io::Error::other)?;
    if flaw == Some(Flaw::Expired) {
        (leaf.not_before, leaf.not_after) = (rcgen::date_time_ymd(2001, 1, 1), rcgen::date_time_ymd(2002, 1, 1));
    }
    let leaf = leaf.signed_by(&key, &issuer).map_err(io::Error::other)?;

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())))
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((issuer.pem(), TlsAcceptor::from(Arc::new(config))))
}

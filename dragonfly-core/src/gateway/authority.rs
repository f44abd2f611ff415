//! A certificate authority of one's own, for hosts whose TLS a gateway takes part in.

use std::fmt;
use std::net::IpAddr;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PublicKeyData as _,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// Clocks of clients may be slow by so much.
const BEFORE: Duration = Duration::from_secs(24 * 3600);

/// The longest that an authority is good.
const LIFE_MAX: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// How long a certificate for one host is good.
const LEAF_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// The port of HTTPS.
pub(super) const HTTPS: u16 = 443;

/// Which hosts are meant: one by its name or address, or (`*.example.com`) all that are below a name; at the port of HTTPS,
/// if no other is named (`registry.example:5000`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    name: String,
    below: bool,
    port: u16,
}

/// A host as it is in a URL, in the one form that is compared.
pub(super) fn plain(host: &str) -> String {
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
    host.parse::<IpAddr>().map_or(host, |address| address.to_string())
}

impl Hosts {
    /// Whether this port of `host`, as it is in a URL, is one of theirs.
    pub(super) fn contain(&self, host: &str, port: u16) -> bool {
        let host = plain(host);
        if port != self.port {
            return false;
        }
        if !self.below {
            return host == self.name;
        }
        host.strip_suffix(&self.name).is_some_and(|front| front.len() > 1 && front.ends_with('.'))
    }

    /// One of them.
    fn example(&self) -> String {
        if self.below { format!("host.{}", self.name) } else { self.name.clone() }
    }
}

/// Text that names no [`Hosts`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no host: expected NAME, *.NAME or an IP address, perhaps with :PORT (of IPv6: [ADDRESS]:PORT)")]
pub struct InvalidHosts(String);

impl FromStr for Hosts {
    type Err = InvalidHosts;

    fn from_str(text: &str) -> Result<Self, InvalidHosts> {
        let invalid = || InvalidHosts(text.to_owned());
        let (below, named) = text.strip_prefix("*.").map_or((false, text), |name| (true, name));
        let (name, port) = match named.rsplit_once(':') {
            // Colons of an address without brackets are its own.
            Some((name, port)) if name.ends_with(']') || !name.contains(':') => {
                (name, port.parse().ok().filter(|port| *port > 0).ok_or_else(invalid)?)
            }
            _ => (named, HTTPS),
        };
        let name = plain(name);
        let address = name.parse::<IpAddr>().is_ok();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let named = !name.is_empty()
            && name.len() <= 253
            && name.bytes().all(is_plain)
            && name.split('.').all(|label| !label.is_empty() && label.len() <= 63);
        if address && below || !address && !named {
            return Err(invalid());
        }
        Ok(Self { name, below, port })
    }
}

impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.below { "*." } else { "" })?;
        match self.port {
            HTTPS => f.write_str(&self.name),
            port if self.name.contains(':') => write!(f, "[{}]:{port}", self.name),
            port => write!(f, "{}:{port}", self.name),
        }
    }
}

/// Why there is no [`Authority`], or not one for what it is wanted for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidAuthority(String);

impl InvalidAuthority {
    pub(super) fn new(text: impl fmt::Display) -> Self {
        Self(text.to_string())
    }
}

/// A certificate authority. Its key is a secret: who has it can be any host to whoever trusts it, within what it was made
/// for.
pub struct Authority {
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    key_pem: String,
    issuer: Issuer<'static, KeyPair>,
    /// When it is good.
    life: Range<SystemTime>,
    /// Of which hosts it is believed; none: of all.
    hosts: Vec<Hosts>,
}

impl Authority {
    /// A new one, good for `life` from `now` on. What it vouches for beside `hosts` no client believes (name constraints,
    /// RFC 5280, 4.2.1.10); of names it vouches for all that is below them. Without any it vouches for every host.
    ///
    /// # Errors
    /// If no key can be made, or `life` has no end that a certificate can tell.
    pub fn create(name: &str, hosts: &[Hosts], now: SystemTime, life: Duration) -> Result<Self, InvalidAuthority> {
        let key = KeyPair::generate().map_err(InvalidAuthority::new)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let end = now.checked_add(life).filter(|_| life <= LIFE_MAX);
        let end = end.ok_or_else(|| InvalidAuthority("it cannot be good for so long".to_owned()))?;
        (params.not_before, params.not_after) = ((now - BEFORE).into(), end.into());
        // It is to sign nothing else, whatever a system that trusts it takes certificates for.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.name_constraints = (!hosts.is_empty()).then(|| constraints(hosts));
        let certificate = params.self_signed(&key).map_err(InvalidAuthority::new)?;
        Self::from_pem(&certificate.pem(), &key.serialize_pem())
    }

    /// One that was made before, from its certificate and its key (PKCS #8).
    ///
    /// # Errors
    /// If that is not what they are, or the key is another one's.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, InvalidAuthority> {
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|e| InvalidAuthority(format!("the certificate is no PEM: {e}")))?;
        // What the parser says of a malformed key may hold parts of it.
        let key = KeyPair::from_pem(key_pem)
            .map_err(|_| InvalidAuthority("the key is none, or of a kind that is not known here".to_owned()))?;
        let malformed = |e: &dyn fmt::Display| InvalidAuthority(format!("the certificate is malformed: {e}"));
        let (_, read) = X509Certificate::from_der(&certificate).map_err(|e| malformed(&e))?;
        if !read.is_ca() {
            return Err(InvalidAuthority("the certificate is not an authority's".to_owned()));
        }
        if read.public_key().raw != key.subject_public_key_info() {
            return Err(InvalidAuthority("the key is another certificate's".to_owned()));
        }
        let (life, hosts) = (life(&read), hosts(&read));
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|e| malformed(&e))?;
        let (certificate_pem, key_pem) = (certificate_pem.to_owned(), key_pem.to_owned());
        Ok(Self { certificate, certificate_pem, key_pem, issuer, life, hosts })
    }

    /// What clients are to trust.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Of which hosts it is believed, with all below their names; none: of all.
    pub fn hosts(&self) -> &[Hosts] {
        &self.hosts
    }

    /// When it ends.
    pub fn not_after(&self) -> SystemTime {
        self.life.end
    }

    /// Its secret.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// A certificate for the key of one host.
    pub(super) fn certify(
        &self,
        host: &str,
        key: &KeyPair,
        now: SystemTime,
    ) -> Result<CertificateDer<'static>, InvalidAuthority> {
        let mut params = CertificateParams::new([host.to_owned()]).map_err(InvalidAuthority::new)?;
        params.distinguished_name = DistinguishedName::new();
        // No more than some clients show; a common name has at most 64 characters (RFC 5280, A.1).
        if host.len() <= 64 {
            params.distinguished_name.push(DnType::CommonName, host);
        }
        (params.not_before, params.not_after) = ((now - BEFORE).into(), (now + LEAF_LIFE).into());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.signed_by(key, &self.issuer).map(CertificateDer::from).map_err(InvalidAuthority::new)
    }

    /// Whether a client that trusts it believes what it says of these hosts.
    pub(super) fn check(&self, hosts: &Hosts, now: SystemTime) -> Result<(), InvalidAuthority> {
        let host = hosts.example();
        let why = |e: &dyn fmt::Display| InvalidAuthority(format!("the authority cannot vouch for {hosts}: {e}"));
        if !self.life.contains(&now) {
            return Err(why(&"it is not good any more, or not yet"));
        }
        let key = KeyPair::generate().map_err(|e| why(&e))?;
        let leaf = self.certify(&host, &key, now)?;
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).map_err(|e| why(&e))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().map_err(|e| why(&e))?;
        let name = ServerName::try_from(host).map_err(|e| why(&e))?;
        let now = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
        verifier.verify_server_cert(&leaf, &[], &name, &[], now).map_err(|e| why(&e))?;
        Ok(())
    }
}

/// The key stays out of logs.
impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// From when to when a certificate is good.
fn life(read: &X509Certificate<'_>) -> Range<SystemTime> {
    let at = |time: x509_parser::time::ASN1Time| {
        SystemTime::UNIX_EPOCH + Duration::from_secs(time.timestamp().try_into().unwrap_or_default())
    };
    at(read.validity().not_before)..at(read.validity().not_after)
}

/// What a certificate's constraints permit, as far as [`constraints`] writes such.
fn hosts(read: &X509Certificate<'_>) -> Vec<Hosts> {
    let constraints = read.name_constraints().ok().flatten();
    let permitted = constraints.and_then(|found| found.value.permitted_subtrees.as_ref()).into_iter().flatten();
    let host = |base: &GeneralName<'_>| match base {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(ip) if ip.len() == 8 => {
            Some(IpAddr::from(<[u8; 4]>::try_from(&ip[..4]).ok()?).to_string())
        }
        GeneralName::IPAddress(ip) if ip.len() == 32 => {
            Some(IpAddr::from(<[u8; 16]>::try_from(&ip[..16]).ok()?).to_string())
        }
        _ => None,
    };
    permitted.filter_map(|subtree| host(&subtree.base)?.parse().ok()).collect()
}

/// Of the kind of which none is named nothing is permitted: without it everything of that kind would be.
fn constraints(hosts: &[Hosts]) -> NameConstraints {
    let address = |hosts: &Hosts| hosts.name.parse::<IpAddr>().ok();
    let permitted_subtrees: Vec<_> = hosts
        .iter()
        .map(|hosts| match address(hosts) {
            Some(IpAddr::V4(ip)) => GeneralSubtree::IpAddress(CidrSubnet::V4(ip.octets(), [255; 4])),
            Some(IpAddr::V6(ip)) => GeneralSubtree::IpAddress(CidrSubnet::V6(ip.octets(), [255; 16])),
            None => GeneralSubtree::DnsName(hosts.name.clone()),
        })
        .collect();
    let mut excluded_subtrees = Vec::new();
    if !hosts.iter().any(|hosts| address(hosts).is_some()) {
        excluded_subtrees.push(GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])));
        excluded_subtrees.push(GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])));
    }
    if hosts.iter().all(|hosts| address(hosts).is_some()) {
        excluded_subtrees.push(GeneralSubtree::DnsName(String::new()));
    }
    NameConstraints { permitted_subtrees, excluded_subtrees }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use data_encoding::BASE64;

    use super::*;

    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

    fn hosts(text: &str) -> Hosts {
        text.parse().unwrap()
    }

    #[test]
    fn hosts_are_read_and_found() {
        for (text, yes, no) in [
            ("pypi.org", "PyPI.org", "files.pypi.org"),
            ("*.pypi.org", "a.b.pypi.org", "pypi.org"),
            ("*.pypi.org", "files.pypi.org", "notpypi.org"),
            ("10.0.0.1", "10.0.0.1", "10.0.0.10"),
            ("::1", "[0:0:0:0:0:0:0:1]", "[::2]"),
            ("pypi.org", "pypi.org.", "pypi.org.x"),
        ] {
            assert_eq!(hosts(text).to_string(), text);
            assert!(hosts(text).contain(yes, 443) && !hosts(text).contain(no, 443), "{text}");
            assert!(!hosts(text).contain(yes, 22), "{text}");
        }
        for text in ["a.example:5000", "*.example:5000", "10.0.0.1:5000", "[::1]:5000"] {
            assert_eq!(hosts(text).to_string(), text);
            let host = hosts(text).example();
            assert!(hosts(text).contain(&host, 5000) && !hosts(text).contain(&host, 443), "{text}");
        }
        for wrong in [
            "",
            "*",
            "*.",
            "*.10.0.0.1",
            "a..b",
            "a/b",
            "a:",
            "a:0",
            "a:65536",
            "a:b",
            "[::1]x",
            "ü.example",
            "a b",
            ".a",
            &"a".repeat(64),
        ] {
            assert!(wrong.parse::<Hosts>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_authority_is_believed_of_its_hosts_alone() {
        let now = SystemTime::now();
        let own = [hosts("*.pypi.org"), hosts("registry.example")];
        let made = Authority::create("test", &own, now, YEAR).unwrap();
        let read = Authority::from_pem(made.certificate_pem(), made.key_pem()).unwrap();
        for authority in [&made, &read] {
            assert_eq!(authority.hosts(), [hosts("pypi.org"), hosts("registry.example")]);
            for good in ["*.pypi.org", "files.pypi.org", "registry.example", "*.registry.example"] {
                authority.check(&hosts(good), now).unwrap();
            }
            for other in ["example", "bank.example", "notpypi.org", "127.0.0.1", "::1"] {
                let why = authority.check(&hosts(other), now).unwrap_err().to_string();
                assert!(why.contains(other), "{why}");
            }
            assert!(authority.check(&own[0], now + YEAR * 2).is_err(), "it has an end");
        }
        let addresses = Authority::create("test", &[hosts("10.0.0.1"), hosts("::1")], now, YEAR).unwrap();
        assert_eq!(addresses.hosts(), [hosts("10.0.0.1"), hosts("::1")]);
        addresses.check(&hosts("10.0.0.1"), now).unwrap();
        for other in ["10.0.0.2", "::2", "a.example"] {
            addresses.check(&hosts(other), now).unwrap_err();
        }
        let any = Authority::create("test", &[], now, YEAR).unwrap();
        assert!(any.hosts().is_empty() && Authority::create("test", &[], now, Duration::MAX).is_err());
        for host in ["10.0.0.2", "::1", "a.example"] {
            any.check(&hosts(host), now).unwrap();
        }
    }

    #[test]
    fn what_is_no_authority_is_refused_and_no_key_told() {
        let now = SystemTime::now();
        let (one, two) =
            (Authority::create("one", &[], now, YEAR).unwrap(), Authority::create("two", &[], now, YEAR).unwrap());
        for (certificate, key) in [("", one.key_pem()), (one.certificate_pem(), ""), (one.key_pem(), one.key_pem())] {
            assert!(Authority::from_pem(certificate, key).is_err());
        }
        let why = Authority::from_pem(one.certificate_pem(), two.key_pem()).unwrap_err().to_string();
        assert!(why.contains("another certificate's"), "{why}");
        let half = &one.key_pem()[..one.key_pem().len() / 2];
        let why = Authority::from_pem(one.certificate_pem(), half).unwrap_err().to_string();
        assert!(!why.contains(&half[60..80]) && !format!("{one:?}").contains("KEY"), "{why}");
        // One that may not sign.
        let key = KeyPair::generate().unwrap();
        let leaf = one.certify("a.example", &key, now).unwrap();
        let armoured = BASE64.encode(&leaf);
        let pem = format!("-----BEGIN CERTIFICATE-----\n{armoured}\n-----END CERTIFICATE-----\n");
        let why = Authority::from_pem(&pem, &key.serialize_pem()).unwrap_err().to_string();
        assert!(why.contains("not an authority"), "{why}");
    }
}

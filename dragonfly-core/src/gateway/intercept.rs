//! TLS of clients that trust an authority of the gateway's: what they ask for inside is seen, and can be shared.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{Authority as UriAuthority, PathAndQuery, Scheme};
use http::{Method, Request, StatusCode, Uri};
use rcgen::KeyPair;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::authority::{Authority, HTTPS, Hosts, InvalidAuthority, plain};
use super::fail::Refusal;

/// For a client's handshake.
pub(super) const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Hosts whose certificates are kept: clients choose them, below a name as many as they like.
pub(super) const KNOWN_MAX: usize = 256;

/// So old, a certificate is made anew: long before it ends.
const RENEWED: Duration = Duration::from_secs(24 * 3600);

/// What of clients' TLS a gateway takes part in. A cheap handle.
#[derive(Clone)]
pub struct Intercept(Arc<Inner>);

struct Inner {
    authority: Authority,
    hosts: Vec<Hosts>,
    /// Of all hosts: it never leaves the process, and lives as long.
    key: KeyPair,
    known: Mutex<HashMap<String, (Instant, Arc<ServerConfig>)>>,
}

impl Intercept {
    /// The TLS of `hosts`, for clients that trust `authority`.
    ///
    /// # Errors
    /// If clients would not believe what it says of one of them, now.
    pub fn new(authority: Authority, hosts: Vec<Hosts>) -> Result<Self, InvalidAuthority> {
        for hosts in &hosts {
            authority.check(hosts, SystemTime::now())?;
        }
        let key = KeyPair::generate().map_err(|e| InvalidAuthority::new(format_args!("no key: {e}")))?;
        Ok(Self(Arc::new(Inner { authority, hosts, key, known: Mutex::default() })))
    }

    /// Whether a tunnel to this port of a host is to be opened up.
    pub(super) fn wants(&self, host: &str, port: u16) -> bool {
        self.0.hosts.iter().any(|hosts| hosts.contain(host, port))
    }

    /// A client's handshake with who it takes for `host`.
    pub(super) async fn accept<S>(&self, host: &str, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.0.config(host, Instant::now())?;
        let accepted = tokio::time::timeout(HANDSHAKE_MAX, TlsAcceptor::from(config).accept(stream)).await;
        accepted.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

impl fmt::Debug for Intercept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intercept").field("hosts", &self.0.hosts).finish_non_exhaustive()
    }
}

impl Inner {
    fn config(&self, host: &str, now: Instant) -> io::Result<Arc<ServerConfig>> {
        let host = plain(host);
        // Nothing that holds the lock can leave the map broken.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, config)) = known.get(&host)
            && now.saturating_duration_since(*made) < RENEWED
        {
            return Ok(Arc::clone(config));
        }
        let certificate = self.authority.certify(&host, &self.key, SystemTime::now()).map_err(io::Error::other)?;
        let config = Arc::new(self.serving(certificate).map_err(io::Error::other)?);
        if known.len() >= KNOWN_MAX {
            // Each costs a signature.
            known.clear();
        }
        known.insert(host, (now, Arc::clone(&config)));
        Ok(config)
    }

    fn serving(&self, certificate: CertificateDer<'static>) -> Result<ServerConfig, rustls::Error> {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// Marks requests that came in a tunnel which was opened up: whom the client takes this gateway for.
#[derive(Clone, Debug)]
pub(super) struct Inside {
    /// As in URLs, without the port where it goes without saying.
    pub(super) authority: UriAuthority,
}

impl Inside {
    pub(super) fn new(authority: &UriAuthority) -> Self {
        let plain = authority.host().parse().ok().filter(|_| authority.port_u16() == Some(HTTPS));
        Self { authority: plain.unwrap_or_else(|| authority.clone()) }
    }

    /// Gives a request the absolute URL that it would have at a proxy.
    pub(super) fn lead<B>(&self, request: &mut Request<B>) -> Result<(), Refusal> {
        if request.method() == Method::CONNECT {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "there is no proxy within a tunnel"));
        }
        let named = match request.uri().authority() {
            Some(authority) => Some(authority.clone()),
            None => request.headers().get(header::HOST).and_then(|host| host.to_str().ok()?.parse().ok()),
        };
        // The certificate, the rules and the origin are one host's.
        if !named.is_some_and(|named| is_same(&named, &self.authority)) {
            let text = format!("this connection is for {}", self.authority);
            return Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, text));
        }
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTPS);
        parts.authority = Some(self.authority.clone());
        parts.path_and_query =
            Some(request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
        *request.uri_mut() = Uri::from_parts(parts)
            .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "the path of the request is malformed"))?;
        join_cookies(request.headers_mut());
        Ok(())
    }
}

/// HTTP/2 lets clients send one cookie each, which HTTP/1.1 does not (RFC 9113, 8.2.3).
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<_> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, joined);
    }
}

fn is_same(one: &UriAuthority, other: &UriAuthority) -> bool {
    let port = |authority: &UriAuthority| authority.port_u16().unwrap_or(HTTPS);
    one.host().eq_ignore_ascii_case(other.host()) && port(one) == port(other)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn intercept(hosts: &str) -> Intercept {
        let authority = Authority::create("test", &[], SystemTime::now(), DAY).unwrap();
        Intercept::new(authority, vec![hosts.parse().unwrap()]).unwrap()
    }

    #[test]
    fn certificates_are_kept_for_a_while_and_not_without_bound() {
        let intercept = intercept("*.example");
        let now = Instant::now();
        let first = intercept.0.config("a.example", now).unwrap();
        assert!(Arc::ptr_eq(&first, &intercept.0.config("A.example", now).unwrap()));
        assert!(!Arc::ptr_eq(&first, &intercept.0.config("b.example", now).unwrap()));
        assert!(!Arc::ptr_eq(&first, &intercept.0.config("a.example", now + DAY).unwrap()));
        for i in 0..KNOWN_MAX + 10 {
            intercept.0.config(&format!("{i}.example"), now).unwrap();
            assert!(intercept.0.known.lock().unwrap().len() <= KNOWN_MAX);
        }
    }

    #[test]
    fn an_authority_that_is_not_believed_is_refused() {
        let authority = Authority::create("test", &["a.example".parse().unwrap()], SystemTime::now(), DAY).unwrap();
        let why = Intercept::new(authority, vec!["b.example".parse().unwrap()]).unwrap_err();
        assert!(why.to_string().contains("b.example"), "{why}");
    }

    #[test]
    fn requests_inside_are_for_that_host() {
        let inside = Inside::new(&"pypi.example:443".parse().unwrap());
        let lead = |uri: &str, host: Option<&str>| {
            let mut request = Request::get(uri);
            if let Some(host) = host {
                request = request.header("host", host);
            }
            let mut request = request.header("cookie", "a=1").header("cookie", "b=2").body(()).unwrap();
            let led = inside.lead(&mut request);
            assert!(led.is_err() || request.headers()["cookie"] == "a=1; b=2");
            led.map(|()| request.uri().to_string()).map_err(|refusal| refusal.status.as_u16())
        };
        let at = |path: &str| Ok(format!("https://pypi.example{path}"));
        assert_eq!(lead("/simple/?a=b", Some("pypi.example")), at("/simple/?a=b"));
        assert_eq!(lead("/x", Some("PyPI.example:443")), at("/x"));
        assert_eq!(lead("https://pypi.example/x", None), at("/x"));
        for (uri, host) in [
            ("/x", None),
            ("/x", Some("other.example")),
            ("/x", Some("pypi.example:444")),
            ("https://other.example/x", Some("pypi.example")),
        ] {
            assert_eq!(lead(uri, host), Err(421), "{uri} {host:?}");
        }
    }
}

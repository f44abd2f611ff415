//! Requests of others, passed on as they are: for the gateway, which answers for servers that it stands before.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use ::http::Method;
use ::http::header::{self, HeaderMap, HeaderName};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::oneshot;
use url::{Host, Url};

use super::super::body::stalled;
use super::super::{OriginTrust, SourceError, SourceErrorKind, redact};
use super::{Inner, REDIRECTS_MAX, failure, is_same_origin, redirect, strip_user_info};

/// Marks requests that are passed on with who did, so that one that comes back is known.
pub(crate) const MARK: HeaderName = HeaderName::from_static("dragonfly-gateway");

/// What goes along where a redirect leads to another server: nothing that says who asks.
const TO_ANYBODY: [HeaderName; 5] = [header::ACCEPT, header::ACCEPT_ENCODING, header::IF_RANGE, header::RANGE, MARK];

/// What an upstream is asked.
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// As they go out; to the URL's own scheme, host and port only.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<BoxStream<'static, io::Result<Bytes>>>,
    /// What makes a TLS certificate of the upstream good.
    pub(crate) trust: OriginTrust,
    /// Whether a user of this host asks, see [`Guard`](super::super::Guard).
    pub(crate) local: bool,
    /// Whether redirects are followed here. Requests with a body are never.
    pub(crate) follow: bool,
    /// Where this process listens itself: nobody is led there.
    pub(crate) own: Arc<[SocketAddr]>,
}

/// The way to HTTP servers under this node's rules, without those of content: no ranges are added, nothing is judged.
#[derive(Clone)]
pub(crate) struct Upstream(pub(super) Arc<Inner>);

impl Upstream {
    /// Asks, and answers when the head of the response is there.
    ///
    /// # Errors
    /// The server must not or cannot be reached, or says nothing for the time-out.
    ///
    /// # Cancel safety
    /// Dropping the future ends the request.
    pub(crate) async fn ask(&self, ask: Ask) -> Result<reqwest::Response, SourceError> {
        let Ask { method, mut url, mut headers, mut body, trust, local, follow, own } = ask;
        strip_user_info(&mut url);
        let follow = follow && body.is_none();
        for _ in 0..=REDIRECTS_MAX {
            self.0.guard.check_url(&url, local)?;
            refuse_own(&url, &own).await?;
            self.0.clients.check_shared_name(&url, local).await?;
            let client = self.0.clients.client(&url, &trust, local)?;
            let request = client.request(method.clone(), url.clone()).headers(headers.clone());
            let response = self.send(&url, request, body.take()).await?;
            let next = if follow { redirect(&url, &response)? } else { None };
            let Some(next) = next else { return Ok(response) };
            if !is_same_origin(&next, &url) {
                let told = headers.iter().filter(|(name, _)| TO_ANYBODY.contains(name));
                headers = told.map(|(name, value)| (name.clone(), value.clone())).collect();
            }
            url = next;
        }
        let text = format!("{}: more than {REDIRECTS_MAX} redirects", redact(&url));
        Err(SourceError::new(SourceErrorKind::Origin, text))
    }

    /// The server has the time-out from when it has heard all of the request.
    async fn send(
        &self,
        url: &Url,
        mut request: reqwest::RequestBuilder,
        body: Option<BoxStream<'static, io::Result<Bytes>>>,
    ) -> Result<reqwest::Response, SourceError> {
        let limit = self.0.config.first_byte_timeout;
        let (ended, heard) = oneshot::channel::<()>();
        match body {
            Some(body) => {
                // Dropped at its end, or with the request.
                let mut ended = Some(ended);
                let end = futures::stream::poll_fn(move |_| {
                    drop(ended.take());
                    std::task::Poll::Ready(None)
                });
                request = request.body(reqwest::Body::wrap_stream(body.chain(end)));
            }
            None => drop(ended),
        }
        let late = async {
            let _ = heard.await;
            tokio::time::sleep(limit).await;
        };
        tokio::select! {
            response = request.send() => response.map_err(|error| failure(url, error)),
            () = late => Err(stalled(&redact(url), limit)),
        }
    }

    /// Refuses addresses that must not be reached, and gives those of a host that may be.
    pub(crate) async fn addresses(
        &self,
        (host, port): (&str, u16),
        local: bool,
        own: &[SocketAddr],
    ) -> Result<Vec<SocketAddr>, SourceError> {
        let shown = format!("{host}:{port}");
        let error = |kind, why: String| SourceError::new(kind, format!("{shown}: {why}"));
        let url = Url::parse(&format!("https://{shown}/"))
            .map_err(|_| error(SourceErrorKind::InvalidInput, "no host and port".to_owned()))?;
        self.0.guard.check_url(&url, local)?;
        let found = resolve(&url).await;
        let found = found.map_err(|e| error(SourceErrorKind::Network, format!("cannot be resolved: {e}")))?;
        let (mut good, mut refused) = (Vec::new(), None);
        for address in found {
            match self.0.guard.check_address(address.ip(), local) {
                _ if is_own(address, own) => refused = Some(ITSELF),
                Ok(()) => good.push(address),
                Err(why) => refused = Some(why),
            }
        }
        match refused {
            Some(why) if good.is_empty() => Err(error(SourceErrorKind::Guarded, format!("must not be reached: {why}"))),
            _ => Ok(good),
        }
    }
}

const ITSELF: &str = "it is this daemon itself";

async fn resolve(url: &Url) -> io::Result<Vec<SocketAddr>> {
    let port = url.port_or_known_default().unwrap_or_default();
    Ok(match url.host() {
        Some(Host::Ipv4(ip)) => vec![(ip, port).into()],
        Some(Host::Ipv6(ip)) => vec![(ip, port).into()],
        Some(Host::Domain(name)) => tokio::net::lookup_host((name, port)).await?.collect(),
        None => Vec::new(),
    })
}

/// Refuses what leads to this process.
async fn refuse_own(url: &Url, own: &[SocketAddr]) -> Result<(), SourceError> {
    if !own.iter().any(|own| Some(own.port()) == url.port_or_known_default()) {
        return Ok(());
    }
    // Who cannot be resolved cannot be reached either.
    let addresses = resolve(url).await.unwrap_or_default();
    if addresses.into_iter().any(|address| is_own(address, own)) {
        let text = format!("{} must not be reached: {ITSELF}", redact(url));
        return Err(SourceError::new(SourceErrorKind::Guarded, text));
    }
    Ok(())
}

fn is_own(address: SocketAddr, own: &[SocketAddr]) -> bool {
    let ip = address.ip().to_canonical();
    own.iter().filter(|own| own.port() == address.port()).any(|own| {
        let listens = own.ip().to_canonical();
        listens == ip || ip.is_loopback() || listens.is_unspecified() && is_of_this_host(ip)
    })
}

/// Only addresses of this host can be bound.
fn is_of_this_host(ip: IpAddr) -> bool {
    ip.is_unspecified() || UdpSocket::bind((ip, 0)).is_ok()
}

//! Requests of others, passed on as they are: for the gateway, which answers for servers that it stands before.

use std::sync::Arc;

use ::http::header::HeaderMap;
use ::http::{Method, StatusCode};
use url::Url;

use super::super::body::stalled;
use super::super::{OriginTrust, SourceError, SourceErrorKind, redact};
use super::{Inner, REDIRECTS_MAX, failure, redirect, strip_user_info};

/// What an upstream is asked.
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// As they go out; to the URL's own scheme, host and port only.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<reqwest::Body>,
    /// Whether a user of this host asks, see [`Guard`](super::super::Guard).
    pub(crate) local: bool,
    /// Whether redirects are followed here. Requests with a body are never.
    pub(crate) follow: bool,
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
        let Ask { method, mut url, mut headers, mut body, local, follow } = ask;
        strip_user_info(&mut url);
        let follow = follow && body.is_none();
        for _ in 0..=REDIRECTS_MAX {
            self.0.guard.check_url(&url, local)?;
            self.0.clients.check_shared_name(&url, local).await?;
            let client = self.0.clients.client(&url, &OriginTrust::default(), local)?;
            let mut request = client.request(method.clone(), url.clone()).headers(headers.clone());
            if let Some(body) = body.take() {
                request = request.body(body);
            }
            let limit = self.0.config.first_byte_timeout;
            let response = match tokio::time::timeout(limit, request.send()).await {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => return Err(failure(&url, error)),
                Err(_) => return Err(stalled(&redact(&url), limit)),
            };
            let next = if follow { redirect(&url, &response)? } else { None };
            let Some(next) = next else { return Ok(response) };
            if (next.scheme(), next.host(), next.port_or_known_default())
                != (url.scheme(), url.host(), url.port_or_known_default())
            {
                headers.remove(::http::header::AUTHORIZATION);
                headers.remove(::http::header::COOKIE);
            }
            url = next;
        }
        let text = format!("{}: more than {REDIRECTS_MAX} redirects", redact(&url));
        Err(SourceError::new(SourceErrorKind::Origin, text).with_status(StatusCode::LOOP_DETECTED.as_u16()))
    }

    /// Refuses addresses that must not be reached, and gives those of a host that may be.
    pub(crate) async fn addresses(
        &self,
        host: &str,
        port: u16,
        local: bool,
    ) -> Result<Vec<std::net::SocketAddr>, SourceError> {
        let shown = format!("{host}:{port}");
        let error = |kind, why: String| SourceError::new(kind, format!("{shown}: {why}"));
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let url = Url::parse(&format!("https://{shown}/"))
            .map_err(|_| error(SourceErrorKind::InvalidInput, "no host and port".to_owned()))?;
        self.0.guard.check_url(&url, local)?;
        let found = tokio::net::lookup_host((bare, port)).await;
        let found = found.map_err(|e| error(SourceErrorKind::Network, format!("cannot be resolved: {e}")))?;
        let (mut good, mut refused) = (Vec::new(), None);
        for address in found {
            match self.0.guard.check_address(address.ip(), local) {
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

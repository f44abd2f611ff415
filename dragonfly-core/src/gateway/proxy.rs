//! Requests with an absolute URL, as clients send them to a proxy.

use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderMap;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use url::Url;

use super::content::{Wanted, head_only, is_unchanged, unchanged};
use super::fail::Refusal;
use super::head::{Object, asks_for_more};
use super::pass::is_conditional;
use super::rest::Rest;
use super::route::Body;
use super::{Client, Inner, registry};
use crate::peer;
use crate::source::redact;

/// What a client says of how its request is to be treated, in the original's words.
pub(super) struct Said {
    swarm: Option<bool>,
    pub(super) prefetch: Option<bool>,
    tag: String,
    application: String,
    pub(super) priority: Option<u8>,
    filtered: Option<Vec<String>>,
}

impl Said {
    pub(super) fn by(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let yes = |name: &str| text(name).and_then(|value| value.to_ascii_lowercase().parse::<bool>().ok());
        let names = text("x-dragonfly-filtered-query-params");
        Self {
            swarm: yes("x-dragonfly-use-p2p"),
            prefetch: yes("x-dragonfly-prefetch"),
            tag: text("x-dragonfly-tag").unwrap_or_default().to_owned(),
            application: text("x-dragonfly-application").unwrap_or_default().to_owned(),
            priority: text("x-dragonfly-priority").and_then(|value| value.parse().ok()),
            filtered: names.map(|names| names.split(',').map(|name| name.trim().to_owned()).collect()),
        }
    }
}

pub(super) async fn answer(
    gateway: &Arc<Inner>,
    client: Client,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let written = request.uri().to_string();
    let mut url = Url::parse(&written).map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "the URL is malformed"))?;
    let rule = gateway.config.rule(&written);
    if let Some(rule) = rule {
        rule.lead(&mut url);
    }
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, format!("{}: URLs are not proxied", url.scheme())));
    }
    let mut said = Said::by(request.headers());
    said.filtered = said.filtered.or_else(|| rule.and_then(|rule| rule.filtered.clone()));
    let swarm = said.swarm.unwrap_or_else(|| rule.is_some_and(|rule| rule.swarm));
    if swarm && registry::is_asked(&request) && !asks_for_more(request.headers()) {
        let mut base = url;
        base.set_path("/");
        base.set_query(None);
        return registry::through(gateway, client, &base, request).await;
    }
    let simple = matches!(*request.method(), Method::GET | Method::HEAD)
        && !is_conditional(request.headers())
        && !asks_for_more(request.headers());
    let object = Object::new(url.clone(), request.headers(), client).filter(|_| swarm && simple);
    let Some(object) = object else { return gateway.pass(request, url, client).await };
    // Whether the client may have it, and which version is current, only the server can say.
    let head = match gateway.head(&object, false, false).await {
        Ok(head) => head,
        Err(error) if error.is_unreached() => {
            tracing::debug!(url = redact(&url), %error, "the server of what is wanted through the swarm says nothing");
            return gateway.remembered_content(&object, request.headers(), &said).await.ok_or_else(|| error.into());
        }
        Err(error) => return Err(error.into()),
    };
    let version = head.version.clone().filter(|_| head.is_shareable());
    let Some(version) = version else { return gateway.pass(request, url, client).await };
    if request.method() == Method::HEAD {
        let mut headers = head.headers;
        headers.insert(http::header::CONTENT_LENGTH, head.length.unwrap_or_default().into());
        return Ok(head_only(headers));
    }
    if is_unchanged(request.headers(), &head.headers) {
        return Ok(unchanged(&head.headers));
    }
    let asked = said.request(&object, gateway);
    let wanted = || Wanted {
        method: request.method(),
        headers: request.headers(),
        object: head.headers.clone(),
        version: Some(version.clone()),
        length: head.length,
        prefetch: said.prefetch.unwrap_or(gateway.config.prefetch),
        proven: false,
        rest: Rest::of_version(&object, version.clone()),
    };
    // What the swarm took for current may be of seconds ago: then it asks once more.
    for asked in [asked.clone(), asked.age_max(Duration::ZERO)] {
        match gateway.swarm(asked, wanted()).await {
            Ok(Some(response)) => return Ok(response),
            Ok(None) => {}
            Err(error) => {
                tracing::info!(url = redact(&url), "the swarm has trouble, the server is asked: {error:?}");
                break;
            }
        }
    }
    gateway.counts.fallbacks.add(1);
    gateway.pass(request, url, client).await
}

impl Said {
    fn request(&self, object: &Object, gateway: &Inner) -> peer::Request {
        gateway.trusting(self.of(object))
    }

    /// What the swarm is asked for.
    fn of(&self, object: &Object) -> peer::Request {
        let mut request = peer::Request::new(object.url.as_str())
            .tag(&self.tag)
            .application(&self.application)
            .local(object.client.local);
        for (name, value) in &object.headers {
            request = request.header(name, value);
        }
        if let Some(priority) = self.priority {
            request = request.priority(priority);
        }
        if let Some(names) = &self.filtered {
            request = request.filtered_query_params(names.iter().cloned());
        }
        request
    }
}

impl Inner {
    /// A request of the swarm that trusts whom this gateway trusts.
    pub(super) fn trusting(&self, request: peer::Request) -> peer::Request {
        self.trust.ca_pem.iter().fold(request, |request, pem| request.ca_pem(pem.clone()))
    }

    /// What was current when its server could be asked, if that is allowed.
    async fn remembered_content(
        self: &Arc<Self>,
        object: &Object,
        headers: &HeaderMap,
        said: &Said,
    ) -> Option<Response<Body>> {
        let head = self.remembered(object)?;
        let version = head.version.clone()?;
        let wanted = Wanted {
            method: &Method::GET,
            headers,
            rest: Rest::of_version(object, version.clone()),
            version: Some(version),
            length: head.length,
            object: head.headers,
            prefetch: false,
            proven: false,
        };
        self.swarm(said.request(object, self).stale_ok(true), wanted).await.ok()?
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_said_reaches_the_swarm() {
        let of = |headers: &[(&'static str, &str)]| {
            let headers: HeaderMap =
                headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            let object = Object::new("http://a.test/x".parse().unwrap(), &headers, Client { local: true });
            Said::by(&headers).of(&object.unwrap())
        };
        for (said, wanted) in [("0", 0), ("2", 2), (" 7 ", 7), ("8", 7), ("255", 7), ("256", 4), ("-1", 4), ("high", 4)]
        {
            assert_eq!(of(&[("x-dragonfly-priority", said)]).priority, wanted, "{said}");
        }
        assert_eq!(of(&[]).priority, 4);
    }
}

//! Where a request goes.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;

use super::fail::Refusal;
use super::intercept::Inside;
use super::pass::binds_to_connection;
use super::{Client, Inner, proxy, registry, tunnel};
use crate::source::MARK;

/// The body of an answer.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Asked by clients that want to know whether somebody is there before they use it (nydusd's `ping_url`).
const PINGS: [&str; 3] = ["/healthz", "/ping", "/server/ping"];

pub(super) async fn answer(gateway: Arc<Inner>, client: Client, mut request: Request<Incoming>) -> Response<Body> {
    gateway.counts.requests.add(1);
    let inside = request.extensions().get::<Inside>().cloned();
    let ping = PINGS.contains(&request.uri().path()) && request.uri().scheme().is_none() && inside.is_none();
    if ping {
        return Response::new(Full::new(Bytes::from_static(b"ok\n")).map_err(|never| match never {}).boxed_unsync());
    }
    // Who came through a tunnel has said who he is when he asked for it.
    let users = gateway.config.users.as_ref().filter(|_| inside.is_none());
    if users.is_some_and(|users| !users.admit(request.headers())) {
        let text = "this gateway is for its users: Proxy-Authorization with a name and a password that it knows";
        return Refusal::new(StatusCode::PROXY_AUTHENTICATION_REQUIRED, text).plain();
    }
    let came_back = request.headers().get_all(MARK).iter().any(|mark| mark == gateway.mark);
    if came_back {
        let text = "a request of this gateway's came back to it: look where its registries and rules lead";
        return Refusal::new(StatusCode::LOOP_DETECTED, text).plain();
    }
    if binds_to_connection(request.headers()) {
        let text = "NTLM and Negotiate bind to connections to the server, which all clients of this gateway share";
        return Refusal::new(StatusCode::NOT_IMPLEMENTED, text).plain();
    }
    if let Some(Err(refusal)) = inside.map(|inside| inside.lead(&mut request)) {
        return refusal.plain();
    }
    if request.method() == Method::CONNECT {
        return tunnel::open(&gateway, client, request).await.unwrap_or_else(Refusal::plain);
    }
    if request.uri().scheme().is_some() {
        return proxy::answer(&gateway, client, request).await.unwrap_or_else(Refusal::plain);
    }
    let path = request.uri().path();
    if path == "/v2" || path.starts_with("/v2/") {
        return registry::answer(&gateway, client, request).await.unwrap_or_else(Refusal::oci);
    }
    let text = "this is a registry mirror (paths below /v2/) and a proxy (requests with an absolute URL); see the guide \
                on the gateway";
    Refusal::new(StatusCode::NOT_FOUND, text).plain()
}

//! Requests over HTTP/2 that are for the gateway itself.
//!
//! Over HTTP/1.1 a client writes an absolute URL where it takes its peer for a proxy, and a path where it does not. Over
//! HTTP/2 every request names a scheme and an authority: for the gateway is what names its address.

use std::net::{IpAddr, SocketAddr};

use http::uri::{Authority, PathAndQuery};
use http::{Method, Request, Uri, Version};

use super::intercept::join_cookies;

/// Where a connection of a client ends here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own(pub(super) SocketAddr);

impl Own {
    /// Gives a request over HTTP/2 the form that it would have over HTTP/1.1.
    pub(super) fn lead<B>(self, request: &mut Request<B>) {
        if request.version() != Version::HTTP_2 {
            return;
        }
        join_cookies(request.headers_mut());
        let usual = if request.uri().scheme_str() == Some("https") { 443 } else { 80 };
        let named = request.uri().authority();
        let own = request.method() != Method::CONNECT && named.is_some_and(|named| self.is(named, usual));
        if own {
            let path = request.uri().path_and_query().cloned();
            *request.uri_mut() = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        }
    }

    /// By its number, or as `localhost`: what other names stand for only a resolver knows.
    fn is(self, named: &Authority, usual: u16) -> bool {
        let own = self.0.ip().to_canonical();
        let host = named.host();
        let same = match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            Ok(ip) => ip.to_canonical() == own,
            Err(_) => host.eq_ignore_ascii_case("localhost") && own.is_loopback(),
        };
        same && named.port_u16().unwrap_or(usual) == self.0.port()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn led(own: &str, version: Version, uri: &str) -> String {
        let mut request = Request::get(uri).version(version).body(()).unwrap();
        Own(own.parse().unwrap()).lead(&mut request);
        request.uri().to_string()
    }

    #[test]
    fn what_names_the_gateway_is_for_it() {
        for (own, uri) in [
            ("127.0.0.1:65010", "http://127.0.0.1:65010/v2/?a=b"),
            ("127.0.0.1:65010", "http://LocalHost:65010/v2/?a=b"),
            ("[::1]:65010", "http://[::1]:65010/v2/?a=b"),
            ("[::ffff:10.0.0.1]:65010", "http://10.0.0.1:65010/v2/?a=b"),
            ("10.0.0.1:80", "http://10.0.0.1/v2/?a=b"),
            ("10.0.0.1:443", "https://10.0.0.1/v2/?a=b"),
        ] {
            assert_eq!(led(own, Version::HTTP_2, uri), "/v2/?a=b", "{own} {uri}");
            assert_eq!(led(own, Version::HTTP_11, uri), uri, "an absolute URL is a proxy's there");
        }
        for (own, uri) in [
            ("127.0.0.1:65010", "http://127.0.0.1:65011/v2/"),
            ("127.0.0.1:65010", "http://127.0.0.1/v2/"),
            ("127.0.0.1:65010", "http://registry.example:65010/v2/"),
            ("10.0.0.1:80", "https://10.0.0.1/v2/"),
            ("10.0.0.1:65010", "http://localhost:65010/v2/"),
            ("10.0.0.1:65010", "http://10.0.0.2:65010/v2/"),
        ] {
            assert_eq!(led(own, Version::HTTP_2, uri), uri, "{own}");
        }
    }
}

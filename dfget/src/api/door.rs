//! Who is at the door. Over the Unix socket it is whom the socket's mode lets in; over TCP it is who has the token,
//! and calls the daemon by a name that it goes by: a web page that has itself resolved to this address does not.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};

use super::Context;
use crate::model::ErrorBody;
use crate::passing::Slot;

/// How a request came in.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// Over the Unix socket: a user of this machine, who can be passed descriptors.
    Local(Slot),
    /// Over TCP.
    Remote,
}

impl Caller {
    pub(super) const fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }
}

/// What the TCP door asks for.
#[derive(Debug)]
pub(crate) struct Key {
    /// Its digest is kept and compared, so that the time of a comparison tells nothing.
    token: Mutex<[u8; 32]>,
    /// `HOST:PORT`, in lower case.
    hosts: Vec<String>,
}

impl Key {
    /// A door at `address`, which also goes by `hosts`.
    pub(crate) fn new(token: &str, address: SocketAddr, hosts: &[String]) -> Self {
        let port = address.port();
        let mut names = vec![address.to_string(), format!("localhost:{port}"), format!("127.0.0.1:{port}")];
        names.push(format!("[::1]:{port}"));
        names.extend(hosts.iter().flat_map(|host| [host.clone(), format!("{host}:{port}")]));
        let hosts = names.into_iter().map(|name| name.to_ascii_lowercase()).collect();
        Self { token: Mutex::new(digest(token)), hosts }
    }

    /// Another token from now on.
    pub(crate) fn replace(&self, token: &str) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = digest(token);
    }

    fn fits(&self, headers: &HeaderMap) -> bool {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let host = text(header::HOST).is_some_and(|host| self.hosts.contains(&host.to_ascii_lowercase()));
        let token = text(header::AUTHORIZATION).and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| digest(token.trim()))
        });
        host && token == Some(*self.token.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn digest(token: &str) -> [u8; 32] {
    *blake3::hash(token.as_bytes()).as_bytes()
}

/// Lets a request through the TCP door. Health is no secret; everything else wants the token.
pub(super) async fn check(State((_, key)): State<(Arc<Context>, Arc<Key>)>, request: Request, next: Next) -> Response {
    let open = matches!(request.uri().path(), "/healthz" | "/readyz");
    if open || key.fits(request.headers()) {
        return next.run(request).await;
    }
    let body = ErrorBody {
        kind: "forbidden".to_owned(),
        temporary: false,
        message: "this door wants `Authorization: Bearer TOKEN`, and to be called by its own name".to_owned(),
    };
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
    (StatusCode::UNAUTHORIZED, challenge, axum::Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn token_and_name_both_have_to_fit() {
        let key = Key::new("secret", "10.0.0.1:80".parse().unwrap(), &["df.example".to_owned()]);
        let fits = |host: &str, authorization: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
            key.fits(&headers)
        };
        for host in ["10.0.0.1:80", "LOCALHOST:80", "df.example", "df.example:80", "[::1]:80"] {
            assert!(fits(host, "Bearer secret") && fits(host, "bearer  secret"), "{host}");
        }
        for host in ["evil.example:80", "localhost", "localhost:81", ""] {
            assert!(!fits(host, "Bearer secret"), "{host}");
        }
        for authorization in ["", "secret", "Basic secret", "Bearer", "Bearer secre", "Bearer secret2"] {
            assert!(!fits("localhost:80", authorization), "{authorization}");
        }
        key.replace("other");
        assert!(!fits("localhost:80", "Bearer secret") && fits("localhost:80", "Bearer other"));
        assert!(!key.fits(&HeaderMap::new()));
    }
}

//! Answers that say what went wrong, each as its kind of client reads it.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};

use super::route::Body;
use crate::source::{SourceError, SourceErrorKind};

/// Tells who the trouble is with: the server behind this gateway, or this gateway.
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-dragonfly-error-type");

/// Why a request is not answered with what was asked for.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) text: String,
    backend: bool,
}

impl Refusal {
    /// This gateway's own doing.
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), backend: false }
    }

    /// As text.
    pub(super) fn plain(self) -> Response<Body> {
        let text = format!("dragonfly: {}\n", self.text);
        self.with(text, "text/plain; charset=utf-8")
    }

    /// As registries say it (OCI distribution specification, Error Codes).
    pub(super) fn oci(self) -> Response<Body> {
        let code = match self.status {
            StatusCode::BAD_REQUEST => "NAME_INVALID",
            StatusCode::FORBIDDEN => "DENIED",
            StatusCode::METHOD_NOT_ALLOWED => "UNSUPPORTED",
            StatusCode::NOT_FOUND => "NAME_UNKNOWN",
            _ => "UNKNOWN",
        };
        let text = serde_json::json!({"errors": [{"code": code, "message": format!("dragonfly: {}", self.text)}]});
        self.with(text.to_string(), "application/json")
    }

    fn with(self, text: String, kind: &'static str) -> Response<Body> {
        tracing::debug!(status = self.status.as_u16(), "a request of a client is refused: {}", self.text);
        let mut response = Response::new(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        if self.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            let challenge = HeaderValue::from_static("Basic realm=\"dragonfly\", charset=\"UTF-8\"");
            headers.insert(header::PROXY_AUTHENTICATE, challenge);
        }
        headers.insert(ERROR_TYPE, HeaderValue::from_static(if self.backend { "backend" } else { "proxy" }));
        response
    }
}

/// What kept the server from answering.
impl From<SourceError> for Refusal {
    fn from(error: SourceError) -> Self {
        let status = match error.kind() {
            SourceErrorKind::Guarded | SourceErrorKind::Forbidden => StatusCode::FORBIDDEN,
            SourceErrorKind::InvalidInput => StatusCode::BAD_REQUEST,
            SourceErrorKind::NotFound => StatusCode::NOT_FOUND,
            SourceErrorKind::Stalled => StatusCode::GATEWAY_TIMEOUT,
            SourceErrorKind::Changed
            | SourceErrorKind::Local
            | SourceErrorKind::Network
            | SourceErrorKind::Origin
            | SourceErrorKind::Tls => StatusCode::BAD_GATEWAY,
        };
        let own = matches!(error.kind(), SourceErrorKind::Guarded | SourceErrorKind::InvalidInput);
        Self { status, text: crate::Error::from(error).report(), backend: !own }
    }
}

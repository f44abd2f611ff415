//! What a registry says went wrong, in our terms and with what to do about it.

use ::http::header::HeaderMap;
use serde_json::Value;

use super::super::http::short::read;
use super::super::http::{Inner, Reached, status_failure};
use super::super::{OpenRequest, SourceError, SourceErrorKind, redact};

/// The most of an error's body that is read, in bytes.
const BODY_MAX: usize = 64 * 1024;

/// The longest code of an error that is shown, in bytes.
const CODE_MAX: usize = 64;

/// As whom a registry was asked, for what an error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// Nobody; a program has a credential perhaps, which is not run.
    Helper,
    Nobody,
    Somebody,
}

/// The error for an answer that is no content.
pub(super) async fn of_answer(http: &Inner, request: &OpenRequest, asker: Asker, reached: Reached) -> SourceError {
    let shown = redact(&reached.url);
    let (status, headers) = (reached.response.status().as_u16(), reached.response.headers().clone());
    // Without its body the status says what it says.
    let (body, unread) = match read(http, reached.response, BODY_MAX).await {
        Ok(body) => (body, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let judged = status_failure(&shown, status, &headers);
    let code = code(&body);
    let known = code.is_some() || headers.contains_key("docker-distribution-api-version");
    let error = of_code(request, asker, judged, status, code.as_deref(), known);
    match unread {
        Some(unread) => error.caused_by(unread),
        None => error,
    }
}

/// The error for a registry that will not be content with what it is told of who asks.
pub(super) fn unauthorized(request: &OpenRequest, asker: Asker, headers: &HeaderMap) -> SourceError {
    let judged = status_failure(&redact(&request.url), 401, headers);
    of_code(request, asker, judged, 401, Some("UNAUTHORIZED"), true)
}

fn of_code(
    request: &OpenRequest,
    asker: Asker,
    judged: SourceError,
    status: u16,
    code: Option<&str>,
    known: bool,
) -> SourceError {
    let shown = redact(&request.url);
    let host = request.url.host_str().unwrap_or_default();
    let port = request.url.port().map_or(String::new(), |port| format!(":{port}"));
    let (of, what) = match (code, status) {
        (_, 401 | 403) => (SourceErrorKind::Forbidden, forbidden(asker, &format!("{host}{port}"))),
        (Some("NAME_UNKNOWN" | "NAME_INVALID"), _) => {
            (SourceErrorKind::NotFound, "the registry has no such repository".to_owned())
        }
        (Some("MANIFEST_UNKNOWN"), _) => {
            (SourceErrorKind::NotFound, "there is no such tag or manifest, or no such repository".to_owned())
        }
        (Some("BLOB_UNKNOWN"), _) => (SourceErrorKind::NotFound, "the repository has no such blob".to_owned()),
        (Some("TOOMANYREQUESTS"), _) | (_, 429) => (judged.kind(), "the registry asks to slow down".to_owned()),
        (_, 404 | 410) if known => (SourceErrorKind::NotFound, "the registry has no such content".to_owned()),
        (_, 404 | 410) => {
            (SourceErrorKind::NotFound, format!("not found; {host}{port} does not answer as a registry does"))
        }
        _ => (judged.kind(), "the registry failed".to_owned()),
    };
    let said = code.map_or_else(|| status.to_string(), |code| format!("{status} {code}"));
    SourceError::new(of, format!("{shown}: {what} ({said})"))
        .temporary(judged.is_temporary())
        .with_status(status)
        .with_retry_after(judged.retry_after())
}

/// Registries say of what is not there, too, that it must not be read.
fn forbidden(asker: Asker, registry: &str) -> String {
    match asker {
        Asker::Somebody => "the registry does not accept the credential that is set for it, or its owner must not \
                              read this repository, or there is none"
            .to_owned(),
        Asker::Nobody => format!(
            "the registry wants a credential, or has no such repository: log in (docker login, podman login), or give \
             oci://{registry}.user and .secret-file as storage settings"
        ),
        Asker::Helper => format!(
            "the registry wants a credential; a credential helper has one perhaps, but such programs are not run: give \
             oci://{registry}.user and .secret-file as storage settings"
        ),
    }
}

/// The code of an error as registries write them (OCI distribution specification, Error codes).
fn code(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let code = value.get("errors")?.get(0)?.get("code")?.as_str()?;
    let plain = (1..=CODE_MAX).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    plain.then(|| code.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_short_words_or_nothing() {
        assert_eq!(code(br#"{"errors":[{"code":"NAME_UNKNOWN","message":"m"}]}"#).as_deref(), Some("NAME_UNKNOWN"));
        for other in
            ["", "{}", "<html>", r#"{"errors":[]}"#, r#"{"errors":[{"code":"a\u001b"}]}"#, r#"{"errors":{"code":1}}"#]
        {
            assert_eq!(code(other.as_bytes()), None, "{other}");
        }
    }
}

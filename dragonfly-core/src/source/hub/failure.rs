//! What a hub says went wrong, in our terms and with what to do about it.

use super::super::http::{Reached, status_failure};
use super::super::{SourceError, SourceErrorKind, redact};
use super::{Asking, Hub};

/// The error for an answer that is no content.
pub(super) fn of_answer(asking: &Asking<'_>, reached: &Reached) -> SourceError {
    let (status, headers) = (reached.response.status().as_u16(), reached.response.headers());
    let judged = status_failure(&redact(&reached.url), status, headers);
    // Hugging Face says more than the status.
    let code = headers.get("x-error-code").and_then(|code| code.to_str().ok()).unwrap_or_default();
    let has_token = asking.settings.token.is_some();
    let (kind, what) = match (code, status) {
        ("GatedRepo", _) => (SourceErrorKind::Forbidden, gated(has_token)),
        ("RevisionNotFound", _) => (SourceErrorKind::NotFound, "the repository has no such revision".to_owned()),
        ("EntryNotFound", _) => {
            (SourceErrorKind::NotFound, "the repository has no such file at this revision".to_owned())
        }
        (_, 401 | 403) => (SourceErrorKind::Forbidden, forbidden(asking.shared.hub, has_token)),
        ("RepoNotFound", _) => (SourceErrorKind::NotFound, missing(asking.shared.hub, has_token)),
        (_, 404 | 410) => {
            let what = format!("not there, or {}", missing(asking.shared.hub, has_token));
            (SourceErrorKind::NotFound, what)
        }
        (_, 429) => (judged.kind(), "the hub asks to slow down".to_owned()),
        _ => (judged.kind(), "the hub failed".to_owned()),
    };
    let plain = !code.is_empty() && code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let said = if plain { format!("{status} {code}") } else { status.to_string() };
    // A failure of where the hub sent us is told as of there.
    let of = if super::super::http::is_same_origin(&reached.url, &asking.settings.endpoint) {
        String::new()
    } else {
        format!(" at {}", reached.url.host_str().unwrap_or_default())
    };
    SourceError::new(kind, format!("{}: {what} ({said}{of})", redact(&asking.request.url)))
        .temporary(judged.is_temporary())
        .with_status(status)
        .with_retry_after(judged.retry_after())
}

/// How a token is given.
fn token(hub: Hub) -> &'static str {
    match hub {
        Hub::HuggingFace => "set HF_TOKEN, log in with `hf auth login`, or give hf.token-file as a storage setting",
        Hub::ModelScope => "set MODELSCOPE_API_TOKEN, or give modelscope.token-file as a storage setting",
    }
}

fn gated(has_token: bool) -> String {
    let ask = "its owner lets in who was granted access: ask for it on the repository's page";
    if has_token { ask.to_owned() } else { format!("{ask}, and {}", token(Hub::HuggingFace)) }
}

/// Hubs say of what is not there, too, that it must not be read.
fn forbidden(hub: Hub, has_token: bool) -> String {
    if has_token {
        return "the hub does not accept the token that is set for it, or its owner must not read this repository, or \
                there is none"
            .to_owned();
    }
    format!("the repository is private, or there is none: {}", token(hub))
}

fn missing(hub: Hub, has_token: bool) -> String {
    if has_token {
        return "there is no such repository, or the token's owner must not read it".to_owned();
    }
    format!("there is no such repository, or it is private: {}", token(hub))
}

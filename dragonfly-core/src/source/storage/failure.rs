//! Errors of storages in our terms, with what to do about them. Nothing that OpenDAL says of a request is shown: it may
//! hold a signed URL.

use std::error::Error as StdError;

use super::super::{OpenRequest, SourceError, SourceErrorKind, redact};
use super::place::Kind;
use super::transport::Answer;

/// The error for an answer that is one; `judged` is what HTTP alone says of it.
pub(super) fn of_answer(kind: Kind, request: &OpenRequest, answer: &Answer, judged: SourceError) -> SourceError {
    let shown = redact(&request.url);
    let code = answer.code.as_deref().unwrap_or_default();
    if answer.of_credentials {
        let text =
            format!("{shown}: no credential could be had: the service that gives them answered {}", answer.status);
        return SourceError::new(SourceErrorKind::Forbidden, text)
            .temporary(judged.is_temporary())
            .with_status(answer.status);
    }
    let said = if code.is_empty() { answer.status.to_string() } else { format!("{} {code}", answer.status) };
    let (of, what) = match (code, answer.status) {
        ("NoSuchBucket" | "ContainerNotFound" | "NoSuchContainer", _) => {
            (SourceErrorKind::NotFound, "there is no such bucket: check its name and the endpoint".to_owned())
        }
        ("PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException", _)
        | ("", 301) => (
            SourceErrorKind::InvalidInput,
            match answer.headers.get("x-amz-bucket-region").and_then(|region| region.to_str().ok()) {
                Some(region) if region.len() < 64 => format!("the bucket is in another region: set it to {region}"),
                _ => "the bucket is in another region, or belongs to another endpoint: set them".to_owned(),
            },
        ),
        ("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "AuthenticationFailed" | "InvalidSecurity", _) => (
            SourceErrorKind::Forbidden,
            "the credentials are not accepted: check key and secret, and this host's clock".to_owned(),
        ),
        ("ExpiredToken" | "TokenRefreshRequired" | "InvalidToken", _) => {
            (SourceErrorKind::Forbidden, "the session's token is not valid any more: get a new one".to_owned())
        }
        ("RequestTimeTooSkewed", _) => (SourceErrorKind::Forbidden, "this host's clock is wrong".to_owned()),
        ("InvalidObjectState", _) => {
            (SourceErrorKind::Forbidden, "it is archived: restore it at its storage first".to_owned())
        }
        (_, 401) => (SourceErrorKind::Forbidden, format!("a credential is needed: {}", how(kind))),
        (_, 403) => (
            SourceErrorKind::Forbidden,
            "no permission to read it (some storages say so of what is not there, too)".to_owned(),
        ),
        (_, 404 | 410) => (SourceErrorKind::NotFound, "there is no such object".to_owned()),
        _ => (judged.kind(), "the storage failed".to_owned()),
    };
    SourceError::new(of, format!("{shown}: {what} ({said})"))
        .temporary(judged.is_temporary())
        .with_status(answer.status)
        .with_retry_after(judged.retry_after())
}

/// The error for one of OpenDAL's own, before or without an answer.
pub(super) fn of_opendal(kind: Kind, request: &OpenRequest, error: &opendal::Error) -> SourceError {
    use opendal::ErrorKind as Theirs;
    let shown = redact(&request.url);
    if let Some(own) = own(error) {
        return own.clone();
    }
    let told = |of, what: &str| SourceError::new(of, format!("{shown}: {what}"));
    // Nothing else tells it: of OpenDAL these are unexpected errors, like all others before a request.
    if ["credential", "signing http request"].iter().any(|text| error.message().contains(text)) {
        return told(SourceErrorKind::Forbidden, &format!("no usable credential was found: {}", how(kind)));
    }
    match error.kind() {
        Theirs::NotFound => told(SourceErrorKind::NotFound, "there is no such file"),
        Theirs::PermissionDenied => told(SourceErrorKind::Forbidden, "no permission to read it"),
        Theirs::IsADirectory => told(SourceErrorKind::InvalidInput, "it is a directory: list it"),
        Theirs::NotADirectory => told(SourceErrorKind::InvalidInput, "it is no directory"),
        Theirs::ConfigInvalid => told(SourceErrorKind::InvalidInput, "the storage is set up wrongly"),
        Theirs::Unsupported => told(SourceErrorKind::InvalidInput, "the storage cannot do this"),
        Theirs::RateLimited => told(SourceErrorKind::Origin, "the storage asks to slow down").temporary(true),
        _ if kind == Kind::Sftp && !error.is_temporary() => told(
            SourceErrorKind::Network,
            "ssh cannot connect: try `ssh` to this host as this user; its key must be known, and no password be needed",
        ),
        _ => told(SourceErrorKind::Network, "the storage could not be asked").temporary(true),
    }
}

/// Our own error within one of theirs.
pub(super) fn own(error: &opendal::Error) -> Option<&SourceError> {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<SourceError>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// How a kind of storage is given credentials.
fn how(kind: Kind) -> &'static str {
    match kind {
        Kind::S3 => "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile, or ask anonymously",
        Kind::Gcs => "set GOOGLE_APPLICATION_CREDENTIALS, or ask anonymously",
        Kind::Azblob => "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or ask anonymously",
        Kind::Oss => "set ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET, or ask anonymously",
        Kind::Obs => "set HUAWEI_CLOUD_ACCESS_KEY_ID and HUAWEI_CLOUD_SECRET_ACCESS_KEY",
        Kind::Cos => "set TENCENTCLOUD_SECRET_ID and TENCENTCLOUD_SECRET_KEY",
        Kind::Webdav | Kind::Ftp => "give user and password in the settings of this host, or in the URL",
        Kind::Webhdfs => "set HADOOP_USER_NAME, or give a delegation token in the settings of this host",
        Kind::Hdfs => "get a ticket with kinit",
        Kind::Sftp => "give the user in the URL and its key in the settings of this host",
        Kind::File => "the file is not readable for this user",
        Kind::Oci => "give user and password in the settings of this registry",
        Kind::Hf | Kind::Modelscope => "give a token in the settings of this hub",
    }
}

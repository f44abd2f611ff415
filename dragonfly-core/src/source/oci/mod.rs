//! Registries of images (OCI distribution specification): `oci://HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]`.
//!
//! What a digest names is read as it is, in ranges, whatever its image; a tag names a manifest. An image is listed as the
//! files of its layout (OCI image specification, Image layout), each under the name of its digest, so that images share
//! what they have in common. Connections, redirects, time-outs and retries are those of the HTTP source.
//!
//! Content that is read with a credential of this host is for its own users alone, as with storages. Credentials go to
//! the registry that they are for and to whom it names to give out tokens, and never across a redirect to another server.
//!
//! Tokens are kept in memory, as long as they are good; a file of credentials is read again when it changes.

mod auth;
mod challenge;
mod credential;
mod failure;
mod image;
mod list;
mod open;
mod reference;

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use url::{Host, Url};

use super::http::Inner;
use super::retry::retrying;
use super::storage::Kind;
use super::{
    Entry, Guard, HttpConfig, OpenRequest, Opened, OriginTrust, Source, SourceError, SourceErrorKind, StorageConfig,
    StorageSettings, redact,
};
use crate::task::Digest;
use auth::Tokens;
use credential::{Credential, Files, Found};
use failure::Asker;
use reference::Reference;

/// The source for `oci:`.
///
/// Its settings are those of storages, by the origin `oci://HOST[:PORT]`: `user` and `secret`, or `token`; `anonymous`;
/// and `endpoint`, where a registry is not reached by HTTPS under its own name. Without a user, the files that
/// `docker login` and `podman login` write are read.
pub struct OciSource(Arc<Shared>);

struct Shared {
    /// As the operator gave it.
    guard: Guard,
    /// Without the list of origins, which is of registries as the URL has them, not of where they send us.
    http: Inner,
    config: StorageConfig,
    files: Files,
    tokens: Tokens,
}

impl OciSource {
    /// A source under these rules.
    pub fn new(guard: Guard, http: HttpConfig, config: StorageConfig) -> Self {
        let files = if config.no_environment { Files::new(Vec::new()) } else { Files::of_environment() };
        Self::with_files(guard, http, config, files)
    }

    fn with_files(guard: Guard, http: HttpConfig, config: StorageConfig, files: Files) -> Self {
        let http = Inner::new(Guard { origins: None, ..guard.clone() }, http);
        Self(Arc::new(Shared { guard, http, config, files, tokens: Tokens::default() }))
    }
}

impl Source for OciSource {
    fn schemes(&self) -> &[&str] {
        Kind::Oci.schemes()
    }

    fn is_own(&self, url: &Url) -> bool {
        // What is no image is refused when it is opened.
        Reference::of(url, true).is_ok_and(|reference| self.0.is_own(url, &reference))
    }

    fn named_digest(&self, url: &Url) -> Option<Digest> {
        let reference = Some(url).filter(|url| url.scheme() == "oci").and_then(|url| Reference::of(url, false).ok())?;
        reference.fixed().cloned()
    }

    fn open<'a>(&'a self, request: OpenRequest) -> BoxFuture<'a, Result<Opened, SourceError>> {
        async move {
            let reference = Reference::of(&request.url, false)?;
            let asking = Asking::new(&self.0, &reference, &request)?;
            retrying(&request, || open::open(&asking, &reference)).await
        }
        .boxed()
    }

    /// The files of the image's layout. Blobs that the registry need not have, which are elsewhere, are left out.
    fn list(&self, request: OpenRequest) -> BoxStream<'static, Result<Vec<Entry>, SourceError>> {
        let shared = Arc::clone(&self.0);
        let listed = async move {
            let reference = Reference::of(&request.url, true)?;
            let asking = Asking::new(&shared, &reference, &request)?;
            retrying(&request, || list::list(&asking, &reference)).await
        };
        listed.into_stream().boxed()
    }
}

impl Shared {
    fn settings(&self, url: &Url) -> StorageSettings {
        self.config.settings(url, Kind::Oci)
    }

    /// As whom a repository is read.
    fn credential(&self, settings: &StorageSettings, reference: &Reference) -> Found {
        if settings.anonymous {
            return Found::default();
        }
        match Credential::of_settings(settings) {
            Some(credential) => Found { credential: Some(credential), helper: false },
            // A login is for the registry that it names, and not for where the operator has that registry's images come from.
            None if settings.endpoint.is_some() => Found::default(),
            None => self.files.find(&reference.authority, &reference.repository),
        }
    }

    /// See [`Source::is_own`].
    fn is_own(&self, url: &Url, reference: &Reference) -> bool {
        let found = self.credential(&self.settings(url), reference);
        found.credential.is_some() && !self.guard.lists_by_scheme(url)
    }
}

/// A registry that may be asked about a repository, and how.
struct Asking<'a> {
    shared: &'a Shared,
    request: &'a OpenRequest,
    endpoint: Url,
    repository: &'a str,
    credential: Option<Credential>,
    asker: Asker,
    /// What is read is read with a credential, and the operator did not say that anybody may have it.
    private: bool,
}

impl<'a> Asking<'a> {
    /// Checks that a request may go to its registry.
    fn new(shared: &'a Shared, reference: &'a Reference, request: &'a OpenRequest) -> Result<Self, SourceError> {
        let error = |kind, what: &str| SourceError::new(kind, format!("{}: {what}", redact(&request.url)));
        if !request.headers.is_empty() {
            return Err(error(SourceErrorKind::InvalidInput, "registries take no headers of the caller's"));
        }
        if request.range.as_ref().is_some_and(|range| range.start >= range.end) {
            return Err(error(SourceErrorKind::InvalidInput, "the range is empty"));
        }
        shared.guard.check_listed(&request.url, request.local)?;
        let settings = shared.settings(&request.url);
        let found = shared.credential(&settings, reference);
        // The credential that is used is the one that is judged: a login may have come since the task was named.
        let private = found.credential.is_some() && !shared.guard.lists_by_scheme(&request.url);
        if private && (!request.local || request.shared) {
            let what = "it must not be reached: it is read with this host's own credentials, and not among the origins \
                        that this node may fetch from for others";
            return Err(error(SourceErrorKind::Guarded, what));
        }
        let endpoint = endpoint(&settings, &reference.authority);
        let endpoint = endpoint.ok_or_else(|| {
            error(SourceErrorKind::InvalidInput, "the endpoint of a registry is http[s]://HOST[:PORT], and no more")
        })?;
        let asker = match (&found.credential, found.helper) {
            (Some(_), _) => Asker::Somebody,
            (None, true) => Asker::Helper,
            (None, false) => Asker::Nobody,
        };
        let (repository, credential) = (reference.repository.as_str(), found.credential);
        Ok(Self { shared, request, endpoint, repository, credential, asker, private })
    }

    /// What makes certificates good. What the caller takes for good is not good enough for this host's credentials.
    fn trust(&self) -> OriginTrust {
        if self.credential.is_some() { OriginTrust::default() } else { self.request.trust.clone() }
    }

    fn error(&self, kind: SourceErrorKind, what: impl std::fmt::Display) -> SourceError {
        SourceError::new(kind, format!("{}: {what}", redact(&self.request.url)))
    }
}

/// Where the API of a registry is.
fn endpoint(settings: &StorageSettings, authority: &str) -> Option<Url> {
    let url = match &settings.endpoint {
        Some(given) => Url::parse(given).ok()?,
        None => {
            let host = if is_docker_hub(authority) { DOCKER_HUB_API } else { authority };
            let mut url = Url::parse(&format!("https://{host}")).ok()?;
            if is_loopback(&url) {
                // Of the text anew, so that port 443 stays where it is.
                url = Url::parse(&format!("http://{host}")).ok()?;
            }
            url
        }
    };
    let has_user = !url.username().is_empty() || url.password().is_some();
    let plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && !has_user;
    (matches!(url.scheme(), "http" | "https") && url.has_host() && plain).then_some(url)
}

/// The names of Docker Hub, whose API is at another one.
const DOCKER_HUB: [&str; 3] = ["docker.io", "index.docker.io", DOCKER_HUB_API];
const DOCKER_HUB_API: &str = "registry-1.docker.io";

fn is_docker_hub(host: &str) -> bool {
    DOCKER_HUB.contains(&host)
}

/// Whether a host is this one, where nobody listens in.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests;

//! Hubs of models and datasets: `hf://[models|datasets|spaces/]OWNER/NAME[@REVISION]/PATH` (Hugging Face) and
//! `modelscope://[models|datasets/]OWNER/NAME[@REVISION]/PATH` (ModelScope).
//!
//! A file is asked for at the hub, which sends us on to another server for large ones; its version is what the hub says
//! of its content, so a branch that moves does not change a file that it leaves as it is. A repository is listed at one
//! commit, with the digests that the hub knows. Connections, redirects, time-outs and retries are those of the HTTP
//! source.
//!
//! Content that is read with a token of this host is for its own users alone, as with storages. The token goes to the hub,
//! and never across a redirect to another server.

mod api;
mod credential;
mod failure;
mod list;
mod open;
mod reference;

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use url::Url;

use super::http::{Inner, Reached, is_same_origin};
use super::retry::retrying;
use super::storage::Kind;
use super::{
    Entry, Guard, HttpConfig, OpenRequest, Opened, OriginTrust, Source, SourceError, SourceErrorKind, StorageConfig,
    redact,
};
use credential::{Environment, Settings};
use reference::Reference;

/// Which hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hub {
    HuggingFace,
    ModelScope,
}

impl Hub {
    fn of_scheme(scheme: &str) -> Option<Self> {
        [Self::HuggingFace, Self::ModelScope].into_iter().find(|hub| hub.scheme() == scheme)
    }

    const fn scheme(self) -> &'static str {
        match self {
            Self::HuggingFace => "hf",
            Self::ModelScope => "modelscope",
        }
    }

    const fn kind(self) -> Kind {
        match self {
            Self::HuggingFace => Kind::Hf,
            Self::ModelScope => Kind::Modelscope,
        }
    }

    const fn default_revision(self) -> &'static str {
        match self {
            Self::HuggingFace => "main",
            Self::ModelScope => "master",
        }
    }
}

/// The source for `hf:`, or for `modelscope:`.
///
/// Its settings are those of storages, by the scheme: `endpoint`, `token`, `anonymous`. Where no endpoint is set, the
/// environment variables and files of the hub's own client are read; see `docs/guides/origins.md`.
pub struct HubSource(Arc<Shared>);

struct Shared {
    hub: Hub,
    /// As the operator gave it.
    guard: Guard,
    /// Without the list of origins, which is of owners as the URL has them, not of where they are.
    http: Inner,
    config: StorageConfig,
    environment: Environment,
}

impl HubSource {
    /// A source for `hf:` under these rules.
    #[cfg(feature = "hf")]
    pub fn hugging_face(guard: Guard, http: HttpConfig, config: StorageConfig) -> Self {
        Self::with(Hub::HuggingFace, guard, http, config, Environment::of_process())
    }

    /// A source for `modelscope:` under these rules.
    #[cfg(feature = "modelscope")]
    pub fn modelscope(guard: Guard, http: HttpConfig, config: StorageConfig) -> Self {
        Self::with(Hub::ModelScope, guard, http, config, Environment::of_process())
    }

    fn with(hub: Hub, guard: Guard, http: HttpConfig, config: StorageConfig, environment: Environment) -> Self {
        let http = Inner::new(Guard { origins: None, ..guard.clone() }, http);
        Self(Arc::new(Shared { hub, guard, http, config, environment }))
    }
}

impl Source for HubSource {
    fn schemes(&self) -> &[&str] {
        self.0.hub.kind().schemes()
    }

    fn is_own(&self, url: &Url) -> bool {
        // What is no file of a repository is refused when it is opened.
        let settings = Reference::of(url, true).ok().and_then(|_| self.0.settings(url).ok());
        settings.is_some_and(|settings| settings.token.is_some()) && !self.0.guard.lists_by_scheme(url)
    }

    fn open<'a>(&'a self, request: OpenRequest) -> BoxFuture<'a, Result<Opened, SourceError>> {
        async move {
            let reference = Reference::of(&request.url, false)?;
            let asking = Asking::new(&self.0, &request)?;
            retrying(&request, || open::open(&asking, &reference)).await
        }
        .boxed()
    }

    /// What is directly below a directory of a repository.
    fn list(&self, request: OpenRequest) -> BoxStream<'static, Result<Vec<Entry>, SourceError>> {
        let shared = Arc::clone(&self.0);
        let listed = async move {
            let reference = Reference::of(&request.url, true)?;
            let asking = Asking::new(&shared, &request)?;
            retrying(&request, || list::list(&asking, &reference)).await
        };
        listed.into_stream().boxed()
    }
}

impl Shared {
    fn settings(&self, url: &Url) -> Result<Settings, String> {
        let environment = (!self.config.no_environment).then_some(&self.environment);
        Settings::new(self.hub, self.config.settings(url, self.hub.kind()), environment)
    }
}

/// A hub that may be asked, and how.
struct Asking<'a> {
    shared: &'a Shared,
    request: &'a OpenRequest,
    settings: Settings,
    /// What is read is read with a token, and the operator did not say that anybody may have it.
    private: bool,
}

impl<'a> Asking<'a> {
    /// Checks that a request may go to the hub.
    fn new(shared: &'a Shared, request: &'a OpenRequest) -> Result<Self, SourceError> {
        let error = |kind, what: &str| SourceError::new(kind, format!("{}: {what}", redact(&request.url)));
        if !request.headers.is_empty() {
            return Err(error(SourceErrorKind::InvalidInput, "hubs take no headers of the caller's"));
        }
        if request.range.as_ref().is_some_and(|range| range.start >= range.end) {
            return Err(error(SourceErrorKind::InvalidInput, "the range is empty"));
        }
        shared.guard.check_listed(&request.url, request.local)?;
        let settings = shared.settings(&request.url).map_err(|what| error(SourceErrorKind::InvalidInput, &what))?;
        // The token that is used is the one that is judged: a login may have come since the task was named.
        let private = settings.token.is_some() && !shared.guard.lists_by_scheme(&request.url);
        if private && (!request.local || request.shared) {
            let what = "it must not be reached: it is read with this host's own token, and not among the origins that \
                        this node may fetch from for others";
            return Err(error(SourceErrorKind::Guarded, what));
        }
        Ok(Self { shared, request, settings, private })
    }

    /// Asks for a URL of the hub, whatever the status of the answer.
    async fn ask(&self, url: Url, range: Option<std::ops::Range<u64>>) -> Result<Reached, SourceError> {
        let ranged = range.is_some();
        // The token is for the hub alone, whatever an answer of its says.
        let is_hub = is_same_origin(&url, &self.settings.endpoint);
        let mut request = OpenRequest::new(url);
        request.range = range;
        if is_hub {
            request.headers = self.settings.headers(self.shared.hub);
        }
        // What the caller takes for good is not good enough for this host's token.
        request.trust = if self.settings.token.is_some() { OriginTrust::default() } else { self.request.trust.clone() };
        request.local = self.request.local;
        // What is redirected elsewhere goes without the token.
        self.shared.http.reach(&request, ranged).await
    }

    fn error(&self, kind: SourceErrorKind, what: impl std::fmt::Display) -> SourceError {
        SourceError::new(kind, format!("{}: {what}", redact(&self.request.url)))
    }
}

#[cfg(test)]
mod tests;

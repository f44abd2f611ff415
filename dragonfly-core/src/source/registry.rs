//! Which source serves which scheme.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use url::Url;

#[cfg(any(feature = "hf", feature = "modelscope"))]
use super::HubSource;
#[cfg(feature = "oci")]
use super::OciSource;
use super::list::failed;
use super::{
    Entry, Guard, OpenRequest, Opened, Source, SourceError, SourceErrorKind, WalkLimits, fetch_range, resume, walk,
};
#[cfg(feature = "http")]
use super::{HttpConfig, HttpSource};
#[cfg(feature = "storage")]
use super::{StorageConfig, StorageSource};
use crate::task::Digest;

/// The sources of a node by URL scheme: `http` and `https` unless told otherwise (or built without the feature `http`),
/// and those of the storages, registries of images and hubs of models whose features were built in.
/// Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    sources: Arc<BTreeMap<String, Arc<dyn Source>>>,
    #[cfg(feature = "gateway")]
    upstream: super::Upstream,
}

/// Puts a [`Registry`] together.
#[derive(Default)]
pub struct RegistryBuilder {
    guard: Guard,
    #[cfg(feature = "http")]
    http: HttpConfig,
    #[cfg(feature = "storage")]
    storage: StorageConfig,
    sources: Vec<(Option<String>, Arc<dyn Source>)>,
}

impl RegistryBuilder {
    /// What fetches over HTTP may reach.
    #[must_use]
    pub fn guard(mut self, guard: Guard) -> Self {
        self.guard = guard;
        self
    }

    /// Time-outs, proxy and the like of HTTP.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn http(mut self, config: HttpConfig) -> Self {
        self.http = config;
        self
    }

    /// Endpoints and credentials of object stores, file servers, registries of images and hubs of models.
    #[cfg(feature = "storage")]
    #[must_use]
    pub fn storage(mut self, config: StorageConfig) -> Self {
        self.storage = config;
        self
    }

    /// Adds a source; it takes the place of any other for its schemes, the built-in ones included. A source of the
    /// embedder's enforces what it may reach itself.
    #[must_use]
    pub fn source(mut self, source: Arc<dyn Source>) -> Self {
        self.sources.push((None, source));
        self
    }

    /// Adds a source for one scheme, whatever schemes it names itself. Else as [`RegistryBuilder::source`].
    #[must_use]
    pub fn source_for(mut self, scheme: impl Into<String>, source: Arc<dyn Source>) -> Self {
        self.sources.push((Some(scheme.into()), source));
        self
    }

    /// The registry.
    pub fn build(self) -> Registry {
        let mut sources = BTreeMap::new();
        let mut add = |scheme: Option<String>, source: Arc<dyn Source>| {
            let own = source.schemes().iter().copied().filter(|_| scheme.is_none());
            for scheme in own.chain(scheme.as_deref()) {
                sources.insert(scheme.to_ascii_lowercase(), source.clone());
            }
        };
        #[cfg(feature = "oci")]
        add(None, Arc::new(OciSource::new(self.guard.clone(), self.http.clone(), self.storage.clone())));
        #[cfg(feature = "hf")]
        add(None, Arc::new(HubSource::hugging_face(self.guard.clone(), self.http.clone(), self.storage.clone())));
        #[cfg(feature = "modelscope")]
        add(None, Arc::new(HubSource::modelscope(self.guard.clone(), self.http.clone(), self.storage.clone())));
        #[cfg(feature = "storage")]
        add(None, Arc::new(StorageSource::new(self.guard.clone(), self.http.clone(), self.storage)));
        #[cfg(feature = "http")]
        let http = HttpSource::new(self.guard, self.http);
        #[cfg(feature = "gateway")]
        let upstream = http.upstream();
        #[cfg(feature = "http")]
        add(None, Arc::new(http));
        for (scheme, source) in self.sources {
            add(scheme, source);
        }
        Registry {
            sources: Arc::new(sources),
            #[cfg(feature = "gateway")]
            upstream,
        }
    }
}

impl Registry {
    /// Puts one together.
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder::default()
    }

    /// The source for a URL.
    ///
    /// # Errors
    /// [`SourceErrorKind::InvalidInput`]: nobody serves its scheme.
    pub fn source(&self, url: &Url) -> Result<Arc<dyn Source>, SourceError> {
        self.sources.get(url.scheme()).cloned().ok_or_else(|| {
            let known = self.sources.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let text = format!("no source for {}: URLs (there are: {known})", url.scheme());
            SourceError::new(SourceErrorKind::InvalidInput, text)
        })
    }

    /// See [`Source::open`].
    ///
    /// # Errors
    /// Those of the source, and none for the scheme.
    pub async fn open(&self, request: OpenRequest) -> Result<Opened, SourceError> {
        self.source(&request.url)?.open(request).await
    }

    /// See [`fetch_range`].
    pub fn fetch_range(&self, request: OpenRequest) -> BoxStream<'static, Result<Bytes, SourceError>> {
        match self.source(&request.url) {
            Ok(source) => fetch_range(source, request),
            Err(error) => stream::once(async { Err(error) }.boxed()).boxed(),
        }
    }

    /// See [`Source::list`].
    pub fn list(&self, request: OpenRequest) -> BoxStream<'static, Result<Vec<Entry>, SourceError>> {
        match self.source(&request.url) {
            Ok(source) => source.list(request),
            Err(error) => failed(error),
        }
    }

    /// See [`walk`].
    pub fn walk(&self, request: OpenRequest, limits: WalkLimits) -> BoxStream<'static, Result<Entry, SourceError>> {
        match self.source(&request.url) {
            Ok(source) => walk(source, request, limits),
            Err(error) => stream::once(async { Err(error) }.boxed()).boxed(),
        }
    }

    /// The way to HTTP servers for requests that are passed on.
    #[cfg(feature = "gateway")]
    pub(crate) fn upstream(&self) -> &super::Upstream {
        &self.upstream
    }

    /// Whether some source serves a scheme (in lower case).
    pub fn serves(&self, scheme: &str) -> bool {
        self.sources.contains_key(scheme)
    }

    /// See [`Source::is_own`].
    pub fn is_own(&self, url: &Url) -> bool {
        self.sources.get(url.scheme()).is_some_and(|source| source.is_own(url))
    }

    /// See [`Source::named_digest`].
    pub fn named_digest(&self, url: &Url) -> Option<Digest> {
        self.sources.get(url.scheme()).and_then(|source| source.named_digest(url))
    }

    /// See [`resume()`].
    pub fn resume(
        &self,
        request: OpenRequest,
        content: super::Content,
    ) -> BoxStream<'static, Result<Bytes, SourceError>> {
        match self.source(&request.url) {
            Ok(source) => resume(source, request, content),
            Err(error) => stream::once(async { Err(error) }.boxed()).boxed(),
        }
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::builder().build()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.sources.keys()).finish()
    }
}

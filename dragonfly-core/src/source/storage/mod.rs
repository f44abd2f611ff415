//! Object stores and file servers: S3, GCS, Azure, OSS, OBS, COS, WebDAV, WebHDFS, HDFS, FTP, SFTP, files.
//!
//! All but FTP through Apache OpenDAL, each kind a cargo feature. Of OpenDAL only the requests and their signatures are
//! used: connections, time-outs, retries, redirects and what an answer means are the same as for HTTP origins.
//!
//! Which host is asked for a bucket is a setting of the operator's, so a member who names a bucket cannot choose it.
//! Content that is read with a credential of this host is for its own users alone: others are told nothing of it,
//! and nobody else's wish fetches it, unless the operator lists the origin (see [`Guard::origins`]).

mod config;
mod failure;
#[cfg(feature = "ftp")]
mod ftp;
mod list;
mod open;
mod place;
mod services;
mod transport;

use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use opendal::raw::Servicer;
use opendal::{HttpTransporter, OperationContext, Operator};

use super::http::client::Clients;
use super::retry::retrying;
use super::{Entry, Guard, HttpConfig, OpenRequest, Opened, OriginTrust, Source, SourceError, SourceErrorKind, redact};
pub use config::{StorageConfig, StorageSettings};
#[cfg(feature = "oci")]
pub(super) use open::{content, settled};
pub(super) use place::Kind;
#[cfg(feature = "oci")]
pub(super) use place::is_plain_authority;
use place::{Place, Site};
#[cfg(any(feature = "hf", feature = "modelscope"))]
pub(super) use place::{check_key, decode, is_plain_name};
pub(super) use transport::{DIRECTORY_BYTES_MAX, PAGE_BYTES_MAX};
use transport::{Seen, Transport};

/// The most sites whose set-up is kept, with the credentials that were fetched for them.
pub(super) const SITES_MAX: usize = 64;

/// The source for all storages that were built in.
pub struct StorageSource {
    shared: Arc<Shared>,
    schemes: Vec<&'static str>,
}

/// How storages are reached over HTTP.
struct Reach {
    /// Without the list of origins: that is of buckets and hosts as the URL has them, not of endpoints.
    guard: Guard,
    http: HttpConfig,
    clients: Clients,
    instance_credentials: bool,
    /// To the machine's metadata service, which content is never fetched from.
    for_credentials: Clients,
}

struct Shared {
    /// As the operator gave it.
    guard: Guard,
    reach: Arc<Reach>,
    config: StorageConfig,
    /// Least recently used first.
    services: Mutex<Vec<(Site, StorageSettings, Servicer)>>,
}

impl StorageSource {
    /// A source under these rules.
    pub fn new(guard: Guard, http: HttpConfig, config: StorageConfig) -> Self {
        let mut schemes: Vec<&'static str> = Kind::built_in().flat_map(|kind| kind.schemes().iter().copied()).collect();
        if cfg!(feature = "fs") && config.files_below.is_some() {
            schemes.extend(Kind::File.schemes());
        }
        let of_addresses = Guard { origins: None, ..guard.clone() };
        let any = Guard { allow_loopback: true, allow_link_local: true, allow_metadata: true, origins: None };
        let reach = Reach {
            clients: Clients::new(of_addresses.clone(), http.clone()),
            for_credentials: Clients::new(any, http.clone()),
            guard: of_addresses,
            http,
            instance_credentials: config.instance_credentials,
        };
        let shared = Shared { guard, reach: Arc::new(reach), config, services: Mutex::default() };
        Self { shared: Arc::new(shared), schemes }
    }
}

impl Source for StorageSource {
    fn schemes(&self) -> &[&str] {
        &self.schemes
    }

    fn is_own(&self, url: &url::Url) -> bool {
        // What is no place is refused when it is opened.
        Place::of(url, false).is_ok_and(|place| self.shared.is_own(url, &place.site))
    }

    fn open<'a>(&'a self, request: OpenRequest) -> BoxFuture<'a, Result<Opened, SourceError>> {
        async move {
            let place = Place::of(&request.url, false)?;
            let permit = self.shared.permit(&place.site, &request).await?;
            #[cfg(feature = "ftp")]
            if place.site.kind == Kind::Ftp {
                let ftp = ftp::Ftp::new(&self.shared.reach, &place.site, &permit, &request);
                return retrying(&request, || ftp.open(&place.key, &request)).await;
            }
            let asking = self.shared.ask(&place.site, &permit)?;
            retrying(&request, || open::open(&asking, &place.key, &request)).await
        }
        .boxed()
    }

    fn list(&self, request: OpenRequest) -> BoxStream<'static, Result<Vec<Entry>, SourceError>> {
        list::list(Arc::clone(&self.shared), request)
    }
}

/// That a request may go to a site.
struct Permit {
    settings: StorageSettings,
    /// See [`Asking::private`].
    private: bool,
    credential: bool,
}

/// A site that may be asked, and how.
#[derive(Clone)]
struct Asking {
    kind: Kind,
    service: Servicer,
    reach: Arc<Reach>,
    /// What is read there is read with a credential, and the operator did not say that anybody may have it.
    private: bool,
    /// Requests carry a credential of this host's own.
    credential: bool,
}

impl Shared {
    /// See [`Source::is_own`].
    fn is_own(&self, url: &url::Url, site: &Site) -> bool {
        self.config.settings(url, site.kind).credential(site) && !self.guard.lists_by_scheme(url)
    }

    /// Checks that this request may go to this site.
    async fn permit(&self, site: &Site, request: &OpenRequest) -> Result<Permit, SourceError> {
        let settings = self.config.settings(&request.url, site.kind);
        self.guard.check_listed(&request.url, request.local)?;
        let private = self.is_own(&request.url, site);
        if private && (!request.local || request.shared) {
            let text = format!(
                "{} must not be reached: it is read with this host's own credentials, and not among the origins that \
                 this node may fetch from for others",
                redact(&request.url)
            );
            return Err(SourceError::new(SourceErrorKind::Guarded, text));
        }
        if !site.kind.has_buckets() && site.kind != Kind::File {
            self.check_host(site, request).await?;
        }
        let credential = settings.credential(site);
        Ok(Permit { settings, private, credential })
    }

    fn ask(&self, site: &Site, permit: &Permit) -> Result<Asking, SourceError> {
        let service = self.service(site, &permit.settings)?;
        let Permit { private, credential, .. } = *permit;
        Ok(Asking { kind: site.kind, service, reach: Arc::clone(&self.reach), private, credential })
    }

    /// Whether the host in the URL may be reached. Those that are not asked over HTTP connect by themselves: their
    /// names are resolved here, once more.
    async fn check_host(&self, site: &Site, request: &OpenRequest) -> Result<(), SourceError> {
        let invalid = || SourceError::new(SourceErrorKind::InvalidInput, format!("{}: no host", redact(&request.url)));
        let url = site.http_url().ok_or_else(invalid)?;
        let refused = |why: &str| {
            let text = format!("{} must not be reached: {why}", redact(&request.url));
            Err(SourceError::new(SourceErrorKind::Guarded, text))
        };
        self.reach.guard.check_url(&url, request.local)?;
        let by_itself = matches!(site.kind, Kind::Hdfs | Kind::Sftp);
        let Some(name) = url.domain().filter(|_| by_itself) else { return Ok(()) };
        let unknown = |e: std::io::Error| {
            let text = format!("{}: its host has no address: {e}", redact(&request.url));
            SourceError::new(SourceErrorKind::Network, text).temporary(true)
        };
        let addresses = tokio::net::lookup_host((name, 0)).await.map_err(unknown)?;
        for address in addresses {
            self.reach.guard.check_address(address.ip(), request.local).or_else(refused)?;
        }
        Ok(())
    }

    /// The service of a site, set up once: it keeps the credentials that it was given.
    fn service(&self, site: &Site, settings: &StorageSettings) -> Result<Servicer, SourceError> {
        // Nothing that holds the lock can leave the list broken.
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let (site, settings, service) = match services.iter().position(|(s, t, _)| s == site && t == settings) {
            Some(at) => services.remove(at),
            None => (site.clone(), settings.clone(), services::service(site, settings, &self.config)?),
        };
        if services.len() >= SITES_MAX {
            services.remove(0);
        }
        services.push((site, settings, service.clone()));
        Ok(service)
    }
}

impl Asking {
    /// The site as one request may ask it, and where its answers are noted.
    fn operator(&self, request: &OpenRequest) -> (Operator, Seen) {
        self.operator_of(request, None)
    }

    /// The same for its lists.
    fn lister(&self, request: &OpenRequest) -> (Operator, Seen) {
        self.operator_of(request, Some(request.clone()))
    }

    fn operator_of(&self, request: &OpenRequest, lists: Option<OpenRequest>) -> (Operator, Seen) {
        let seen = Seen::default();
        let transport = Transport {
            reach: Arc::clone(&self.reach),
            // What the caller takes for good is not good enough for this host's own credentials.
            trust: if self.credential { OriginTrust::default() } else { request.trust.clone() },
            local: request.local,
            cloud: self.kind.has_buckets(),
            lists,
            seen: Arc::clone(&seen),
        };
        let context = OperationContext::default().with_http_transport(HttpTransporter::new(transport));
        (Operator::from_parts(context, self.service.clone()), seen)
    }
}

#[cfg(test)]
mod tests;

//! Pools of connections, one per trust and asker, and the resolver that guards them.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::Url;

use super::super::{Guard, OriginTrust, SourceError, SourceErrorKind, redact};
use super::{HttpConfig, Proxy, tls};

/// The most pools that are kept: each private authority that a caller brings makes one.
pub(in crate::source) const CLIENTS_MAX: usize = 16;

/// The clients of a source.
pub(in crate::source) struct Clients {
    guard: Guard,
    config: HttpConfig,
    /// Least recently used first.
    pools: Mutex<Vec<(Key, reqwest::Client)>>,
}

/// What may not share connections. `local` must be in it: a connection to loopback that a local user had made must
/// not serve anyone else.
#[derive(Clone, PartialEq, Eq)]
struct Key {
    /// Absent for plain HTTP.
    trust: Option<OriginTrust>,
    local: bool,
}

impl Clients {
    pub(in crate::source) fn new(guard: Guard, config: HttpConfig) -> Self {
        Self { guard, config, pools: Mutex::default() }
    }

    /// The client for a URL.
    pub(in crate::source) fn client(
        &self,
        url: &Url,
        trust: &OriginTrust,
        local: bool,
    ) -> Result<reqwest::Client, SourceError> {
        let key = Key { trust: (url.scheme() == "https").then(|| trust.clone()), local };
        // Nothing that holds the lock can leave the list broken.
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let client = match pools.iter().position(|(other, _)| *other == key) {
            Some(at) => pools.remove(at).1,
            None => self.build(&key)?,
        };
        if pools.len() >= CLIENTS_MAX {
            pools.remove(0);
        }
        pools.push((key, client.clone()));
        Ok(client)
    }

    fn build(&self, key: &Key) -> Result<reqwest::Client, SourceError> {
        let failed = |error: reqwest::Error| {
            SourceError::new(SourceErrorKind::InvalidInput, "the HTTP client cannot be set up")
                .caused_by(error.without_url())
        };
        let resolver = GuardedResolver { guard: self.guard.clone(), local: key.local, proxies: self.proxy_names() };
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::config(key.trust.as_ref())?)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .connect_timeout(self.config.connect_timeout)
            .user_agent(&self.config.user_agent)
            .dns_resolver(Arc::new(resolver));
        builder = match &self.config.proxy {
            Proxy::Environment => builder,
            Proxy::None => builder.no_proxy(),
            Proxy::Url(url) => builder.proxy(reqwest::Proxy::all(url.clone()).map_err(failed)?),
        };
        builder.build().map_err(failed)
    }

    /// The names of proxies: the operator chose them, so they may lie at addresses that origins may not.
    fn proxy_names(&self) -> Vec<String> {
        let name = |url: &Url| url.domain().map(str::to_owned);
        match &self.config.proxy {
            Proxy::None => Vec::new(),
            Proxy::Url(url) => name(url).into_iter().collect(),
            Proxy::Environment => ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"]
                .into_iter()
                .filter_map(|variable| std::env::var(variable).ok())
                .filter_map(|value| Url::parse(&value).or_else(|_| Url::parse(&format!("http://{value}"))).ok())
                .filter_map(|url| name(&url))
                .collect(),
        }
    }

    /// An origin that has the name of a proxy would slip through the resolver: its addresses are checked here.
    pub(in crate::source) async fn check_shared_name(&self, url: &Url, local: bool) -> Result<(), SourceError> {
        let Some(name) = url.domain().filter(|name| self.proxy_names().iter().any(|proxy| proxy == name)) else {
            return Ok(());
        };
        let addresses = tokio::net::lookup_host((name, 0)).await.into_iter().flatten();
        for address in addresses {
            if let Err(why) = self.guard.check_address(address.ip(), local) {
                let text = format!("{} must not be reached: {why}", redact(url));
                return Err(SourceError::new(SourceErrorKind::Guarded, text));
            }
        }
        Ok(())
    }
}

/// Resolves names and leaves out the addresses that must not be reached. What remains is what is connected to, so
/// a name cannot resolve to one address for the check and to another for the connection.
struct GuardedResolver {
    guard: Guard,
    local: bool,
    proxies: Vec<String>,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (guard, local) = (self.guard.clone(), self.local);
        let exempt = self.proxies.iter().any(|proxy| proxy == name.as_str());
        Box::pin(async move {
            let mut refused = None;
            let mut good: Vec<SocketAddr> = Vec::new();
            for address in tokio::net::lookup_host((name.as_str(), 0)).await? {
                match guard.check_address(address.ip(), local) {
                    Err(why) if !exempt => refused = Some(why),
                    _ => good.push(address),
                }
            }
            match refused {
                Some(why) if good.is_empty() => Err(Refused(why).into()),
                _ => Ok(Box::new(good.into_iter()) as Addrs),
            }
        })
    }
}

/// Every address of a name is refused by the guard.
#[derive(Debug)]
pub(in crate::source) struct Refused(&'static str);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Refused {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::failure;
    use super::*;

    #[tokio::test]
    async fn a_name_that_resolves_to_loopback_is_refused_when_connecting() {
        // Past the check of the URL, as a name whose answer changed would be.
        let origin = dragonfly_testkit::Origin::start().await.unwrap();
        let url = Url::parse(&origin.url_by_name("/a")).unwrap();
        let config = HttpConfig { proxy: Proxy::None, ..HttpConfig::default() };
        let clients = Clients::new(Guard::default(), config);
        let client = |local| clients.client(&url, &OriginTrust::default(), local).unwrap();
        let error = failure(&url, client(false).get(url.clone()).send().await.unwrap_err());
        assert_eq!((error.kind(), error.is_temporary()), (SourceErrorKind::Guarded, false), "{error:?}");
        assert_eq!(origin.counters().connections, 0);
        assert_eq!(client(true).get(url.clone()).send().await.unwrap().status(), 404);
    }

    #[test]
    fn pools_are_bounded() {
        let config = HttpConfig { proxy: Proxy::None, ..HttpConfig::default() };
        let clients = Clients::new(Guard::default(), config);
        let url = Url::parse("https://example.org").unwrap();
        for i in 0..CLIENTS_MAX + 5 {
            // Insecure, so that the bundles need not be certificates.
            let trust = OriginTrust { ca_pem: vec![vec![i as u8]], insecure: true };
            clients.client(&url, &trust, false).unwrap();
            assert!(clients.pools.lock().unwrap().len() <= CLIENTS_MAX);
        }
    }
}

//! What a task *is*: everything that may change the bytes behind a URL, and the id that is its hash.
//!
//! # Which class a task is of
//! [`TaskSpec::of_url`] decides, in this order (`docs/design/trust.md`, Private content):
//! 1. The origin's certificate is not checked: [`Class::HostLocal`], because nobody else may be told what such an
//!    origin said. So is private content on a host that has no tenant key.
//! 2. The caller says that its headers only tell who asks ([`SpecOptions::reauth`]): [`Class::Reauth`].
//! 3. The URL carries a signature, whether filtered away or not: [`Class::Reauth`]. The signature is no part of the
//!    id, so each host asks the origin with its own. A parameter of the caller's own filter list counts as a
//!    signature if its name speaks of one (`token`, `sig`, `key`, ...); a mere cache-buster does not.
//! 4. The caller sends headers outside [`PUBLIC_HEADERS`], or the URL holds user information or a query parameter
//!    that is a credential by its name (`access_token`, `api_key`, ...): [`Class::Keyed`].
//! 5. Everything else is [`Class::Public`] until the origin's answer says otherwise.
//!
//! Private headers are in [`TaskSpec::key`] under every class but by rule 2: two callers with different ones never share
//! a task.

use std::fmt;

use minicbor::{Decode, Encode};
use url::Url;

use super::canonical::{FILTER_DEFAULT, canonical, filter_name};
use super::preimage::Preimage;
use super::{Digest, label};

/// The longest URL in bytes, as given and as canonical. Servers and proxies refuse longer request lines.
pub const URL_BYTES_MAX: usize = 8 << 10;

/// The most bytes of a tag, an application, a tenant, a validator or the name of a filtered parameter.
pub const NAME_BYTES_MAX: usize = 256;

/// Query parameters that are credentials and not signatures: whoever has the URL has the account. Such a URL is told
/// to nobody.
const CREDENTIALS: [&str; 14] = [
    "access_token",
    "accesstoken",
    "api_key",
    "apikey",
    "auth_token",
    "authtoken",
    "bearer",
    "client_secret",
    "job_token",
    "jwt",
    "passwd",
    "password",
    "private_token",
    "token",
];

/// The most names of filtered parameters: enough for every store's signature at once.
pub const FILTERED_MAX: usize = 64;

/// The most headers of a caller; servers commonly refuse more than about a hundred.
pub const HEADERS_MAX: usize = 64;

/// The most bytes of a caller's header, name and value together.
pub const HEADER_BYTES_MAX: usize = 8 << 10;

/// Headers that do not make content private: they select no content that the answer's `Vary` would not show.
pub const PUBLIC_HEADERS: [&str; 5] = ["accept", "accept-language", "cache-control", "pragma", "user-agent"];

/// Who may share the content of a task. Part of its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
#[non_exhaustive]
pub enum Class {
    /// Anyone in the network: no credential, no header of the caller's that selects content.
    #[n(0)]
    Public,
    /// Those who present the same credentials or headers: the id holds a keyed hash of them and is a capability.
    #[n(1)]
    Keyed,
    /// Those whom the origin lets in, each host asking for itself.
    #[n(2)]
    Reauth,
    /// This host alone: never leased, never served.
    #[n(3)]
    HostLocal,
}

/// Why something is no [`TaskSpec`]. Never quotes a URL or a header, which may hold secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSpec {
    /// Class and key contradict each other.
    #[error("the class and the key of a task contradict each other")]
    Class,
    /// A name of a filtered parameter is empty, too long or reserved, or there are too many.
    #[error("filtered query parameters: at most {FILTERED_MAX} names of 1 to {NAME_BYTES_MAX} bytes")]
    Filter,
    /// Too many headers, or too long ones.
    #[error("headers: at most {HEADERS_MAX} of {HEADER_BYTES_MAX} bytes, each with a name")]
    Header,
    /// A tag, application or tenant is too long.
    #[error("the {0} has more than {NAME_BYTES_MAX} bytes")]
    Name(&'static str),
    /// The URL is canonical in another spelling, or names parameters that its own filter removes.
    #[error("the URL of a task is not in its canonical form")]
    NotCanonical,
    /// The URL is no URL.
    #[error("not a URL that can be fetched: {0}")]
    Url(&'static str),
    /// The URL is too long.
    #[error("the URL has more than {URL_BYTES_MAX} bytes")]
    UrlTooLong,
}

/// What a [`TaskSpec`] is made of beside its URL; see [`TaskSpec::of_url`].
#[derive(Clone, Default)]
pub struct SpecOptions<'a> {
    /// The names of query parameters that do not change the content; `None`: the default list.
    pub filtered: Option<&'a [String]>,
    /// Keeps content apart that has one URL.
    pub tag: &'a str,
    /// The application that asks.
    pub application: &'a str,
    /// The account whose content may not mix with another's.
    pub tenant: &'a str,
    /// The caller's headers for the origin.
    pub headers: &'a [(String, String)],
    /// The secret under which the tenant's hosts hash credentials; without it private content is host-local.
    pub tenant_key: Option<&'a [u8; 32]>,
    /// The fingerprint of any TLS trust that is not the default.
    pub tls: Option<[u8; 32]>,
    /// Whether any certificate of the origin is accepted.
    pub insecure: bool,
    /// The caller's digest.
    pub digest: Option<Digest>,
    /// The headers say who asks, not what for: they are no part of the task, and each host asks the origin for itself.
    pub reauth: bool,
}

/// A [`TaskSpec`] and what became of the URL's query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Specified {
    /// The specification.
    pub spec: TaskSpec,
    /// Whether any parameter was filtered away: then the specification's URL alone may not fetch the content.
    pub filtered: bool,
}

/// The preimage of a [`TaskId`](super::TaskId).
#[derive(Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct TaskSpec {
    /// The canonical URL without the filtered query parameters and without user information.
    #[n(0)]
    pub url: String,
    /// The names of the filtered query parameters, sorted, each once, as the caller gave them; the one name
    /// [`FILTER_DEFAULT`] stands for the default list.
    #[n(1)]
    pub filtered: Vec<String>,
    /// Keeps content apart that has one URL.
    #[n(2)]
    pub tag: String,
    /// The application that asks.
    #[n(3)]
    pub application: String,
    /// The account whose content may not mix with another's.
    #[n(4)]
    pub tenant: String,
    /// Who may share it.
    #[n(5)]
    pub class: Class,
    /// The keyed hash of credentials and headers. Always there for [`Class::Keyed`], never for [`Class::Public`].
    #[n(6)]
    #[cbor(with = "minicbor::bytes")]
    pub key: Option<[u8; 32]>,
    /// The fingerprint of any TLS trust that is not the default.
    #[n(7)]
    #[cbor(with = "minicbor::bytes")]
    pub tls: Option<[u8; 32]>,
    /// The caller's digest.
    #[n(8)]
    pub digest: Option<Digest>,
}

impl TaskSpec {
    /// Specifies the task behind `url`: canonical URL, class and key.
    ///
    /// # Errors
    /// The URL cannot be parsed or has no `//`, or a bound of this module is exceeded.
    pub fn of_url(url: &str, options: &SpecOptions<'_>) -> Result<Specified, InvalidSpec> {
        if url.len() > URL_BYTES_MAX {
            return Err(InvalidSpec::UrlTooLong);
        }
        let url = Url::parse(url).map_err(|_| InvalidSpec::Url("it cannot be parsed"))?;
        let filtered = filter_of(options.filtered)?;
        let canonical = canonical(&url, &filtered)?;
        let mut private = private_of(&url, &canonical.url, options.headers)?;
        if options.reauth {
            private.clear();
        }
        let class = match (options.insecure, private.is_empty(), canonical.presigned) {
            (true, ..) => Class::HostLocal,
            (_, false, _) if options.tenant_key.is_none() => Class::HostLocal,
            (.., presigned) if presigned || options.reauth => Class::Reauth,
            (_, false, _) => Class::Keyed,
            _ => Class::Public,
        };
        // Without a tenant key the task never leaves the host: any key tells its callers apart.
        let key = (!private.is_empty()).then(|| key_of(options.tenant_key.unwrap_or(&[0; 32]), &private));
        let spec = Self {
            url: canonical.url,
            filtered,
            tag: options.tag.to_owned(),
            application: options.application.to_owned(),
            tenant: options.tenant.to_owned(),
            class,
            key,
            tls: options.tls,
            digest: options.digest.clone(),
        };
        spec.check()?;
        Ok(Specified { spec, filtered: canonical.filtered })
    }

    /// Checks a specification that came off the wire: every bound, and that its URL is canonical under its own filter.
    ///
    /// # Errors
    /// It is none that [`TaskSpec::of_url`] makes.
    pub fn check(&self) -> Result<(), InvalidSpec> {
        if self.url.len() > URL_BYTES_MAX {
            return Err(InvalidSpec::UrlTooLong);
        }
        for (what, name) in [("tag", &self.tag), ("application", &self.application), ("tenant", &self.tenant)] {
            if name.len() > NAME_BYTES_MAX {
                return Err(InvalidSpec::Name(what));
            }
        }
        check_filter(&self.filtered)?;
        let url = Url::parse(&self.url).map_err(|_| InvalidSpec::Url("it cannot be parsed"))?;
        let canonical = canonical(&url, &self.filtered)?;
        if canonical.url != self.url || canonical.filtered {
            return Err(InvalidSpec::NotCanonical);
        }
        let consistent = match self.class {
            Class::HostLocal => true,
            Class::Keyed => self.key.is_some() && !canonical.presigned,
            Class::Public => self.key.is_none() && !canonical.presigned,
            Class::Reauth => true,
        };
        if consistent { Ok(()) } else { Err(InvalidSpec::Class) }
    }

    /// What may be shown of the URL; see [`label`].
    pub fn label(&self) -> String {
        Url::parse(&self.url).map_or_else(|_| "(no URL)".to_owned(), |url| label(&url))
    }
}

impl fmt::Debug for TaskSpec {
    /// Shows the label in place of the URL, and nothing of the key: parameters that are not filtered may be
    /// credentials all the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskSpec")
            .field("label", &self.label())
            .field("tag", &self.tag)
            .field("application", &self.application)
            .field("tenant", &self.tenant)
            .field("class", &self.class)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// The filter list as it enters the preimage.
fn filter_of(given: Option<&[String]>) -> Result<Vec<String>, InvalidSpec> {
    let Some(given) = given else { return Ok(vec![FILTER_DEFAULT.to_owned()]) };
    if given.len() > FILTERED_MAX || given.iter().any(|name| name == FILTER_DEFAULT) {
        return Err(InvalidSpec::Filter);
    }
    let mut names: Vec<String> = given.iter().map(|name| filter_name(name)).collect();
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

fn check_filter(names: &[String]) -> Result<(), InvalidSpec> {
    let default = names.iter().any(|name| name == FILTER_DEFAULT);
    let valid = names.len() <= if default { 1 } else { FILTERED_MAX }
        && names.iter().all(|name| (1..=NAME_BYTES_MAX).contains(&name.len()) && filter_name(name) == *name)
        && names.is_sorted_by(|a, b| a < b);
    if valid { Ok(()) } else { Err(InvalidSpec::Filter) }
}

/// What of a request is private, as sorted pairs of lower-case name and trimmed value. User information is the pair
/// `@userinfo`, a query parameter has a `?` before its name: names that no header can have.
fn private_of(url: &Url, canonical: &str, headers: &[(String, String)]) -> Result<Vec<(String, String)>, InvalidSpec> {
    let valid = headers.len() <= HEADERS_MAX
        && headers.iter().all(|(name, value)| !name.is_empty() && name.len() + value.len() <= HEADER_BYTES_MAX);
    if !valid {
        return Err(InvalidSpec::Header);
    }
    let mut private: Vec<(String, String)> = headers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim_ascii().to_owned()))
        .filter(|(name, _)| !PUBLIC_HEADERS.contains(&name.as_str()))
        .collect();
    if !url.username().is_empty() || url.password().is_some() {
        let userinfo = format!("{}:{}", url.username(), url.password().unwrap_or(""));
        private.push(("@userinfo".to_owned(), userinfo));
    }
    // These stay in the URL, which no other host is told under this class. What is filtered is a signature.
    let query = canonical.split_once('?').map_or("", |(_, query)| query);
    let credentials = url::form_urlencoded::parse(query.as_bytes())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.into_owned()))
        .filter(|(name, _)| CREDENTIALS.contains(&name.as_str()));
    private.extend(credentials.map(|(name, value)| (format!("?{name}"), value)));
    private.sort_unstable();
    Ok(private)
}

/// Hashes private headers under the tenant's key: BLAKE3 keyed over a `list` of pairs of `text` (see `preimage`).
fn key_of(tenant_key: &[u8; 32], private: &[(String, String)]) -> [u8; 32] {
    let mut preimage = Preimage::keyed(tenant_key);
    preimage.count(private.len());
    for (name, value) in private {
        preimage.text(name).text(value);
    }
    preimage.hash()
}

/// What tells two versions of one URL apart for certain (RFC 9110, 8.8.1: strong validators only).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Validator {
    /// A strong entity tag, with its quotes.
    #[n(0)]
    Etag(#[n(0)] String),
    /// A `Last-Modified` that RFC 9110, 8.8.2.2 lets us treat as strong.
    #[n(1)]
    LastModified(#[n(0)] String),
    /// A version or revision of an object store or hub.
    #[n(2)]
    Version(#[n(0)] String),
}

//! What a URL names: which storage, which bucket or host, which object.

use std::fmt;

use url::Url;

use super::super::{SourceError, SourceErrorKind, redact};

/// The longest name of an object, in bytes: object stores have 1024, file systems more.
const KEY_MAX: usize = 4096;

/// A kind of storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::source) enum Kind {
    S3,
    Gcs,
    Azblob,
    Oss,
    Obs,
    Cos,
    Webdav,
    Webhdfs,
    Hdfs,
    Ftp,
    Sftp,
    File,
    /// Registries of images: only their settings are a storage's.
    Oci,
    /// Hubs of models: likewise.
    Hf,
    /// See [`Kind::Hf`].
    Modelscope,
}

/// The schemes of the kinds; which of them are served depends on what was built in. The first one names the kind in
/// settings.
const SCHEMES: [(Kind, &[&str]); 15] = [
    (Kind::S3, &["s3"]),
    (Kind::Gcs, &["gs", "gcs"]),
    (Kind::Azblob, &["az", "abs", "azblob"]),
    (Kind::Oss, &["oss"]),
    (Kind::Obs, &["obs"]),
    (Kind::Cos, &["cos"]),
    (Kind::Webdav, &["webdav", "webdavs"]),
    (Kind::Webhdfs, &["webhdfs", "swebhdfs"]),
    (Kind::Hdfs, &["hdfs"]),
    (Kind::Ftp, &["ftp"]),
    (Kind::Sftp, &["sftp"]),
    (Kind::File, &["file"]),
    (Kind::Oci, &["oci"]),
    (Kind::Hf, &["hf"]),
    (Kind::Modelscope, &["modelscope"]),
];

impl Kind {
    pub(super) fn of_scheme(scheme: &str) -> Option<Self> {
        SCHEMES.iter().find(|(_, schemes)| schemes.contains(&scheme)).map(|(kind, _)| *kind)
    }

    pub(in crate::source) fn schemes(self) -> &'static [&'static str] {
        SCHEMES.iter().find(|(kind, _)| *kind == self).map_or(&[], |(_, schemes)| schemes)
    }

    /// Every kind that was built in. Local files are asked for by the embedder alone.
    pub(super) fn built_in() -> impl Iterator<Item = Self> {
        SCHEMES.into_iter().map(|(kind, _)| kind).filter(|kind| match kind {
            Self::S3 => cfg!(feature = "s3"),
            Self::Gcs => cfg!(feature = "gcs"),
            Self::Azblob => cfg!(feature = "azblob"),
            Self::Oss => cfg!(feature = "oss"),
            Self::Obs => cfg!(feature = "obs"),
            Self::Cos => cfg!(feature = "cos"),
            Self::Webdav => cfg!(feature = "webdav"),
            Self::Webhdfs => cfg!(feature = "webhdfs"),
            Self::Hdfs => cfg!(feature = "hdfs-native"),
            Self::Ftp => cfg!(feature = "ftp"),
            Self::Sftp => cfg!(feature = "sftp"),
            // Registries and hubs are sources of their own.
            Self::File | Self::Oci | Self::Hf | Self::Modelscope => false,
        })
    }

    /// Whether the URL names a bucket, or an owner at a hub, whose endpoint is configured, and not a host.
    pub(super) fn has_buckets(self) -> bool {
        let is_hub = matches!(self, Self::Hf | Self::Modelscope);
        is_hub || matches!(self, Self::S3 | Self::Gcs | Self::Azblob | Self::Oss | Self::Obs | Self::Cos)
    }

    /// Whether it is asked over HTTP.
    pub(super) fn is_over_http(self) -> bool {
        self.has_buckets() || matches!(self, Self::Webdav | Self::Webhdfs)
    }

    /// Whether it answers a ranged GET as an HTTP server does.
    pub(super) fn answers_as_http(self) -> bool {
        self.has_buckets() || self == Self::Webdav
    }
}

/// What a URL names.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) site: Site,
    /// Within the bucket or below the root of the host; no slash at its beginning.
    pub(super) key: String,
}

/// Where objects are that can be had over one connection, by one credential.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Site {
    pub(super) kind: Kind,
    /// The bucket or container, or the host, with its port if there is one.
    pub(super) authority: String,
    /// Whether it is reached over TLS, where the scheme says so.
    pub(super) tls: bool,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

impl Place {
    /// Reads the URL of an object, or of what is below a prefix (which may be empty, or end in a slash).
    pub(super) fn of(url: &Url, prefix: bool) -> Result<Self, SourceError> {
        let wrong = |what: &str| SourceError::new(SourceErrorKind::InvalidInput, format!("{}: {what}", redact(url)));
        let kind = Kind::of_scheme(url.scheme()).ok_or_else(|| wrong("no storage has this scheme"))?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong(
                "the URLs of storages have neither a query nor a fragment: write %3F for ? and %23 for #",
            ));
        }
        let host = url.host_str().unwrap_or_default();
        if host.is_empty() && kind != Kind::File {
            let what = if kind.has_buckets() { "the bucket" } else { "the host" };
            return Err(wrong(&format!("{what} is missing after ://")));
        }
        if kind != Kind::File && !is_plain_authority(url, host) {
            return Err(wrong("its bucket or host has characters that neither has"));
        }
        if kind == Kind::File && !host.is_empty() {
            return Err(wrong("files of other hosts are not read: write file:/// and the path"));
        }
        let has_user = !url.username().is_empty() || url.password().is_some();
        if kind.has_buckets() && (url.port().is_some() || has_user) {
            return Err(wrong("a bucket has neither a port nor a user: endpoint and credentials are settings"));
        }
        let port = url.port().map_or(String::new(), |port| format!(":{port}"));
        let decoded = |text: &str| decode(text).ok_or_else(|| wrong("it has bytes that are not UTF-8"));
        let key = decoded(url.path().strip_prefix('/').unwrap_or(url.path()))?;
        check_key(&key, prefix).map_err(&wrong)?;
        let user = (!url.username().is_empty()).then(|| decoded(url.username())).transpose()?;
        let password = url.password().map(decoded).transpose()?;
        // They become arguments of a program.
        if kind == Kind::Sftp && user.as_ref().is_some_and(|user| !is_plain_name(user)) {
            return Err(wrong("its user has characters that a user of a system has not"));
        }
        if [&user, &password].into_iter().flatten().any(|text| text.contains(char::is_control)) {
            return Err(wrong("there are control characters in its user or password"));
        }
        let tls = matches!(url.scheme(), "webdavs" | "swebhdfs");
        let site = Site { kind, authority: format!("{host}{port}"), tls, user, password };
        Ok(Self { site, key })
    }
}

impl Site {
    /// The URL by which a host that is in the URL itself is reached over HTTP, for what may be reached.
    pub(super) fn http_url(&self) -> Option<Url> {
        let scheme = if self.tls { "https" } else { "http" };
        Url::parse(&format!("{scheme}://{}", self.authority)).ok()
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site").field("kind", &self.kind).field("authority", &self.authority).finish_non_exhaustive()
    }
}

/// Whether a host or a bucket has no character that a shell, a path or a program that is given it would take for more.
pub(in crate::source) fn is_plain_authority(url: &Url, host: &str) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(_) | url::Host::Ipv6(_)) => true,
        // Of schemes that the parser does not know IPv4 addresses, too, are names.
        Some(url::Host::Domain(_)) => is_plain_name(host),
        None => false,
    }
}

pub(in crate::source) fn is_plain_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    name.bytes().all(is_plain) && !name.starts_with('-') && !matches!(name, "" | "." | "..")
}

/// Refuses names that a storage, or what speaks to it, would take for others: names with dots go up, empty parts and
/// white space at the ends are dropped, and a line break ends a command.
pub(in crate::source) fn check_key(key: &str, prefix: bool) -> Result<(), &'static str> {
    let inner = if prefix { key.strip_suffix('/').unwrap_or(key) } else { key };
    if prefix && inner.is_empty() {
        return Ok(());
    }
    if inner.is_empty() {
        return Err("the name of the object is missing");
    }
    if key.len() > KEY_MAX {
        return Err("the name of the object is longer than 4096 bytes");
    }
    if key.contains(char::is_control) {
        return Err("there are control characters in the name of the object");
    }
    if inner.ends_with('/') {
        return Err("it names a directory: give the name of a file, or list it");
    }
    if inner.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err("a part of the name of the object is empty, \".\" or \"..\"");
    }
    if inner.trim() != inner {
        return Err("the name of the object begins or ends with white space");
    }
    Ok(())
}

/// Undoes percent-encoding; absent if what comes of it is not UTF-8.
pub(in crate::source) fn decode(text: &str) -> Option<String> {
    String::from_utf8(super::super::http::percent_decoded(text)).ok()
}

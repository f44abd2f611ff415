//! How storages are reached, and as whom.

use std::fmt;
use std::path::PathBuf;

use super::super::OriginPattern;
use super::place::{Kind, Site};

/// The settings of a node for its storages.
///
/// Where nothing is set the usual environment variables and files of each platform are read; see
/// `docs/guides/origins.md`.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct StorageConfig {
    /// Do not read the environment variables and files of the platforms (default: they are read).
    pub no_environment: bool,
    /// Credentials may come from the metadata service of the machine (default: no). This is apart from
    /// [`Guard`](crate::source::Guard), which keeps content from being fetched there.
    pub instance_credentials: bool,
    /// A directory below which `file:` URLs may read (default: there are none). Files are read for local users alone,
    /// unless the operator lists `file://`; links within are followed.
    pub files_below: Option<PathBuf>,
    /// By scheme, as the kind of storage has it first.
    by_scheme: Vec<(String, StorageSettings)>,
    by_origin: Vec<(OriginPattern, StorageSettings)>,
}

impl StorageConfig {
    /// The settings for all storages of a scheme (`s3`, `gs`, `az`, `oss`, `obs`, `cos`, ...). Of a scheme whose URLs
    /// name hosts no user, secret or token is used from here, nor an endpoint of `oci`: see [`StorageConfig::origin`].
    #[must_use]
    pub fn scheme(mut self, scheme: &str, settings: StorageSettings) -> Self {
        let kind = Kind::of_scheme(scheme);
        self.by_scheme.retain(|(other, _)| kind.is_none() || Kind::of_scheme(other) != kind);
        self.by_scheme.push((scheme.to_owned(), settings));
        self
    }

    /// The settings for some buckets or hosts; they take the place of those of the scheme. The first that fits is it.
    #[must_use]
    pub fn origin(mut self, origin: OriginPattern, settings: StorageSettings) -> Self {
        self.by_origin.push((origin, settings));
        self
    }

    /// Sets one thing by text, as command lines and configuration files have it: `WHERE.WHAT=VALUE`, where WHERE is a
    /// scheme or an origin (`s3`, `webdav://host`), and WHAT is `endpoint`, `region`, `user`, `secret-file`,
    /// `token-file`, `key-file`, `anonymous` or `virtual-host`; or `instance-credentials=BOOL` or `no-environment=BOOL`.
    /// Secrets are in files, of which the first line counts: command lines are seen by everybody.
    ///
    /// # Errors
    /// What is wrong with it. A value is not repeated.
    pub fn set(&mut self, text: &str) -> Result<(), String> {
        let (name, value) = text.split_once('=').ok_or("wanted WHERE.WHAT=VALUE")?;
        match name {
            "instance-credentials" => self.instance_credentials = boolean(name, value)?,
            "no-environment" => self.no_environment = boolean(name, value)?,
            _ => {
                let known = "wanted WHERE.WHAT=VALUE, WHERE being a scheme or an origin such as webdav://host";
                let (place, what) = name.rsplit_once('.').ok_or(known)?;
                if Kind::of_scheme(place.split("://").next().unwrap_or_default()).is_none() {
                    return Err(format!("{place} names no kind of storage"));
                }
                self.at(place)?.set(what, value)?;
            }
        }
        Ok(())
    }

    /// The settings of a scheme or an origin, made where there are none.
    fn at(&mut self, place: &str) -> Result<&mut StorageSettings, String> {
        if place.contains("://") {
            let origin: OriginPattern = place.parse().map_err(|_| format!("{place} is no origin"))?;
            let at = self.by_origin.iter().position(|(other, _)| *other == origin);
            let at = at.unwrap_or_else(|| {
                self.by_origin.push((origin, StorageSettings::default()));
                self.by_origin.len() - 1
            });
            return Ok(&mut self.by_origin[at].1);
        }
        let kind = Kind::of_scheme(place);
        let at = self.by_scheme.iter().position(|(other, _)| Kind::of_scheme(other) == kind);
        let at = at.unwrap_or_else(|| {
            self.by_scheme.push((place.to_owned(), StorageSettings::default()));
            self.by_scheme.len() - 1
        });
        Ok(&mut self.by_scheme[at].1)
    }

    /// The settings for a site.
    pub(in crate::source) fn settings(&self, url: &url::Url, kind: Kind) -> StorageSettings {
        if let Some((_, settings)) = self.by_origin.iter().find(|(origin, _)| origin.matches_port(url)) {
            return settings.clone();
        }
        let general = self.by_scheme.iter().find(|(scheme, _)| Kind::of_scheme(scheme) == Some(kind));
        let mut settings = general.map(|(_, settings)| settings.clone()).unwrap_or_default();
        if !kind.has_buckets() {
            // Any host may be in a URL: none of them is told what is not its own.
            (settings.user, settings.secret, settings.token) = (None, None, None);
        }
        if kind == Kind::Oci {
            // Nor is one of them asked in place of another.
            settings.endpoint = None;
        }
        settings
    }
}

impl fmt::Debug for StorageConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageConfig")
            .field("no_environment", &self.no_environment)
            .field("instance_credentials", &self.instance_credentials)
            .field("files_below", &self.files_below)
            .field("by_scheme", &self.by_scheme)
            .field("by_origin", &self.by_origin)
            .finish()
    }
}

/// How one storage is reached, and as whom. Its secrets are not shown by [`Debug`](fmt::Debug).
#[derive(Clone, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct StorageSettings {
    /// `http[s]://HOST[:PORT]` of the service, for storages whose URLs name buckets (default: that of the platform, by
    /// the region where there are several; COS, OBS, OSS and Azure need one) and for registries of images (default:
    /// `https:` and the host of the URL, `http:` on loopback).
    pub endpoint: Option<String>,
    /// The region (S3; default: what the environment says, else `us-east-1`).
    pub region: Option<String>,
    /// The access key's identifier, the storage account (Azure), or the user.
    pub user: Option<String>,
    /// The secret that goes with it: secret key, account key, password.
    pub secret: Option<String>,
    /// A session's token beside key and secret, a bearer token (GCS, WebDAV, registries), a shared access signature
    /// (Azure) or a delegation token (WebHDFS).
    pub token: Option<String>,
    /// A file with a credential: of a service account (GCS), or a private key (SFTP).
    pub key_file: Option<PathBuf>,
    /// Requests carry no credential: what is read is public.
    pub anonymous: bool,
    /// The bucket is a part of the host's name, not of the path (S3).
    pub virtual_host: bool,
}

impl StorageSettings {
    fn set(&mut self, what: &str, value: &str) -> Result<(), String> {
        let given = || Some(value.to_owned());
        match what {
            "endpoint" => self.endpoint = given(),
            "region" => self.region = given(),
            "user" => self.user = given(),
            "secret-file" => self.secret = Some(first_line(value)?),
            "token-file" => self.token = Some(first_line(value)?),
            "key-file" => self.key_file = Some(value.into()),
            "anonymous" => self.anonymous = boolean(what, value)?,
            "virtual-host" => self.virtual_host = boolean(what, value)?,
            "secret" | "token" => {
                return Err(format!("{what} is not given openly: put it into a file, {what}-file=FILE"));
            }
            _ => return Err(format!("there is no setting {what} of storages")),
        }
        Ok(())
    }

    /// Whether what is read at a site with these settings is read with a credential of this host or of its user.
    pub(super) fn credential(&self, site: &Site) -> bool {
        let own = self.user.is_some() || self.secret.is_some() || self.token.is_some() || self.key_file.is_some();
        match site.kind {
            Kind::S3 | Kind::Gcs | Kind::Azblob | Kind::Oss => !self.anonymous,
            // They are signed whatever is set.
            Kind::Obs | Kind::Cos => true,
            Kind::Webdav | Kind::Ftp => own || site.user.is_some() || site.password.is_some(),
            // Without one they still act as somebody: this host's user, its keys or its tickets; files are its own.
            Kind::Webhdfs | Kind::Hdfs | Kind::Sftp | Kind::File => true,
            // These are not asked here: there are the files of other programs, too.
            Kind::Oci | Kind::Hf | Kind::Modelscope => own,
        }
    }
}

impl fmt::Debug for StorageSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |secret: &Option<String>| secret.as_ref().map(|_| "(hidden)");
        f.debug_struct("StorageSettings")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("user", &hidden(&self.user))
            .field("secret", &hidden(&self.secret))
            .field("token", &hidden(&self.token))
            .field("key_file", &self.key_file)
            .field("anonymous", &self.anonymous)
            .field("virtual_host", &self.virtual_host)
            .finish()
    }
}

fn boolean(name: &str, value: &str) -> Result<bool, String> {
    value.parse().map_err(|_| format!("{name}: wanted true or false"))
}

fn first_line(path: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {path}: {e}"))?;
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() { Err(format!("{path}: its first line is empty")) } else { Ok(line.to_owned()) }
}

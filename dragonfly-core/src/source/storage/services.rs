//! What OpenDAL is told of a site: one arm a kind, each built in by its feature.

use opendal::raw::Servicer;
#[allow(unused_imports, reason = "which of them are used depends on what is built in")]
use opendal::{Builder, Operator, services};

use super::super::{SourceError, SourceErrorKind};
use super::config::{StorageConfig, StorageSettings};
#[allow(unused_imports, reason = "which of them are used depends on what is built in")]
use super::place::Kind;
use super::place::Site;

/// The service of a site. Nothing is asked of anybody here.
///
/// # Errors
/// A setting is missing or malformed, or the kind is not built in.
#[allow(unused_variables, reason = "which of them are used depends on what is built in")]
pub(super) fn service(
    site: &Site,
    settings: &StorageSettings,
    config: &StorageConfig,
) -> Result<Servicer, SourceError> {
    match site.kind {
        #[cfg(feature = "s3")]
        Kind::S3 => s3(site, settings, config),
        #[cfg(feature = "gcs")]
        Kind::Gcs => gcs(site, settings, config),
        #[cfg(feature = "azblob")]
        Kind::Azblob => azblob(site, settings, config),
        #[cfg(feature = "oss")]
        Kind::Oss => oss(site, settings, config),
        #[cfg(feature = "obs")]
        Kind::Obs => obs(site, settings, config),
        #[cfg(feature = "cos")]
        Kind::Cos => cos(site, settings, config),
        #[cfg(feature = "webdav")]
        Kind::Webdav => {
            let mut builder = services::Webdav::default().endpoint(&http_endpoint(site));
            if let Some(token) = &settings.token {
                builder = builder.token(token);
            }
            let (user, password) = login(site, settings);
            if let Some(user) = user {
                builder = builder.username(user).password(password.unwrap_or_default());
            }
            built(builder)
        }
        #[cfg(feature = "webhdfs")]
        Kind::Webhdfs => {
            let mut builder = services::Webhdfs::default().endpoint(&http_endpoint(site)).root("/");
            let hadoop = (!config.no_environment).then(|| env(&["HADOOP_USER_NAME"])).flatten();
            if let Some(token) = &settings.token {
                builder = builder.delegation(token);
            } else if let Some(user) = login(site, settings).0.map(str::to_owned).or(hadoop) {
                builder = builder.user_name(&user);
            }
            built(builder)
        }
        #[cfg(feature = "hdfs-native")]
        Kind::Hdfs => built(services::HdfsNative::default().name_node(&format!("hdfs://{}", site.authority)).root("/")),
        #[cfg(feature = "sftp")]
        Kind::Sftp => {
            let mut builder = services::Sftp::default().endpoint(&format!("ssh://{}", site.authority)).root("/");
            if let (Some(user), _) = login(site, settings) {
                builder = builder.user(user);
            }
            if let Some(file) = settings.key_file.as_ref().and_then(|file| file.to_str()) {
                builder = builder.key(file);
            }
            built(builder)
        }
        #[cfg(feature = "fs")]
        Kind::File => {
            let below = config.files_below.as_ref().and_then(|dir| dir.to_str());
            let below = below.ok_or_else(|| missing("file", "no directory is given that files may be read below"))?;
            built(services::Fs::default().root(below))
        }
        #[allow(unreachable_patterns, reason = "not where every kind is built in")]
        kind => Err(missing(kind.schemes()[0], "this kind of storage is not built in")),
    }
}

/// Drops the layers that OpenDAL adds: they take an answer that ends with the content, before the range that was asked
/// for does, for one that is cut short. What is promised is checked by us.
#[allow(dead_code, reason = "not where no kind is built in")]
fn built(builder: impl Builder) -> Result<Servicer, SourceError> {
    let operator = Operator::new(builder).map_err(|error| {
        // Of a builder: what is wrong with a setting, not its value.
        let text = format!("the storage is set up wrongly: {}", error.message());
        SourceError::new(SourceErrorKind::InvalidInput, text)
    })?;
    Ok(operator.base_service().clone())
}

fn missing(scheme: &str, what: &str) -> SourceError {
    SourceError::new(SourceErrorKind::InvalidInput, format!("{scheme}: {what}"))
}

/// The first of some environment variables that is set.
#[allow(dead_code, reason = "not where no kind is built in that needs it")]
fn env(names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| std::env::var(name).ok()).filter(|value| !value.is_empty())
}

/// A setting, or what the environment says.
#[allow(dead_code, reason = "not where no kind is built in that needs it")]
fn or_env(setting: Option<&String>, config: &StorageConfig, names: &[&str]) -> Option<String> {
    setting.cloned().or_else(|| env(names).filter(|_| !config.no_environment))
}

/// The endpoint of a kind that has none by itself.
#[cfg(any(feature = "azblob", feature = "cos", feature = "obs", feature = "oss"))]
fn endpoint(
    site: &Site,
    settings: &StorageSettings,
    config: &StorageConfig,
    names: &[&str],
) -> Result<String, SourceError> {
    let found = or_env(settings.endpoint.as_ref(), config, names).ok_or_else(|| {
        let how = names.first().map_or(String::new(), |name| format!(", or by the environment variable {name}"));
        missing(site.kind.schemes()[0], &format!("its endpoint is not known: give it as a setting{how}"))
    })?;
    Ok(if found.contains("://") { found } else { format!("https://{found}") })
}

#[cfg(any(feature = "webdav", feature = "webhdfs"))]
fn http_endpoint(site: &Site) -> String {
    format!("{}://{}", if site.tls { "https" } else { "http" }, site.authority)
}

/// As whom a host is asked: the URL's user before that of the settings.
#[allow(dead_code, reason = "not where no kind is built in that needs it")]
pub(super) fn login<'a>(site: &'a Site, settings: &'a StorageSettings) -> (Option<&'a str>, Option<&'a str>) {
    if site.user.is_some() || site.password.is_some() {
        return (site.user.as_deref(), site.password.as_deref());
    }
    (settings.user.as_deref(), settings.secret.as_deref())
}

#[cfg(feature = "s3")]
fn s3(site: &Site, settings: &StorageSettings, config: &StorageConfig) -> Result<Servicer, SourceError> {
    let region = or_env(settings.region.as_ref(), config, &["AWS_REGION", "AWS_DEFAULT_REGION"]);
    let mut builder = services::S3::default().bucket(&site.authority).region(region.as_deref().unwrap_or("us-east-1"));
    let names = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];
    if let Some(endpoint) = or_env(settings.endpoint.as_ref(), config, &names) {
        builder = builder.endpoint(&endpoint);
    }
    if let (Some(user), Some(secret)) = (&settings.user, &settings.secret) {
        builder = builder.access_key_id(user).secret_access_key(secret);
        if let Some(token) = &settings.token {
            builder = builder.session_token(token);
        }
    }
    if settings.anonymous {
        builder = builder.skip_signature();
    }
    if settings.virtual_host {
        builder = builder.enable_virtual_host_style();
    }
    if config.no_environment {
        builder = builder.disable_config_load();
    }
    if !config.instance_credentials {
        builder = builder.disable_ec2_metadata();
    }
    built(builder)
}

#[cfg(feature = "gcs")]
fn gcs(site: &Site, settings: &StorageSettings, config: &StorageConfig) -> Result<Servicer, SourceError> {
    let mut builder = services::Gcs::default().bucket(&site.authority);
    if let Some(endpoint) = or_env(settings.endpoint.as_ref(), config, &["STORAGE_EMULATOR_HOST"]) {
        builder = builder.endpoint(&if endpoint.contains("://") { endpoint } else { format!("http://{endpoint}") });
    }
    if let Some(token) = &settings.token {
        builder = builder.token(token.clone());
    }
    if let Some(file) = settings.key_file.as_ref().and_then(|file| file.to_str()) {
        builder = builder.credential_path(file);
    }
    if settings.anonymous {
        builder = builder.skip_signature();
    }
    if config.no_environment {
        builder = builder.disable_config_load();
    }
    if !config.instance_credentials {
        builder = builder.disable_vm_metadata();
    }
    built(builder)
}

#[cfg(feature = "azblob")]
fn azblob(site: &Site, settings: &StorageSettings, config: &StorageConfig) -> Result<Servicer, SourceError> {
    let account = or_env(settings.user.as_ref(), config, &["AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"]);
    let key = or_env(settings.secret.as_ref(), config, &["AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY"]);
    let token = or_env(settings.token.as_ref(), config, &["AZURE_STORAGE_SAS_TOKEN"]);
    let of_account = account.as_ref().map(|account| format!("https://{account}.blob.core.windows.net"));
    let names = ["AZURE_STORAGE_BLOB_ENDPOINT", "AZURE_STORAGE_ENDPOINT"];
    let endpoint = match or_env(settings.endpoint.as_ref(), config, &names).or(of_account) {
        Some(endpoint) => endpoint,
        None => endpoint(site, settings, config, &["AZURE_STORAGE_ACCOUNT_NAME"])?,
    };
    let mut builder = services::Azblob::default().container(&site.authority).endpoint(&endpoint);
    if settings.anonymous {
        return built(builder.skip_signature());
    }
    if let Some(account) = &account {
        builder = builder.account_name(account);
    }
    if let Some(key) = &key {
        builder = builder.account_key(key);
    }
    if let Some(token) = &token {
        builder = builder.sas_token(token.trim_start_matches('?'));
    }
    built(builder)
}

#[cfg(feature = "oss")]
fn oss(site: &Site, settings: &StorageSettings, config: &StorageConfig) -> Result<Servicer, SourceError> {
    let endpoint = endpoint(site, settings, config, &["OSS_ENDPOINT", "ALIBABA_CLOUD_OSS_ENDPOINT"])?;
    let mut builder = services::Oss::default().bucket(&site.authority).endpoint(&endpoint);
    if let (Some(user), Some(secret)) = (&settings.user, &settings.secret) {
        builder = builder.access_key_id(user).access_key_secret(secret);
        if let Some(token) = &settings.token {
            builder = builder.security_token(token);
        }
    }
    if settings.anonymous {
        builder = builder.skip_signature();
    }
    built(builder)
}

#[cfg(feature = "obs")]
fn obs(site: &Site, settings: &StorageSettings, config: &StorageConfig) -> Result<Servicer, SourceError> {
    let endpoint = endpoint(site, settings, config, &["OBS_ENDPOINT", "HUAWEI_CLOUD_OBS_ENDPOINT"])?;
    let mut builder = services::Obs::default().bucket(&site.authority).endpoint(&endpoint);
    if let (Some(user), Some(secret)) = (&settings.user, &settings.secret) {
        builder = builder.access_key_id(user).secret_access_key(secret);
    }
    built(builder)
}

#[cfg(feature = "cos")]
fn cos(site: &Site, settings: &StorageSettings, config: &StorageConfig) -> Result<Servicer, SourceError> {
    let endpoint = endpoint(site, settings, config, &["COS_ENDPOINT", "TENCENTCLOUD_COS_ENDPOINT"])?;
    let mut builder = services::Cos::default().bucket(&site.authority).endpoint(&endpoint);
    if let (Some(user), Some(secret)) = (&settings.user, &settings.secret) {
        builder = builder.secret_id(user).secret_key(secret);
        if let Some(token) = &settings.token {
            builder = builder.security_token(token);
        }
    }
    if config.no_environment {
        builder = builder.disable_config_load();
    }
    built(builder)
}

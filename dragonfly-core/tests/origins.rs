//! The sources against real servers, which `.ci/origins` starts: `DRAGONFLY_ORIGINS` names what it left for us.

#![allow(clippy::unwrap_used)]

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use dragonfly_core::source::conformance::Subject;
use dragonfly_core::source::{
    HttpConfig, OpenRequest, Proxy, Registry, SourceErrorKind, StorageConfig, StorageSettings,
};
use futures::TryStreamExt;
use url::Url;

/// The key of Azurite, which everybody knows.
const AZURITE: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A secret that nobody accepts, and that no error may show. (Azure's are in base 64.)
const WRONG: &str = "d3Jvbmctc2VjcmV0LTc=";

/// Where the servers left what we need; absent where they are not.
fn place() -> Option<PathBuf> {
    let place = std::env::var_os("DRAGONFLY_ORIGINS").map(PathBuf::from);
    if place.is_none() {
        eprintln!("skipped: no servers; .ci/origins starts them");
    }
    place
}

fn registry(storage: StorageConfig) -> Registry {
    let mut http = HttpConfig::default();
    http.proxy = Proxy::None;
    Registry::builder().http(http).storage(storage).build()
}

fn settings(set: impl FnOnce(&mut StorageSettings)) -> StorageConfig {
    scheme("s3", set)
}

fn scheme(scheme: &str, set: impl FnOnce(&mut StorageSettings)) -> StorageConfig {
    let mut settings = StorageSettings::default();
    set(&mut settings);
    let mut config = StorageConfig::default().scheme(scheme, settings);
    config.no_environment = true;
    config
}

/// Asks as a user of this host.
fn local(text: &str) -> OpenRequest {
    let mut request = OpenRequest::new(url(text));
    request.local = true;
    request
}

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

/// An origin that is filled by `put NAME PATH`.
fn subject(sources: Registry, base: &str, name: &'static str, place: &std::path::Path) -> Subject {
    let put = place.join("put");
    Subject::new(sources, url(base), move |path, content| {
        let mut child = Command::new(&put).args([name, &format!("{name}/{path}")]).stdin(Stdio::piped()).spawn()?;
        child.stdin.take().unwrap().write_all(content)?;
        if child.wait()?.success() { Ok(()) } else { Err(io::Error::other("put failed")) }
    })
}

/// What the suite tries where nothing is left out.
const ALL: [&str; 8] = ["whole", "ranges", "names", "missing", "empty", "versions", "denied", "lists"];

fn without(left_out: &[&str]) -> Vec<&'static str> {
    ALL.into_iter().filter(|part| !left_out.contains(part)).collect()
}

async fn conforms(name: &str, subject: Subject, expected: &[&str]) {
    match subject.conform().await {
        Ok(tried) => {
            eprintln!("{name}: {}", tried.join(", "));
            assert_eq!(tried, expected, "{name}");
        }
        Err(error) => panic!("{name}: {error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx() {
    let Some(place) = place() else { return };
    let mut subject = subject(registry(StorageConfig::default()), "http://127.0.0.1:9470/nginx/", "nginx", &place);
    subject.denied = Some((registry(StorageConfig::default()), url("http://127.0.0.1:9470/denied/x")));
    conforms("nginx", subject, &ALL).await;
}

#[cfg(feature = "ftp")]
#[tokio::test(flavor = "multi_thread")]
async fn vsftpd() {
    let Some(place) = place() else { return };
    let sources = registry(StorageConfig::default());
    let mut subject = subject(sources.clone(), "ftp://127.0.0.1:9471/vsftpd/", "vsftpd", &place);
    subject.denied = Some((sources, url(&format!("ftp://nobody:{}@127.0.0.1:9471/vsftpd/x", "wrong-secret-7"))));
    subject.secrets = vec!["wrong-secret-7".to_owned()];
    conforms("vsftpd", subject, &ALL).await;
}

#[cfg(feature = "webdav")]
#[tokio::test(flavor = "multi_thread")]
async fn wsgidav() {
    let Some(place) = place() else { return };
    let mut own = StorageSettings::default();
    (own.user, own.secret) = (Some("alice".to_owned()), Some("secret123".to_owned()));
    let config = StorageConfig::default().origin("webdav://127.0.0.1:9472".parse().unwrap(), own);
    let mut subject = subject(registry(config), "webdav://127.0.0.1:9472/wsgidav/", "wsgidav", &place);
    let denied = url("webdav://alice:wrong-secret-7@127.0.0.1:9472/wsgidav/whole.bin");
    subject.denied = Some((registry(StorageConfig::default()), denied));
    subject.secrets = vec!["secret123".to_owned(), "wrong-secret-7".to_owned()];
    conforms("wsgidav", subject, &ALL).await;
}

#[cfg(feature = "s3")]
#[tokio::test(flavor = "multi_thread")]
async fn moto() {
    let Some(place) = place() else { return };
    let config = settings(|s| {
        (s.user, s.secret) = (Some("test".to_owned()), Some("test".to_owned()));
        s.endpoint = Some("http://127.0.0.1:9473".to_owned());
    });
    let anonymous = settings(|s| {
        s.anonymous = true;
        s.endpoint = Some("http://127.0.0.1:9473".to_owned());
    });
    let mut subject = subject(registry(config), "s3://content/moto/", "moto", &place);
    subject.denied = Some((registry(anonymous), url("s3://content/moto/whole.bin")));
    let none = subject.sources.open(local("s3://none-such/x")).await.unwrap_err();
    assert_eq!(none.kind(), SourceErrorKind::NotFound, "{none:?}");
    assert!(format!("{none:?}").contains("no such bucket"), "{none:?}");
    // More than a page of the server's.
    let put = Command::new(place.join("put")).args(["moto", "many/1001"]).stdin(Stdio::null()).status().unwrap();
    assert!(put.success());
    let many = subject.sources.list(local("s3://content/many/")).try_concat().await.unwrap();
    let names: std::collections::BTreeSet<&str> = many.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!((many.len(), names.len()), (1001, 1001));
    conforms("moto", subject, &ALL).await;
}

#[cfg(feature = "s3")]
#[tokio::test(flavor = "multi_thread")]
async fn s3rver() {
    let Some(place) = place() else { return };
    let with = |user: &str, secret: &str| {
        settings(|s| {
            (s.user, s.secret) = (Some(user.to_owned()), Some(secret.to_owned()));
            s.endpoint = Some("http://127.0.0.1:9474".to_owned());
        })
    };
    let mut subject = subject(registry(with("S3RVER", "S3RVER")), "s3://content/s3rver/", "s3rver", &place);
    // A part of what is empty it tells wrongly.
    subject.empties = false;
    subject.denied = Some((registry(with("NOBODY", WRONG)), url("s3://content/s3rver/whole.bin")));
    subject.secrets = vec![WRONG.to_owned()];
    conforms("s3rver", subject, &without(&["empty"])).await;
}

#[cfg(feature = "azblob")]
#[tokio::test(flavor = "multi_thread")]
async fn azurite() {
    let Some(place) = place() else { return };
    let with = |key: &str| {
        scheme("az", |s| {
            (s.user, s.secret) = (Some("devstoreaccount1".to_owned()), Some(key.to_owned()));
            s.endpoint = Some("http://127.0.0.1:9475/devstoreaccount1".to_owned());
        })
    };
    let mut subject = subject(registry(with(AZURITE)), "az://content/azurite/", "azurite", &place);
    subject.denied = Some((registry(with(WRONG)), url("az://content/azurite/whole.bin")));
    subject.secrets = vec![AZURITE.to_owned(), WRONG.to_owned()];
    conforms("azurite", subject, &ALL).await;
}

#[cfg(feature = "gcs")]
#[tokio::test(flavor = "multi_thread")]
async fn gcs() {
    let Some(place) = place() else { return };
    let config = scheme("gs", |s| {
        s.anonymous = true;
        s.endpoint = Some("http://127.0.0.1:9478".to_owned());
    });
    let mut subject = subject(registry(config), "gs://content/gcs/", "gcs", &place);
    // The emulator takes nothing empty, and tells no generations in its answers.
    (subject.empties, subject.versions) = (false, false);
    conforms("gcp-storage-emulator", subject, &without(&["empty", "versions", "denied"])).await;
}

#[cfg(feature = "sftp")]
#[tokio::test(flavor = "multi_thread")]
async fn sshd() {
    let Some(place) = place() else { return };
    let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let base = format!("sftp://{}@127.0.0.1:9479{}/files/sshd/", user.trim(), place.display());
    let with = |key: &str| {
        let mut own = StorageSettings::default();
        own.key_file = Some(place.join(key));
        registry(StorageConfig::default().origin("sftp://127.0.0.1:9479".parse().unwrap(), own))
    };
    let subject = subject(with("ssh/user"), &base, "sshd", &place);
    conforms("sshd", subject, &without(&["denied"])).await;
}

/// Hadoop's name node and data node, over HTTP: the first says at which of the second the bytes are.
#[cfg(feature = "webhdfs")]
#[tokio::test(flavor = "multi_thread")]
async fn webhdfs() {
    let Some(place) = place() else { return };
    let sources = registry(StorageConfig::default());
    let mut subject = subject(sources.clone(), "webhdfs://alice@127.0.0.1:9461/webhdfs/", "webhdfs", &place);
    // `.ci/origins` put it there, for nobody but who runs the name node.
    subject.denied = Some((sources, url("webhdfs://alice@127.0.0.1:9461/denied.bin")));
    conforms("webhdfs", subject, &ALL).await;
}

/// The same by their own protocol.
#[cfg(feature = "hdfs-native")]
#[tokio::test(flavor = "multi_thread")]
async fn hdfs() {
    let Some(place) = place() else { return };
    let subject = subject(registry(StorageConfig::default()), "hdfs://127.0.0.1:9460/hdfs/", "hdfs", &place);
    conforms("hdfs", subject, &without(&["denied"])).await;
}

/// Files need no server.
#[cfg(feature = "fs")]
#[tokio::test(flavor = "multi_thread")]
async fn files() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = StorageConfig::default();
    config.files_below = Some(dir.path().to_owned());
    let root = dir.path().to_owned();
    let put = move |name: &str, content: &[u8]| {
        let path = root.join("c").join(name);
        std::fs::create_dir_all(path.parent().unwrap())?;
        std::fs::write(&path, content)?;
        // Old enough to be told apart by its time, and another time for other content.
        let age = 7200 + content.first().map_or(0, |byte| u64::from(*byte));
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(age);
        std::fs::File::options().write(true).open(&path)?.set_modified(then)
    };
    conforms("files", Subject::new(registry(config), url("file:///c/"), put), &without(&["denied"])).await;
}

/// The repository `content` of a registry, where blobs are found by names: of those that were put here.
#[cfg(feature = "oci")]
struct ByName {
    sources: Registry,
    registry: &'static str,
    digests: std::sync::Arc<std::sync::Mutex<std::collections::BTreeMap<String, String>>>,
}

#[cfg(feature = "oci")]
impl dragonfly_core::source::Source for ByName {
    fn schemes(&self) -> &[&str] {
        &["named"]
    }

    fn open<'a>(
        &'a self,
        mut request: dragonfly_core::source::OpenRequest,
    ) -> futures::future::BoxFuture<'a, Result<dragonfly_core::source::Opened, dragonfly_core::source::SourceError>>
    {
        let name = url::form_urlencoded::parse(&request.url.path().as_bytes()[1..]).next().unwrap().0.into_owned();
        let known = self.digests.lock().unwrap().get(&name).cloned();
        let digest = known.unwrap_or_else(|| format!("sha256:{}", "0".repeat(64)));
        request.url = url(&format!("oci://{}/content@{digest}", self.registry));
        Box::pin(async move { self.sources.open(request).await })
    }
}

/// A registry of the suite, as whom `config` says.
#[cfg(feature = "oci")]
fn of_registry(
    name: &'static str,
    registry: &'static str,
    config: StorageConfig,
    denied: Option<StorageConfig>,
    place: &std::path::Path,
) -> Subject {
    let digests = std::sync::Arc::<std::sync::Mutex<std::collections::BTreeMap<String, String>>>::default();
    let by_name = |config| {
        let digests = std::sync::Arc::clone(&digests);
        let source = ByName { sources: self::registry(config), registry, digests };
        Registry::builder().source(std::sync::Arc::new(source)).build()
    };
    let (sources, denied) = (by_name(config), denied.map(by_name));
    let mut subject = subject(sources, "named://registry/", name, place);
    let (put, noted) = (subject.put, std::sync::Arc::clone(&digests));
    subject.put = Box::new(move |path, content| {
        use dragonfly_core::task::{Algorithm, DigestHasher};
        put(path, content)?;
        let mut hasher = DigestHasher::new(Algorithm::Sha256);
        hasher.update(content);
        noted.lock().unwrap().insert(path.to_owned(), hasher.finish().to_string());
        Ok(())
    });
    subject.denied = denied.map(|sources| (sources, url("named://registry/whole.bin")));
    // What is listed are images, in tests of their own.
    subject.lists = false;
    subject
}

#[cfg(feature = "oci")]
#[tokio::test(flavor = "multi_thread")]
async fn docker_registry() {
    let Some(place) = place() else { return };
    let mut config = StorageConfig::default();
    config.no_environment = true;
    conforms(
        "docker-registry",
        of_registry("registry", "127.0.0.1:9467", config, None, &place),
        &without(&["denied", "lists"]),
    )
    .await;
}

#[cfg(feature = "oci")]
#[tokio::test(flavor = "multi_thread")]
async fn docker_registry_with_a_password() {
    let Some(place) = place() else { return };
    let with = |secret: &str| {
        let mut own = StorageSettings::default();
        (own.user, own.secret) = (Some("alice".to_owned()), Some(secret.to_owned()));
        let mut config = StorageConfig::default().origin("oci://127.0.0.1:9468".parse().unwrap(), own);
        config.no_environment = true;
        config
    };
    let (config, denied) = (with("secret123"), Some(with(WRONG)));
    let mut subject = of_registry("private-registry", "127.0.0.1:9468", config, denied, &place);
    subject.secrets = vec!["secret123".to_owned(), WRONG.to_owned()];
    conforms("docker-registry with a password", subject, &without(&["lists"])).await;
}

//! Object stores behind a proxy that is ours: what they are asked, as whom, and what becomes of their answers.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::process::Command;

use bytes::Bytes;
use futures::{TryStreamExt, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::*;
use crate::source::{Retries, Retry, WalkLimits, walk};

/// What a store answers, once.
type Told = (u16, &'static [(&'static str, &'static str)], Vec<u8>);

/// In place of a header: the connection ends before the body does.
const BREAKS_OFF: &str = "";

/// Every store there is: a proxy, so that the names of buckets need not be known to anybody.
struct Stores {
    address: std::net::SocketAddr,
    left: Arc<Mutex<VecDeque<Told>>>,
    /// The requests, each as its URI and its `Authorization`.
    asked: Arc<Mutex<Vec<(String, String)>>>,
}

impl Stores {
    async fn start(answers: Vec<Told>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let left = Arc::new(Mutex::new(VecDeque::from(answers)));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answers, noted) = (Arc::clone(&left), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answers, noted) = (Arc::clone(&answers), Arc::clone(&noted));
                let serve = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    let authorization = request.headers().get("authorization").and_then(|v| v.to_str().ok());
                    let asked = (request.uri().to_string(), authorization.unwrap_or_default().to_owned());
                    noted.lock().unwrap().push(asked);
                    let (status, headers, body) = answers.lock().unwrap().pop_front().unwrap_or((500, &[], Vec::new()));
                    let mut response = hyper::Response::builder().status(status);
                    if !headers.iter().any(|(name, _)| *name == BREAKS_OFF) {
                        response = response.header("content-length", body.len());
                    }
                    let mut parts: Vec<io::Result<_>> = vec![Ok(Frame::data(Bytes::from(body)))];
                    for (name, value) in headers {
                        match *name {
                            BREAKS_OFF => parts.push(Err(io::ErrorKind::ConnectionReset.into())),
                            name => response = response.header(name, *value),
                        }
                    }
                    let body = StreamBody::new(stream::iter(parts));
                    std::future::ready(Ok::<_, Infallible>(response.body(body).unwrap()))
                });
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), serve));
            }
        });
        Self { address, left, asked }
    }

    fn http(&self) -> HttpConfig {
        HttpConfig { proxy: Proxy::Url(format!("http://{}", self.address).parse().unwrap()), ..http() }
    }

    fn source(&self, config: StorageConfig) -> StorageSource {
        StorageSource::new(Guard::default(), self.http(), config)
    }

    fn asked(&self) -> Vec<(String, String)> {
        assert!(self.left.lock().unwrap().is_empty(), "it was to be asked more often");
        self.asked.lock().unwrap().clone()
    }
}

/// A bucket of each kind that was built in, and its settings.
fn buckets() -> Vec<(&'static str, StorageConfig)> {
    // Azure's secrets are in base 64.
    let secret = Some("c2VjcmV0LTc=".to_owned());
    let of = |scheme: &str| {
        // Any other host OBS takes for that of one bucket.
        let host = if scheme == "obs" { "obs.store-test.myhuaweicloud.com" } else { "store-test.example" };
        let endpoint = Some(format!("http://{host}"));
        let settings = StorageSettings { endpoint, secret: secret.clone(), anonymous: scheme == "gs", ..keyed() };
        let mut config = StorageConfig::default().scheme(scheme, settings);
        config.no_environment = true;
        config
    };
    ["s3", "gs", "az", "oss", "obs", "cos"].into_iter().map(|scheme| (scheme, of(scheme))).collect()
}

fn patient(url: &str) -> OpenRequest {
    let retry = Retry { base: std::time::Duration::from_millis(1), ..Retry::default() };
    OpenRequest { retry, retries: Retries::default(), ..request(url, true) }
}

async fn bytes_of(opened: Opened) -> Vec<u8> {
    let Opened::Content(content) = opened else { panic!("{opened:?}") };
    content.body.try_fold(Vec::new(), async |all, part| Ok([all, part.to_vec()].concat())).await.unwrap()
}

#[tokio::test]
async fn what_may_pass_is_tried_again_at_every_store() {
    for (scheme, config) in buckets() {
        let content = b"what is in it".to_vec();
        let good: Told = (200, &[("etag", "\"v1\"")], content.clone());
        let stores =
            Stores::start(vec![(503, &[], Vec::new()), (429, &[("retry-after", "0")], Vec::new()), good]).await;
        let asked = patient(&format!("{scheme}://bucket/a%20b/c.bin"));
        let opened = stores.source(config).open(asked.clone()).await;
        let opened = opened.unwrap_or_else(|error| panic!("{scheme}: {error:?} {:?}", stores.asked.lock().unwrap()));
        assert_eq!(bytes_of(opened).await, content, "{scheme}");
        let (requests, retries) = (stores.asked(), asked.retries.get());
        assert_eq!((requests.len(), retries), (3, 2), "{scheme}: {requests:?}");
        let (uri, authorization) = &requests[2];
        assert!(uri.contains("bucket") && uri.contains("store-test") && uri.contains("c.bin"), "{scheme}: {uri}");
        assert_eq!(authorization.is_empty(), scheme == "gs", "{scheme}: {authorization}");
        assert!(!format!("{requests:?}").contains("secret-7"), "a secret signs, and does not travel");
    }
}

#[tokio::test]
async fn what_a_store_refuses_is_told_with_what_to_do() {
    use SourceErrorKind::{Forbidden, InvalidInput, NotFound};
    let region: &[(&str, &str)] = &[("x-amz-bucket-region", "eu-west-9")];
    let xml = |code: &str| format!("<Error><Code>{code}</Code><Message>secret-7</Message></Error>").into_bytes();
    for (status, headers, code, kind, text) in [
        (404, &[][..], "NoSuchBucket", NotFound, "no such bucket"),
        (404, &[], "NoSuchKey", NotFound, "no such object"),
        (404, &[], "", NotFound, "no such object"),
        (301, region, "PermanentRedirect", InvalidInput, "set it to eu-west-9"),
        (400, region, "AuthorizationHeaderMalformed", InvalidInput, "set it to eu-west-9"),
        (400, &[], "IllegalLocationConstraintException", InvalidInput, "another region"),
        (403, &[], "InvalidAccessKeyId", Forbidden, "check key and secret"),
        (403, &[], "SignatureDoesNotMatch", Forbidden, "check key and secret"),
        (400, &[], "ExpiredToken", Forbidden, "get a new one"),
        (403, &[], "RequestTimeTooSkewed", Forbidden, "clock"),
        (403, &[], "InvalidObjectState", Forbidden, "archived"),
        (403, &[], "AccessDenied", Forbidden, "no permission"),
        (401, &[], "", Forbidden, "AWS_ACCESS_KEY_ID"),
    ] {
        let stores = Stores::start(vec![(status, headers, xml(code))]).await;
        let source = stores.source(buckets().swap_remove(0).1);
        let error = source.open(patient("s3://bucket/k")).await.unwrap_err();
        let shown = format!("{error:?}");
        assert_eq!((error.kind(), error.status()), (kind, Some(status)), "{code}: {shown}");
        assert!(shown.contains(text) && shown.contains("s3://bucket/k"), "{code}: {shown}");
        assert!(!shown.contains("secret-7") && !shown.contains("user-7"), "{code}: {shown}");
        assert_eq!(stores.asked().len(), 1, "{code}: it is not tried again");
    }
}

#[tokio::test]
async fn without_a_credential_it_is_said_how_one_is_given() {
    let stores = Stores::start(Vec::new()).await;
    let mut config = StorageConfig::default();
    config.no_environment = true;
    let settings = StorageSettings { endpoint: Some("http://store.test".to_owned()), ..StorageSettings::default() };
    let error = stores.source(config.scheme("s3", settings)).open(patient("s3://bucket/k")).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Forbidden, "{error:?}");
    assert!(format!("{error:?}").contains("AWS_ACCESS_KEY_ID"), "{error:?}");
    assert!(stores.asked().is_empty());
}

fn page(names: &[&str], next: Option<&str>) -> Vec<u8> {
    let mut text = "<ListBucketResult>".to_owned();
    for name in names {
        text.push_str(&format!(
            "<Contents><Key>{name}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><Size>7</Size></Contents>"
        ));
    }
    text.push_str(&format!("<IsTruncated>{}</IsTruncated>", next.is_some()));
    if let Some(next) = next {
        text.push_str(&format!("<NextContinuationToken>{next}</NextContinuationToken>"));
    }
    (text + "</ListBucketResult>").into_bytes()
}

/// A list whose second page is had at the third attempt is whole, and nothing is in it twice.
#[tokio::test]
async fn every_page_of_a_list_is_tried_again() {
    let stores = Stores::start(vec![
        (500, &[], Vec::new()),
        (200, &[], page(&["d/a", "d/b"], Some("more"))),
        (503, &[], Vec::new()),
        (200, &[(BREAKS_OFF, "")], b"<ListBucketResult><Contents>".to_vec()),
        (200, &[], page(&["d/c"], None)),
    ])
    .await;
    let source: Arc<dyn Source> = Arc::new(stores.source(buckets().swap_remove(0).1));
    let asked = patient("s3://bucket/d/");
    let found: Vec<Entry> = walk(source, asked.clone(), WalkLimits::default()).try_collect().await.unwrap();
    let found: Vec<(&str, Option<u64>)> = found.iter().map(|entry| (entry.path.as_str(), entry.length)).collect();
    assert_eq!(found, [("a", Some(7)), ("b", Some(7)), ("c", Some(7))]);
    let requests = stores.asked();
    assert_eq!((requests.len(), asked.retries.get()), (5, 3));
    let of_second = requests.iter().filter(|(uri, _)| uri.contains("continuation-token=more")).count();
    assert_eq!(of_second, 3, "{requests:?}");
}

/// A store may want more time before it is asked again than it has to begin an answer.
#[tokio::test]
async fn the_waits_between_attempts_at_a_page_are_not_its_own_time() {
    let stores =
        Stores::start(vec![(503, &[("retry-after", "2")], Vec::new()), (200, &[], page(&["d/a"], None))]).await;
    let mut http = stores.http();
    http.first_byte_timeout = std::time::Duration::from_secs(1);
    let source = StorageSource::new(Guard::default(), http, buckets().swap_remove(0).1);
    let found = source.list(patient("s3://bucket/d/")).try_concat().await.unwrap();
    assert_eq!((found.len(), stores.asked().len()), (1, 2));
}

#[tokio::test]
async fn a_page_of_a_list_has_a_bound() {
    let stores = Stores::start(vec![(200, &[], vec![b' '; (16 << 20) + 1])]).await;
    let source = stores.source(buckets().swap_remove(0).1);
    let error = source.list(patient("s3://bucket/d/")).try_collect::<Vec<_>>().await.unwrap_err();
    assert!(format!("{error:?}").contains("more than 16 MiB"), "{error:?}");
    assert_eq!(stores.asked().len(), 1);
}

/// What is in an environment.
type Given = &'static [(&'static str, &'static str)];

/// What the environment of a process says, and the files that it leads to, is read by a process of its own.
#[tokio::test]
async fn credentials_are_read_from_where_platforms_have_them() {
    const PROXY: &str = "DRAGONFLY_TEST_STORES";
    const SCHEME: &str = "DRAGONFLY_TEST_SCHEME";
    if let (Ok(address), Ok(scheme)) = (std::env::var(PROXY), std::env::var(SCHEME)) {
        let stores = Stores { address: address.parse().unwrap(), left: Arc::default(), asked: Arc::default() };
        let source = stores.source(StorageConfig::default());
        let opened = source.open(patient(&format!("{scheme}://bucket/k"))).await;
        assert_eq!(bytes_of(opened.unwrap()).await, b"content");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = home.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    };
    let keys = "aws_access_key_id = THE-KEY\naws_secret_access_key = secret-7\n";
    file(".aws/credentials", &format!("[default]\n{keys}"));
    file("other", &format!("[team]\n{keys}"));
    const S3: (&str, &str) = ("AWS_ENDPOINT_URL_S3", "http://store-test.example");
    let cases: [(&str, Given, &str); 7] = [
        (
            "s3",
            &[S3, ("AWS_ACCESS_KEY_ID", "THE-KEY"), ("AWS_SECRET_ACCESS_KEY", "secret-7"), ("AWS_REGION", "eu-9")],
            "/eu-9/s3/",
        ),
        ("s3", &[S3], "/us-east-1/s3/"),
        ("s3", &[S3, ("AWS_SHARED_CREDENTIALS_FILE", "other"), ("AWS_PROFILE", "team")], "/us-east-1/s3/"),
        (
            "az",
            &[
                ("AZURE_STORAGE_BLOB_ENDPOINT", "http://store-test.example"),
                ("AZURE_STORAGE_ACCOUNT_NAME", "THE-KEY"),
                ("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0LTc="),
            ],
            "SharedKey ",
        ),
        (
            "oss",
            &[
                ("OSS_ENDPOINT", "http://store-test.example"),
                ("ALIBABA_CLOUD_ACCESS_KEY_ID", "THE-KEY"),
                ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "secret-7"),
            ],
            "OSS ",
        ),
        (
            "obs",
            &[
                ("OBS_ENDPOINT", "http://obs.store-test.myhuaweicloud.com"),
                ("HUAWEI_CLOUD_ACCESS_KEY_ID", "THE-KEY"),
                ("HUAWEI_CLOUD_SECRET_ACCESS_KEY", "secret-7"),
            ],
            "OBS ",
        ),
        (
            "cos",
            &[
                ("COS_ENDPOINT", "http://store-test.example"),
                ("TENCENTCLOUD_SECRET_ID", "THE-KEY"),
                ("TENCENTCLOUD_SECRET_KEY", "secret-7"),
            ],
            "q-sign-algorithm",
        ),
    ];
    for (scheme, given, signed) in cases {
        let stores = Stores::start(vec![(200, &[("etag", "\"v1\"")], b"content".to_vec())]).await;
        let name = "source::storage::tests::buckets::credentials_are_read_from_where_platforms_have_them";
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", name]).env_clear().env(PROXY, stores.address.to_string()).env(SCHEME, scheme);
        child.current_dir(home.path()).env("HOME", home.path()).envs(given.iter().copied());
        let ran = tokio::task::spawn_blocking(move || child.output().unwrap()).await.unwrap();
        assert!(ran.status.success(), "{scheme}: {}", String::from_utf8_lossy(&ran.stdout));
        let requests = stores.asked();
        let [(uri, authorization)] = &requests[..] else { panic!("{requests:?}") };
        assert!(uri.contains("store-test") && uri.contains("bucket"), "{scheme}: {uri}");
        let is_signed = authorization.contains("THE-KEY") && authorization.contains(signed);
        assert!(is_signed && !authorization.contains("secret-7"), "{scheme}: {authorization}");
    }
}

//! Against a hub of our own, which answers as the real ones do.
#![allow(clippy::unwrap_used)]

use dragonfly_testkit::{Hub as Server, HubConfig, Origin, Resource};
use futures::TryStreamExt;

use super::super::conformance::Subject;
use super::super::{Content, OriginPattern, Proxy, Registry, Retry, StorageSettings, WalkLimits, walk};
use super::*;

const MODEL: &str = "models/lib/model";

async fn server(token: Option<&str>) -> Server {
    let config = HubConfig { token: token.map(str::to_owned), ..HubConfig::default() };
    let server = Server::start(config).await.unwrap();
    server.put(MODEL, "config.json", "{}");
    server.put(MODEL, "weights/a.bin", vec![1; 20_000]);
    server.put(MODEL, "weights/b.bin", vec![2; 20_000]);
    server.put(MODEL, "weights/c.txt", "c");
    server.put(MODEL, "weights/deep/d.txt", "d");
    server.put(MODEL, "weights/e.txt", "e");
    server
}

fn settings(endpoint: &str, token: Option<&str>) -> StorageConfig {
    let mut own = StorageSettings::default();
    (own.endpoint, own.token) = (Some(endpoint.to_owned()), token.map(str::to_owned));
    StorageConfig::default().scheme("hf", own.clone()).scheme("modelscope", own)
}

fn guarded(hub: Hub, guard: Guard, config: StorageConfig) -> HubSource {
    let http = HttpConfig { proxy: Proxy::None, ..HttpConfig::default() };
    HubSource::with(hub, guard, http, config, Environment::new(|_| None))
}

fn source(hub: Hub, server: &Server, token: Option<&str>) -> HubSource {
    guarded(hub, Guard::default(), settings(&server.endpoint(), token))
}

fn request(url: &str) -> OpenRequest {
    let url = Url::parse(url).unwrap();
    OpenRequest { local: true, retry: Retry { attempts: 1, ..Retry::default() }, ..OpenRequest::new(url) }
}

async fn opened(source: &HubSource, request: OpenRequest) -> Content {
    match source.open(request).await.unwrap() {
        Opened::Content(content) => content,
        Opened::Unchanged { .. } => panic!("unchanged"),
    }
}

async fn all(content: Content) -> Vec<u8> {
    content.body.try_fold(Vec::new(), |all, part| async move { Ok([all, part.to_vec()].concat()) }).await.unwrap()
}

/// The error, which holds no secret.
async fn refusal(source: &HubSource, request: OpenRequest) -> SourceError {
    let error = source.open(request).await.map(|_| ()).unwrap_err();
    assert!(!format!("{error:?}{error}").contains("secret"), "{error:?}");
    error
}

#[tokio::test]
async fn the_token_goes_to_the_hub_and_no_further() {
    let server = server(Some("secret-token")).await;
    for (hub, scheme) in [(Hub::HuggingFace, "hf"), (Hub::ModelScope, "modelscope")] {
        let source = source(hub, &server, Some("secret-token"));
        let asked = request(&format!("{scheme}://lib/model/weights/a.bin"));
        assert!(source.is_own(&asked.url));
        let content = opened(&source, asked.clone()).await;
        assert!(content.private, "it is read with a token");
        assert_eq!(all(content).await, vec![1; 20_000]);
        // Nobody else is served with it.
        for asked in [OpenRequest { shared: true, ..asked.clone() }, OpenRequest { local: false, ..asked.clone() }] {
            assert_eq!(refusal(&source, asked).await.kind(), SourceErrorKind::Guarded);
        }
        let allowed: OriginPattern = format!("{scheme}://lib").parse().unwrap();
        let guard = Guard { origins: Some(vec![allowed]), ..Guard::default() };
        let listed = guarded(hub, guard, settings(&server.endpoint(), Some("secret-token")));
        assert!(!listed.is_own(&asked.url));
        assert!(!opened(&listed, OpenRequest { shared: true, ..asked }).await.private, "the operator says so");
    }
    let seen = server.seen();
    let (of_cdn, of_hub): (Vec<_>, Vec<_>) = seen.iter().partition(|request| request.cdn);
    assert!(of_cdn.len() >= 4 && of_cdn.iter().all(|r| r.authorization.is_none() && r.cookie.is_none()), "{of_cdn:?}");
    assert!(of_hub.iter().all(|r| r.authorization.as_deref() == Some("Bearer secret-token")), "{of_hub:?}");
}

#[tokio::test]
async fn without_a_token_it_says_how_one_is_given() {
    let server = server(Some("secret-token")).await;
    let anybody = source(Hub::HuggingFace, &server, None);
    let asked = request("hf://lib/model/config.json");
    assert!(!anybody.is_own(&asked.url));
    let error = refusal(&anybody, asked.clone()).await;
    assert_eq!((error.kind(), error.status()), (SourceErrorKind::Forbidden, Some(401)), "{error:?}");
    assert!(error.to_string().contains("set HF_TOKEN"), "{error}");
    let wrong = source(Hub::HuggingFace, &server, Some("wrong-secret"));
    let error = refusal(&wrong, asked).await;
    assert!(error.to_string().contains("does not accept the token"), "{error}");
    let anybody = source(Hub::ModelScope, &server, None);
    let error = refusal(&anybody, request("modelscope://lib/model/config.json")).await;
    assert!(error.to_string().contains("set MODELSCOPE_API_TOKEN"), "{error}");
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let server = server(None).await;
    let source = source(Hub::HuggingFace, &server, None);
    for (url, what) in [
        ("hf://lib/model/none", "no such file at this revision (404 EntryNotFound)"),
        ("hf://lib/model@v9/config.json", "no such revision (404 RevisionNotFound)"),
        ("hf://lib/other/config.json", "there is no such repository, or it is private"),
        ("hf://datasets/lib/model/config.json", "there is no such repository"),
    ] {
        let error = refusal(&source, request(url)).await;
        assert_eq!(error.kind(), SourceErrorKind::NotFound, "{error:?}");
        assert!(error.to_string().contains(what), "{error}");
        let listed = source.list(request(url)).try_concat().await;
        assert_eq!(listed.unwrap_err().kind(), SourceErrorKind::NotFound, "{url}");
    }
}

#[tokio::test]
async fn a_list_is_of_one_commit() {
    let server = server(None).await;
    let hf: Arc<dyn Source> = Arc::new(source(Hub::HuggingFace, &server, None));
    let walked = |url: &str| walk(Arc::clone(&hf), request(url), WalkLimits::default()).try_collect::<Vec<_>>();
    let entries = walked("hf://lib/model").await.unwrap();
    let files: Vec<&Entry> = entries.iter().filter(|entry| !entry.directory).collect();
    let mut paths: Vec<&str> = files.iter().map(|entry| entry.path.as_str()).collect();
    paths.sort_unstable();
    let wanted =
        ["config.json", "weights/a.bin", "weights/b.bin", "weights/c.txt", "weights/deep/d.txt", "weights/e.txt"];
    assert_eq!(paths, wanted, "of pages of three");
    let looked_up = server.seen().iter().filter(|seen| seen.path.contains("/revision/")).count();
    assert_eq!(looked_up, 1);
    let commit = server.commit(MODEL).unwrap();
    server.put(MODEL, "config.json", "[]");
    server.put(MODEL, "weights/a.bin", vec![9; 20_000]);
    let source = source(Hub::HuggingFace, &server, None);
    for entry in files {
        assert!(entry.pinned && entry.url.as_str().contains(&commit), "{}", entry.url);
        assert_eq!(entry.digest.is_some(), entry.path.ends_with(".bin"), "the hub knows that of LFS files alone");
        let content = opened(&source, request(entry.url.as_str())).await;
        assert_eq!(content.fresh, Some(std::time::Duration::from_secs(3600)), "it never changes");
        let bytes = all(content).await;
        assert_eq!(entry.length, Some(bytes.len() as u64));
        assert!(bytes != b"[]" && bytes.first() != Some(&9), "{}", entry.path);
    }
    let at_part: Vec<Entry> = walked("hf://lib/model@main/weights/deep/").await.unwrap();
    assert_eq!(at_part.len(), 1);
    assert_eq!(at_part[0].path, "d.txt");
}

#[tokio::test]
async fn modelscope_lists_with_digests() {
    let server = server(None).await;
    server.put("datasets/lib/data", "train/x.csv", "x");
    let source: Arc<dyn Source> = Arc::new(source(Hub::ModelScope, &server, None));
    let walked = |url: &str| walk(Arc::clone(&source), request(url), WalkLimits::default()).try_collect::<Vec<_>>();
    let files: Vec<Entry> = walked("modelscope://lib/model").await.unwrap();
    assert_eq!(files.iter().filter(|entry| !entry.directory && entry.digest.is_some()).count(), 6);
    let files: Vec<Entry> = walked("modelscope://datasets/lib/data").await.unwrap();
    assert_eq!(files.last().unwrap().url.as_str(), "modelscope://datasets/lib/data@master/train/x.csv");
    let opened = match source.open(request(files.last().unwrap().url.as_str())).await.unwrap() {
        Opened::Content(content) => all(content).await,
        other => panic!("{other:?}"),
    };
    assert_eq!(opened, b"x");
}

#[tokio::test]
async fn a_branch_that_moves_leaves_the_version_of_a_file_that_it_does_not_change() {
    let server = server(None).await;
    let source = source(Hub::HuggingFace, &server, None);
    for path in ["config.json", "weights/a.bin"] {
        let url = format!("hf://lib/model/{path}");
        let version = opened(&source, request(&url)).await.validator.unwrap();
        server.put(MODEL, &format!("other-{}", path.replace('/', "-")), "other");
        let again = OpenRequest { prior: Some(version.clone()), ..request(&url) };
        assert!(matches!(source.open(again.clone()).await.unwrap(), Opened::Unchanged { .. }), "{path}");
        let asked = server.seen().pop().unwrap();
        assert_eq!(asked.range.as_deref(), Some("bytes=0-0"), "a byte of what is known");
        server.put(MODEL, path, vec![7; if path == "config.json" { 2 } else { 20_000 }]);
        let content = opened(&source, again).await;
        assert_ne!(content.validator, Some(version.clone()), "{path}");
        assert_eq!(all(content).await[..2], [7, 7]);
        let expected = OpenRequest { expect: Some(version), range: Some(1..2), ..request(&url) };
        assert_eq!(refusal(&source, expected).await.kind(), SourceErrorKind::Changed);
    }
}

/// A hub of which single answers are made here.
async fn made(answers: &[(&str, Resource)]) -> (Origin, HubSource) {
    let origin = Origin::start().await.unwrap();
    for (path, resource) in answers {
        origin.set(*path, resource.clone());
    }
    let source = guarded(Hub::HuggingFace, Guard::default(), settings(&origin.url(""), Some("secret-token")));
    (origin, source)
}

#[tokio::test]
async fn what_a_hub_contradicts_itself_in_is_an_error() {
    let body = Resource::bytes(b"content".to_vec());
    let file = body.clone().header("x-linked-size", "8").header("x-linked-etag", "\"x\"");
    let commit = Resource::bytes(b"{\"sha\": \"main\"}".to_vec());
    let sha = "a".repeat(40);
    let elsewhere = Resource::bytes(b"[]".to_vec()).header("link", "<http://127.0.0.2:9/api>; rel=\"next\"");
    let tree = format!("/api/models/lib/model/tree/{sha}");
    let (_origin, source) = made(&[
        ("/lib/model/resolve/main/file", file),
        ("/api/models/lib/model/revision/main", commit),
        (&tree, elsewhere),
        ("/api/models/lib/model/revision/broken", Resource::bytes(b"<html>".to_vec())),
    ])
    .await;
    let error = refusal(&source, request("hf://lib/model/file")).await;
    assert!(error.to_string().contains("8 bytes, and 7 are sent"), "{error}");
    for (url, kind, what) in [
        ("hf://lib/model".to_owned(), SourceErrorKind::Origin, "a commit that is none"),
        ("hf://lib/model@broken".to_owned(), SourceErrorKind::Origin, "is no JSON (line 1, column 1)"),
        (format!("hf://lib/model@{sha}"), SourceErrorKind::Guarded, "goes on at another server"),
    ] {
        let error = source.list(request(&url)).try_concat().await.unwrap_err();
        assert!(error.kind() == kind && error.to_string().contains(what), "{error:?}");
    }
}

/// A hub need not send pages as long as it is asked for.
#[tokio::test]
async fn a_list_goes_on_after_a_short_page() {
    for page_max in [1, 2, 3, 1000] {
        let server = Server::start(HubConfig { page_max, ..HubConfig::default() }).await.unwrap();
        for name in ["a", "b", "c", "d", "e/f"] {
            server.put("datasets/lib/data", name, name.to_owned());
        }
        let source: Arc<dyn Source> = Arc::new(source(Hub::ModelScope, &server, None));
        let walked = walk(source, request("modelscope://datasets/lib/data"), WalkLimits::default());
        let mut paths: Vec<_> =
            walked.try_collect::<Vec<_>>().await.unwrap().into_iter().map(|entry| entry.path).collect();
        paths.sort();
        assert_eq!(paths, ["a", "b", "c", "d", "e", "e/f"], "pages of {page_max}");
    }
}

/// A hub need not have a page after the last one, and may say how many entries there are.
#[tokio::test]
async fn a_list_ends_where_there_is_no_further_page() {
    let listed = async |config: HubConfig, count: usize| {
        let server = Server::start(config).await.unwrap();
        for at in 0..count {
            server.put("datasets/lib/data", &format!("{at:03}"), at.to_string());
        }
        let source = source(Hub::ModelScope, &server, None);
        let list = source.list(request("modelscope://datasets/lib/data")).try_concat().await;
        (list.map(|entries| entries.len()).map_err(|error| error.status()), server.seen().len())
    };
    let with = |after_last, totals, page_max| HubConfig { after_last, totals, page_max, ..HubConfig::default() };
    for status in [400, 404] {
        assert_eq!(listed(with(Some(status), false, 1000), 5).await, (Ok(5), 2), "{status}");
        assert_eq!(listed(with(Some(status), false, 2), 5).await.0, Ok(5), "{status}, short pages");
    }
    // A page that is as long as was asked for is not the last for all that is known.
    assert_eq!(listed(with(Some(404), false, 1000), 200).await.0, Err(Some(404)));
    assert_eq!(listed(with(Some(403), false, 1000), 5).await.0, Err(Some(403)), "that is about who asks");
    // Who says how many there are is not asked for more, and not believed to have ended before.
    assert_eq!(listed(with(Some(404), true, 1000), 5).await, (Ok(5), 1));
    assert_eq!(listed(with(None, true, 2), 5).await, (Ok(5), 3));
}

/// Where a redirect leads the token does not go, and not on from there either.
#[tokio::test]
async fn a_list_that_is_redirected_does_not_take_the_token_along() {
    let other = Origin::start().await.unwrap();
    let page = Resource::bytes(b"[{\"type\": \"file\", \"path\": \"a\", \"size\": 1}]".to_vec());
    other.set("/page", page.clone().header("link", format!("<{}>; rel=\"next\"", other.url("/next"))));
    other.set("/next", page);
    let sha = "a".repeat(40);
    let tree = format!("/api/models/lib/model/tree/{sha}");
    let (_origin, source) = made(&[(&tree, Resource::redirect(302, other.url("/page")))]).await;
    let error = source.list(request(&format!("hf://lib/model@{sha}"))).try_concat().await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Guarded, "{error:?}");
    let asked = other.log();
    assert_eq!(asked.len(), 1, "the page where it led, and none after it");
    assert_eq!(asked[0].header("authorization"), None);
}

/// A list that never ends is none.
#[tokio::test]
async fn a_page_that_names_itself_as_the_next_is_an_error() {
    let sha = "a".repeat(40);
    let tree = format!("/api/models/lib/model/tree/{sha}");
    let page = Resource::bytes(b"[{\"type\": \"file\", \"path\": \"a\", \"size\": 1}]".to_vec());
    let (_origin, source) = made(&[(&tree, page.header("link", "<?again>; rel=\"next\""))]).await;
    let error = source.list(request(&format!("hf://lib/model@{sha}"))).try_concat().await.unwrap_err();
    assert!(error.to_string().contains("nothing new"), "{error:?}");
}

/// A hub of our own, which the real clients take for one (`.ci/origins`): the suite needs no other server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hubs_conform() {
    let with = |hub, server: &Server, token| {
        let source = source(hub, server, token);
        Registry::builder().source(Arc::new(source)).build()
    };
    for (hub, base, repository) in [
        (Hub::HuggingFace, "hf://lib/model/", MODEL),
        (Hub::HuggingFace, "hf://datasets/lib/data@main/below/", "datasets/lib/data"),
        (Hub::ModelScope, "modelscope://lib/model/", MODEL),
        (Hub::ModelScope, "modelscope://datasets/lib/data/below/", "datasets/lib/data"),
    ] {
        // Files that the hub has itself, and files that it sends its clients elsewhere for.
        for lfs_min in [usize::MAX, 1] {
            let config = HubConfig { token: Some("secret-token".to_owned()), lfs_min, ..HubConfig::default() };
            let server = Arc::new(Server::start(config).await.unwrap());
            let below = if base.ends_with("below/") { "below/" } else { "" };
            let (sources, putting) = (with(hub, &server, Some("secret-token")), Arc::clone(&server));
            let url = |text: &str| Url::parse(text).unwrap();
            let mut subject = Subject::new(sources, url(base), move |path, content| {
                putting.put(repository, &format!("{below}{path}"), content.to_vec());
                Ok(())
            });
            // ModelScope says of what is private that it is not there.
            let denied =
                (hub == Hub::HuggingFace).then(|| (with(hub, &server, None), url(&format!("{base}whole.bin"))));
            subject.denied = denied;
            subject.secrets = vec!["secret-token".to_owned()];
            if let Err(error) = subject.conform().await {
                panic!("{base} {lfs_min}: {error}");
            }
        }
    }
}

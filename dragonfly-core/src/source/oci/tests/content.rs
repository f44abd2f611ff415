//! Blobs and manifests.

use super::*;
use crate::task::Validator;

const BYTES: &[u8] = b"0123456789abcdef";

#[tokio::test]
async fn a_blob_is_read_whole_and_in_ranges() {
    let fake = Fake::start().await;
    let digest = fake.blob(BYTES);
    let (source, name) = (anybody(), format!("a@{digest}"));
    let content = opened(&source, request(&fake, &name)).await;
    assert_eq!((content.length, content.ranges, content.private), (Some(16), true, false));
    let version = Validator::Version(digest.clone());
    assert_eq!(content.validator, Some(version.clone()));
    assert_eq!(all(content).await, BYTES);
    let with = |range| OpenRequest { range: Some(range), ..request(&fake, &name) };
    let content = opened(&source, with(4..8)).await;
    assert_eq!((content.offset, content.body_length, content.length), (4, Some(4), Some(16)));
    assert_eq!(all(content).await, b"4567");
    assert_eq!(all(opened(&source, with(0..4 << 20)).await).await, BYTES);
    assert_eq!(refusal(&source, with(16..17)).await.kind(), SourceErrorKind::Origin);
    let same = OpenRequest { expect: Some(version.clone()), expect_length: Some(16), ..with(8..u64::MAX) };
    assert_eq!(all(opened(&source, same).await).await, b"89abcdef");
    let other = OpenRequest { expect_length: Some(17), ..with(8..u64::MAX) };
    assert_eq!(refusal(&source, other).await.kind(), SourceErrorKind::Changed);
    let known = OpenRequest { prior: Some(version), ..request(&fake, &name) };
    assert!(matches!(source.open(known).await.unwrap(), Opened::Unchanged { .. }));
    assert_eq!(fake.seen().last().unwrap().range.as_deref(), Some("bytes=0-0"), "that it may be read is asked");
    let empty = fake.blob("");
    let empty = OpenRequest { range: Some(0..4096), ..request(&fake, &format!("a@{empty}")) };
    assert_eq!(all(opened(&source, empty).await).await, b"");
}

#[tokio::test]
async fn a_tag_names_a_manifest_whose_version_is_its_digest() {
    let fake = Fake::start().await;
    let image = |n: u32| serde_json::json!({"schemaVersion": 2, "layers": [], "annotations": {"n": n.to_string()}});
    let old = fake.manifest(Some("v1"), IMAGE, &image(1));
    let source = anybody();
    let content = opened(&source, request(&fake, "a:v1")).await;
    let version = content.validator.clone().unwrap();
    assert_eq!(version, Validator::Version(old["digest"].as_str().unwrap().to_owned()));
    let bytes = all(content).await;
    assert_eq!(bytes, serde_json::to_vec(&image(1)).unwrap());
    assert!(fake.seen()[0].accept.as_ref().unwrap().contains(INDEX));
    let known = OpenRequest { prior: Some(version.clone()), ..request(&fake, "a:v1") };
    assert!(matches!(source.open(known.clone()).await.unwrap(), Opened::Unchanged { .. }));
    let part = OpenRequest { range: Some(1..5), expect: Some(version.clone()), ..request(&fake, "a:v1") };
    assert_eq!(all(opened(&source, part.clone()).await).await, &bytes[1..5]);
    fake.manifest(Some("v1"), IMAGE, &image(2));
    assert_eq!(refusal(&source, part).await.kind(), SourceErrorKind::Changed);
    assert_eq!(all(opened(&source, known).await).await, serde_json::to_vec(&image(2)).unwrap());
    // By its digest it is the old one still, and is found although it is no blob.
    let digest = old["digest"].as_str().unwrap();
    for name in [format!("a@{digest}"), format!("a:v1@{digest}"), format!("a:v1/blobs/{}", digest.replace(':', "/"))] {
        assert_eq!(all(opened(&source, request(&fake, &name)).await).await, bytes, "{name}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_told_apart() {
    let fake = Fake::start().await;
    let source = anybody();
    let none = digest(b"none");
    for name in ["a:none".to_owned(), format!("a@{none}"), format!("a:v1@{none}")] {
        let error = refusal(&source, request(&fake, &name)).await;
        assert_eq!((error.kind(), error.status()), (SourceErrorKind::NotFound, Some(404)), "{error:?}");
        assert!(error.to_string().contains("no such tag or manifest"), "{error}");
    }
    fake.first(|seen| seen.path.contains("/nobody/").then(|| fake::error(404, "NAME_UNKNOWN")));
    let error = refusal(&source, request(&fake, "nobody/a:v1")).await;
    assert!(error.to_string().contains("no such repository"), "{error}");
    fake.first(|_| Some(hyper::Response::builder().status(404).body("no".into()).unwrap()));
    let error = refusal(&source, request(&fake, "a:v1")).await;
    assert!(error.to_string().contains("does not answer as a registry does"), "{error}");
    fake.first(|_| Some(hyper::Response::builder().header("content-type", "text/html").body("<html>".into()).unwrap()));
    let error = refusal(&source, request(&fake, "a:v1")).await;
    assert!(error.to_string().contains("not as a registry does"), "{error}");
    fake.first(|_| Some(fake::error(429, "TOOMANYREQUESTS")));
    let error = refusal(&source, request(&fake, "a:v1")).await;
    assert!(error.is_temporary() && error.to_string().contains("slow down"), "{error}");
}

#[tokio::test]
async fn what_has_no_meaning_here_is_refused_before_anybody_is_asked() {
    let fake = Fake::start().await;
    let source = anybody();
    let headers = vec![("authorization".to_owned(), "Basic secret123".to_owned())];
    let with_headers = OpenRequest { headers, ..request(&fake, "a:v1") };
    let no_range = OpenRequest { range: Some(3..3), ..request(&fake, "a:v1") };
    for wrong in [with_headers, no_range, request(&fake, ""), request(&fake, "a:v1/x")] {
        assert_eq!(refusal(&source, wrong).await.kind(), SourceErrorKind::InvalidInput);
    }
    let another = OpenRequest { local: false, ..request(&fake, "a:v1") };
    assert_eq!(refusal(&source, another).await.kind(), SourceErrorKind::Guarded, "loopback is for local users");
    assert!(fake.seen().is_empty());
}

#[test]
fn a_url_names_a_digest_or_does_not() {
    let hex = "0".repeat(64);
    let of = |text: &str| anybody().named_digest(&Url::parse(text).unwrap()).map(|digest| digest.to_string());
    assert_eq!(of(&format!("oci://h/a@sha256:{hex}")), Some(format!("sha256:{hex}")));
    assert_eq!(of(&format!("oci://h/a:v1@sha256:{hex}")), Some(format!("sha256:{hex}")));
    for other in [
        "oci://h/a:v1".to_owned(),
        format!("oci://h/a@sha256:{hex}/index.json"),
        format!("oci://h/a@sha256:{hex}?platform=linux/amd64"),
        format!("https://h/a@sha256:{hex}"),
    ] {
        assert_eq!(of(&other), None, "{other}");
    }
}

#[test]
fn a_registry_is_asked_over_tls_unless_it_is_on_this_host() {
    let endpoint = |authority: &str, given: Option<&str>| {
        let settings = StorageSettings { endpoint: given.map(str::to_owned), ..StorageSettings::default() };
        super::endpoint(&settings, authority).map(String::from)
    };
    for (authority, given, wanted) in [
        ("registry.example", None, Some("https://registry.example/")),
        ("registry.example:5000", None, Some("https://registry.example:5000/")),
        ("docker.io", None, Some("https://registry-1.docker.io/")),
        ("localhost:5000", None, Some("http://localhost:5000/")),
        ("127.0.0.2:443", None, Some("http://127.0.0.2:443/")),
        ("[::1]:5000", None, Some("http://[::1]:5000/")),
        ("10.0.0.1:5000", None, Some("https://10.0.0.1:5000/")),
        ("localhost.example:5000", None, Some("https://localhost.example:5000/")),
        ("10.0.0.1:5000", Some("http://10.0.0.1:5000"), Some("http://10.0.0.1:5000/")),
        ("a", Some("ftp://a"), None),
        ("a", Some("http://a/b"), None),
        ("a", Some("http://u:p@a"), None),
        ("a", Some("a:5000"), None),
    ] {
        assert_eq!(endpoint(authority, given).as_deref(), wanted, "{authority} {given:?}");
    }
}

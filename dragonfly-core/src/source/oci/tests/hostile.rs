//! Registries that lie, or have no bounds.

use hyper::Response;
use serde_json::json;

use super::*;

async fn of_origin(fake: &Fake, name: &str, text: &str) {
    let error = listed(&anybody(), request(fake, name)).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Origin, "{error:?}");
    assert!(format!("{error:?}").contains(text), "{error:?}");
}

#[tokio::test]
async fn manifests_are_bounded() {
    let fake = Fake::start().await;
    let large = format!("{{\"schemaVersion\": 2, \"layers\": []{}}}", " ".repeat(image::MANIFEST_MAX));
    fake.put("/v2/a/manifests/large", IMAGE, large);
    of_origin(&fake, "a:large", &format!("more than {} bytes", image::MANIFEST_MAX)).await;
    let many: Vec<_> =
        (0..20_001).map(|n| json!({"mediaType": "a/b", "digest": format!("sha256:{n:064x}"), "size": 1})).collect();
    fake.manifest(Some("many"), IMAGE, &json!({"schemaVersion": 2, "layers": many}));
    of_origin(&fake, "a:many", "more than 20000 blobs").await;
    let many: Vec<_> = (0..513)
        .map(|n| fake.manifest(None, IMAGE, &json!({"schemaVersion": 2, "layers": [], "annotations": {"n": n}})))
        .collect();
    fake.manifest(Some("platforms"), INDEX, &json!({"schemaVersion": 2, "manifests": many}));
    of_origin(&fake, "a:platforms", "more than 512 manifests").await;
}

#[tokio::test]
async fn indexes_within_indexes_have_an_end() {
    let fake = Fake::start().await;
    let mut inner = fake.manifest(None, IMAGE, &json!({"schemaVersion": 2, "layers": []}));
    for depth in 1..=6 {
        inner = fake.manifest(Some(&format!("d{depth}")), INDEX, &json!({"schemaVersion": 2, "manifests": [inner]}));
    }
    assert_eq!(listed(&anybody(), request(&fake, "a:d4")).await.unwrap().len(), 2 + 5);
    of_origin(&fake, "a:d5", "too deep").await;
    // What is listed is also found by its platform.
    opened(&anybody(), request(&fake, "a:d4?platform=linux/amd64")).await;
    let error = refusal(&anybody(), request(&fake, "a:d5?platform=linux/amd64")).await;
    assert!(error.to_string().contains("too deep"), "{error:?}");
    let error = refusal(&anybody(), request(&fake, "a:d6?platform=linux/amd64")).await;
    assert_eq!(error.kind(), SourceErrorKind::Origin, "{error:?}");
}

#[tokio::test]
async fn manifests_are_what_they_are_called() {
    let fake = Fake::start().await;
    let true_one = fake.manifest(None, IMAGE, &json!({"schemaVersion": 2, "layers": []}));
    let path = format!("/v2/a/manifests/{}", true_one["digest"].as_str().unwrap());
    let with = |name: &str, value: serde_json::Value| {
        let mut part = true_one.clone();
        part[name] = value;
        json!({"schemaVersion": 2, "manifests": [part]})
    };
    fake.manifest(Some("size"), INDEX, &with("size", json!(1)));
    let length = true_one["size"].as_u64().unwrap();
    of_origin(&fake, "a:size", &format!("has {length} bytes, and not 1 as its index says")).await;
    fake.manifest(Some("type"), INDEX, &with("mediaType", json!(INDEX)));
    of_origin(&fake, "a:type", &format!("is {IMAGE}, and not {INDEX} as its index says")).await;
    let two = json!({"mediaType": IMAGE, "digest": true_one["digest"], "size": 1});
    fake.manifest(Some("two"), INDEX, &json!({"schemaVersion": 2, "manifests": [true_one, two]}));
    of_origin(&fake, "a:two", &format!(": {length} and 1 bytes")).await;
    fake.manifest(Some("other"), INDEX, &json!({"schemaVersion": 2, "manifests": [true_one]}));
    fake.put(&path, IMAGE, "{\"schemaVersion\": 2, \"layers\":  []}");
    of_origin(&fake, "a:other", "sends something else").await;
}

#[tokio::test]
async fn what_is_no_image_is_said_to_be_none() {
    let fake = Fake::start().await;
    let old = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    fake.put("/v2/a/manifests/old", old, "{\"schemaVersion\": 1}");
    of_origin(&fake, "a:old", &format!("its media type is not supported: {old}")).await;
    fake.put("/v2/a/manifests/both", IMAGE, "{\"schemaVersion\": 2, \"layers\": [], \"manifests\": []}");
    of_origin(&fake, "a:both", "both an image and an index").await;
    fake.put("/v2/a/manifests/none", IMAGE, "{");
    of_origin(&fake, "a:none", "the manifest is cut off (line 1, column 1)").await;
}

#[tokio::test]
async fn tokens_are_bounded() {
    let fake = Fake::start().await;
    let address = fake.address;
    for (token, why) in [
        ("x".repeat(17 << 10), "gave no token: it is empty, has more than 16384 bytes"),
        ("x".repeat(1 << 20), "could not be read: its answer has more than 65536 bytes"),
        ("a\r\nb".to_owned(), "gave no token"),
        (String::new(), "gave no token"),
    ] {
        fake.first(move |seen| {
            let given = Response::new(json!({"token": token}).to_string().into());
            let realm = format!("Bearer realm=\"http://{address}/token\"");
            Some(if seen.path.starts_with("/token") { given } else { fake::challenged(&realm) })
        });
        of_origin(&fake, "a:v1", why).await;
    }
    fake.first(move |seen| {
        let realm = format!("Bearer realm=\"http://{address}/token\"");
        let busy = || fake::error(503, "UNAVAILABLE");
        Some(if seen.path.starts_with("/token") { busy() } else { fake::challenged(&realm) })
    });
    let error = refusal(&anybody(), request(&fake, "a:v1")).await;
    assert!(error.is_temporary() && error.to_string().contains("no token could be had"), "{error:?}");
}

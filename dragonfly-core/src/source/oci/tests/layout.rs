//! Images as files.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;

/// An image for two platforms whose layers are the same, and one that is elsewhere; its index.
fn image(fake: &Fake) -> serde_json::Value {
    let part =
        |bytes: &'static str, kind: &str| json!({"mediaType": kind, "digest": fake.blob(bytes), "size": bytes.len()});
    let layers = [part("layer one", "application/vnd.oci.image.layer.v1.tar"), part("layer two", "a/b")];
    let foreign = json!({"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "digest": digest(b"foreign"), "size": 7, "urls": ["http://registry.example/x"]});
    let of = |architecture: &'static str| {
        let config = part(architecture, "application/vnd.oci.image.config.v1+json");
        let manifest = json!({"schemaVersion": 2, "mediaType": IMAGE, "config": config,
            "layers": [layers[0], layers[1], foreign]});
        let mut described = fake.manifest(None, IMAGE, &manifest);
        described["platform"] = json!({"os": "linux", "architecture": architecture});
        described
    };
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [of("amd64"), of("arm64")]});
    fake.manifest(Some("v1"), INDEX, &index)
}

/// What is below a reference, read file by file.
async fn layout(source: &OciSource, asked: OpenRequest) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in listed(source, asked.clone()).await.unwrap() {
        assert!(!entry.directory);
        let content = opened(source, OpenRequest { url: entry.url.clone(), ..asked.clone() }).await;
        let bytes = all(content).await;
        assert_eq!(entry.length, Some(bytes.len() as u64), "{}", entry.path);
        assert!(entry.pinned, "{}", entry.path);
        assert_eq!(entry.digest.unwrap().to_string(), digest(&bytes), "{}", entry.path);
        if let Some(named) = entry.path.strip_prefix("blobs/") {
            assert_eq!(named.replacen('/', ":", 1), digest(&bytes));
            assert_eq!(source.named_digest(&entry.url).unwrap().to_string(), digest(&bytes));
        }
        assert!(files.insert(entry.path, bytes).is_none(), "each once");
    }
    files
}

#[tokio::test]
async fn an_image_is_listed_as_its_layout() {
    let fake = Fake::start().await;
    let top = image(&fake);
    let source = anybody();
    let files = layout(&source, request(&fake, "a:v1/")).await;
    assert_eq!(files.len(), 2 + 7, "an index, two manifests, two configurations, two layers: {:?}", files.keys());
    assert_eq!(files["oci-layout"], br#"{"imageLayoutVersion":"1.0.0"}"#);
    let mut wanted = top.clone();
    wanted["annotations"] = json!({"org.opencontainers.image.ref.name": "v1"});
    let index: serde_json::Value = serde_json::from_slice(&files["index.json"]).unwrap();
    assert_eq!(index, json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [wanted]}));
    // A tag that moves meanwhile does not matter: what was listed is named by digest.
    let before = listed(&source, request(&fake, "a:v1")).await.unwrap();
    fake.manifest(Some("v1"), IMAGE, &json!({"schemaVersion": 2, "layers": []}));
    for entry in before {
        let content = opened(&source, OpenRequest { url: entry.url, ..request(&fake, "") }).await;
        assert_eq!(all(content).await, files[&entry.path]);
    }
    // By digest there is no name for it.
    let by_digest = layout(&source, request(&fake, &format!("a@{}", top["digest"].as_str().unwrap()))).await;
    assert_eq!(by_digest.len(), files.len());
    assert!(!String::from_utf8_lossy(&by_digest["index.json"]).contains("ref.name"));
}

#[tokio::test]
async fn one_platform_of_an_image_is_an_image() {
    let fake = Fake::start().await;
    image(&fake);
    let source = anybody();
    let files = layout(&source, request(&fake, "a:v1?platform=linux/arm64")).await;
    assert_eq!(files.len(), 2 + 4);
    assert!(files.values().any(|bytes| bytes == b"arm64") && !files.values().any(|bytes| bytes == b"amd64"));
    let index: serde_json::Value = serde_json::from_slice(&files["index.json"]).unwrap();
    assert_eq!(index["manifests"][0]["mediaType"], IMAGE);
    let error = refusal(&source, request(&fake, "a:v1?platform=linux/s390x")).await;
    assert_eq!(error.kind(), SourceErrorKind::NotFound);
    assert!(error.to_string().contains("but for: linux/amd64, linux/arm64"), "{error}");
    let manifest = opened(&source, request(&fake, "a:v1?platform=linux/arm64")).await;
    assert_eq!(digest(&all(manifest).await), index["manifests"][0]["digest"].as_str().unwrap());
    // Who has one platform alone need not say which.
    fake.manifest(Some("one"), IMAGE, &json!({"schemaVersion": 2, "layers": []}));
    assert_eq!(layout(&source, request(&fake, "a:one?platform=linux/arm64")).await.len(), 3);
}

#[tokio::test]
async fn artifacts_and_what_nobody_knows_are_listed() {
    let fake = Fake::start().await;
    let part = json!({"mediaType": "text/plain", "digest": fake.blob("part"), "size": 4});
    let artifact = json!({"schemaVersion": 2, "artifactType": "a/b", "config": part, "layers": [part]});
    let artifact = fake.manifest(Some("artifact"), IMAGE, &artifact);
    assert_eq!(layout(&anybody(), request(&fake, "a:artifact")).await.len(), 4);
    let unknown = json!({"mediaType": "application/vnd.unknown", "digest": fake.blob("unknown"), "size": 7});
    let index = json!({"schemaVersion": 2, "manifests": [artifact, unknown]});
    fake.manifest(Some("index"), INDEX, &index);
    assert_eq!(layout(&anybody(), request(&fake, "a:index")).await.len(), 6);
}

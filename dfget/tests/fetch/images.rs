//! Images of a registry, as files.

use std::collections::BTreeMap;
use std::fs;

use dragonfly_testkit::{Resource, content};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::*;

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", content::hex(&Sha256::digest(bytes)))
}

/// An image for two platforms in the repository `lib/a`, each path set up by `with`; its blobs by digest.
fn image(origin: &TestOrigin, with: impl Fn(Resource) -> Resource) -> BTreeMap<String, Vec<u8>> {
    let mut blobs = BTreeMap::new();
    let mut put = |bytes: Vec<u8>, kind: &str, names: &[&str]| {
        let digest = digest(&bytes);
        let described = json!({"mediaType": kind, "digest": digest, "size": bytes.len()});
        let of = if matches!(kind, IMAGE | INDEX) { "manifests" } else { "blobs" };
        for name in names.iter().chain([&&*digest]) {
            let resource = Resource::bytes(bytes.clone()).no_last_modified().header("content-type", kind);
            origin.set(&format!("/v2/lib/a/{of}/{name}"), with(resource));
        }
        blobs.insert(digest, bytes);
        described
    };
    let layer = put(whole(1), "application/vnd.oci.image.layer.v1.tar", &[]);
    let mut manifests = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let config = put(architecture.into(), "application/vnd.oci.image.config.v1+json", &[]);
        let image = json!({"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": [layer]});
        let mut image = put(serde_json::to_vec(&image).unwrap(), IMAGE, &[]);
        image["platform"] = json!({"os": "linux", "architecture": architecture});
        manifests.push(image);
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    put(serde_json::to_vec(&index).unwrap(), INDEX, &["v1"]);
    blobs
}

fn url(origin: &TestOrigin) -> String {
    origin.origin.url("/lib/a").replacen("http:", "oci:", 1)
}

/// Whether a directory is the layout of an image with these blobs, or some of them; what its index names.
fn layout(dir: &Path, blobs: &BTreeMap<String, Vec<u8>>, count: usize) -> Value {
    assert_eq!(names(dir), ["blobs", "index.json", "oci-layout"]);
    let held = names(&dir.join("blobs/sha256"));
    assert_eq!(held.len(), count);
    for name in held {
        assert_eq!(fs::read(dir.join("blobs/sha256").join(&name)).unwrap(), blobs[&format!("sha256:{name}")]);
    }
    serde_json::from_slice(&fs::read(dir.join("index.json")).unwrap()).unwrap()
}

#[test]
fn an_image_becomes_a_layout() {
    let origin = TestOrigin::start();
    let blobs = image(&origin, |resource| resource);
    let url = url(&origin);
    both(|dir, dfget| {
        let tag = format!("{url}:v1");
        let done = run(dfget().args(["--recursive", "--dry-run", &tag]));
        assert!(done.is_code(0), "{done:?}");
        assert_eq!(done.text().lines().count(), 2 + blobs.len(), "{done:?}");
        let done = run(dfget().args(["--recursive", &tag, "-O", "all"]));
        assert!(done.is_code(0), "{done:?}");
        let index = layout(&dir.join("all"), &blobs, blobs.len());
        assert_eq!(index["manifests"][0]["mediaType"], INDEX);
        let done = run(dfget().args(["--recursive", "--platform", "linux/arm64", &tag]));
        assert!(done.is_code(0), "{done:?}");
        let index = layout(&dir.join("a:v1"), &blobs, 3);
        assert_eq!(index["manifests"][0]["mediaType"], IMAGE);
        assert_eq!(index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], "v1");
        let layer = digest(&whole(1));
        let done = run(dfget().args([&format!("{url}@{layer}"), "-O", "layer"]));
        assert!(done.is_code(0), "{done:?}");
        assert_eq!(fs::read(dir.join("layer")).unwrap(), whole(1));
    });
    let layers = origin.origin.body_bytes(&format!("/v2/lib/a/blobs/{}", digest(&whole(1))));
    let held_by_the_daemon = LENGTH;
    assert_eq!(layers - held_by_the_daemon, 3 * LENGTH, "one task whatever image it is of; alone nothing is kept");
}

#[test]
fn a_second_run_gives_what_the_tag_names_by_then() {
    let origin = TestOrigin::start();
    let blobs = image(&origin, |resource| resource);
    let tag = format!("{}:v1", url(&origin));
    both(|dir, dfget| {
        image(&origin, |resource| resource);
        let again = || {
            let done = run(dfget().args(["--recursive", &tag, "-O", "out"]));
            assert!(done.is_code(0), "{done:?}");
            done
        };
        again();
        let out = dir.join("out");
        let before = layout(&out, &blobs, blobs.len());
        // What is there is not fetched again, but for what was damaged.
        let layer = out.join("blobs").join(digest(&whole(1)).replace(':', "/"));
        let mut damaged = whole(1);
        damaged[7] ^= 1;
        fs::write(&layer, damaged).unwrap();
        let done = again();
        assert!(done.stderr.contains(&format!("{} files are there already", 2 + blobs.len() - 1)), "{done:?}");
        assert_eq!(layout(&out, &blobs, blobs.len()), before);
        let other = json!({"schemaVersion": 2, "mediaType": IMAGE, "layers": []});
        let (other, name) = (serde_json::to_vec(&other).unwrap(), digest(&serde_json::to_vec(&other).unwrap()));
        for name in ["v1", &name] {
            let resource = Resource::bytes(other.clone()).no_last_modified().header("content-type", IMAGE);
            origin.set(&format!("/v2/lib/a/manifests/{name}"), resource);
        }
        again();
        let index: Value = serde_json::from_slice(&fs::read(out.join("index.json")).unwrap()).unwrap();
        assert_eq!(index["manifests"][0]["digest"], name);
        assert_ne!(index, before);
    });
}

#[test]
fn a_digest_that_is_given_and_the_one_of_the_url_both_hold() {
    let origin = TestOrigin::start();
    image(&origin, |resource| resource);
    let layer = digest(&whole(1));
    let url = format!("{}@{layer}", url(&origin));
    both(|dir, dfget| {
        for (given, why) in [
            (digest(b"other"), "the URL names the digest"),
            (format!("sha512:{}", "0".repeat(128)), "which cannot be compared"),
        ] {
            let done = run(dfget().args([&url, "--digest", &given, "-O", "layer"]));
            assert!(done.is_code(2) && done.stderr.contains(why) && !dir.join("layer").exists(), "{done:?}");
        }
        let done = run(dfget().args([&url, "--digest", &layer, "-O", "layer"]));
        assert!(done.is_code(0), "{done:?}");
    });
}

#[test]
fn blobs_are_as_long_as_their_manifest_says() {
    let origin = TestOrigin::start();
    let layer = digest(&whole(1));
    origin.set(&format!("/v2/lib/a/blobs/{layer}"), Resource::bytes(whole(1)));
    let short = json!({"mediaType": "a/b", "digest": layer, "size": LENGTH - 1});
    let image = serde_json::to_vec(&json!({"schemaVersion": 2, "mediaType": IMAGE, "layers": [short]})).unwrap();
    for name in ["v1", &digest(&image)] {
        let resource = Resource::bytes(image.clone()).no_last_modified().header("content-type", IMAGE);
        origin.set(&format!("/v2/lib/a/manifests/{name}"), resource);
    }
    let tag = format!("{}:v1", url(&origin));
    both(|dir, dfget| {
        let done = run(dfget().args(["--recursive", &tag, "-O", "out"]));
        let why = format!("the content has {LENGTH} bytes, and not {} as was said of it", LENGTH - 1);
        assert!(done.is_code(1) && done.stderr.contains(&why), "{done:?}");
        assert!(!dir.join("out/blobs").join(layer.replace(':', "/")).exists(), "{done:?}");
    });
}

#[test]
fn what_is_not_as_its_digest_says_is_not_put_out() {
    let origin = TestOrigin::start();
    image(&origin, |resource| resource);
    let layer = digest(&whole(1));
    origin.set(&format!("/v2/lib/a/blobs/{layer}"), Resource::seeded(2, LENGTH));
    let url = format!("{}@{layer}", url(&origin));
    both(|dir, dfget| {
        let done = run(dfget().args([&url, "-O", "layer"]));
        assert!(done.is_code(1) && !dir.join("layer").exists(), "{done:?}");
    });
}

#[test]
fn private_images_are_read_with_what_a_login_left() {
    let origin = TestOrigin::start();
    let blobs = image(&origin, |resource| resource.basic_auth("alice", "secret123"));
    let url = format!("{}:v1", url(&origin));
    let dir = tempfile::tempdir().unwrap();
    let done = run(dfget(dir.path()).args(["--recursive", &url, "-O", "out"]));
    assert!(done.is_code(1) && done.stderr.contains("log in (docker login, podman login)"), "{done:?}");
    assert!(done.stderr.contains("hint: check the login or the --storage settings"), "{done:?}");
    let host = origin.origin.url("/").replace("http://", "").replace('/', "");
    let auths = json!({"auths": {host.clone(): {"auth": "YWxpY2U6c2VjcmV0MTIz"}}}).to_string();
    fs::create_dir(dir.path().join(".docker")).unwrap();
    fs::write(dir.path().join(".docker/config.json"), auths).unwrap();
    let done = run(dfget(dir.path()).args(["--recursive", &url, "-O", "out"]));
    assert!(done.is_code(0), "{done:?}");
    layout(&dir.path().join("out"), &blobs, blobs.len());
    // What is given takes its place.
    fs::write(dir.path().join("wrong"), "wrong-secret\n").unwrap();
    let settings = format!("oci://{host}.user=alice,oci://{host}.secret-file=wrong");
    let done = run(dfget(dir.path()).args(["--recursive", &url, "--storage", &settings, "-O", "other"]));
    assert!(done.is_code(1) && done.stderr.contains("does not accept the credential"), "{done:?}");
    assert!(!done.stderr.contains("wrong-secret"), "{done:?}");
}

#[test]
fn platforms_are_of_images() {
    let dir = tempfile::tempdir().unwrap();
    let done = run(dfget(dir.path()).args(["--recursive", "--platform", "linux/amd64", "http://127.0.0.1:1/a/"]));
    assert!(done.is_code(2) && done.stderr.contains("--platform is for images"), "{done:?}");
}

/// What two daemons had of a layer that each of them was asked for: the bytes that left the registry, and those that came
/// to the second from the first.
fn layer_at_two(origin: &TestOrigin, settings: &str) -> (u64, u64) {
    let layer = digest(&whole(1));
    let url = format!("{}@{layer}", url(origin));
    let with = |builder: crate::harness::DaemonBuilder| builder.args(["--storage", settings]);
    let first = with(Daemon::with_role("scheduler,peer")).start();
    let second = with(Daemon::with_role("peer").join(&first)).start();
    for daemon in [&first, &second] {
        let done = daemon.dfget([&url, "-O", "layer"]);
        assert!(done.is_code(0), "{done:?}");
        assert_eq!(fs::read(daemon.dir().join("layer")).unwrap(), whole(1));
    }
    let came = second.metric("dragonfly_peer_received_bytes_total");
    (origin.origin.body_bytes(&format!("/v2/lib/a/blobs/{layer}")), came)
}

#[test]
fn a_layer_leaves_its_registry_once() {
    let origin = TestOrigin::start();
    image(&origin, |resource| resource);
    let (left, came) = layer_at_two(&origin, "oci.anonymous=true");
    assert_eq!(left, LENGTH);
    assert!(came >= LENGTH, "{came}");
}

#[test]
fn a_layer_that_is_read_with_a_login_is_given_to_nobody() {
    let origin = TestOrigin::start();
    image(&origin, |resource| resource.basic_auth("alice", "secret123"));
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "secret123\n").unwrap();
    let host = url(&origin).replace("/lib/a", "");
    let settings = format!("{host}.user=alice,{host}.secret-file={}", secret.display());
    assert_eq!(layer_at_two(&origin, &settings), (2 * LENGTH, 0), "although both of them may read it");
}

#[test]
fn what_is_held_whole_is_given_out_to_who_may_read_it_still() {
    let origin = TestOrigin::start();
    image(&origin, |resource| resource.basic_auth("alice", "secret123"));
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("secret"), "secret123\n").unwrap();
    let host = url(&origin).replace("/lib/a", "");
    let settings = format!("{host}.user=alice,{host}.secret-file={}", dir.path().join("secret").display());
    let layer = format!("{}@{}", url(&origin), digest(&whole(1)));
    let path = format!("/v2/lib/a/blobs/{}", digest(&whole(1)));
    let daemon = || Daemon::with_role("scheduler,peer").args(["--storage", &settings]).start();
    let asked = daemon();
    for extra in [0, 1, 1] {
        let done = asked.dfget([&*layer, "-O", "layer", "--overwrite"]);
        assert!(done.is_code(0), "{done:?}");
        assert_eq!(origin.origin.body_bytes(&path), LENGTH + extra, "a byte shows it, and counts for a minute");
    }
    let refused = daemon();
    let done = refused.dfget([&*layer, "-O", "layer"]);
    assert!(done.is_code(0), "{done:?}");
    image(&origin, |resource| resource.basic_auth("alice", "another"));
    let done = refused.dfget([&*layer, "-O", "layer", "--overwrite"]);
    assert!(done.is_code(1) && done.stderr.contains("does not accept the credential"), "{done:?}");
}

/// The same where the registry does not say how long it is: its first bytes show it, once a minute.
#[test]
fn what_is_held_whole_and_of_unknown_length_is_given_out_to_who_may_read_it_still() {
    let origin = TestOrigin::start();
    image(&origin, |resource| resource.basic_auth("alice", "secret123").chunked());
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("secret"), "secret123\n").unwrap();
    let host = url(&origin).replace("/lib/a", "");
    let settings = format!("{host}.user=alice,{host}.secret-file={}", dir.path().join("secret").display());
    let layer = format!("{}@{}", url(&origin), digest(&whole(1)));
    let path = format!("/v2/lib/a/blobs/{}", digest(&whole(1)));
    let daemon = || Daemon::with_role("scheduler,peer").args(["--storage", &settings]).start();
    let ranges = || {
        let log = origin.origin.log().into_iter();
        log.filter(|asked| asked.path == path).map(|asked| asked.range.unwrap_or_default()).collect::<Vec<_>>()
    };
    let asked = daemon();
    let mut before = Vec::new();
    for shown in [None, Some(&["bytes=0-0", "bytes=0-65535"][..]), Some(&[])] {
        let done = asked.dfget([&*layer, "-O", "layer", "--overwrite"]);
        assert!(done.is_code(0), "{done:?}");
        assert_eq!(fs::read(asked.dir().join("layer")).unwrap(), whole(1));
        if let Some(shown) = shown {
            assert_eq!(ranges()[before.len()..], *shown);
        }
        before = ranges();
    }
    let refused = daemon();
    let done = refused.dfget([&*layer, "-O", "layer"]);
    assert!(done.is_code(0), "{done:?}");
    image(&origin, |resource| resource.basic_auth("alice", "another").chunked());
    let done = refused.dfget([&*layer, "-O", "layer", "--overwrite"]);
    assert!(done.is_code(1) && done.stderr.contains("does not accept the credential"), "{done:?}");
}

/// A part of a blob is given out once the whole is known to have its digest.
#[test]
fn a_part_of_a_blob_is_held_to_the_digest_of_the_whole() {
    let origin = TestOrigin::start();
    image(&origin, |resource| resource);
    let layer = digest(&whole(1));
    let (path, url) = (format!("/v2/lib/a/blobs/{layer}"), format!("{}@{layer}", url(&origin)));
    both(|dir, dfget| {
        let part = |output: &str| run(dfget().args([&url, "--range", "1000-1999", "-O", output, "--json"]));
        // Wrong far from the part.
        let mut wrong = whole(1);
        wrong[LENGTH as usize - 1] ^= 1;
        origin.set(&path, Resource::bytes(wrong));
        let done = part("wrong");
        assert!(done.is_code(1) && !dir.join("wrong").exists(), "{done:?}");
        origin.set(&path, Resource::seeded(1, LENGTH));
        let before = origin.origin.body_bytes(&path);
        let done = part("part");
        assert!(done.is_code(0) && done.text().contains("\"proof\":\"verified\""), "{done:?}");
        assert_eq!(fs::read(dir.join("part")).unwrap(), whole(1)[1000..2000]);
        assert_eq!(origin.origin.body_bytes(&path) - before, LENGTH);
    });
}

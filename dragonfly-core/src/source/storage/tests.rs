#![allow(clippy::unwrap_used)]

#[cfg(all(feature = "s3", feature = "gcs", feature = "azblob", feature = "oss", feature = "obs", feature = "cos"))]
mod buckets;

use url::Url;

use super::super::{OriginPattern, Proxy};
use super::*;

fn place(url: &str) -> Result<Place, SourceError> {
    Place::of(&Url::parse(url).unwrap(), false)
}

fn http() -> HttpConfig {
    HttpConfig { proxy: Proxy::None, ..HttpConfig::default() }
}

fn keyed() -> StorageSettings {
    StorageSettings {
        user: Some("user-7".to_owned()),
        secret: Some("secret-7".to_owned()),
        ..StorageSettings::default()
    }
}

fn request(url: &str, local: bool) -> OpenRequest {
    OpenRequest { local, ..OpenRequest::new(Url::parse(url).unwrap()) }
}

#[test]
fn urls_name_bucket_and_object() {
    let of = |url: &str| place(url).map(|place| (place.site.kind, place.site.authority, place.key)).unwrap();
    let named = |kind, authority: &str, key: &str| (kind, authority.to_owned(), key.to_owned());
    assert_eq!(of("s3://b/a/k%20x.bin"), named(Kind::S3, "b", "a/k x.bin"));
    assert_eq!(of("gs://b/k"), named(Kind::Gcs, "b", "k"));
    for scheme in ["az", "abs", "azblob"] {
        assert_eq!(of(&format!("{scheme}://c/k")), named(Kind::Azblob, "c", "k"));
    }
    assert_eq!(of("ftp://h:2121/d/k"), named(Kind::Ftp, "h:2121", "d/k"));
    assert_eq!(of("webdavs://u:p@h/d/k%3F"), named(Kind::Webdav, "h", "d/k?"));
    assert_eq!(of("file:///d/k"), named(Kind::File, "", "d/k"));
    let site = place("webdavs://u%40x:p%2Fq@h/k").unwrap().site;
    assert_eq!((site.user.as_deref(), site.password.as_deref(), site.tls), (Some("u@x"), Some("p/q"), true));
}

#[test]
fn names_that_would_be_taken_for_others_are_refused() {
    for wrong in [
        "s3://b/",
        "s3://b",
        "s3:///k",
        "s3://b/a//k",
        "s3://b/a/",
        "s3://b/%20k",
        "s3://b/k%0d%0aDELE%20k",
        "ftp://h/k%0d%0aDELE%20k",
        "ftp://u%0d%0a@h/k",
        "s3://b/a%2F..%2Fk",
        "s3://b/..%2Fk",
        "s3://b/%FF",
        "s3://b/k?versionId=1",
        "s3://b/k#f",
        "s3://b:80/k",
        "s3://u:p@b/k",
        "sftp://h/%2Fetc/passwd",
        // What a shell, a path or a program would take for more.
        "sftp://-oX=y/k",
        "sftp://a;b/k",
        "sftp://$(x)/k",
        "sftp://-l@h/k",
        "sftp://a%60b@h/k",
        "s3://%2e%2e/x/k",
        "s3://..%2Fx/k",
        "file://host/k",
    ] {
        let error = place(wrong).err().unwrap_or_else(|| panic!("{wrong} is taken"));
        assert_eq!(error.kind(), SourceErrorKind::InvalidInput, "{wrong}: {error:?}");
    }
    assert!(place(&format!("s3://b/{}", "k".repeat(4097))).is_err());
    // For a listing a name may be a prefix.
    for good in ["s3://b", "s3://b/", "s3://b/a/", "ftp://h/a"] {
        assert!(Place::of(&Url::parse(good).unwrap(), true).is_ok(), "{good}");
    }
}

#[test]
fn no_secret_is_shown() {
    let settings = StorageSettings { token: Some("token-7".to_owned()), ..keyed() };
    let config =
        StorageConfig::default().scheme("s3", settings.clone()).origin("webdav://h".parse().unwrap(), settings);
    let shown = format!("{config:?} {:?}", place("webdav://user-7:secret-7@h/k").unwrap().site);
    for secret in ["user-7", "secret-7", "token-7"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn a_host_is_told_its_own_credentials_alone() {
    let config = StorageConfig::default().scheme("webdav", keyed()).origin("webdav://mine".parse().unwrap(), keyed());
    let of = |url: &str| config.settings(&Url::parse(url).unwrap(), Kind::Webdav).user;
    assert_eq!(of("webdav://mine/k").as_deref(), Some("user-7"));
    assert_eq!(of("webdav://other/k"), None);
    assert_eq!(of("webdav://mine:9999/k"), None, "who listens there may be anybody");
    let config = StorageConfig::default().scheme("gs", keyed());
    assert!(config.settings(&Url::parse("gcs://any/k").unwrap(), Kind::Gcs).user.is_some());
}

#[tokio::test]
async fn what_own_credentials_read_is_for_local_users_unless_the_origin_is_listed() {
    let listed = Guard { origins: Some(vec!["s3://listed".parse::<OriginPattern>().unwrap()]), ..Guard::default() };
    let anonymous = StorageSettings { anonymous: true, ..StorageSettings::default() };
    let permit = async |guard: &Guard, settings: &StorageSettings, url: &str, local| {
        let config = StorageConfig::default().scheme("s3", settings.clone());
        let source = StorageSource::new(guard.clone(), http(), config);
        let request = request(url, local);
        let place = Place::of(&request.url, false).unwrap();
        source.shared.permit(&place.site, &request).await.map(|permit| permit.private).map_err(|error| error.kind())
    };
    let (open, guarded) = (Guard::default(), Err(SourceErrorKind::Guarded));
    assert_eq!(permit(&open, &keyed(), "s3://b/k", true).await, Ok(true));
    assert_eq!(permit(&open, &keyed(), "s3://b/k", false).await, guarded);
    assert_eq!(permit(&open, &StorageSettings::default(), "s3://b/k", false).await, guarded);
    assert_eq!(permit(&open, &anonymous, "s3://b/k", false).await, Ok(false));
    assert_eq!(permit(&listed, &keyed(), "s3://listed/k", true).await, Ok(false));
    assert_eq!(permit(&listed, &keyed(), "s3://listed/k", false).await, Ok(false));
    assert_eq!(permit(&listed, &keyed(), "s3://other/k", true).await, Ok(true));
    assert_eq!(permit(&listed, &anonymous, "s3://other/k", false).await, guarded);
    // A host that is named alone is a web server.
    let bare = Guard { origins: Some(vec!["listed".parse::<OriginPattern>().unwrap()]), ..Guard::default() };
    assert_eq!(permit(&bare, &keyed(), "s3://listed/k", false).await, guarded);
    assert_eq!(permit(&bare, &keyed(), "s3://listed/k", true).await, Ok(true));
}

#[tokio::test]
async fn what_is_this_hosts_own_is_never_fetched_to_be_shared() {
    let source = StorageSource::new(Guard::default(), http(), StorageConfig::default());
    for url in ["s3://b/k", "cos://b/k", "obs://b/k", "sftp://deploy@h/k", "webhdfs://any@h/k", "ftp://u:p@h/k"] {
        let mut request = request(url, true);
        assert!(source.is_own(&request.url), "{url}");
        request.shared = true;
        let place = Place::of(&request.url, false).unwrap();
        let refused = source.shared.permit(&place.site, &request).await.err().map(|error| error.kind());
        assert_eq!(refused, Some(SourceErrorKind::Guarded), "{url}");
    }
    let anonymous = StorageSettings { anonymous: true, ..StorageSettings::default() };
    let config = ["s3", "obs", "cos"]
        .into_iter()
        .fold(StorageConfig::default(), |config, scheme| config.scheme(scheme, anonymous.clone()));
    let source = StorageSource::new(Guard::default(), http(), config);
    for (url, own) in [("s3://b/k", false), ("obs://b/k", true), ("cos://b/k", true), ("ftp://h/k", false)] {
        assert_eq!(source.is_own(&Url::parse(url).unwrap()), own, "{url}");
    }
}

#[tokio::test]
async fn hosts_in_urls_are_guarded() {
    let source = StorageSource::new(Guard::default(), http(), StorageConfig::default());
    let refused = async |url: &str, local| {
        let request = request(url, local);
        let place = Place::of(&request.url, false).unwrap();
        source.shared.permit(&place.site, &request).await.err().map(|error| error.kind())
    };
    let guarded = Some(SourceErrorKind::Guarded);
    for url in ["webdav://127.0.0.1/k", "ftp://localhost/k", "ftp://[::1]/k", "webdav://169.254.169.254/k"] {
        assert_eq!(refused(url, false).await, guarded, "{url}");
    }
    for url in ["webdav://169.254.169.254/k", "sftp://169.254.1.1/k", "webhdfs://0.0.0.0/k"] {
        assert_eq!(refused(url, true).await, guarded, "{url}");
    }
    assert_eq!(refused("ftp://127.0.0.1/k", true).await, None);
}

#[test]
fn settings_are_read_from_text() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "secret-7\nmore\n").unwrap();
    let mut config = StorageConfig::default();
    for text in [
        "s3.endpoint=http://h:9000/?a=b".to_owned(),
        "s3.user=me".to_owned(),
        format!("s3.secret-file={}", secret.display()),
        "webdav://dav.example:81.user=you".to_owned(),
        "abs.anonymous=true".to_owned(),
        "az.user=account".to_owned(),
        "instance-credentials=true".to_owned(),
    ] {
        config.set(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
    }
    let of = |url: &str, kind| config.settings(&Url::parse(url).unwrap(), kind);
    let s3 = of("s3://b/k", Kind::S3);
    assert_eq!((s3.endpoint.as_deref(), s3.secret.as_deref()), (Some("http://h:9000/?a=b"), Some("secret-7")));
    assert_eq!(of("webdav://dav.example:81/k", Kind::Webdav).user.as_deref(), Some("you"));
    let azure = of("azblob://c/k", Kind::Azblob);
    assert!(azure.anonymous && azure.user.as_deref() == Some("account") && config.instance_credentials);
    for wrong in [
        "",
        "s3",
        "s3.endpoint",
        "s3.nothing=x",
        "x.user=y",
        "s3.secret=x",
        "s3.anonymous=maybe",
        "s3.secret-file=/no/file",
    ] {
        assert!(config.set(wrong).is_err(), "{wrong}");
    }
}

/// Each keeps credentials, and maybe connections: the one used longest ago goes.
#[test]
fn so_many_sites_are_set_up() {
    let source = StorageSource::new(Guard::default(), http(), StorageConfig::default());
    let site = |number: usize| place(&format!("webdav://host-{number}/k")).unwrap().site;
    let set_up = |number| source.shared.service(&site(number), &keyed()).map(drop).unwrap();
    let known = |number| source.shared.services.lock().unwrap().iter().any(|(known, ..)| *known == site(number));
    (0..SITES_MAX).for_each(set_up);
    set_up(0);
    set_up(SITES_MAX);
    assert_eq!(source.shared.services.lock().unwrap().len(), SITES_MAX);
    assert!(known(0) && !known(1) && known(2) && known(SITES_MAX));
}

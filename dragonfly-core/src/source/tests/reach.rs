use std::net::IpAddr;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::*;
use crate::ErrorKind;
use crate::wire::control::{Failure, FailureKind};

fn with_headers(url: &str) -> OpenRequest {
    let headers = vec![("authorization".into(), "Bearer s3cret".into()), ("x-mine".into(), "1".into())];
    OpenRequest { headers, ..request(url) }
}

#[tokio::test]
async fn redirects_within_an_origin_keep_headers_and_others_drop_them() {
    let (there, there_url) = origin(Resource::seeded(SEED, LENGTH)).await;
    let here = Origin::start().await.unwrap();
    here.set("/first", Resource::redirect(301, "second"));
    here.set("/second", Resource::redirect(307, &there_url));
    let url = here.url("/first").replace("http://", "http://me:pass%20word@");
    let mut asking = with_headers(&url);
    asking.headers.remove(0);
    asking.range = Some(0..1000);
    assert!(all(open(asking).await.body).await.unwrap() == expected(0, 1000));
    for seen in here.log() {
        assert_eq!(seen.header("authorization"), Some("Basic bWU6cGFzcyB3b3Jk"));
        assert_eq!(seen.header("x-mine"), Some("1"));
    }
    let seen = &there.log()[0];
    assert_eq!((seen.header("authorization"), seen.header("x-mine")), (None, None), "another port is another origin");
    assert_eq!(seen.range.as_deref(), Some("bytes=0-999"));
}

#[tokio::test]
async fn headers_do_not_come_back_with_the_chain() {
    let (here, there) = (Origin::start().await.unwrap(), Origin::start().await.unwrap());
    here.set("/a", Resource::redirect(302, there.url("/b")));
    there.set("/b", Resource::redirect(302, here.url("/c").replace("http://", "http://they:chose@")));
    here.set("/c", Resource::seeded(SEED, 10));
    open(with_headers(&here.url("/a"))).await;
    let last = here.log().pop().unwrap();
    assert_eq!((last.path.as_str(), last.header("authorization"), last.header("x-mine")), ("/c", None, None));
}

#[tokio::test]
async fn loops_and_dead_ends() {
    let (origin, url) = origin(Resource::redirect(302, "/a")).await;
    let error = refusal(request(&url)).await;
    assert_eq!(error.kind(), SourceErrorKind::Origin);
    assert_eq!(origin.log().len(), 11);
    for (location, kind) in [
        ("http://", SourceErrorKind::Origin),
        ("file:///etc/passwd", SourceErrorKind::Guarded),
        ("http://169.254.169.254/latest/meta-data", SourceErrorKind::Guarded),
        ("http://[::ffff:169.254.169.254]/", SourceErrorKind::Guarded),
    ] {
        origin.set("/a", Resource::redirect(302, location));
        assert_eq!(refusal(request(&url)).await.kind(), kind, "{location}");
    }
}

#[tokio::test]
async fn the_least_freshness_of_all_hops_counts() {
    let origin = Origin::start().await.unwrap();
    origin.set("/target", Resource::seeded(SEED, 10).header("cache-control", "max-age=100"));
    for (said, fresh) in
        [(None, None), (Some("max-age=5"), Some(5)), (Some("max-age=500"), Some(100)), (Some("no-cache"), Some(0))]
    {
        let hop = Resource::redirect(302, "/target");
        origin.set("/hop", said.map_or(hop.clone(), |said| hop.header("cache-control", said)));
        assert_eq!(open(request(&origin.url("/hop"))).await.fresh, fresh.map(Duration::from_secs), "{said:?}");
    }
}

#[tokio::test]
async fn reserved_and_malformed_headers_are_refused() {
    for (name, value) in [
        ("Range", "bytes=0-1"),
        ("accept-encoding", "gzip"),
        ("a b", "x"),
        ("x", "a\r\nb"),
        ("Proxy-Authorization", "x"),
    ] {
        let mut asking = request("http://127.0.0.1:9/");
        asking.headers.push((name.into(), value.into()));
        let error = refusal(asking).await;
        assert_eq!(error.kind(), SourceErrorKind::InvalidInput, "{name}");
        assert!(!format!("{error:?}").contains("gzip"), "no values in errors");
    }
}

#[tokio::test]
async fn tls_is_verified_unless_told_otherwise() {
    let origin = Origin::builder().tls().start().await.unwrap();
    origin.set("/a", Resource::seeded(SEED, LENGTH));
    for url in [origin.url("/a"), origin.url_by_name("/a")] {
        let error = refusal(request(&url)).await;
        assert_eq!((error.kind(), error.is_temporary()), (SourceErrorKind::Tls, false), "{error:?}");
        let mut trusting = ranged(&url, 0..LENGTH);
        trusting.trust.ca_pem.push(origin.ca_pem().unwrap().into());
        assert!(all(open(trusting).await.body).await.unwrap() == expected(0, LENGTH));
        let mut careless = ranged(&url, 0..LENGTH);
        careless.trust.insecure = true;
        assert!(all(open(careless).await.body).await.unwrap() == expected(0, LENGTH));
    }
    for pem in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let mut broken = request(&origin.url("/a"));
        broken.trust.ca_pem.push(pem.into());
        assert_eq!(refusal(broken).await.kind(), SourceErrorKind::InvalidInput, "{pem:?}");
    }
}

#[tokio::test]
async fn connections_are_not_shared_between_trusts_and_askers() {
    let origin = Origin::builder().tls().start().await.unwrap();
    origin.set("/a", Resource::seeded(SEED, 10));
    let registry = registry();
    let mut careless = request(&origin.url("/a"));
    careless.trust.insecure = true;
    let Opened::Content(content) = registry.open(careless).await.unwrap() else { panic!("unchanged") };
    all(content.body).await.unwrap();
    let error = registry.open(request(&origin.url("/a"))).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Tls, "a warm connection of the careless one is not for this one");

    let (_plain, url) = super::origin(Resource::seeded(SEED, 10)).await;
    let by_name = url.replace("127.0.0.1", "localhost");
    let Opened::Content(content) = registry.open(request(&by_name)).await.unwrap() else { panic!("unchanged") };
    all(content.body).await.unwrap();
    let error = registry.open(OpenRequest { local: false, ..request(&by_name) }).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Guarded);
}

#[tokio::test]
async fn https_does_not_lead_to_http() {
    let (plain, plain_url) = origin(Resource::seeded(SEED, 10)).await;
    let origin = Origin::builder().tls().start().await.unwrap();
    origin.set("/a", Resource::redirect(301, &plain_url));
    let mut asking = request(&origin.url("/a"));
    asking.trust.ca_pem.push(origin.ca_pem().unwrap().into());
    assert_eq!(refusal(asking.clone()).await.kind(), SourceErrorKind::Guarded);
    assert!(plain.log().is_empty());
    plain.set("/up", Resource::redirect(301, origin.url("/b")));
    origin.set("/b", Resource::seeded(SEED, 10));
    asking.url = Url::parse(&plain.url("/up")).unwrap();
    assert_eq!(all(open(asking).await.body).await.unwrap(), expected(0, 10));
}

#[tokio::test]
async fn loopback_is_for_local_users_or_where_allowed() {
    let (origin, url) = origin(Resource::seeded(SEED, 10)).await;
    for url in [
        url.clone(),
        origin.url_by_name("/a"),
        url.replace("127.0.0.1", "0.0.0.0"),
        url.replace("127.0.0.1", "[::ffff:127.0.0.1]"),
    ] {
        let error = refusal(OpenRequest { local: false, ..request(&url) }).await;
        assert_eq!((error.kind(), error.is_temporary()), (SourceErrorKind::Guarded, false), "{url}");
    }
    assert!(origin.log().is_empty() && origin.counters().connections == 0);
    let http = HttpConfig { proxy: Proxy::None, ..HttpConfig::default() };
    let guard = Guard { allow_loopback: true, ..Guard::default() };
    let registry = Registry::builder().guard(guard).http(http).build();
    assert!(registry.open(OpenRequest { local: false, ..request(&url) }).await.is_ok());
}

#[tokio::test]
async fn the_list_of_origins_binds_fetches_for_others_on_every_hop() {
    let (there, there_url) = origin(Resource::seeded(SEED, 10)).await;
    let (here, url) = origin(Resource::redirect(302, &there_url)).await;
    let http = HttpConfig { proxy: Proxy::None, ..HttpConfig::default() };
    let origins = Some(vec![format!("http://127.0.0.1:{}", here.address().port()).parse().unwrap()]);
    let guard = Guard { allow_loopback: true, origins, ..Guard::default() };
    let registry = Registry::builder().guard(guard).http(http).build();
    let error = registry.open(OpenRequest { local: false, ..request(&url) }).await.unwrap_err();
    assert_eq!((error.kind(), here.log().len(), there.log().len()), (SourceErrorKind::Guarded, 1, 0));
    assert!(registry.open(request(&url)).await.is_ok());
}

/// The same of what a gateway passes on, and of its tunnels, for clients of other machines.
#[cfg(feature = "gateway")]
#[tokio::test]
async fn the_list_of_origins_binds_what_is_passed_on() {
    let (there, there_url) = origin(Resource::seeded(SEED, 10)).await;
    let (here, url) = origin(Resource::redirect(302, &there_url)).await;
    let http = HttpConfig { proxy: Proxy::None, ..HttpConfig::default() };
    let origins = Some(vec![format!("127.0.0.1:{}", here.address().port()).parse().unwrap()]);
    let guard = Guard { allow_loopback: true, origins, ..Guard::default() };
    let registry = Registry::builder().guard(guard).http(http).build();
    let ask = |url: &str, local, follow| {
        let (method, url, own) = (::http::Method::GET, Url::parse(url).unwrap(), Arc::new([]));
        let (headers, trust) = (::http::HeaderMap::new(), OriginTrust::default());
        registry.upstream().ask(Ask { method, url, headers, body: None, trust, local, follow, own })
    };
    assert_eq!(ask(&url, false, false).await.unwrap().status(), 302, "this one is named");
    for (url, follow) in [(&url, true), (&there_url, false)] {
        assert_eq!(ask(url, false, follow).await.unwrap_err().kind(), SourceErrorKind::Guarded, "{url}");
    }
    assert_eq!(there.log().len(), 0);
    assert_eq!(ask(&url, true, true).await.unwrap().status(), 200, "a user of this machine");
    for (port, good) in [(here.address().port(), true), (there.address().port(), false)] {
        let found = registry.upstream().addresses(("127.0.0.1", port), false, &[]).await;
        assert_eq!(
            found.map_err(|error| error.kind()).map(|_| ()),
            if good { Ok(()) } else { Err(SourceErrorKind::Guarded) }
        );
    }
}

#[tokio::test]
async fn a_proxy_is_used_and_the_guard_still_reads_the_url() {
    let (proxy, url) = origin(Resource::seeded(SEED, 10)).await;
    // Reached by a name that resolves to loopback: the operator chose it.
    let at = Url::parse(&proxy.url_by_name("")).unwrap();
    let config = HttpConfig { proxy: Proxy::Url(at), ..HttpConfig::default() };
    let registry = Registry::builder().http(config).build();
    let asking = |url: &str| OpenRequest { local: false, ..request(url) };
    let Opened::Content(content) = registry.open(asking("http://example.invalid/a")).await.unwrap() else {
        panic!("unchanged")
    };
    assert_eq!(all(content.body).await.unwrap(), expected(0, 10));
    assert_eq!(proxy.log()[0].header("host"), Some("example.invalid"));
    for url in [url.as_str(), "http://localhost/a", "http://169.254.169.254/"] {
        assert_eq!(registry.open(asking(url)).await.unwrap_err().kind(), SourceErrorKind::Guarded, "{url}");
    }
}

#[test]
fn addresses() {
    let strict = Guard::default();
    for (ip, local, good) in [
        ("8.8.8.8", false, true),
        ("10.0.0.1", false, true),
        ("192.168.1.1", false, true),
        ("fd00::1", false, true),
        ("2606:4700::1", false, true),
        ("127.9.9.9", false, false),
        ("127.9.9.9", true, true),
        ("::1", false, false),
        ("::1", true, true),
        ("0.0.0.0", true, false),
        ("0.1.2.3", true, false),
        ("::", true, false),
        ("169.254.1.1", true, false),
        ("169.254.169.254", true, false),
        ("fd00:ec2::254", true, false),
        ("100.100.100.200", true, false),
        ("fe80::1", true, false),
        ("224.0.0.251", true, false),
        ("255.255.255.255", true, false),
        ("ff02::1", true, false),
        ("::ffff:169.254.169.254", true, false),
        ("::ffff:127.0.0.1", false, false),
        ("::ffff:8.8.8.8", false, true),
        ("::7f00:1", false, false),
        ("64:ff9b::a9fe:a9fe", true, false),
        ("2002:7f00:1::", false, false),
    ] {
        let address: IpAddr = ip.parse().unwrap();
        assert_eq!(strict.check_address(address, local).is_ok(), good, "{ip} local={local}");
    }
    let lax = Guard { allow_link_local: true, ..Guard::default() };
    assert!(lax.check_address("169.254.1.1".parse().unwrap(), false).is_ok());
    assert!(lax.check_address("169.254.169.254".parse().unwrap(), false).is_err(), "metadata has a switch of its own");
}

#[test]
fn origin_patterns() {
    let fits = |pattern: &str, url: &str| pattern.parse::<OriginPattern>().unwrap().matches(&Url::parse(url).unwrap());
    for (pattern, url, good) in [
        ("example.org", "http://example.org/x", true),
        ("example.org", "https://example.org:8443/x", true),
        ("Example.ORG", "https://example.org./x", true),
        ("example.org", "http://a.example.org/", false),
        ("example.org", "http://notexample.org/", false),
        ("*.example.org", "http://a.b.example.org/", true),
        ("*.example.org", "http://example.org/", false),
        ("*.example.org", "http://notexample.org/", false),
        ("*.example.org", "http://.example.org/", false),
        ("https://example.org", "http://example.org/", false),
        ("https://example.org:443", "https://example.org/", true),
        ("example.org:80", "http://example.org/", true),
        ("example.org:80", "https://example.org/", false),
        ("[::1]:80", "http://[::1]/", true),
        ("[::1]", "http://[::1]:81/", true),
    ] {
        assert_eq!(fits(pattern, url), good, "{pattern} {url}");
    }
    for bad in ["", "*", "*.", "a/b", "u@host", "host:99999", "host:x", "a.*.b", "http://", "host?x"] {
        assert!(bad.parse::<OriginPattern>().is_err(), "{bad:?}");
    }
    assert_eq!(
        "HTTPS://*.Example.org:8443".parse::<OriginPattern>().unwrap().to_string(),
        "https://*.example.org:8443"
    );
}

#[tokio::test]
async fn errors_hold_no_secrets_and_convert() {
    let secret = "http://me:hunter2@127.0.0.1:1/path?X-Amz-Signature=hunter2#hunter2";
    let mut asking = with_headers(secret);
    asking.retry.attempts = 1;
    let error = refusal(asking.clone()).await;
    assert_eq!(error.kind(), SourceErrorKind::Network);
    let failure = Failure::from(&error);
    assert_eq!((failure.kind, failure.temporary), (FailureKind::Local, true));
    assert!(failure.text.len() <= 256 && failure.text.starts_with("http://127.0.0.1:1/path?…"), "{}", failure.text);
    let public = crate::Error::from(error.clone());
    assert_eq!((public.kind(), public.is_temporary()), (ErrorKind::Network, true));
    let (origin, url) = origin(Resource::seeded(SEED, 10).reset_after(0, 9)).await;
    origin.set("/away", Resource::redirect(302, "http://[::1]:1/?hunter2"));
    let broken = all(open(request(&format!("{url}?hunter2"))).await.body).await.unwrap_err();
    let mut away = request(&format!("{}?hunter2", origin.url("/away")));
    away.retry.attempts = 1;
    let away = refusal(away).await;
    let shown = format!("{error:?} {error} {} {public:?} {asking:?} {broken:?} {away:?}", failure.text);
    assert!(!shown.contains("hunter2") && !shown.contains("s3cret") && !shown.contains("me:"), "{shown}");
}

#[tokio::test]
async fn schemes_have_sources() {
    struct Constant;
    impl Source for Constant {
        fn schemes(&self) -> &[&str] {
            &["const"]
        }
        fn open<'a>(&'a self, _request: OpenRequest) -> BoxFuture<'a, Result<Opened, SourceError>> {
            async { Ok(Opened::Unchanged { fresh: None }) }.boxed()
        }
    }
    let error = refusal(request("file:///etc/passwd")).await;
    assert_eq!(error.kind(), SourceErrorKind::InvalidInput);
    let registry = Registry::builder().source(Arc::new(Constant)).build();
    assert!(matches!(registry.open(request("const:x")).await.unwrap(), Opened::Unchanged { .. }));
    assert!(registry.source(&Url::parse("https://example.org").unwrap()).is_ok());
}

//! URLs, classes and what enters an id.

use proptest::prelude::*;
use url::Url;

use crate::task::*;

fn specify(url: &str) -> Specified {
    TaskSpec::of_url(url, &SpecOptions::default()).unwrap()
}

fn with_headers(url: &str, headers: &[(&str, &str)]) -> TaskSpec {
    let headers: Vec<_> = headers.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    let options = SpecOptions { headers: &headers, tenant_key: Some(&[7; 32]), ..Default::default() };
    TaskSpec::of_url(url, &options).unwrap().spec
}

#[test]
fn a_class_follows_from_what_could_be_private() {
    for (url, class) in [
        ("https://h/a", Class::Public),
        ("https://h/a?sig=1&x=2", Class::Public),
        ("https://h/a?sig=1&sv=2", Class::Reauth),
        ("https://h/a?x-amz-signature=1", Class::Reauth),
        ("https://h/a?Signature=1&Expires=2", Class::Public),
        ("https://h/a?Signature=1&Expires=2&GoogleAccessId=x", Class::Reauth),
        ("https://u:p@h/a?x-amz-signature=1", Class::Reauth),
        ("https://u:p@h/a", Class::Keyed),
        ("https://h/a?Access_Token=1", Class::Keyed),
        ("https://h/a?x=1&api%5Fkey=1", Class::Keyed),
        ("https://h/a?tokens=1", Class::Public),
    ] {
        let spec = with_headers(url, &[("User-Agent", "x"), ("ACCEPT", "*/*")]);
        assert_eq!(spec.class, class, "{url}");
        assert_eq!(spec.key.is_some(), url.contains('@') || class == Class::Keyed, "{url}");
    }
    assert_eq!(specify("https://u:p@h/a").spec.class, Class::HostLocal, "no tenant key");
    let options = SpecOptions { insecure: true, ..Default::default() };
    assert_eq!(TaskSpec::of_url("https://h/a", &options).unwrap().spec.class, Class::HostLocal);
}

#[test]
fn a_callers_list_replaces_the_default_one() {
    let with = |url: &str, names: &[&str]| {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        TaskSpec::of_url(url, &SpecOptions { filtered: Some(&names), ..Default::default() }).unwrap()
    };
    let Specified { spec, filtered } = with("https://h/a?ts=1&b=2&X-Amz-Date=3", &["ts", "ts", "X-AMZ-DATE"]);
    assert!(filtered);
    assert_eq!((spec.url.as_str(), spec.class), ("https://h/a?b=2", Class::Reauth));
    assert_eq!(spec.filtered, ["ts", "x-amz-date"]);
    assert_eq!(with("https://h/a?ts=1", &["ts"]).spec.class, Class::Public, "a cache-buster is no credential");
    assert_eq!(with("https://h/a?access_token=1", &["access_token"]).spec.class, Class::Reauth);
    let kept = with("https://h/a?X-Amz-Signature=1", &[]);
    assert!(!kept.filtered && kept.spec.url.ends_with("?X-Amz-Signature=1"));
    assert_eq!(kept.spec.class, Class::Reauth, "a signature in the id is no less a signature");
    assert_ne!(with("https://h/a", &[]).spec.id(), with("https://h/a", &["ts"]).spec.id());
}

#[test]
fn private_headers_are_hashed_by_lower_case_name_and_order_does_not_count() {
    let a = with_headers("https://h/a", &[("Authorization", "Bearer x"), ("X-Team", " 1 ")]);
    let b = with_headers("https://h/a", &[("x-team", "1"), ("authorization", "Bearer x"), ("Accept", "*/*")]);
    assert_eq!((a.class, a.id()), (Class::Keyed, b.id()));
    let other = with_headers("https://h/a", &[("Authorization", "Bearer y"), ("X-Team", "1")]);
    assert_ne!(a.id(), other.id());
    let shifted = with_headers("https://h/a", &[("Authorization", "Bearer x"), ("X-Tea", "m1")]);
    assert_ne!(a.id(), shifted.id());
    assert_ne!(with_headers("https://u:p@h/a", &[]).id(), with_headers("https://u:q@h/a", &[]).id());
    assert!(!format!("{a:?}").contains("Bearer"));
}

#[test]
fn a_blake3_digest_alone_names_the_content() {
    let with = |url: &str, digest: &str, tag: &str, tenant: &str| {
        let digest = Some(digest.parse().unwrap());
        TaskSpec::of_url(url, &SpecOptions { digest, tag, tenant, ..Default::default() }).unwrap().spec.id()
    };
    let blake3 = format!("blake3:{}", "ab".repeat(32));
    assert_eq!(with("https://h/a", &blake3, "t", ""), with("http://other/b?c", &blake3, "", ""));
    assert_ne!(with("https://h/a", &blake3, "", ""), with("https://h/a", &blake3, "", "tenant"));
    let sha256 = format!("sha256:{}", "ab".repeat(32));
    assert_ne!(with("https://h/a", &sha256, "", ""), with("https://h/b", &sha256, "", ""));
    assert_ne!(with("https://h/a", &sha256, "", ""), with("https://h/a", &blake3, "", ""));
}

#[test]
fn every_field_enters_the_id_and_none_runs_into_the_next() {
    let base = specify("https://h/a").spec;
    let mut specs = vec![base.clone()];
    let mut variant = |change: &dyn Fn(&mut TaskSpec)| {
        let mut spec = base.clone();
        change(&mut spec);
        specs.push(spec);
    };
    variant(&|s| s.url.push('b'));
    variant(&|s| s.filtered = vec![]);
    variant(&|s| s.filtered = vec!["a".into(), "b".into()]);
    variant(&|s| s.filtered = vec!["ab".into()]);
    variant(&|s| s.tag = "x".into());
    variant(&|s| s.application = "x".into());
    variant(&|s| s.tenant = "x".into());
    variant(&|s| s.class = Class::Reauth);
    variant(&|s| s.key = Some([0; 32]));
    variant(&|s| s.tls = Some([0; 32]));
    variant(&|s| s.digest = Some("crc32c:00000000".parse().unwrap()));
    let ids: std::collections::BTreeSet<TaskId> = specs.iter().map(TaskSpec::id).collect();
    assert_eq!(ids.len(), specs.len());
}

#[test]
fn what_cannot_be_fetched_is_refused_without_quoting_it() {
    for url in ["", "h/a", "mailto:secret@h", "https://", "https://secret host/", "data:,secret", "http:///", "a:/b"] {
        let error = TaskSpec::of_url(url, &SpecOptions::default()).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{url}: {error}");
    }
    let long = format!("https://h/{}", "a".repeat(URL_BYTES_MAX));
    assert_eq!(TaskSpec::of_url(&long, &SpecOptions::default()), Err(InvalidSpec::UrlTooLong));
    let grows = format!("https://h/{}", " ".repeat(URL_BYTES_MAX / 2) + "x");
    assert_eq!(TaskSpec::of_url(&grows, &SpecOptions::default()), Err(InvalidSpec::UrlTooLong));
    let tag = "x".repeat(NAME_BYTES_MAX + 1);
    let options = SpecOptions { tag: &tag, ..Default::default() };
    assert_eq!(TaskSpec::of_url("https://h/", &options), Err(InvalidSpec::Name("tag")));
    for names in [vec![FILTER_DEFAULT.to_owned()], vec![String::new()], vec!["x".into(); FILTERED_MAX + 1]] {
        let options = SpecOptions { filtered: Some(&names), ..Default::default() };
        assert_eq!(TaskSpec::of_url("https://h/", &options), Err(InvalidSpec::Filter));
    }
    let headers = vec![("a".to_owned(), "b".to_owned()); HEADERS_MAX + 1];
    let options = SpecOptions { headers: &headers, ..Default::default() };
    assert_eq!(TaskSpec::of_url("https://h/", &options), Err(InvalidSpec::Header));
}

#[test]
fn a_specification_from_the_wire_must_be_one_that_we_would_make() {
    let good = specify("https://h/a?b=1").spec;
    assert_eq!(good.check(), Ok(()));
    let check = |change: &dyn Fn(&mut TaskSpec)| {
        let mut spec = good.clone();
        change(&mut spec);
        spec.check()
    };
    for url in ["HTTPS://h/a", "https://h:443/a", "https://u@h/a", "https://h/a#x", "https://h/a?", "https://h/%7e"] {
        assert_eq!(check(&|s| s.url = url.into()), Err(InvalidSpec::NotCanonical), "{url}");
    }
    assert_eq!(check(&|s| s.filtered = vec!["b".into()]), Err(InvalidSpec::NotCanonical));
    assert_eq!(check(&|s| s.filtered = vec!["d".into(), "c".into()]), Err(InvalidSpec::Filter));
    assert_eq!(check(&|s| s.filtered.push("z".into())), Err(InvalidSpec::Filter));
    assert_eq!(check(&|s| s.filtered = vec!["X-Amz-Date".into()]), Err(InvalidSpec::Filter));
    assert_eq!(check(&|s| s.class = Class::Keyed), Err(InvalidSpec::Class));
    assert_eq!(check(&|s| s.key = Some([0; 32])), Err(InvalidSpec::Class));
    assert_eq!(check(&|s| s.tenant = "x".repeat(257)), Err(InvalidSpec::Name("tenant")));
}

#[test]
fn a_label_shows_no_secret() {
    for (url, shown) in [
        ("https://user:secret@h:8443/a/b?token=secret#secret", "https://h:8443/a/b?…"),
        ("https://h/a?", "https://h/a"),
        ("s3://secret@bucket/key", "s3://bucket/key"),
        ("file:///etc/x", "file:///etc/x"),
    ] {
        assert_eq!(label(&Url::parse(url).unwrap()), shown);
    }
    let spec = specify("https://u@h/a?secret").spec;
    assert_eq!(spec.label(), "https://h/a?…");
    assert!(!format!("{spec:?}").contains("secret"), "what a trace shows: {spec:?}");
}

proptest! {
    #[test]
    fn canonical_urls_are_canonical(
        scheme in "(https?|HTTP|ftp|s3|hdfs|file)",
        rest in "([a-zA-Z0-9.]{1,8}(:[0-9]{1,4})?)?(/[ -~é%]{0,12}){0,4}(\\?[ -~é%&=]{0,30})?(#[a-z]{0,3})?",
        names in proptest::option::of(proptest::collection::vec("[a-c]{1,2}", 0..3)),
    ) {
        let options = SpecOptions { filtered: names.as_deref(), tenant_key: Some(&[0; 32]), ..Default::default() };
        if let Ok(Specified { spec, .. }) = TaskSpec::of_url(&format!("{scheme}://{rest}"), &options) {
            prop_assert_eq!(spec.check(), Ok(()));
            let again = TaskSpec::of_url(&spec.url, &options).unwrap();
            prop_assert!(!again.filtered);
            prop_assert_eq!(&again.spec.url, &spec.url);
            prop_assert!(!spec.url.contains('#'));
            prop_assert!(spec.url.split_once('?').is_none_or(|(_, query)| !query.is_empty()));
        }
    }

    #[test]
    fn no_input_panics(url in "\\PC{0,60}", query in "[%&=?a-fA-F0-9]{0,40}") {
        let _ = TaskSpec::of_url(&url, &SpecOptions::default());
        let _ = TaskSpec::of_url(&format!("http://h/{url}?{query}"), &SpecOptions::default());
    }
}

/// Headers that only say who asks are no part of a task; what they would have made of it otherwise it is not.
#[test]
fn who_asks_is_no_part_of_content_that_a_digest_names() {
    let of = |value: &str, reauth, insecure| {
        let headers = [("Authorization".to_owned(), value.to_owned())];
        let options =
            SpecOptions { headers: &headers, tenant_key: Some(&[7; 32]), reauth, insecure, ..Default::default() };
        TaskSpec::of_url("https://h/v2/blobs/x", &options).unwrap().spec
    };
    let spec = of("Bearer 1", true, false);
    assert_eq!((spec.class, spec.key), (Class::Reauth, None));
    assert_eq!(spec.id(), of("Bearer 2", true, false).id());
    assert_ne!(spec.id(), of("Bearer 1", false, false).id());
    assert_eq!(of("Bearer 1", true, true).class, Class::HostLocal, "what nobody vouches for stays here");
}

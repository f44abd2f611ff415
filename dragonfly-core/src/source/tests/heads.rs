use super::*;
use crate::task::Validator;

#[tokio::test]
async fn a_described_range_tells_all_there_is_to_know() {
    let resource = Resource::seeded(SEED, LENGTH).header("cache-control", "max-age=60").header("age", "20");
    let (origin, url) = origin(resource).await;
    let content = open(ranged(&url, 0..4 << 20)).await;
    assert_eq!((content.length, content.offset, content.body_length), (Some(LENGTH), 0, Some(LENGTH)));
    assert_eq!(content.validator, Some(Validator::Etag(format!("\"{SEED:x}-{LENGTH:x}\""))));
    assert!(content.ranges && !content.private);
    assert_eq!(content.fresh, Some(Duration::from_secs(40)));
    assert_eq!(all(content.body).await.unwrap(), expected(0, LENGTH));
    assert_eq!((origin.body_bytes("/a"), origin.log().len()), (LENGTH, 1));
    let seen = &origin.log()[0];
    assert_eq!(seen.range.as_deref(), Some("bytes=0-4194303"));
    assert_eq!(seen.header("accept-encoding"), Some("identity"));
    assert!(seen.header("user-agent").unwrap().starts_with("dragonfly/"));
}

#[tokio::test]
async fn parts_in_the_middle_and_to_the_end() {
    let (origin, url) = origin(Resource::seeded(SEED, LENGTH)).await;
    let content = open(ranged(&url, 1000..2000)).await;
    assert_eq!((content.offset, content.body_length, content.length), (1000, Some(1000), Some(LENGTH)));
    assert_eq!(all(content.body).await.unwrap(), expected(1000, 1000));
    let content = open(ranged(&url, LENGTH - 7..u64::MAX)).await;
    assert_eq!(all(content.body).await.unwrap(), expected(LENGTH - 7, 7));
    assert_eq!(origin.log()[1].range, Some(format!("bytes={}-", LENGTH - 7)));
    let outside = refusal(ranged(&url, LENGTH..LENGTH + 1)).await;
    assert_eq!((outside.kind(), outside.status()), (SourceErrorKind::Origin, Some(416)));
    let empty = refusal(ranged(&url, 5..5)).await;
    assert_eq!(empty.kind(), SourceErrorKind::InvalidInput);
}

#[tokio::test]
async fn an_empty_resource_is_content() {
    let (origin, url) = origin(Resource::seeded(SEED, 0)).await;
    let content = open(ranged(&url, 0..4 << 20)).await;
    assert_eq!(origin.log()[0].status, 416);
    assert_eq!((content.length, content.body_length), (Some(0), Some(0)));
    assert!(content.validator.is_some());
    assert!(all(content.body).await.unwrap().is_empty());
    let content = open(request(&url)).await;
    assert_eq!(content.length, Some(0));
    assert!(all(content.body).await.unwrap().is_empty());
}

#[tokio::test]
async fn without_ranges_the_whole_comes() {
    let (_origin, url) = origin(Resource::seeded(SEED, LENGTH).no_ranges()).await;
    let content = open(ranged(&url, 0..1000)).await;
    assert!(!content.ranges);
    assert_eq!((content.length, content.offset, content.body_length), (Some(LENGTH), 0, Some(LENGTH)));
    assert_eq!(all(content.body).await.unwrap(), expected(0, LENGTH));
    let mut later = ranged(&url, 1000..2000);
    later.expect = Some(Validator::Etag(format!("\"{SEED:x}-{LENGTH:x}\"")));
    let error = refusal(later).await;
    assert_eq!(error.kind(), SourceErrorKind::Origin, "the version is the same, only ranges are not served: {error:?}");
}

#[tokio::test]
async fn unknown_length_until_the_end() {
    let (_origin, url) = origin(Resource::seeded(SEED, LENGTH).chunked().no_ranges()).await;
    let content = open(ranged(&url, 0..4 << 20)).await;
    assert_eq!((content.length, content.body_length), (None, None));
    assert_eq!(all(content.body).await.unwrap(), expected(0, LENGTH));
}

#[tokio::test]
async fn unchanged_is_told_by_either_validator() {
    let (origin, url) = origin(Resource::seeded(SEED, LENGTH).header("cache-control", "no-cache")).await;
    let mut asking = ranged(&url, 0..1000);
    asking.prior = open(request(&url)).await.validator;
    let Opened::Unchanged { fresh } = registry().open(asking.clone()).await.unwrap() else { panic!("content") };
    assert_eq!(fresh, Some(Duration::ZERO));
    assert_eq!(origin.log()[1].status, 304);

    origin.set("/a", Resource::seeded(SEED, LENGTH).no_etag());
    let dated = open(request(&url)).await.validator;
    assert_eq!(dated, Some(Validator::LastModified("Mon, 01 Jan 2024 00:00:00 GMT".to_owned())));
    asking.prior = dated;
    assert!(matches!(registry().open(asking.clone()).await.unwrap(), Opened::Unchanged { fresh: None }));

    origin.set("/a", Resource::seeded(SEED + 1, LENGTH).last_modified(std::time::SystemTime::now()));
    assert!(matches!(registry().open(asking).await.unwrap(), Opened::Content(_)));
}

#[tokio::test]
async fn another_version_is_changed_however_the_origin_says_it() {
    let (origin, url) = origin(Resource::seeded(SEED, LENGTH)).await;
    let mut asking = ranged(&url, 1000..2000);
    asking.expect = open(request(&url)).await.validator;
    asking.expect_length = Some(LENGTH);
    assert_eq!(all(open(asking.clone()).await.body).await.unwrap(), expected(1000, 1000));
    assert!(origin.log()[1].header("if-range").is_some() && origin.log()[1].header("if-match").is_some());
    for other in [
        Resource::seeded(SEED + 1, LENGTH),                                  // 412
        Resource::seeded(SEED + 1, LENGTH).conditions_ignored(),             // 206 with another tag
        Resource::seeded(SEED + 1, LENGTH).no_etag().conditions_ignored(),   // 206 with none
        Resource::seeded(SEED + 1, 500).conditions_ignored(),                // 416
        Resource::seeded(SEED + 1, LENGTH).no_ranges().conditions_ignored(), // 200
    ] {
        origin.set("/a", other);
        let error = refusal(asking.clone()).await;
        assert_eq!(error.kind(), SourceErrorKind::Changed, "{:?} {error:?}", origin.log().last());
        assert!(!error.is_temporary());
    }
    let tag = format!("\"{SEED:x}-{LENGTH:x}\"");
    origin.set("/a", Resource::seeded(SEED, LENGTH + 1).etag(tag).conditions_ignored());
    assert_eq!(refusal(asking.clone()).await.kind(), SourceErrorKind::Changed, "another length under the same tag");

    origin.set("/a", Resource::seeded(SEED, LENGTH).no_etag());
    asking.expect = open(request(&url)).await.validator;
    assert_eq!(all(open(asking.clone()).await.body).await.unwrap(), expected(1000, 1000));
    origin.set("/a", Resource::seeded(SEED, LENGTH).no_etag().last_modified(std::time::SystemTime::now()));
    assert_eq!(refusal(asking).await.kind(), SourceErrorKind::Changed);
}

#[tokio::test]
async fn lying_heads_are_refused() {
    let (origin, url) = origin(Resource::seeded(SEED, LENGTH)).await;
    for lie in [
        "bytes 1001-2000/300000",
        "bytes 1000-1998/300000",
        "bytes 1000-2000/300000",
        "bytes 1000-1999/1500",
        "bytes 2000-1000/300000",
        "bytes 0-18446744073709551615/*",
        "bytes */300000",
        "lines 1000-1999/300000",
        "",
    ] {
        origin.set("/a", Resource::seeded(SEED, LENGTH).content_range(lie));
        let error = refusal(ranged(&url, 1000..2000)).await;
        assert_eq!((error.kind(), error.is_temporary()), (SourceErrorKind::Origin, false), "{lie:?}: {error:?}");
    }
}

#[tokio::test]
async fn weak_and_young_validators_are_none() {
    let now = std::time::SystemTime::now();
    for (resource, why) in [
        (Resource::seeded(SEED, 10).etag("W/\"x\""), "weak, and with a tag the date does not count"),
        (Resource::seeded(SEED, 10).etag("unquoted"), "malformed"),
        (Resource::seeded(SEED, 10).no_etag().last_modified(now), "it may change again within the second"),
        (Resource::seeded(SEED, 10).no_etag().no_last_modified(), "nothing"),
    ] {
        let (_origin, url) = origin(resource).await;
        assert_eq!(open(request(&url)).await.validator, None, "{why}");
    }
}

#[tokio::test]
async fn private_answers_are_told() {
    for (name, value, private) in [
        ("cache-control", "private", true),
        ("cache-control", "max-age=5, no-store", true),
        ("vary", "Accept, Authorization", true),
        ("vary", "cookie", true),
        ("vary", "Accept-Encoding", false),
        ("cache-control", "public, max-age=5", false),
    ] {
        let (_origin, url) = origin(Resource::seeded(SEED, 10).header(name, value)).await;
        assert_eq!(open(request(&url)).await.private, private, "{name}: {value}");
    }
}

#[tokio::test]
async fn statuses_have_kinds_and_permanent_ones_are_asked_once() {
    for (status, kind) in [
        (400, SourceErrorKind::Origin),
        (401, SourceErrorKind::Forbidden),
        (403, SourceErrorKind::Forbidden),
        (404, SourceErrorKind::NotFound),
        (410, SourceErrorKind::NotFound),
        (501, SourceErrorKind::Origin),
    ] {
        let (origin, url) = origin(Resource::seeded(SEED, 10).fail_first(1, status, None)).await;
        let error = refusal(request(&url)).await;
        assert_eq!((error.kind(), error.status(), error.is_temporary()), (kind, Some(status), false));
        assert_eq!(origin.log().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn what_may_pass_is_tried_again_within_bounds() {
    for status in [408, 425, 429, 500, 502, 503, 504] {
        let (origin, url) = origin(Resource::seeded(SEED, 10).fail_first(3, status, Some(0))).await;
        assert_eq!(all(open(request(&url)).await.body).await.unwrap(), expected(0, 10));
        assert_eq!(origin.log().len(), 4, "{status}");
    }
    let (busy, url) = origin(Resource::seeded(SEED, 10).fail_first(u64::MAX, 503, None)).await;
    let error = refusal(request(&url)).await;
    assert_eq!((error.status(), error.is_temporary(), busy.log().len()), (Some(503), true, 4));
    let (patient, url) = origin(Resource::seeded(SEED, 10).fail_first(1, 429, Some(3600))).await;
    let error = refusal(request(&url)).await;
    assert_eq!((error.retry_after(), patient.log().len()), (Some(Duration::from_secs(3600)), 1));
    let (_hangs_up, url) = origin(Resource::seeded(SEED, 10).hang_up_first(2)).await;
    assert_eq!(all(open(request(&url)).await.body).await.unwrap(), expected(0, 10));
}

#[tokio::test]
async fn nobody_listens() {
    let (origin, url) = origin(Resource::seeded(SEED, 10)).await;
    let address = origin.address();
    drop(origin);
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let error = refusal(request(&url)).await;
    assert_eq!((error.kind(), error.is_temporary()), (SourceErrorKind::Network, true), "{error:?}");
}

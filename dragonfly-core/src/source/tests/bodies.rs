use futures::StreamExt;

use super::*;

#[tokio::test]
async fn a_body_is_as_long_as_promised_or_an_error() {
    let (origin, url) = origin(Resource::seeded(SEED, LENGTH).body_delta(100)).await;
    let mut body = open(ranged(&url, 1000..2000)).await.body;
    let (mut seen, mut error) = (0, None);
    while let Some(item) = body.next().await {
        match item {
            Ok(bytes) => seen += bytes.len(),
            Err(e) => error = Some(e),
        }
    }
    assert_eq!(seen, 1000, "no byte beyond the promise");
    let error = error.unwrap();
    assert_eq!((error.kind(), error.is_temporary()), (SourceErrorKind::Origin, false), "{error:?}");

    origin.set("/a", Resource::seeded(SEED, LENGTH).body_delta(-100));
    let error = all(open(ranged(&url, 1000..2000)).await.body).await.unwrap_err();
    assert!(error.is_temporary() && error.to_string().contains("after 900 of 1000"), "{error:?}");
    let error = all(open(request(&url)).await.body).await.unwrap_err();
    assert!(error.is_temporary(), "{error:?}");
}

#[tokio::test]
async fn a_break_resumes_at_the_byte_reached() {
    let (origin, url) = origin(Resource::seeded(SEED, LENGTH).reset_after(50_000, 3)).await;
    let mut asking = ranged(&url, 1000..201_000);
    asking.retry.attempts = 2;
    let got = all(registry().fetch_range(asking)).await.unwrap();
    assert!(got == expected(1000, 200_000), "three breaks with two attempts: each byte starts the count anew");
    let log = origin.log();
    assert_eq!(log.len(), 4);
    let starts: Vec<_> = log.iter().map(|entry| entry.range.clone().unwrap()).collect();
    assert_eq!(starts, ["bytes=1000-200999", "bytes=51000-200999", "bytes=101000-200999", "bytes=151000-200999"]);
    assert!(log[1..].iter().all(|entry| entry.header("if-range").is_some()));
    assert_eq!(origin.body_bytes("/a"), 200_000, "no byte twice");
}

#[tokio::test]
async fn without_progress_the_attempts_end() {
    let (origin, url) = origin(Resource::seeded(SEED, LENGTH).reset_after(0, u64::MAX)).await;
    let error = all(registry().fetch_range(ranged(&url, 0..1000))).await.unwrap_err();
    assert!(error.is_temporary(), "{error:?}");
    assert_eq!(origin.log().len(), 4);
}

#[tokio::test]
async fn without_a_validator_a_break_is_final() {
    let resource = Resource::seeded(SEED, LENGTH).no_etag().no_last_modified().reset_after(50_000, 1);
    let (origin, url) = origin(resource).await;
    let error = all(registry().fetch_range(ranged(&url, 0..LENGTH))).await.unwrap_err();
    assert_eq!((error.kind(), error.is_temporary()), (SourceErrorKind::Network, true), "{error:?}");
    assert_eq!(origin.log().len(), 1);
}

#[tokio::test]
async fn content_that_changes_between_break_and_resumption() {
    let resource = Resource::seeded(SEED, LENGTH).reset_after(50_000, 1).change_after(1, SEED + 1, LENGTH);
    let (origin, url) = origin(resource).await;
    let mut body = registry().fetch_range(ranged(&url, 0..LENGTH));
    let mut got = Vec::new();
    let error = loop {
        match body.next().await.unwrap() {
            Ok(bytes) => got.extend_from_slice(&bytes),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), SourceErrorKind::Changed);
    assert!(got == expected(0, 50_000), "only bytes of the first version");
    assert!(body.next().await.is_none(), "an error is the last thing");
    assert_eq!(origin.body_bytes("/a"), 50_000);
}

#[tokio::test]
async fn silence_is_an_error_and_resumable() {
    let (origin, url) = origin(Resource::seeded(SEED, LENGTH).stall_after(10_000, 1)).await;
    // Silence of a busy machine is resumed as well: what counts is the content, and that the stall did not hold it up.
    let mut asking = ranged(&url, 0..LENGTH);
    asking.retry.attempts = 100;
    let got = all(silent_for(Duration::from_millis(200)).fetch_range(asking)).await.unwrap();
    assert!(got == expected(0, LENGTH));
    assert!(origin.log().len() >= 2);

    origin.set("/a", Resource::seeded(SEED, LENGTH).stall_after(0, 1));
    let opened = silent_for(Duration::from_millis(50)).open(request(&url)).await.unwrap();
    let Opened::Content(content) = opened else { panic!("unchanged") };
    let error = all(content.body).await.unwrap_err();
    assert_eq!((error.kind(), error.is_temporary()), (SourceErrorKind::Stalled, true));
    assert!(error.to_string().ends_with("the origin sent nothing for 50ms"), "{error}");
}

#[tokio::test]
async fn silence_before_the_head() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let config =
        HttpConfig { proxy: Proxy::None, first_byte_timeout: Duration::from_millis(50), ..HttpConfig::default() };
    let error = Registry::builder().http(config).build().open(request(&url)).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Stalled);
}

#[tokio::test]
async fn a_whole_body_serves_a_range_from_the_start() {
    let (_origin, url) = origin(Resource::seeded(SEED, LENGTH).no_ranges()).await;
    assert!(all(registry().fetch_range(ranged(&url, 0..1000))).await.unwrap() == expected(0, 1000));
    let error = all(registry().fetch_range(ranged(&url, 10..1000))).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Origin);
}

#[tokio::test]
async fn an_endless_body_ends_with_its_reader() {
    let (_origin, url) = origin(Resource::seeded(SEED, LENGTH).endless()).await;
    let content = open(request(&url)).await;
    assert_eq!(content.length, None);
    let mut body = content.body;
    let mut seen = 0;
    while seen < 2 * LENGTH {
        seen += body.next().await.unwrap().unwrap().len() as u64;
    }
    drop(body);
}

#[tokio::test]
async fn content_codings_are_left_alone() {
    let (_origin, url) = origin(Resource::seeded(SEED, LENGTH).header("content-encoding", "gzip")).await;
    assert!(all(open(request(&url)).await.body).await.unwrap() == expected(0, LENGTH));
}

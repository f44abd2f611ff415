//! Who asks, and who is told.

use super::*;
use fake::challenged;

/// `alice:secret123`.
const ALICE: &str = "Basic YWxpY2U6c2VjcmV0MTIz";

const SCOPE: &str = "scope=repository%3Aa%3Apull";

/// A registry that wants tokens, which it gives itself: to alice or, if `open`, to anybody.
async fn with_tokens(open: bool) -> Fake {
    let fake = Fake::start().await;
    let address = fake.address;
    let count = std::sync::atomic::AtomicU32::new(0);
    fake.first(move |seen| {
        if seen.path.starts_with("/token") {
            let known = seen.authorization.as_deref() == Some(ALICE)
                || open && seen.authorization.is_none() && seen.method == "GET"
                || seen.method == "POST" && seen.body.contains("refresh_token=refresh-secret123");
            let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let body = serde_json::json!({"token": format!("t{n}"), "expires_in": 300}).to_string();
            return Some(if known { hyper::Response::new(body.into()) } else { fake::error(401, "UNAUTHORIZED") });
        }
        let last = count.load(std::sync::atomic::Ordering::Relaxed).checked_sub(1);
        let good = last.map(|n| format!("Bearer t{n}"));
        let realm = format!("Bearer realm=\"http://{address}/token\",service=\"s\",scope=\"repository:a:pull\"");
        (seen.authorization.is_none() || seen.authorization != good).then(|| challenged(&realm))
    });
    fake
}

fn tokens(fake: &Fake) -> usize {
    fake.seen().iter().filter(|seen| seen.path.starts_with("/token")).count()
}

#[tokio::test]
async fn a_token_is_got_once_and_again_when_it_is_good_no_more() {
    let fake = with_tokens(false).await;
    let digest = fake.blob("content");
    let source = source(alice(&fake));
    let name = format!("a@{digest}");
    for _ in 0..3 {
        let content = opened(&source, request(&fake, &name)).await;
        assert!(content.private, "it is read with a credential");
        assert_eq!(all(content).await, b"content");
    }
    assert_eq!(tokens(&fake), 1);
    let asked = &fake.seen()[1];
    assert_eq!(
        (asked.path.as_str(), asked.authorization.as_deref()),
        (&*format!("/token?{SCOPE}&service=s"), Some(ALICE))
    );
    // Another gets a token, and with it ours ends.
    let other = super::source(alice(&fake));
    opened(&other, request(&fake, &name)).await;
    opened(&source, request(&fake, &name)).await;
    assert_eq!(tokens(&fake), 3);
    // The password went to nobody but who gives out tokens.
    let told = fake.seen().into_iter().filter(|seen| seen.authorization.as_deref() == Some(ALICE));
    assert!(told.into_iter().all(|seen| seen.path.starts_with("/token")));
}

#[tokio::test]
async fn who_has_no_credential_gets_a_token_for_anybody() {
    let fake = with_tokens(true).await;
    let digest = fake.blob("content");
    let source = anybody();
    let asked = request(&fake, &format!("a@{digest}"));
    assert!(!source.is_own(&asked.url));
    let shared = OpenRequest { shared: true, ..asked };
    let content = opened(&source, shared).await;
    assert!(!content.private, "it is for anybody");
    assert_eq!(all(content).await, b"content");
}

#[tokio::test]
async fn an_identity_is_exchanged_for_a_token() {
    let fake = with_tokens(false).await;
    let digest = fake.blob("content");
    let dir = tempfile::tempdir().unwrap();
    let auths = serde_json::json!({"auths": {fake.address.to_string(): {"identitytoken": "refresh-secret123"}}});
    std::fs::write(dir.path().join("config.json"), auths.to_string()).unwrap();
    let http = HttpConfig { proxy: Proxy::None, ..HttpConfig::default() };
    let files = Files::new(vec![dir.path().join("config.json")]);
    let source = OciSource::with_files(Guard::default(), http, StorageConfig::default(), files);
    let asked = request(&fake, &format!("a@{digest}"));
    assert!(source.is_own(&asked.url));
    assert_eq!(all(opened(&source, asked).await).await, b"content");
    let seen = fake.seen();
    assert_eq!(seen[1].method, "POST");
    assert_eq!(
        seen[1].body,
        format!("{SCOPE}&service=s&grant_type=refresh_token&client_id=dragonfly&refresh_token=refresh-secret123")
    );
}

#[tokio::test]
async fn passwords_are_for_those_who_ask_for_them() {
    let fake = Fake::start().await;
    let digest = fake.blob("content");
    fake.first(|seen| (seen.authorization.as_deref() != Some(ALICE)).then(|| challenged("Basic realm=\"r\"")));
    let source = source(alice(&fake));
    let asked = request(&fake, &format!("a@{digest}"));
    for _ in 0..2 {
        assert_eq!(all(opened(&source, asked.clone()).await).await, b"content");
    }
    let told: Vec<bool> = fake.seen().iter().map(|seen| seen.authorization.is_some()).collect();
    assert_eq!(told, [false, true, true], "and is remembered");
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let fake = with_tokens(false).await;
    let digest = fake.blob("content");
    let asked = request(&fake, &format!("a@{digest}"));
    let error = refusal(&anybody(), asked.clone()).await;
    assert_eq!((error.kind(), error.status()), (SourceErrorKind::Forbidden, Some(401)));
    assert!(error.to_string().contains(&format!("docker login, podman login), or give oci://{}.user", fake.address)));
    let mut own = StorageSettings::default();
    (own.user, own.secret) = (Some("alice".to_owned()), Some("wrong-secret123".to_owned()));
    let wrong = source(StorageConfig::default().origin(origin(&fake), own));
    let error = refusal(&wrong, asked.clone()).await;
    assert_eq!(error.kind(), SourceErrorKind::Forbidden);
    assert!(error.to_string().contains("does not accept the credential"), "{error}");
    // Who is never satisfied is asked twice, not for ever.
    let never = Fake::start().await;
    never.first(|_| Some(challenged("Basic realm=\"r\"")));
    let error = refusal(&source(alice(&never)), request(&never, "a:v1")).await;
    assert_eq!((error.kind(), never.seen().len()), (SourceErrorKind::Forbidden, 2));
    // A challenge that is none of ours is no reason to tell anything.
    never.first(|_| Some(challenged("Negotiate")));
    refusal(&source(alice(&never)), request(&never, "a:v1")).await;
    assert_eq!(never.seen().len(), 3);
}

#[tokio::test]
async fn who_gives_tokens_must_be_near_or_behind_tls() {
    for realm in ["http://registry.example/token", "ftp://registry.example", "nowhere", "http://169.254.169.254/"] {
        let fake = Fake::start().await;
        fake.first(move |_| Some(challenged(&format!("Bearer realm=\"{realm}\""))));
        let error = refusal(&source(alice(&fake)), request(&fake, "a:v1")).await;
        assert_eq!((error.kind(), fake.seen().len()), (SourceErrorKind::Guarded, 1), "{realm}: {error:?}");
    }
}

#[tokio::test]
async fn no_credential_follows_a_redirect() {
    let elsewhere = Fake::start().await;
    elsewhere.put("/there", "application/octet-stream", "content");
    let fake = Fake::start().await;
    let digest = digest(b"content");
    let there = format!("http://{}/there", elsewhere.address);
    fake.first(move |seen| {
        let redirect = hyper::Response::builder().status(307).header("location", &there).body("".into()).unwrap();
        Some(if seen.authorization.is_some() { redirect } else { challenged("Basic realm=\"r\"") })
    });
    let source = source(alice(&fake));
    let asked = OpenRequest { range: Some(1..4), ..request(&fake, &format!("a@{digest}")) };
    assert_eq!(all(opened(&source, asked.clone()).await).await, b"ont");
    let seen = elsewhere.seen();
    assert_eq!((seen.len(), seen[0].authorization.as_deref(), seen[0].range.as_deref()), (1, None, Some("bytes=1-3")));
    // Nor does who we are sent to learn it by asking.
    elsewhere.first(|_| Some(challenged("Basic realm=\"r\"")));
    assert_eq!(refusal(&source, asked).await.kind(), SourceErrorKind::Forbidden);
    assert!(elsewhere.seen().iter().all(|seen| seen.authorization.is_none()));
}

#[tokio::test]
async fn what_is_read_with_a_credential_is_for_this_hosts_users_alone() {
    let fake = with_tokens(false).await;
    let digest = fake.blob("content");
    let asked = request(&fake, &format!("a@{digest}"));
    let source = source(alice(&fake));
    assert!(source.is_own(&asked.url));
    let for_others = OpenRequest { shared: true, ..asked.clone() };
    let of_others = OpenRequest { local: false, ..asked.clone() };
    for wrong in [for_others.clone(), of_others] {
        assert_eq!(refusal(&source, wrong).await.kind(), SourceErrorKind::Guarded);
    }
    assert!(fake.seen().is_empty());
    let settings = StorageSettings { anonymous: true, ..StorageSettings::default() };
    let as_nobody = super::source(alice(&fake).scheme("oci", settings.clone()));
    assert!(as_nobody.is_own(&asked.url), "what is set for the registry takes the place of it");
    let as_nobody = super::source(StorageConfig::default().origin(origin(&fake), settings));
    assert!(!as_nobody.is_own(&asked.url));
    // The operator says that all members may have it: with its scheme.
    let guard = |pattern: String| Guard {
        origins: Some(vec![pattern.parse().unwrap()]),
        allow_loopback: true,
        ..Guard::default()
    };
    let listed = guarded(guard(format!("oci://{}", fake.address)), alice(&fake));
    assert!(!listed.is_own(&asked.url));
    let content = opened(&listed, OpenRequest { local: false, ..for_others.clone() }).await;
    assert!(!content.private);
    let by_host = guarded(guard(fake.address.to_string()), alice(&fake));
    assert!(by_host.is_own(&asked.url));
    assert_eq!(refusal(&by_host, for_others).await.kind(), SourceErrorKind::Guarded);
}

#[tokio::test]
async fn another_registry_is_not_told() {
    let (fake, other) = (Fake::start().await, Fake::start().await);
    other.first(|_| Some(challenged("Basic realm=\"r\"")));
    let mut general = StorageSettings::default();
    (general.user, general.secret) = (Some("alice".to_owned()), Some("secret123".to_owned()));
    general.endpoint = Some(format!("http://{}", fake.address));
    let source = source(alice(&fake).scheme("oci", general));
    let error = refusal(&source, request(&other, "a:v1")).await;
    assert_eq!(error.kind(), SourceErrorKind::Forbidden);
    assert!(other.seen().iter().all(|seen| seen.authorization.is_none()) && fake.seen().is_empty());
}

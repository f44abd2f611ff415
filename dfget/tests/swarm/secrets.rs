//! Credentials go to the origin and nowhere else.

use std::fs;

use dragonfly_testkit::{Origin, Resource, content};
use http::Method;

use super::SEED;
use crate::harness::{Daemon, dfget, run};

const LENGTH: u64 = 200_000;

/// One secret per place where a credential can be.
const HEADER: &str = "s3cret-of-a-header";
const PASSWORD: &str = "s3cret-of-the-user-information";
const SIGNATURE: &str = "5ec4e70f51674b";
const QUERY: &str = "s3cret-of-a-query";
const FAILED: &str = "s3cret-of-one-that-fails";
const SECRETS: [&str; 5] = [HEADER, PASSWORD, SIGNATURE, QUERY, FAILED];

/// Nothing that a daemon logs at its most talkative, lists or answers with holds a credential: neither that of the
/// caller, nor of the scheduler and seed, nor of another peer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_are_in_no_log_listing_or_error() {
    let origin = Origin::start().await.unwrap();
    origin.set("/header", Resource::seeded(SEED, LENGTH).require_header("authorization", format!("Bearer {HEADER}")));
    origin.set("/basic", Resource::seeded(SEED, LENGTH).basic_auth("user", PASSWORD));
    for path in ["/signed", "/query"] {
        origin.set(path, Resource::seeded(SEED, LENGTH));
    }
    let port = origin.url("").rsplit(':').next().unwrap().trim_end_matches('/').to_owned();
    let host = format!("127.0.0.1:{port}");
    let bearer = format!("Authorization: Bearer {HEADER}");
    let wrong = format!("Authorization: Bearer {FAILED}");
    let fetches: Vec<(Vec<String>, i32)> = vec![
        (vec![format!("http://{host}/header"), "-H".into(), bearer], 0),
        (vec![format!("http://user:{PASSWORD}@{host}/basic")], 0),
        (vec![format!("http://{host}/signed?X-Amz-Signature={SIGNATURE}&X-Amz-Credential=k")], 0),
        (vec![format!("http://{host}/query?access_token={QUERY}")], 0),
        (vec![format!("http://{host}/header"), "-H".into(), wrong], 1),
        (vec![format!("http://user:{FAILED}@{host}/missing?access_token={FAILED}")], 1),
        (vec![format!("http://user:{FAILED}@127.0.0.1:1/nobody?access_token={FAILED}")], 1),
    ];
    let work = tokio::task::spawn_blocking(move || {
        let first = Daemon::with_role("scheduler,seed").args(["-vv"]).start();
        let peers: Vec<Daemon> = (0..2).map(|_| Daemon::with_role("peer").args(["-vv"]).join(&first).start()).collect();
        let mut shown = Vec::new();
        for (number, (args, code)) in fetches.iter().enumerate() {
            for peer in &peers {
                let output = format!("output-{number}");
                let mut command = peer.dfget_command(args);
                let done = run(command.args(["-O", &output, "--json", "-vv"]));
                assert!(done.is_code(*code), "{number}: {done:?}\n{}", peer.log());
                if *code == 0 {
                    assert_eq!(
                        fs::read(peer.dir().join(&output)).unwrap(),
                        content::bytes(SEED, 0, LENGTH as usize),
                        "{number}"
                    );
                }
                shown.push((format!("dfget {number}"), format!("{done:?}{}", done.text())));
            }
            let alone = format!("alone-{number}");
            let done = run(dfget(peers[0].dir()).args(args).args(["--standalone", "-vv", "-O", &alone]));
            assert!(done.is_code(*code), "{number}: {done:?}");
            shown.push((format!("dfget --standalone {number}"), format!("{done:?}{}", done.text())));
        }
        for (name, daemon) in [("first", &first), ("peer 0", &peers[0]), ("peer 1", &peers[1])] {
            shown.push((format!("the log of {name}"), daemon.log()));
        }
        (first, peers, shown)
    });
    let (first, peers, mut shown) = work.await.unwrap();
    for daemon in peers.iter().chain([&first]) {
        let mut client = daemon.client().await;
        for path in ["/v1/tasks", "/v1/scheduler", "/v1/status", "/metrics"] {
            let answer = client.bytes(Method::GET, path, None).await;
            shown.push((path.to_owned(), format!("{answer:?}")));
        }
    }
    assert!(shown.iter().any(|(_, text)| text.contains("/signed")), "the label of a task is in the listings");
    let mut leaks = Vec::new();
    for (place, text) in &shown {
        for line in text.lines() {
            leaks.extend(SECRETS.iter().filter(|secret| line.contains(*secret)).map(|secret| (place, secret, line)));
        }
    }
    assert!(leaks.is_empty(), "{} leaks, the first: {:?}", leaks.len(), leaks.first());
    tokio::task::spawn_blocking(move || drop((first, peers))).await.unwrap();
}

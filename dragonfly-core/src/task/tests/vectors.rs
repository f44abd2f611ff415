//! `vectors/task.json`: frozen answers that every language's suite checks. Never change an entry; only add.

use data_encoding::HEXLOWER;
use serde::Deserialize;

use crate::task::*;

#[derive(Deserialize)]
struct Vectors {
    tasks: Vec<Task>,
    generations: Vec<GenerationCase>,
    piece_lengths: Vec<(String, String)>,
    rendezvous: Vec<Rendezvous>,
}

#[derive(Deserialize)]
struct Task {
    url: String,
    #[serde(default)]
    filter: Option<Vec<String>>,
    #[serde(default)]
    tag: String,
    #[serde(default)]
    application: String,
    #[serde(default)]
    tenant: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    tenant_key: Option<String>,
    #[serde(default)]
    tls: Option<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    digest: Option<String>,
    canonical: String,
    class: u8,
    key: Option<String>,
    filtered_away: bool,
    id: String,
}

#[derive(Deserialize)]
struct GenerationCase {
    task: String,
    /// 0 none, 1 entity tag, 2 last modified, 3 version.
    validator_kind: u8,
    validator: String,
    /// Decimal, because JSON numbers are not exact beyond 2^53.
    length: Option<String>,
    piece_length: String,
    nonce: Option<String>,
    generation: String,
}

#[derive(Deserialize)]
struct Rendezvous {
    task: String,
    peer: String,
    score: String,
}

fn array<const N: usize>(hex: &str) -> [u8; N] {
    HEXLOWER.decode(hex.as_bytes()).unwrap().try_into().unwrap()
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../../vectors/task.json")).unwrap()
}

#[test]
fn tasks_have_their_frozen_ids() {
    let tasks = vectors().tasks;
    assert!(tasks.len() >= 10);
    for v in tasks {
        let tenant_key = v.tenant_key.as_deref().map(array);
        let made = TaskSpec::of_url(
            &v.url,
            &SpecOptions {
                filtered: v.filter.as_deref(),
                tag: &v.tag,
                application: &v.application,
                tenant: &v.tenant,
                headers: &v.headers,
                tenant_key: tenant_key.as_ref(),
                tls: v.tls.as_deref().map(array),
                insecure: v.insecure,
                digest: v.digest.as_deref().map(|digest| digest.parse().unwrap()),
                reauth: false,
            },
        );
        let Specified { spec, filtered } = made.unwrap();
        let key = spec.key.map(|key| HEXLOWER.encode(&key));
        assert_eq!(
            (spec.url.as_str(), spec.class as u8, key, filtered, spec.id().to_string()),
            (v.canonical.as_str(), v.class, v.key, v.filtered_away, v.id),
            "{}",
            v.url
        );
    }
}

#[test]
fn generations_have_their_frozen_values() {
    let generations = vectors().generations;
    assert!(generations.len() >= 5);
    for v in generations {
        let validator = match v.validator_kind {
            0 => None,
            1 => Some(Validator::Etag(v.validator)),
            2 => Some(Validator::LastModified(v.validator)),
            3 => Some(Validator::Version(v.validator)),
            kind => panic!("validator kind {kind}"),
        };
        let generation = Generation::derive(
            &v.task.parse().unwrap(),
            validator.as_ref(),
            v.length.map(|length| length.parse().unwrap()),
            v.piece_length.parse().unwrap(),
            v.nonce.as_deref().map(array),
        );
        assert_eq!(generation.to_string(), v.generation);
    }
}

#[test]
fn piece_lengths_are_frozen() {
    for (length, piece_length) in vectors().piece_lengths {
        assert_eq!(piece_length_for(length.parse().unwrap()).to_string(), piece_length, "{length}");
    }
}

#[test]
fn rendezvous_scores_are_frozen_and_sort_the_greatest_first() {
    let cases = vectors().rendezvous;
    for v in &cases {
        let score = rendezvous_score(&v.task.parse().unwrap(), &array(&v.peer));
        assert_eq!(HEXLOWER.encode(&score), v.score);
    }
    let task = cases[0].task.clone();
    let mut peers: Vec<&Rendezvous> = cases.iter().filter(|v| v.task == task).collect();
    assert!(peers.len() >= 3);
    rendezvous_sort(&task.parse().unwrap(), &mut peers, |v| array(&v.peer));
    assert!(peers.windows(2).all(|pair| pair[0].score > pair[1].score));
}

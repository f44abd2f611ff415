#![allow(clippy::unwrap_used)]
use super::*;

fn head(value: &str) -> Head {
    let mut headers = HeaderMap::new();
    headers.append("x-repo-commit", value.parse().unwrap());
    headers.append("x-request-id", format!("of {value}").parse().unwrap());
    let version = Some(Validator::Etag("\"a\"".to_owned()));
    Head { status: StatusCode::OK, headers, length: Some(7), version }
}

fn key(number: u64) -> Key {
    *blake3::hash(&number.to_le_bytes()).as_bytes()
}

fn url(number: u64) -> Url {
    Url::parse(&format!("https://registry.test/v2/a/blobs/{number}")).unwrap()
}

/// As a server's answer of a client's own URL, in the file when it is done.
fn allow(remembered: &Remembered, number: u64, told: &str) {
    remembered.allow(&url(number), key(number), &head(told));
    remembered.write();
    assert!(remembered.is_written());
}

fn value(remembered: &Remembered, number: u64) -> Option<String> {
    let head = remembered.get(&key(number))?;
    assert_eq!((head.status, head.length), (StatusCode::OK, Some(7)));
    assert_eq!(head.version, Some(Validator::Etag("\"a\"".to_owned())));
    assert!(!head.headers.contains_key("x-request-id"));
    Some(head.headers["x-repo-commit"].to_str().unwrap().to_owned())
}

#[test]
fn answers_outlive_a_kill_and_refusals_do_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("answers");
    let remembered = Remembered::open(Some(&path));
    for (number, told) in [(1, "a"), (2, "b"), (1, "c"), (3, "d")] {
        allow(&remembered, number, told);
        let mut same = head(told);
        same.headers.insert("x-request-id", "another".parse().unwrap());
        remembered.allow(&url(number), key(number), &same);
        assert!(remembered.is_written(), "it is the same answer");
    }
    remembered.refuse(&url(4), false);
    assert!(remembered.is_written(), "nothing was known of it");
    remembered.refuse(&url(3), false);
    assert!(!remembered.is_written());
    remembered.write();
    // Nobody stops it.
    mem::forget(remembered);
    let again = Remembered::open(Some(&path));
    let of = |remembered: &Remembered| [1, 2, 3].map(|number| value(remembered, number));
    assert_eq!(of(&again), [Some("c".to_owned()), Some("b".to_owned()), None]);
    // A record that is torn is as if it had not been; what comes later is there again.
    let whole = fs::read(&path).unwrap();
    for torn in [whole[..whole.len() - 1].to_vec(), [&whole[..], &whole[..20]].concat()] {
        fs::write(&path, &torn).unwrap();
        let torn = Remembered::open(Some(&path));
        assert_eq!(value(&torn, 1).as_deref(), Some("c"));
        allow(&torn, 5, "e");
        assert_eq!(value(&Remembered::open(Some(&path)), 5).as_deref(), Some("e"));
    }
    // Of a damaged one nothing counts, not what is before the damage either: a no may be behind it.
    let at = whole.len() - 5;
    let mut flipped = whole;
    flipped[at] ^= 1;
    fs::write(&path, &flipped).unwrap();
    let damaged = Remembered::open(Some(&path));
    assert_eq!((of(&damaged), damaged.is_written()), ([None, None, None], false));
    assert!(damaged.is_refused(&url(77)), "what was refused is not known");
    damaged.write();
    let again = Remembered::open(Some(&path));
    assert_eq!((of(&again), again.is_refused(&url(77))), ([None, None, None], true));
}

#[test]
fn a_no_counts_for_all_who_ask_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("answers");
    let remembered = Remembered::open(Some(&path));
    let digest = format!("sha256:{}", "5".repeat(64));
    let of = |name: &str| Url::parse(&format!("https://registry.test/v2/a/manifests/{name}")).unwrap();
    let mut tagged = head("tag");
    tagged.headers.insert("docker-content-digest", digest.parse().unwrap());
    // Two programs ask for the tag, a third one for what it stands for, and one for another tag.
    for (number, name) in [(1, "v1"), (2, "v1"), (3, &*digest), (4, "v2")] {
        remembered.allow(&of(name), key(number), &tagged);
    }
    remembered.write();
    remembered.refuse(&of("v1"), false);
    remembered.refuse(&url(9), true);
    remembered.write();
    for remembered in [&remembered, &Remembered::open(Some(&path))] {
        assert_eq!(
            [1, 2, 3, 4].map(|number| value(remembered, number).is_some()),
            [false, false, false, true],
            "{remembered:?}"
        );
        assert!(remembered.is_refused(&url(9)) && !remembered.is_refused(&url(8)));
        let elsewhere = Url::parse("https://registry.test/v2/b/blobs/9").unwrap();
        let another = Url::parse("https://other.test/v2/b/blobs/9").unwrap();
        assert!(remembered.is_refused(&elsewhere) && !remembered.is_refused(&another));
        // So is the manifest that a tag stood for when it was refused.
        let manifest = |host: &str| Url::parse(&format!("https://{host}/v2/zzz/manifests/{digest}")).unwrap();
        assert!(remembered.is_refused(&manifest("registry.test")) && !remembered.is_refused(&manifest("other.test")));
    }
    allow(&remembered, 9, "again");
    for remembered in [&remembered, &Remembered::open(Some(&path))] {
        assert!(!remembered.is_refused(&url(9)), "its last word is yes");
        assert_eq!(value(remembered, 9).as_deref(), Some("again"));
    }
}

#[test]
fn what_is_remembered_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("answers");
    let remembered = Remembered::open(Some(&path));
    let check = |remembered: &Remembered| {
        let state = remembered.lock();
        assert!(state.told.len() <= HEADS_MAX && state.bytes <= BYTES_MAX);
        assert_eq!(state.bytes, state.told.values().map(|answer| FRAME + answer.record.len()).sum::<usize>());
        let length = fs::metadata(&path).unwrap().len();
        drop(state);
        assert!(length <= 2 * BYTES_MAX as u64, "{length}");
        assert_eq!(remembered.file.lock().unwrap().as_ref().unwrap().1, length);
    };
    for number in 0..HEADS_MAX as u64 + 10 {
        allow(&remembered, number, "small");
    }
    check(&remembered);
    let ninth = |remembered: &Remembered| [9, 10].map(|number| value(remembered, number).is_some());
    assert_eq!(ninth(&remembered), [false, true], "the oldest went");
    assert_eq!(ninth(&Remembered::open(Some(&path))), [false, true], "and does not come back");
    let large = "x".repeat(ANSWER_BYTES_MAX - 300);
    for number in 0..400 {
        allow(&remembered, number, &large);
        check(&remembered);
    }
    assert_eq!((value(&remembered, 0), value(&remembered, 399)), (None, Some(large.clone())));
    let again = Remembered::open(Some(&path));
    check(&again);
    assert_eq!(value(&again, 399), Some(large));
    allow(&again, 399, &"x".repeat(ANSWER_BYTES_MAX));
    for remembered in [&again, &Remembered::open(Some(&path))] {
        assert_eq!(value(remembered, 399), None, "what was said before it was too much is not so any more");
    }
}

#[test]
fn refusals_are_bounded_and_beyond_that_nothing_is_made_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("answers");
    let remembered = Remembered::open(Some(&path));
    // A blob is refused by its URL and by its digest.
    const MOST: u64 = REFUSED_MAX as u64 / 2;
    for number in 0..MOST {
        remembered.refuse(&url(number), true);
    }
    assert!(!remembered.is_refused(&url(MOST + 1)));
    for number in 0..100 {
        remembered.refuse(&url(MOST + number), true);
    }
    assert_eq!(remembered.lock().refused, HashSet::from([ANY]));
    remembered.write();
    assert!(Remembered::open(Some(&path)).is_refused(&url(u64::MAX)));
    // As when it has become too long.
    remembered.lock().is_other = true;
    remembered.write();
    assert!(Remembered::open(Some(&path)).is_refused(&url(u64::MAX)));
}

#[test]
fn a_file_that_cannot_be_written_is_not_believed_later() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("answers");
    let remembered = Remembered::open(Some(&path));
    allow(&remembered, 1, "a");
    // No file can be put in its place, and it has no room for more.
    fs::create_dir(path.with_extension("new")).unwrap();
    remembered.file.lock().unwrap().as_mut().unwrap().1 = 2 * BYTES_MAX as u64;
    remembered.refuse(&url(1), true);
    remembered.write();
    let again = Remembered::open(Some(&path));
    assert!(value(&again, 1).is_none() && again.is_refused(&url(1)) && again.is_refused(&url(7)));
    assert!(value(&remembered, 1).is_none() && remembered.is_refused(&url(1)));
    fs::remove_dir(path.with_extension("new")).unwrap();
    allow(&remembered, 2, "b");
    let again = Remembered::open(Some(&path));
    assert!(again.is_refused(&url(1)) && value(&again, 2).as_deref() == Some("b"));
    // Where it cannot even be removed it is tried again, whatever is asked.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let remembered = Remembered::open(Some(&path));
    remembered.write();
    assert!(!remembered.is_written());
    fs::remove_dir(&path).unwrap();
    remembered.write();
    assert!(remembered.is_written() && path.is_file());
}

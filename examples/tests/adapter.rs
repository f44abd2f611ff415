//! The source of the example does what every source must, and a program that has it fetches with it.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime};

use dragonfly_core::source::Registry;
use dragonfly_core::source::conformance::Subject;
use dragonfly_examples::shelf::Shelves;

#[tokio::test(flavor = "multi_thread")]
async fn the_source_of_the_example_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let shelves = Shelves(BTreeMap::from([("models".to_owned(), dir.path().to_owned())]));
    let sources = Registry::builder().source(std::sync::Arc::new(shelves)).build();
    let root = dir.path().to_owned();
    let put = move |name: &str, content: &[u8]| {
        let path = root.join(name);
        let parent = path.parent().unwrap();
        fs::create_dir_all(parent)?;
        fs::write(parent.join(".new"), content)?;
        // Another time for other content, however fast it comes.
        let then = SystemTime::now() - Duration::from_secs(content.first().map_or(0, |byte| u64::from(*byte)));
        fs::File::options().write(true).open(parent.join(".new"))?.set_modified(then)?;
        fs::rename(parent.join(".new"), path)
    };
    put(".hidden", b"not given out").unwrap();
    let mut subject = Subject::new(sources.clone(), "shelf://models/".parse().unwrap(), put);
    subject.denied = Some((sources, "shelf://models/.hidden".parse().unwrap()));
    let tried = subject.conform().await.unwrap();
    assert_eq!(tried, ["whole", "ranges", "names", "missing", "empty", "versions", "denied", "lists"]);
}

#[test]
fn the_program_fetches_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    fs::write(dir.path().join("a b.bin"), &content).unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    let outside = tempfile::NamedTempFile::new().unwrap();
    std::os::unix::fs::symlink(outside.path(), dir.path().join("out")).unwrap();
    let run = |path: &str, output: &str| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_adapter"));
        program.arg(dir.path()).arg(path).arg(dir.path().join(output)).output().unwrap()
    };
    let ran = run("a%20b.bin", "output");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(String::from_utf8_lossy(&ran.stdout).starts_with("300000 bytes, blake3:"));
    assert!(fs::read(dir.path().join("output")).unwrap() == content);
    for (path, why) in [
        ("..%2f..%2fetc%2fpasswd", "has a slash"),
        (".new", "begin with a dot"),
        ("out", "leads out of its shelf"),
        ("sub", "it is no file"),
        ("sub//x", "is empty"),
        ("nothing", "could not be read"),
    ] {
        let (ran, output) = (run(path, "none"), dir.path().join("none"));
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(!ran.status.success() && said.contains(why), "{path}: {said}");
        assert!(!output.exists(), "{path}");
    }
}

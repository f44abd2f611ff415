#![allow(clippy::unwrap_used)]

use super::*;

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn appears_only_when_finished() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("file");
    let mut pending = Pending::create(&target).unwrap();
    pending.write(b"abc").unwrap();
    assert!(!target.exists());
    assert!(names(dir.path())[0].starts_with(".file.dfget-"));
    pending.finish(3, false).unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"abc");
    assert_eq!(names(dir.path()), ["file"]);
}

#[test]
fn wrong_length_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut pending = Pending::create(&dir.path().join("file")).unwrap();
    pending.write(b"abc").unwrap();
    assert_eq!(pending.finish(4, true).unwrap_err().kind, ErrorKind::Network);
    assert!(names(dir.path()).is_empty());
}

#[test]
fn dropped_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    drop(Pending::create(&dir.path().join("file")).unwrap());
    let temporary = TemporaryDir::beside(&dir.path().join("file")).unwrap();
    fs::write(temporary.path().join("x"), "x").unwrap();
    drop(temporary);
    assert!(names(dir.path()).is_empty());
}

#[test]
fn a_file_that_came_meanwhile_is_kept_unless_it_may_be_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("file");
    let first = Pending::create(&target).unwrap();
    let second = Pending::create(&target).unwrap();
    fs::write(&target, "theirs").unwrap();
    assert_eq!(first.finish(0, false).unwrap_err().kind, ErrorKind::Exists);
    assert_eq!(fs::read(&target).unwrap(), b"theirs");
    second.finish(0, true).unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"");
    assert_eq!(names(dir.path()), ["file"]);
}

#[test]
fn targets() {
    let dir = tempfile::tempdir().unwrap();
    let url = "http://host/name";
    let resolve = |path: &Path, overwrite| Target::resolve(Some(path), url, overwrite);
    assert_eq!(resolve(Path::new("-"), false).unwrap(), Target::Stdout);
    assert_eq!(resolve(Path::new("/dev/null"), false).unwrap(), Target::Special("/dev/null".into()));
    assert_eq!(resolve(dir.path(), false).unwrap(), Target::File(dir.path().join("name")));
    assert_eq!(Target::resolve(None, url, false).unwrap(), Target::File("name".into()));
    fs::write(dir.path().join("name"), "").unwrap();
    assert_eq!(resolve(dir.path(), false).unwrap_err().kind, ErrorKind::Exists);
    assert_eq!(resolve(dir.path(), true).unwrap(), Target::File(dir.path().join("name")));
    assert_eq!(resolve(&dir.path().join("none/"), false).unwrap_err().kind, ErrorKind::Io);
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::create_dir(dir.path().join("d/name")).unwrap();
    assert_eq!(resolve(&dir.path().join("d"), true).unwrap_err().kind, ErrorKind::Exists);
}

#[test]
fn a_long_name_still_has_a_temporary() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("é".repeat(127));
    Pending::create(&target).unwrap().finish(0, false).unwrap();
    assert_eq!(names(dir.path()).len(), 1);
}

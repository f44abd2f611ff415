use std::fs;
use std::io::Write as _;
use std::path::Path;

use super::*;

const COPY_ONLY: ExportOptions = ExportOptions { overwrite: false, allow_hard_link: false, allow_reflink: false };
const LINK: ExportOptions = ExportOptions { overwrite: false, allow_hard_link: true, allow_reflink: false };

/// A store on disk, one in memory, and a directory for outputs on the first one's file system.
fn each(test: impl Fn(&dyn Store, &Path)) {
    let (directory, outputs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    test(&quiet(directory.path()), outputs.path());
    let outputs = tempfile::tempdir().unwrap();
    test(&MemoryStore::new(MemoryOptions::default()).unwrap(), outputs.path());
}

/// The names in a directory, hidden ones included.
fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Removing a hard link moves the change time of the file: then the entry owes a proof, which must succeed.
fn prove(entry: &dyn Entry) {
    if entry.read_at(0, &mut []).is_err() {
        assert!(entry.prove().unwrap().is_complete());
    }
}

#[test]
fn every_way_gives_the_content_and_replaces_nothing_unasked() {
    each(|store, outputs| {
        for (seed, length) in (0..).zip(LENGTHS) {
            let (entry, bytes) = complete(store, seed, length);
            for (name, options) in [("copy", COPY_ONLY), ("link", LINK), ("any", ExportOptions::default())] {
                let output = outputs.join(name);
                let how = entry.export(&output, options).unwrap();
                assert!(fs::read(&output).unwrap() == bytes, "{name} {length}");
                assert!(name != "copy" || how == Exported::Copy);
                assert!(matches!(entry.export(&output, options), Err(StoreError::Exists { path }) if path == output));
                fs::write(outputs.join("old"), "old").unwrap();
                let overwrite = ExportOptions { overwrite: true, ..options };
                // Onto another file, and onto what may be the same one.
                for target in ["old", name] {
                    prove(&*entry);
                    assert_eq!(entry.export(&outputs.join(target), overwrite).unwrap(), how);
                    assert!(fs::read(outputs.join(target)).unwrap() == bytes);
                    fs::remove_file(outputs.join(target)).unwrap();
                }
                assert!(names(outputs).is_empty(), "nothing is left behind");
                prove(&*entry);
                assert!(read_all(&*entry).unwrap() == bytes);
            }
        }
    });
}

#[test]
fn an_output_that_follows_needs_only_its_name_at_the_end() {
    each(|store, outputs| {
        for (seed, length) in (0..).zip(LENGTHS) {
            for (round, options) in (0..).zip([COPY_ONLY, LINK, ExportOptions::default()]) {
                let entry = store.open(&key(seed, round), &described(length)).unwrap();
                let (bytes, layout) = (content(length, seed), entry.described().layout);
                if layout.pieces() > 1 {
                    write(&*entry, &bytes, 1).unwrap();
                }
                let path = outputs.join("output");
                let output = entry.clone().output(&path, options).unwrap();
                output.catch_up().unwrap();
                for index in 0..layout.pieces() {
                    assert!(
                        entry.is_held(index) || matches!(output.piece(index), Ok(()) | Err(StoreError::NotHeld { .. }))
                    );
                    write(&*entry, &bytes, index).unwrap();
                    output.piece(index).unwrap();
                    assert!(!path.exists(), "no part is ever seen under the name");
                }
                output.finish().unwrap();
                assert!(fs::read(&path).unwrap() == bytes);
                assert_eq!(names(outputs), ["output"]);
                fs::remove_file(&path).unwrap();
            }
        }
    });
}

#[test]
fn an_output_that_is_given_up_leaves_nothing() {
    each(|store, outputs| {
        let (entry, bytes) = (store.open(&key(1, 1), &described(200_000)).unwrap(), content(200_000, 1));
        write(&*entry, &bytes, 0).unwrap();
        let path = outputs.join("output");
        assert!(matches!(entry.export(&path, COPY_ONLY), Err(StoreError::Incomplete { held: 1, pieces: 4, .. })));
        let output = entry.clone().output(&path, COPY_ONLY).unwrap();
        output.catch_up().unwrap();
        assert!(matches!(output.piece(2), Err(StoreError::NotHeld { index: 2, .. })));
        assert!(matches!(store.remove(&key(1, 1)), Err(StoreError::InUse { .. })), "an output is a use");
        drop(output);
        assert!(names(outputs).is_empty());
        let output = entry.clone().output(&path, COPY_ONLY).unwrap();
        assert!(matches!(output.finish(), Err(StoreError::Incomplete { .. })));
        assert!(names(outputs).is_empty());
        assert!(store.remove(&key(1, 1)).unwrap());
    });
}

#[test]
fn what_appears_meanwhile_is_not_replaced() {
    each(|store, outputs| {
        for options in [COPY_ONLY, LINK, ExportOptions::default()] {
            let entry = store.open(&key(1, 1), &described(200_000)).unwrap();
            let path = outputs.join("output");
            let output = entry.clone().output(&path, options).unwrap();
            for index in 0..4 {
                write(&*entry, &content(200_000, 1), index).unwrap();
            }
            fs::write(&path, "mine").unwrap();
            assert!(matches!(output.finish(), Err(StoreError::Exists { .. })));
            assert_eq!(fs::read(&path).unwrap(), b"mine");
            assert_eq!(names(outputs), ["output"]);
            assert!(matches!(entry.clone().output(&path, options), Err(StoreError::Exists { .. })));
            fs::remove_file(&path).unwrap();
        }
    });
}

#[test]
fn a_linked_output_that_is_written_to_is_not_served() {
    let (directory, outputs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = quiet(directory.path());
    let (entry, bytes) = complete(&store, 1, 200_000);
    let path = outputs.path().join("output");
    if entry.export(&path, LINK).unwrap() != Exported::HardLink {
        return;
    }
    assert!(read_all(&*entry).unwrap() == bytes);
    fs::OpenOptions::new().write(true).open(&path).unwrap().write_all(b"edited").unwrap();
    assert!(matches!(read_all(&*entry), Err(StoreError::NeedsProof { .. })));
    assert!(matches!(entry.export(&outputs.path().join("other"), LINK), Err(StoreError::NeedsProof { .. })));
    assert_eq!(entry.prove().unwrap().held(), 0, "what is somebody's file now is let go");
    write_all(&*entry, &bytes);
    assert!(read_all(&*entry).unwrap() == bytes);
    assert!(fs::read(&path).unwrap().starts_with(b"edited"), "the user's file is the user's");
    assert_eq!(store.usage().bytes, 200_000);
}

/// Also where a kill came right after the output had its name, and nothing was written to the index since.
#[test]
fn a_linked_output_that_is_written_to_after_a_kill_is_the_users() {
    let (directory, outputs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = quiet(directory.path());
    let (entry, bytes) = complete(&store, 1, 200_000);
    let (other, _) = complete(&store, 2, 200_000);
    for entry in [&entry, &other] {
        entry.keep().unwrap();
    }
    let paths = [outputs.path().join("edited"), outputs.path().join("as it was")];
    for (entry, path) in [&entry, &other].into_iter().zip(&paths) {
        if entry.export(path, LINK).unwrap() != Exported::HardLink {
            return;
        }
        assert!(entry.is_kept(), "that it has a name outside");
    }
    drop((entry, other));
    store.abandon();
    fs::OpenOptions::new().write(true).open(&paths[0]).unwrap().write_all(b"edited").unwrap();

    let store = quiet(directory.path());
    let entry = store.open(&key(1, 1), &described(200_000)).unwrap();
    assert_eq!(entry.prove().unwrap().held(), 0, "what is somebody's file now is let go");
    write_all(&*entry, &bytes);
    assert!(read_all(&*entry).unwrap() == bytes);
    assert!(fs::read(&paths[0]).unwrap().starts_with(b"edited"), "the user's file is the user's");
    let other = store.open(&key(2, 1), &described(200_000)).unwrap();
    assert!(other.prove().unwrap().is_complete(), "one more proof, and no more");
    assert!(read_all(&*other).unwrap() == content(200_000, 2));
}

#[test]
fn a_descriptor_reads_and_does_not_write() {
    let directory = tempfile::tempdir().unwrap();
    let store = quiet(directory.path());
    let (entry, bytes) = complete(&store, 1, 200_000);
    let mut file = entry.descriptor().unwrap().unwrap();
    assert!(std::io::read_to_string(&file).is_err() || file.metadata().unwrap().len() == bytes.len() as u64);
    assert!(file.write_all(b"x").is_err());
    assert!(complete(&store, 2, 100).0.descriptor().unwrap().is_none());
    let partial = store.open(&key(3, 1), &described(200_000)).unwrap();
    write(&*partial, &bytes, 2).unwrap();
    // Of incomplete content the file has what is held, in its place.
    let (file, layout) = (partial.descriptor().unwrap().unwrap(), partial.described().layout);
    let mut found = vec![0; layout.length_of(2).unwrap() as usize];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut found, layout.offset(2)).unwrap();
    assert_eq!(found, piece(&layout, &bytes, 2));
}

#[test]
fn names_that_are_none_are_refused() {
    each(|store, outputs| {
        let (entry, _) = complete(store, 1, 100);
        assert!(matches!(entry.export(Path::new("/"), COPY_ONLY), Err(StoreError::Exists { .. })));
        assert!(matches!(entry.export(&outputs.join(".."), COPY_ONLY), Err(StoreError::Exists { .. })));
        assert!(matches!(entry.export(Path::new(""), COPY_ONLY), Err(StoreError::Invalid(_))));
        assert!(matches!(entry.export(&outputs.join("no/such"), COPY_ONLY), Err(StoreError::Io { .. })));
        let long = "n".repeat(255);
        entry.export(&outputs.join(&long), COPY_ONLY).unwrap();
        assert_eq!(names(outputs), [long]);
    });
}

/// Whoever waits for a proof or a copy can tell that it gets on, and what nobody waits for any more gets no name.
#[test]
fn long_jobs_say_so_and_what_nobody_wants_gets_no_name() {
    use super::super::progress;
    use std::sync::atomic::{AtomicU64, Ordering};
    each(|store, outputs| {
        let (entry, bytes) = complete(store, 7, 3 << 20);
        let blocks = Arc::new(AtomicU64::new(0));
        let told = |job: &mut dyn FnMut()| {
            blocks.store(0, Ordering::Relaxed);
            progress::counted([Arc::clone(&blocks), Arc::default()], job);
            blocks.load(Ordering::Relaxed)
        };
        let copy = outputs.join("copy");
        assert!(told(&mut || assert_eq!(entry.export(&copy, COPY_ONLY).unwrap(), Exported::Copy)) > 1, "a copy");
        assert!(fs::read(&copy).unwrap() == bytes);
        // Removing a hard link moves the change time of the file, which has to be proven then.
        if entry.export(&outputs.join("link"), LINK).unwrap() == Exported::HardLink {
            for _ in 0..10_000 {
                if entry.read_at(0, &mut []).is_err() {
                    break;
                }
                let _ = fs::remove_file(outputs.join("link"));
                if entry.export(&outputs.join("link"), LINK).is_err() {
                    break;
                }
            }
            assert!(told(&mut || assert!(entry.prove().unwrap().is_complete())) > 1, "a proof");
        }
        let _ = fs::remove_file(outputs.join("link"));
        for (name, options) in [("copy2", COPY_ONLY), ("link2", LINK), ("any2", ExportOptions::default())] {
            let output = Arc::clone(&entry).output(&outputs.join(name), options).unwrap();
            output.finish_if(&|| false).unwrap_err();
        }
        assert_eq!(names(outputs), ["copy"]);
        prove(&*entry);
    });
}

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

/// The data files in a store's directory.
fn data_files(directory: &Path) -> Vec<PathBuf> {
    let files = |directory| fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files(directory.join("data")).flat_map(files).collect()
}

#[test]
fn a_second_store_on_the_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = quiet(directory.path());
    let refused = try_quiet(directory.path()).unwrap_err();
    assert!(matches!(&refused, StoreError::Locked { dir } if dir == directory.path()));
    assert!(refused.to_string().contains(&directory.path().display().to_string()));
    assert_eq!(refused.kind(), crate::ErrorKind::Config);
    drop(store);
    quiet(directory.path());
}

#[test]
fn a_store_that_is_about_to_be_closed_can_be_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let store = quiet(directory.path());
    let options = FileOptions { lock_wait: Duration::from_secs(60), ..FileOptions::default() };
    std::thread::scope(|scope| {
        let next = scope.spawn(|| FileStore::open(directory.path(), options));
        drop(store);
        next.join().unwrap().unwrap();
    });
}

#[test]
fn everything_is_there_after_a_clean_stop() {
    let directory = tempfile::tempdir().unwrap();
    let store = quiet(directory.path());
    let mut contents = Vec::new();
    for (seed, length) in (0..).zip(LENGTHS) {
        contents.push(complete(&store, seed, length).1);
    }
    let partial = store.open(&key(99, 1), &described(600 * 65_536)).unwrap();
    let bytes = content(600 * 65_536, 99);
    for index in [0, 255, 256, 511, 599] {
        write(&*partial, &bytes, index).unwrap();
    }
    partial.put_evidence(3, "signed".into()).unwrap();
    partial.set_seal("sealed".into()).unwrap();
    store.set_pinned(&key(99, 1), true);
    drop(partial);
    store.flush().unwrap();
    let (usage, list) = (store.usage(), store.list(None, 100));
    assert_eq!(usage.unwritten, 0);
    drop(store);

    let store = quiet(directory.path());
    assert_eq!(store.usage(), usage);
    assert_eq!(store.list(None, 100), list);
    for (seed, length) in (0..).zip(LENGTHS) {
        let entry = store.open(&key(seed, 1), &described(length)).unwrap();
        assert!(!entry.needs_proof() && entry.is_complete(), "{length}");
        assert!(read_all(&*entry).unwrap() == contents[usize::from(seed)]);
    }
    let partial = store.find(&[7; 32], "acme", &key(99, 1).task).remove(0);
    assert_eq!(partial.have().iter().collect::<Vec<_>>(), [0, 255, 256, 511, 599]);
    assert_eq!(partial.value(256), Some(value(&partial.described().layout, &bytes, 256)));
    assert_eq!((partial.evidence(), partial.seal()), (vec!["signed".into()], Some("sealed".into())));
}

#[test]
fn after_an_unclean_stop_what_proves_is_kept_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let store = quiet(directory.path());
    let (entry, bytes) = complete(&store, 1, 10 * 65_536);
    let (small, small_bytes) = complete(&store, 2, 1000);
    store.flush().unwrap();
    // The mark goes with the first change after it.
    let late = store.open(&key(3, 1), &described(100_000)).unwrap();
    drop((entry, small, late));
    store.abandon();
    let [file] = &data_files(directory.path())[..] else { panic!("one data file") };
    let file = fs::OpenOptions::new().write(true).open(file).unwrap();
    file.write_all_at(b"torn", 4 * 65_536 + 1000).unwrap();
    file.set_len(9 * 65_536 + 5).unwrap();

    let store = quiet(directory.path());
    let entry = store.open(&key(1, 1), &described(10 * 65_536)).unwrap();
    assert!(entry.needs_proof());
    assert!(matches!(read_all(&*entry), Err(StoreError::NeedsProof { .. })));
    assert!(matches!(write(&*entry, &bytes, 4), Err(StoreError::NeedsProof { .. })));
    assert!(matches!(entry.descriptor(), Err(StoreError::NeedsProof { .. })));
    let have = entry.prove().unwrap();
    assert_eq!(have.iter().collect::<Vec<_>>(), [0, 1, 2, 3, 5, 6, 7, 8]);
    assert!(!entry.needs_proof());
    assert_eq!(store.usage().bytes, 8 * 65_536 + 1000);
    assert!(matches!(read_all(&*entry), Err(StoreError::NotHeld { index: 4, .. })));
    assert!(write(&*entry, &bytes, 4).unwrap() && write(&*entry, &bytes, 9).unwrap());
    assert!(read_all(&*entry).unwrap() == bytes);
    let small = store.open(&key(2, 1), &described(1000)).unwrap();
    assert!(small.needs_proof() && small.prove().unwrap().is_complete());
    assert!(read_all(&*small).unwrap() == small_bytes);
}

/// Once it is kept, content outlives a kill, however seldom the index is written by itself; without, it does not.
#[test]
fn what_is_kept_outlives_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let store = quiet(directory.path());
    let lengths = [1000, 65_537, 300 * 65_536 + 7];
    for (seed, length) in (1..).zip(lengths) {
        let (entry, _) = complete(&store, seed, length);
        assert!(!entry.is_kept(), "{length}");
        entry.keep().unwrap();
        assert!(entry.is_kept(), "{length}");
    }
    // Of a spool, too, and of one that is not complete.
    let mut spool = store.spool().unwrap();
    let bytes = content(70_000, 4);
    spool.append(&bytes).unwrap();
    let described_spool = described(70_000);
    let entry = spool.finish(&key(4, 1), &described_spool, &values(&described_spool.layout, &bytes)).unwrap();
    entry.keep().unwrap();
    let part = store.open(&key(5, 1), &described(3 * 65_536)).unwrap();
    write(&*part, &content(3 * 65_536, 5), 1).unwrap();
    part.keep().unwrap();
    complete(&store, 6, 100_000);
    drop((entry, part));
    store.abandon();

    let store = quiet(directory.path());
    for (seed, length) in (1..).zip(lengths).chain([(4, 70_000)]) {
        let entry = store.open(&key(seed, 1), &described(length)).unwrap();
        assert!(entry.is_kept() && entry.prove().unwrap().is_complete(), "{length}");
        assert!(read_all(&*entry).unwrap() == content(length, seed), "{length}");
    }
    let part = store.open(&key(5, 1), &described(3 * 65_536)).unwrap();
    assert_eq!(part.prove().unwrap().iter().collect::<Vec<_>>(), [1]);
    assert!(store.find(&[7; 32], "acme", &key(6, 1).task).is_empty(), "nobody asked for this one to be kept");
}

/// Who comes while another writes has his own in the index, too, when he is told that it is kept; one commit does for several.
#[test]
fn many_are_kept_at_the_same_time() {
    let directory = tempfile::tempdir().unwrap();
    let store = quiet(directory.path());
    std::thread::scope(|scope| {
        for seed in 0..16 {
            let store = &store;
            scope.spawn(move || {
                let (entry, _) = complete(store, seed, 70_000);
                entry.keep().unwrap();
                assert!(entry.is_kept());
            });
        }
    });
    store.abandon();
    let store = quiet(directory.path());
    for seed in 0..16 {
        let entry = store.open(&key(seed, 1), &described(70_000)).unwrap();
        assert!(entry.prove().unwrap().is_complete(), "{seed}");
    }
}

/// What cannot be written is not kept, and is once it can be.
#[test]
fn what_cannot_be_kept_is_not_said_to_be() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Arc::<faults::Faults>::default();
    let store = FileStore::open(directory.path(), faulty(&faults)).unwrap();
    let (entry, _) = complete(&store, 1, 70_000);
    faults.fail_index(true);
    assert!(entry.keep().is_err() && !entry.is_kept());
    faults.fail_index(false);
    entry.keep().unwrap();
    assert!(entry.is_kept());
}

#[test]
fn proof_that_is_owed_outlives_a_clean_stop() {
    let directory = tempfile::tempdir().unwrap();
    let store = quiet(directory.path());
    let entries = [complete(&store, 1, 200_000).0, complete(&store, 2, 200_000).0];
    drop((store, entries));
    let store = quiet(directory.path());
    store.open(&key(1, 1), &described(200_000)).unwrap().prove().unwrap();
    store.flush().unwrap();
    drop(store);
    let store = quiet(directory.path());
    assert!(!store.open(&key(1, 1), &described(200_000)).unwrap().needs_proof());
    assert!(store.open(&key(2, 1), &described(200_000)).unwrap().needs_proof());
}

#[test]
fn an_entry_that_held_nothing_at_an_unclean_stop_owes_no_proof_later() {
    let directory = tempfile::tempdir().unwrap();
    let store = quiet(directory.path());
    store.open(&key(1, 1), &described(200_000)).unwrap();
    drop(store);
    let store = quiet(directory.path());
    let (_, bytes) = complete(&store, 1, 200_000);
    store.flush().unwrap();
    drop(store);
    let store = quiet(directory.path());
    let entry = store.open(&key(1, 1), &described(200_000)).unwrap();
    assert!(!entry.needs_proof());
    assert!(read_all(&*entry).unwrap() == bytes);
}

#[test]
fn what_the_index_does_not_know_is_fetched_again_and_its_file_is_swept() {
    let directory = tempfile::tempdir().unwrap();
    let store = quiet(directory.path());
    complete(&store, 1, 200_000);
    store.flush().unwrap();
    complete(&store, 2, 200_000);
    let mut spool = store.spool().unwrap();
    spool.append(&[1; 100]).unwrap();
    std::mem::forget(spool);
    assert_eq!(data_files(directory.path()).len(), 2);
    // The spool that was forgotten keeps the lock: a copy stands for the directory after a kill.
    let copy = tempfile::tempdir().unwrap();
    copy_tree(directory.path(), copy.path());
    store.abandon();
    let store = quiet(copy.path());
    assert_eq!(store.usage().bytes, 200_000);
    assert_eq!(data_files(copy.path()).len(), 1);
    assert_eq!(fs::read_dir(copy.path().join("spool")).unwrap().count(), 0);
    assert!(store.find(&[7; 32], "acme", &key(2, 1).task).is_empty());
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy_tree(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_removed_entry_stays_removed() {
    let directory = tempfile::tempdir().unwrap();
    let store = quiet(directory.path());
    complete(&store, 1, 200_000);
    complete(&store, 2, 1000);
    store.flush().unwrap();
    let late = store.open(&key(1, 1), &described(200_000)).unwrap();
    assert!(store.remove(&key(1, 1)).unwrap() && store.remove(&key(2, 1)).unwrap());
    late.touch(u64::MAX);
    assert!(data_files(directory.path()).is_empty());
    // Its name is free for another at once.
    let again = store.open(&key(2, 1), &described(999)).unwrap();
    late.touch(0);
    drop((late, again));
    store.flush().unwrap();
    drop(store);
    let store = quiet(directory.path());
    assert_eq!((store.usage().bytes, store.usage().entries), (0, 1));
    assert_eq!(store.open(&key(2, 1), &described(999)).unwrap().have().held(), 0);
}

#[test]
fn a_corrupt_index_is_moved_aside() {
    for damage in ["not an index at all".repeat(1000).into_bytes(), b"x".to_vec()] {
        let directory = tempfile::tempdir().unwrap();
        let store = quiet(directory.path());
        complete(&store, 1, 200_000);
        drop(store);
        fs::write(directory.path().join("index.redb"), &damage).unwrap();
        let store = quiet(directory.path());
        assert_eq!(store.usage().entries, 0);
        assert!(data_files(directory.path()).is_empty());
        assert_eq!(fs::read(directory.path().join("index.corrupt")).unwrap(), damage);
        complete(&store, 1, 200_000);
    }
}

#[test]
fn a_full_disk_leaves_the_task_intact() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Arc::new(faults::Faults::default());
    let store = FileStore::open(directory.path(), faulty(&faults)).unwrap();
    let (entry, bytes) = (store.open(&key(1, 1), &described(200_000)).unwrap(), content(200_000, 1));
    write(&*entry, &bytes, 0).unwrap();
    for code in [rustix::io::Errno::NOSPC, rustix::io::Errno::DQUOT] {
        faults.fail_content(code.raw_os_error(), 1000);
        assert!(matches!(write(&*entry, &bytes, 1), Err(StoreError::Full { source: Some(_), .. })));
    }
    assert_eq!((entry.have().held(), store.usage().bytes), (1, 65_536));
    faults.fail_content(0, 0);
    for index in 1..4 {
        assert!(write(&*entry, &bytes, index).unwrap());
    }
    assert!(read_all(&*entry).unwrap() == bytes);
}

#[test]
fn a_file_that_was_cut_short_is_proven_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = quiet(directory.path());
    let (entry, _) = complete(&store, 1, 200_000);
    fs::OpenOptions::new().write(true).open(&data_files(directory.path())[0]).unwrap().set_len(70_000).unwrap();
    assert!(matches!(read_all(&*entry), Err(StoreError::Io { .. })));
    assert!(entry.needs_proof());
    assert_eq!(entry.prove().unwrap().iter().collect::<Vec<_>>(), [0]);
}

#[test]
fn small_content_has_no_file_and_open_files_are_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let store = quiet(directory.path());
    complete(&store, 1, 65_536);
    assert!(data_files(directory.path()).is_empty());
    let files = files::OPEN_FILES_MAX + 20;
    let open = |number: usize| {
        let mut key = key(1, 1);
        key.task = TaskId::from_hash([(number % 256) as u8; 32]);
        key.tenant = (number / 256).to_string();
        store.open(&key, &described(65_537)).unwrap()
    };
    let bytes = content(65_537, 1);
    for number in 0..files {
        write(&*open(number), &bytes, 1).unwrap();
    }
    assert_eq!(store.disk().files.open_count(), files::OPEN_FILES_MAX);
    for number in 0..files {
        let mut last = [0];
        open(number).read_at(65_536, &mut last).unwrap();
        assert_eq!(last[0], bytes[65_536]);
    }
    assert_eq!(store.disk().files.open_count(), files::OPEN_FILES_MAX);
}

#[test]
fn much_small_content_does_not_pile_up_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let store = quiet(directory.path());
    for generation in 0..=255 {
        for seed in 0..2 {
            let entry = store.open(&key(seed, generation), &described(65_536)).unwrap();
            write(&*entry, &content(65_536, generation), 0).unwrap();
        }
        let fresh = store.disk().fresh.load(std::sync::atomic::Ordering::Acquire);
        assert!(fresh <= content::SLAB_FRESH_BYTES_MAX, "{fresh}");
    }
    for generation in 0..=255 {
        let entry = store.open(&key(0, generation), &described(65_536)).unwrap();
        assert!(read_all(&*entry).unwrap() == content(65_536, generation));
    }
}

/// Evidence lies in the index: it counts against the quota, at once after a restart too, and eviction gets it back.
#[test]
fn what_the_index_has_counts_against_the_quota() {
    const EVIDENCE: usize = 50_000;
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        let options =
            FileOptions { quota: Some(400_000), index_interval: Duration::from_secs(3600), ..Default::default() };
        FileStore::open(directory.path(), options).unwrap()
    };
    let store = open();
    for seed in 0..4 {
        let entry = complete(&store, seed, 20_000).0;
        entry.put_evidence(1, vec![seed; EVIDENCE].into()).unwrap();
        entry.touch(1000 + u64::from(seed));
    }
    store.flush().unwrap();
    let Usage { bytes, index_bytes, .. } = store.usage();
    // Evidence, headers, and a row of values each.
    assert_eq!(bytes, 80_000);
    assert!((4 * EVIDENCE as u64..4 * (EVIDENCE as u64 + 1000)).contains(&index_bytes), "{index_bytes}");
    drop(store);

    let store = open();
    assert_eq!((store.usage().bytes, store.usage().index_bytes), (bytes, index_bytes));
    // 281 kB of 400 are used: this goes in if what was used longest ago goes.
    complete(&store, 9, 130_000);
    let left: Vec<_> = store.list(None, 100).iter().map(|info| info.key.task.hash()[0]).collect();
    assert_eq!(left, [1, 2, 3, 9]);
    store.flush().unwrap();
    let Usage { bytes, index_bytes, .. } = store.usage();
    assert!(bytes + index_bytes <= 400_000, "{bytes} {index_bytes}");
    assert!([1, 2, 3, 9].iter().all(|seed| store.remove(&key(*seed, 1)).unwrap()));
    assert_eq!((store.usage().bytes, store.usage().index_bytes), (0, 0));
}

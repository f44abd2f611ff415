//! What a store asks of its disk, counted.

use std::time::{Duration, Instant};

use super::faults::{Counts, Faults};
use super::*;

/// How long content is not used before it leaves the page cache here.
const AFTER: Duration = Duration::from_secs(60);

/// A store whose disk counts, and the counts.
fn counted(directory: &std::path::Path, options: FileOptions) -> (FileStore, Arc<Faults>) {
    let faults = Arc::<Faults>::default();
    let options = FileOptions { faults: Some(Arc::clone(&faults)), ..options };
    (FileStore::open(directory, options).unwrap(), faults)
}

fn never_by_itself() -> FileOptions {
    FileOptions { index_interval: Duration::from_secs(3600), ..FileOptions::default() }
}

#[test]
fn each_piece_is_one_write_and_the_index_is_written_twice_at_most() {
    let directory = tempfile::tempdir().unwrap();
    let (store, faults) = counted(directory.path(), never_by_itself());
    let length = 300 * 65_536 + 7;
    let (entry, bytes) = (store.open(&key(1, 1), &described(length)).unwrap(), content(length, 1));
    let output = directory.path().join("output");
    let following = Arc::clone(&entry).output(&output, ExportOptions::default()).unwrap();
    for index in (0..301).rev() {
        assert!(write(&*entry, &bytes, index).unwrap());
        entry.put_evidence(index, "signed".into()).unwrap();
        following.piece(index).unwrap();
        assert!(!write(&*entry, &bytes, index).unwrap(), "it is held");
    }
    assert_eq!(faults.counts(), Counts { writes: 301, ..Counts::default() }, "nothing but content before the end");
    entry.set_seal("sealed".into()).unwrap();
    entry.keep().unwrap();
    assert_eq!(faults.counts(), Counts { writes: 301, commits: 1, ..Counts::default() });
    // That it is somebody's file, too, the index is told where the output is a hard link.
    following.finish().unwrap();
    entry.keep().unwrap();
    assert!(std::fs::read(&output).unwrap() == bytes);
    let Counts { writes, syncs, commits, .. } = faults.counts();
    assert_eq!((writes, syncs), (301, 0));
    assert!(commits <= 2, "{commits}");
}

#[test]
fn content_of_unknown_length_is_written_once_and_moved() {
    let directory = tempfile::tempdir().unwrap();
    let (store, faults) = counted(directory.path(), never_by_itself());
    let (described, bytes) = (described(20 << 20), content(20 << 20, 1));
    let mut spool = store.spool().unwrap();
    for part in bytes.chunks(1 << 20) {
        spool.append(part).unwrap();
    }
    let entry = spool.finish(&key(1, 1), &described, &values(&described.layout, &bytes)).unwrap();
    entry.keep().unwrap();
    assert_eq!(faults.counts(), Counts { writes: 20, commits: 1, ..Counts::default() });
}

#[cfg(target_os = "linux")]
#[test]
fn what_nobody_uses_leaves_the_page_cache_once() {
    let directory = tempfile::tempdir().unwrap();
    // Of two files one is closed.
    let (store, faults) = counted(directory.path(), FileOptions { open_files_max: 1, ..never_by_itself() });
    let mut entries = Vec::new();
    for seed in [1, 2] {
        entries.push(complete(&store, seed, 200_000).0);
    }
    complete(&store, 3, 1000);
    store.cool(Duration::ZERO, AFTER);
    assert!(faults.counts().cooled.is_empty(), "they were written a moment ago");
    store.cool(2 * AFTER, AFTER);
    let cooled = faults.counts().cooled;
    assert!(cooled.len() == 2 && cooled[0] != cooled[1], "{cooled:?}: both, and small content has no file");
    assert_eq!(store.disk().files.open_count(), 1);
    store.cool(2 * AFTER, AFTER);
    assert_eq!(faults.counts().cooled.len(), 2, "nobody has read them since");
    // What is read is cached again, whoever reads, and it is the same.
    assert!(read_all(&*entries[1]).unwrap() == content(200_000, 2));
    entries[0].descriptor().unwrap().unwrap();
    store.cool(2 * AFTER, AFTER);
    assert_eq!(faults.counts().cooled.len(), 4);
    // Also what goes from the file to a socket.
    entries[0].cache(0, 1).unwrap();
    store.cool(2 * AFTER, AFTER);
    assert_eq!(faults.counts().cooled.len(), 5);
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_used_or_somebodys_stays_in_the_page_cache() {
    let directory = tempfile::tempdir().unwrap();
    let (store, faults) = counted(directory.path(), never_by_itself());
    let (served, _) = complete(&store, 1, 200_000);
    let serving = served.use_guard().unwrap();
    store.cool(2 * AFTER, AFTER);
    assert!(faults.counts().cooled.is_empty(), "it is being served");
    drop(serving);
    store.cool(2 * AFTER, AFTER);
    assert_eq!(faults.counts().cooled.len(), 1);

    let (linked, _) = complete(&store, 2, 200_000);
    let exported = linked.export(&directory.path().join("output"), ExportOptions::default()).unwrap();
    complete(&store, 3, 200_000);
    assert!(store.remove(&key(3, 1)).unwrap());
    store.cool(2 * AFTER, AFTER);
    let more = usize::from(exported != Exported::HardLink);
    assert_eq!(faults.counts().cooled.len(), 1 + more, "a hard link's pages are its owner's; what is gone has none");
}

#[cfg(target_os = "linux")]
#[test]
fn the_stores_own_thread_looks_for_cold_content() {
    let directory = tempfile::tempdir().unwrap();
    let options = FileOptions {
        index_interval: Duration::from_millis(1),
        cool_after: Some(Duration::ZERO),
        ..FileOptions::default()
    };
    let (store, faults) = counted(directory.path(), options);
    complete(&store, 1, 200_000);
    let began = Instant::now();
    while faults.counts().cooled.is_empty() && began.elapsed() < AFTER {
        std::thread::yield_now();
    }
    assert!(!faults.counts().cooled.is_empty(), "nothing in {AFTER:?}");
}

use std::time::Duration;

use bytes::Bytes;

use super::*;

/// Budget and eviction as a test wants them.
#[derive(Clone, Copy)]
struct Limits {
    quota: u64,
    high: f64,
    low: f64,
    ttl: Option<u64>,
    entries: usize,
}

const WIDE: Limits = Limits { quota: 1 << 30, high: 0.9, low: 0.8, ttl: None, entries: 1000 };

/// Runs `test` against an empty store of each kind.
fn each(limits: Limits, test: impl Fn(&dyn Store)) {
    let Limits { quota, high, low, ttl, entries } = limits;
    let ttl = ttl.map(Duration::from_secs);
    let memory = MemoryOptions { quota, high_water: high, low_water: low, ttl, entries_max: entries };
    test(&MemoryStore::new(memory).unwrap());
    let directory = tempfile::tempdir().unwrap();
    let file = FileOptions {
        quota: Some(quota),
        high_water: high,
        low_water: low,
        ttl,
        entries_max: entries,
        ..FileOptions::default()
    };
    let store = FileStore::open(directory.path(), file).unwrap();
    test(&store);
}

#[test]
fn every_length_is_written_read_and_counted() {
    each(WIDE, |store| {
        let mut total = 0;
        for (seed, length) in (0..).zip(LENGTHS) {
            let (entry, bytes) = complete(store, seed, length);
            total += length;
            assert!(entry.is_complete(), "{length}");
            assert!(read_all(&*entry).unwrap() == bytes, "{length}");
            assert_eq!(store.usage().bytes, total);
            let layout = entry.described().layout;
            for index in 0..layout.pieces() {
                assert_eq!(entry.value(index), Some(value(&layout, &bytes, index)));
                assert!(!write(&*entry, &bytes, index).unwrap(), "held already");
            }
            assert_eq!(entry.value(layout.pieces()), None);
            assert_eq!(store.usage().bytes, total);
        }
        assert_eq!(store.usage().entries, LENGTHS.len());
    });
}

#[test]
fn only_held_pieces_are_read() {
    each(WIDE, |store| {
        let length = 5 * 65_536 - 9;
        let (entry, bytes) = (store.open(&key(1, 1), &described(length)).unwrap(), content(length, 1));
        write(&*entry, &bytes, 1).unwrap();
        write(&*entry, &bytes, 2).unwrap();
        let mut buf = vec![0; 100_000];
        entry.read_at(65_536 + 5, &mut buf).unwrap();
        assert!(buf == bytes[65_541..165_541]);
        for offset in [65_535, 2 * 65_536] {
            assert!(matches!(entry.read_at(offset, &mut buf), Err(StoreError::NotHeld { index: 0 | 3, .. })));
        }
        assert!(matches!(entry.read_at(length, &mut [0]), Err(StoreError::Invalid(_))));
        assert!(matches!(entry.read_at(u64::MAX, &mut [0]), Err(StoreError::Invalid(_))));
        entry.read_at(length, &mut []).unwrap();
        assert_eq!(entry.have().iter().collect::<Vec<_>>(), [1, 2]);
        assert!(!entry.is_held(0) && entry.is_held(1) && !entry.is_held(99));
    });
}

#[test]
fn pieces_of_a_wrong_length_are_refused() {
    each(WIDE, |store| {
        let entry = store.open(&key(1, 1), &described(65_536 + 10)).unwrap();
        for (index, length) in [(0, 65_535), (0, 65_537), (0, 0), (1, 9), (1, 11), (2, 0), (2, 10)] {
            let refused = entry.write_piece(index, &vec![0; length], &[0; 32]);
            assert!(matches!(refused, Err(StoreError::Invalid(_))), "{index} {length}");
        }
        assert_eq!(store.usage().bytes, 0);
    });
}

#[test]
fn an_entry_is_opened_once_and_keeps_its_layout() {
    each(WIDE, |store| {
        let (entry, bytes) = complete(store, 1, 70_000);
        let again = store.open(&key(1, 1), &described(70_000)).unwrap();
        assert!(read_all(&*again).unwrap() == bytes);
        assert!(matches!(store.open(&key(1, 1), &described(70_001)), Err(StoreError::Invalid(_))));
        let other = store.open(&key(1, 2), &described(70_001)).unwrap();
        assert_eq!(other.have().held(), 0);
        let mut long = key(1, 1);
        long.tenant = "x".repeat(257);
        assert!(matches!(store.open(&long, &described(1)), Err(StoreError::Invalid(_))));
        drop(entry);
    });
}

#[test]
fn networks_tenants_and_classes_do_not_mix() {
    each(WIDE, |store| {
        complete(store, 1, 70_000);
        let mut others = vec![key(1, 1), key(1, 1), key(1, 1)];
        others[0].network = [8; 32];
        others[1].tenant = "other".into();
        others[2].class = Class::Reauth;
        for other in &others {
            assert_eq!(store.open(other, &described(70_000)).unwrap().have().held(), 0);
        }
        let task = key(1, 1).task;
        assert_eq!(store.find(&[7; 32], "acme", &task).len(), 2, "both classes");
        assert_eq!(store.find(&[7; 32], "other", &task).len(), 1);
        assert_eq!(store.find(&[9; 32], "acme", &task).len(), 0);
        assert_eq!(store.find(&[7; 32], "acme", &key(2, 1).task).len(), 0);
    });
}

#[test]
fn generations_are_found_newest_first() {
    each(WIDE, |store| {
        for generation in [3, 1, 2] {
            store.open(&key(1, generation), &described(10)).unwrap();
        }
        let found = store.find(&[7; 32], "acme", &key(1, 1).task);
        let found: Vec<_> = found.iter().map(|entry| entry.key().generation).collect();
        assert_eq!(found, [2, 1, 3].map(|generation| key(1, generation).generation));
    });
}

#[test]
fn listings_come_in_pages() {
    each(WIDE, |store| {
        for seed in [5, 3, 9, 1, 7] {
            complete(store, seed, u64::from(seed) * 10_000);
        }
        store.set_pinned(&key(3, 1), true);
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = store.list(after.as_ref(), 2);
            assert!(page.len() <= 2);
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            seen.extend(page);
        }
        let lengths: Vec<_> = seen.iter().map(|info| (info.length, info.held, info.pinned)).collect();
        assert_eq!(lengths, [1, 3, 5, 7, 9].map(|seed| (seed * 10_000, seed * 10_000, seed == 3)));
        assert_eq!(seen[0].label, "https://example.org/10000");
        assert!(store.list(None, 0).is_empty());
    });
}

#[test]
fn what_is_in_use_is_not_removed() {
    each(WIDE, |store| {
        let (entry, bytes) = complete(store, 1, 200_000);
        let guard = entry.use_guard().unwrap();
        assert!(store.list(None, 1)[0].in_use);
        assert!(matches!(store.remove(&key(1, 1)), Err(StoreError::InUse { .. })));
        assert!(read_all(&*entry).unwrap() == bytes);
        drop(guard);
        assert!(store.remove(&key(1, 1)).unwrap());
        assert!(!store.remove(&key(1, 1)).unwrap());
        assert_eq!((store.usage().bytes, store.usage().entries), (0, 0));
        assert!(matches!(read_all(&*entry), Err(StoreError::NotFound { .. })));
        assert!(matches!(write(&*entry, &bytes, 0), Err(StoreError::NotFound { .. })));
        assert!(entry.use_guard().is_err());
        let again = store.open(&key(1, 1), &described(200_000)).unwrap();
        assert_eq!(again.have().held(), 0, "a removed entry leaves nothing behind");
        write_all(&*again, &bytes);
        assert!(read_all(&*again).unwrap() == bytes);
    });
}

#[test]
fn the_least_recently_used_goes_first() {
    // What the index has counts, too: nine entries have some 4 kB of it.
    let limits = Limits { quota: 1_010_000, high: 0.9, low: 0.5, ..WIDE };
    each(limits, |store| {
        for seed in 0..9 {
            complete(store, seed, 100_000).0.touch(1000 + u64::from(seed));
        }
        assert_eq!(store.evict(2000), 0, "at the mark, not above it");
        store.open(&key(0, 1), &described(100_000)).unwrap().touch(3000);
        store.set_pinned(&key(1, 1), true);
        let used = store.open(&key(2, 1), &described(100_000)).unwrap();
        let guard = used.use_guard().unwrap();
        used.touch(1002);
        complete(store, 9, 50_000).0.touch(1009);
        assert_eq!(store.evict(3000), 500_000);
        let left: Vec<_> = store.list(None, 100).iter().map(|info| info.key.task.hash()[0]).collect();
        assert_eq!(left, [0, 1, 2, 8, 9], "touched, pinned, in use, and the latest");
        assert_eq!(store.usage().bytes, 450_000);
        drop(guard);
    });
}

#[test]
fn what_is_not_used_for_the_time_to_live_goes() {
    each(Limits { ttl: Some(60), ..WIDE }, |store| {
        for seed in 0..4 {
            complete(store, seed, 70_000).0.touch(1000 + u64::from(seed));
        }
        store.set_pinned(&key(0, 1), true);
        let used = store.open(&key(1, 1), &described(70_000)).unwrap();
        let guard = used.use_guard().unwrap();
        used.touch(1001);
        assert_eq!(store.evict(1062), 0);
        assert_eq!(store.evict(1063), 70_000);
        drop(guard);
        assert_eq!(store.evict(1063), 70_000, "no longer in use");
        assert!(store.set_pinned(&key(0, 1), false));
        assert!(!store.set_pinned(&key(2, 1), false), "gone");
        assert_eq!(store.evict(5000), 140_000);
        assert_eq!(store.usage().bytes, 0);
    });
}

#[test]
fn a_full_store_makes_room_or_says_so_and_the_task_goes_on() {
    each(Limits { quota: 300_000, ..WIDE }, |store| {
        complete(store, 1, 100_000).0.touch(1000);
        let (pinned, _) = complete(store, 2, 100_000);
        store.set_pinned(&key(2, 1), true);
        let bytes = content(4 * 65_536, 3);
        let entry = store.open(&key(3, 1), &described(4 * 65_536)).unwrap();
        for index in 0..3 {
            write(&*entry, &bytes, index).unwrap();
        }
        assert!(read_all(&*pinned).is_ok(), "pinned");
        assert!(store.find(&[7; 32], "acme", &key(1, 1).task).is_empty(), "made room");
        let full = write(&*entry, &bytes, 3);
        assert!(matches!(full, Err(StoreError::Full { .. })));
        assert_eq!(crate::Error::from(full.unwrap_err()).kind(), crate::ErrorKind::Full);
        assert_eq!(entry.have().held(), 3);
        assert_eq!(store.usage().bytes, 100_000 + 3 * 65_536);
        store.set_pinned(&key(2, 1), false);
        assert!(write(&*entry, &bytes, 3).unwrap(), "goes on once there is room");
        assert!(read_all(&*entry).unwrap() == bytes);
        assert!(store.usage().bytes <= 300_000);
    });
}

#[test]
fn entries_are_bounded() {
    each(Limits { entries: 3, ..WIDE }, |store| {
        for seed in 0..5 {
            store.open(&key(seed, 1), &described(10)).unwrap().touch(u64::from(seed));
        }
        let left: Vec<_> = store.list(None, 100).iter().map(|info| info.key.task.hash()[0]).collect();
        assert_eq!(left, [2, 3, 4]);
        let entries: Vec<_> = (2..5).map(|seed| store.open(&key(seed, 1), &described(10)).unwrap()).collect();
        let guards: Vec<_> = entries.iter().map(|entry| entry.use_guard().unwrap()).collect();
        assert!(matches!(store.open(&key(9, 1), &described(10)), Err(StoreError::Full { .. })));
        drop(guards);
        store.open(&key(9, 1), &described(10)).unwrap();
    });
}

#[test]
fn evidence_and_seal_are_kept_and_bounded() {
    each(WIDE, |store| {
        let entry = store.open(&key(1, 1), &described(70_000)).unwrap();
        assert!(entry.evidence().is_empty() && entry.seal().is_none());
        for (sequence, text) in [(7, "b"), (2, "a"), (7, "c")] {
            entry.put_evidence(sequence, Bytes::from(text)).unwrap();
        }
        assert_eq!(entry.evidence(), ["a", "c"]);
        entry.set_seal(Bytes::from("seal")).unwrap();
        assert_eq!(entry.seal().unwrap(), "seal");
        let large = Bytes::from(vec![0; 65_537]);
        assert!(matches!(entry.set_seal(large.clone()), Err(StoreError::Full { .. })));
        assert!(matches!(entry.put_evidence(1, large), Err(StoreError::Full { .. })));
        let most = Bytes::from(vec![0; 65_536]);
        let full = (10..1000).find(|n| entry.put_evidence(*n, most.clone()).is_err());
        assert_eq!(full, Some(10 + 511), "32 MiB in all");
    });
}

#[test]
fn content_of_unknown_length_is_spooled() {
    each(WIDE, |store| {
        for (seed, length) in (0..).zip(LENGTHS) {
            let (bytes, described) = (content(length, seed), described(length));
            let mut spool = store.spool().unwrap();
            for block in bytes.chunks(50_000) {
                spool.append(block).unwrap();
            }
            assert_eq!(spool.length(), length);
            let mut part = vec![0; bytes.len() / 2];
            spool.read_at(3.min(length / 2), &mut part).unwrap();
            assert!(part == bytes[3.min(bytes.len() / 2)..][..part.len()]);
            assert!(matches!(spool.read_at(length, &mut [0]), Err(StoreError::Invalid(_))));
            let before = store.usage().bytes;
            let entry = spool.finish(&key(seed, 1), &described, &values(&described.layout, &bytes)).unwrap();
            assert!(entry.is_complete());
            assert!(read_all(&*entry).unwrap() == bytes);
            assert_eq!(store.usage().bytes, before, "the bytes only change hands");
        }
    });
}

#[test]
fn a_spool_completes_an_entry_that_was_begun() {
    each(WIDE, |store| {
        let (bytes, described) = (content(200_000, 1), described(200_000));
        let entry = store.open(&key(1, 1), &described).unwrap();
        write(&*entry, &bytes, 1).unwrap();
        let mut spool = store.spool().unwrap();
        spool.append(&bytes).unwrap();
        let spooled = spool.finish(&key(1, 1), &described, &values(&described.layout, &bytes)).unwrap();
        assert!(read_all(&*spooled).unwrap() == bytes);
        assert!(entry.is_complete());
        assert_eq!(store.usage().bytes, 200_000);
    });
}

#[test]
fn a_spool_that_is_dropped_or_does_not_fit_leaves_nothing() {
    each(Limits { quota: 300_000, ..WIDE }, |store| {
        let mut spool = store.spool().unwrap();
        spool.append(&content(200_000, 1)).unwrap();
        assert!(matches!(spool.append(&content(200_000, 2)), Err(StoreError::Full { .. })));
        assert_eq!((spool.length(), store.usage().bytes), (200_000, 200_000));
        let refused = spool.finish(&key(1, 1), &described(200_001), &[[0; 32]; 4]);
        assert!(matches!(refused, Err(StoreError::Invalid(_))));
        assert_eq!((store.usage().bytes, store.usage().entries), (0, 0));
        let spool = store.spool().unwrap();
        assert!(spool.finish(&key(1, 1), &described(0), &[[0; 32]]).is_err(), "a value too many");
        let mut spool = store.spool().unwrap();
        spool.append(&[1; 1000]).unwrap();
        drop(spool);
        assert_eq!(store.usage().bytes, 0);
    });
}

#[test]
fn many_threads_write_one_entry() {
    each(WIDE, |store| {
        let length = 40 * 65_536;
        let (entry, bytes) = (store.open(&key(1, 1), &described(length)).unwrap(), content(length, 1));
        let new = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (entry, bytes, new) = (&entry, &bytes, &new);
                scope.spawn(move || {
                    for index in 0..40 {
                        let index = (index * 7 + thread * 3) % 40;
                        let first = write(&**entry, bytes, index).unwrap();
                        new.fetch_add(u32::from(first), std::sync::atomic::Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(new.into_inner(), 40, "each piece is new once");
        assert_eq!(store.usage().bytes, length);
        assert!(read_all(&*entry).unwrap() == bytes);
    });
}

#[test]
fn water_marks_out_of_order_are_refused() {
    let options = MemoryOptions { high_water: 0.5, low_water: 0.6, ..MemoryOptions::default() };
    assert!(matches!(MemoryStore::new(options), Err(StoreError::Invalid(_))));
    let directory = tempfile::tempdir().unwrap();
    let options = FileOptions { high_water: f64::NAN, ..FileOptions::default() };
    assert!(matches!(FileStore::open(directory.path(), options), Err(StoreError::Invalid(_))));
}

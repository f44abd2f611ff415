use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// One thing that may happen to a store.
#[derive(Clone, Debug)]
enum Step {
    Evict,
    Pin(u8, bool),
    Read(u8, u64, usize),
    Remove(u8),
    Restart { clean: bool },
    Write(u8, u32),
}

const QUOTA: u64 = 600_000;

/// Lengths of the entries, by number: small, and of two to five pieces.
fn length_of(entry: u8) -> u64 {
    [40_000, 65_536, 65_537, 200_000, 300_000][usize::from(entry % 5)]
}

fn step() -> impl Strategy<Value = Step> {
    let entry = 0_u8..8;
    prop_oneof![
        1 => Just(Step::Evict),
        1 => (entry.clone(), any::<bool>()).prop_map(|(entry, pin)| Step::Pin(entry, pin)),
        6 => (entry.clone(), 0_u64..300_000, 0_usize..150_000).prop_map(|(e, offset, n)| Step::Read(e, offset, n)),
        1 => entry.clone().prop_map(Step::Remove),
        1 => any::<bool>().prop_map(|clean| Step::Restart { clean }),
        12 => (entry, 0_u32..5).prop_map(|(entry, piece)| Step::Write(entry, piece)),
    ]
}

/// What the store must hold at the most: it may evict, but never invent.
#[derive(Default)]
struct Model {
    held: BTreeMap<u8, BTreeSet<u32>>,
    pinned: BTreeSet<u8>,
}

impl Model {
    /// Takes note of what was evicted, and checks that what is held is what was written.
    fn check(&mut self, store: &dyn Store) -> Result<(), TestCaseError> {
        let mut total = 0;
        for entry in 0..8 {
            let found = store.find(&[7; 32], "acme", &key(entry, 1).task);
            let Some(found) = found.first() else {
                prop_assert!(!self.pinned.contains(&entry), "a pinned entry is gone");
                self.held.remove(&entry);
                continue;
            };
            let have: BTreeSet<u32> = found.have().iter().collect();
            prop_assert_eq!(&have, self.held.entry(entry).or_default());
            let layout = found.described().layout;
            total += have.iter().map(|index| layout.length_of(*index).unwrap()).sum::<u64>();
        }
        prop_assert_eq!(store.usage().bytes, total);
        prop_assert!(total <= QUOTA);
        Ok(())
    }

    fn run(&mut self, store: &dyn Store, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Evict => {
                store.evict(0);
            }
            Step::Pin(entry, pin) => {
                if store.set_pinned(&key(entry, 1), pin) && pin {
                    self.pinned.insert(entry);
                } else {
                    self.pinned.remove(&entry);
                }
            }
            Step::Read(entry, offset, count) => {
                let Some(found) = store.find(&[7; 32], "acme", &key(entry, 1).task).pop() else { return Ok(()) };
                if found.needs_proof() {
                    found.prove().unwrap();
                }
                let layout = found.described().layout;
                let mut buf = vec![0; count];
                let end = offset + count as u64;
                let mut pieces = layout.pieces_of(offset..end);
                let expected = end <= layout.length() && pieces.all(|piece| found.is_held(piece));
                prop_assert_eq!(found.read_at(offset, &mut buf).is_ok(), expected);
                prop_assert!(!expected || buf == content(layout.length(), entry)[offset as usize..end as usize]);
            }
            Step::Remove(entry) => {
                store.remove(&key(entry, 1)).unwrap();
                self.pinned.remove(&entry);
                self.held.remove(&entry);
            }
            Step::Restart { .. } => {}
            Step::Write(entry, piece) => self.write(store, entry, piece)?,
        }
        Ok(())
    }

    fn write(&mut self, store: &dyn Store, entry: u8, index: u32) -> Result<(), TestCaseError> {
        let opened = store.open(&key(entry, 1), &described(length_of(entry))).unwrap();
        if opened.needs_proof() {
            prop_assert_eq!(opened.prove().unwrap(), opened.have());
        }
        let layout = opened.described().layout;
        let index = index % layout.pieces();
        let was_held = opened.is_held(index);
        match write(&*opened, &content(layout.length(), entry), index) {
            Ok(new) => {
                prop_assert_eq!(new, !was_held);
                self.held.entry(entry).or_default().insert(index);
            }
            Err(error) => prop_assert!(matches!(error, StoreError::Full { .. }), "{error}"),
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_memory_store_holds_what_was_written(steps in prop::collection::vec(step(), 1..80)) {
        let store = MemoryStore::new(MemoryOptions { quota: QUOTA, ..MemoryOptions::default() }).unwrap();
        let mut model = Model::default();
        for step in &steps {
            model.run(&store, step)?;
            model.check(&store)?;
        }
    }

    #[test]
    fn a_file_store_holds_what_was_written(steps in prop::collection::vec(step(), 1..80)) {
        let directory = tempfile::tempdir().unwrap();
        let open = || {
            let options = FileOptions { quota: Some(QUOTA), ..FileOptions::default() };
            FileStore::open(directory.path(), options).unwrap()
        };
        let (mut store, mut model) = (Some(open()), Model::default());
        for step in &steps {
            if let (Step::Restart { clean }, Some(old)) = (step, store.take_if(|_| matches!(step, Step::Restart { .. }))) {
                if *clean {
                    old.flush().unwrap();
                }
                drop(old);
                store = Some(open());
            }
            let store = store.as_ref().unwrap();
            model.run(store, step)?;
            model.check(store)?;
        }
    }
}

//! What a loss of power leaves: writes that never came, came in part, or came in another order.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// The power goes and comes back; the number decides what of the unwritten is there.
    Crash(u64),
    /// Content cannot be written from here on, save so many bytes of each piece.
    FailContent(bool, usize),
    FailIndex(bool),
    Flush,
    Remove(u8),
    Spool(u8),
    Write(u8, u32),
    WriteIndex,
}

const ENTRIES: u8 = 6;

/// Lengths of the entries: in the index, and of two to five pieces.
fn length_of(entry: u8) -> u64 {
    [40_000, 65_536, 65_537, 200_000, 300_000, 1 << 18][usize::from(entry % ENTRIES)]
}

fn step() -> impl Strategy<Value = Step> {
    let entry = 0..ENTRIES;
    prop_oneof![
        3 => any::<u64>().prop_map(Step::Crash),
        1 => (any::<bool>(), 0_usize..70_000).prop_map(|(fails, bytes)| Step::FailContent(fails, bytes)),
        1 => any::<bool>().prop_map(Step::FailIndex),
        2 => Just(Step::Flush),
        1 => entry.clone().prop_map(Step::Remove),
        1 => entry.clone().prop_map(Step::Spool),
        12 => (entry, 0_u32..5).prop_map(|(entry, piece)| Step::Write(entry, piece)),
        3 => Just(Step::WriteIndex),
    ]
}

/// A store, its disk, and what must and may be held.
struct Crashing {
    directory: tempfile::TempDir,
    faults: Arc<faults::Faults>,
    store: Option<FileStore>,
    /// Held at the last flush, and not removed since: no crash may take it.
    durable: BTreeMap<u8, BTreeSet<u32>>,
    /// Written at some time.
    written: BTreeMap<u8, BTreeSet<u32>>,
}

impl Crashing {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let faults = Arc::new(faults::Faults::default());
        let store = Some(FileStore::open(directory.path(), faulty(&faults)).unwrap());
        Self { directory, faults, store, durable: BTreeMap::new(), written: BTreeMap::new() }
    }

    fn store(&self) -> &FileStore {
        self.store.as_ref().unwrap()
    }

    fn open(&self, entry: u8) -> Arc<dyn Entry> {
        let opened = self.store().open(&key(entry, 1), &described(length_of(entry))).unwrap();
        if opened.needs_proof() {
            opened.prove().unwrap();
        }
        opened
    }

    fn run(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Crash(seed) => self.crash(seed)?,
            Step::FailContent(fails, bytes) => {
                let error = if fails { rustix::io::Errno::NOSPC.raw_os_error() } else { 0 };
                self.faults.fail_content(error, bytes);
            }
            Step::FailIndex(fails) => self.faults.fail_index(fails),
            Step::Flush => {
                let held: Vec<_> = (0..ENTRIES).map(|entry| (entry, self.held(entry))).collect();
                if self.store().flush().is_ok() {
                    self.durable = held.into_iter().collect();
                }
            }
            Step::Remove(entry) => {
                self.durable.remove(&entry);
                self.store().remove(&key(entry, 1)).unwrap();
            }
            Step::Spool(entry) => self.spool(entry),
            Step::Write(entry, index) => {
                let opened = self.open(entry);
                let layout = opened.described().layout;
                let index = index % layout.pieces();
                match write(&*opened, &content(layout.length(), entry), index) {
                    Ok(_) => {
                        self.written.entry(entry).or_default().insert(index);
                    }
                    Err(error) => prop_assert!(matches!(error, StoreError::Full { .. }), "{error}"),
                }
            }
            Step::WriteIndex => {
                // It may fail: then what it says stays as it was, and what waits is written later.
                let _ = self.store().write_index();
            }
        }
        Ok(())
    }

    fn spool(&mut self, entry: u8) {
        let bytes = content(length_of(entry), entry);
        let described = described(length_of(entry));
        let Ok(mut spool) = self.store().spool() else { return };
        let finished = spool
            .append(&bytes)
            .and_then(|()| spool.finish(&key(entry, 1), &described, &values(&described.layout, &bytes)));
        if finished.is_ok() {
            self.written.insert(entry, (0..described.layout.pieces()).collect());
        } else {
            // A part of it may have been taken in.
            self.written.entry(entry).or_default().extend(0..described.layout.pieces());
        }
    }

    fn held(&self, entry: u8) -> BTreeSet<u32> {
        let found = self.store().find(&[7; 32], "acme", &key(entry, 1).task);
        found
            .first()
            .filter(|entry| !entry.needs_proof())
            .map(|found| found.have().iter().collect())
            .unwrap_or_default()
    }

    fn crash(&mut self, seed: u64) -> Result<(), TestCaseError> {
        let mut random = StdRng::seed_from_u64(seed);
        self.faults.lose_power();
        if let Some(store) = self.store.take() {
            store.abandon();
        }
        self.faults.restart(|below| random.random_range(0..below));
        self.store = Some(FileStore::open(self.directory.path(), faulty(&self.faults)).unwrap());
        prop_assert!(!self.directory.path().join("index.corrupt").exists(), "the index did not survive");
        self.check()
    }

    /// Whatever is held after a crash proves, and nothing that was durable is gone.
    fn check(&self) -> Result<(), TestCaseError> {
        let mut total = 0;
        for entry in 0..ENTRIES {
            let opened = self.open(entry);
            let layout = opened.described().layout;
            let bytes = content(layout.length(), entry);
            let held: BTreeSet<u32> = opened.have().iter().collect();
            for index in &held {
                let mut read = vec![0; layout.length_of(*index).unwrap() as usize];
                opened.read_at(layout.offset(*index), &mut read).unwrap();
                prop_assert!(read == piece(&layout, &bytes, *index), "piece {index} of entry {entry} is wrong");
                total += read.len() as u64;
            }
            let written = self.written.get(&entry).cloned().unwrap_or_default();
            prop_assert!(held.is_subset(&written), "entry {entry} holds {held:?} of {written:?}");
            let durable = self.durable.get(&entry).cloned().unwrap_or_default();
            prop_assert!(durable.is_subset(&held), "entry {entry} lost of {durable:?} all but {held:?}");
        }
        prop_assert_eq!(self.store().usage().bytes, total);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_held_after_a_loss_of_power_proves(
        steps in prop::collection::vec(step(), 1..60),
        last in any::<u64>(),
    ) {
        let mut crashing = Crashing::start();
        for step in steps.iter().chain([&Step::Crash(last)]) {
            crashing.run(step)?;
        }
    }
}

/// The simulated disk does lose and tear what was not made durable: else the test above would show nothing.
#[test]
fn the_simulated_disk_loses_what_was_not_made_durable() {
    let mut losses = 0;
    for seed in 0..20 {
        let mut crashing = Crashing::start();
        for index in 0..5 {
            crashing.run(&Step::Write(4, index)).unwrap();
        }
        crashing.run(&Step::WriteIndex).unwrap();
        crashing.run(&Step::Crash(seed)).unwrap();
        losses += 5 - crashing.held(4).len();
    }
    assert!((10..100).contains(&losses), "{losses} of 100 pieces were lost");
}

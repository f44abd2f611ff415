//! What `--recursive` has put into a directory, so that a file of an earlier version is told from one that somebody
//! changed.
//!
//! In a file of that directory: for each path the names of the versions that were fetched for it of late.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::error::Failure;
use crate::output::random;

/// In the directory.
pub(super) const NAME: &str = ".dfget-had.json";

/// The longest such file that is read.
const FILE_MAX: u64 = 64 << 20;

/// Versions of a path that are kept: more than one, since a fetch that did not come to its end leaves the one before.
const VERSIONS_MAX: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Had {
    path: PathBuf,
    versions: BTreeMap<String, Vec<String>>,
    changed: bool,
}

impl Had {
    /// What is known of a directory; nothing where there is no such file, or `anew` and none that can be read.
    ///
    /// # Errors
    /// What is there cannot be read: then nobody knows whose the files are.
    pub(super) fn load(dir: &Path, anew: bool) -> Result<Self, Failure> {
        let path = dir.join(NAME);
        let versions = match read(&path) {
            Ok(versions) => versions,
            Err(_) if anew => BTreeMap::new(),
            Err(failure) => {
                return Err(failure.hint("--overwrite fetches every file anew, also those that you changed"));
            }
        };
        Ok(Self { path, versions, changed: false })
    }

    /// The names of versions that were fetched for a path, the newest last. What is of none of them is somebody else's.
    pub(super) fn of(&self, path: &str) -> &[String] {
        self.versions.get(path).map_or(&[], Vec::as_slice)
    }

    /// A version is there, or is to be fetched: it is the newest.
    pub(super) fn note(&mut self, path: &str, version: String) {
        let known = self.versions.entry(path.to_owned()).or_default();
        if known.last() == Some(&version) {
            return;
        }
        known.retain(|known| *known != version);
        known.push(version);
        if known.len() > VERSIONS_MAX {
            known.remove(0);
        }
        self.changed = true;
    }

    pub(super) fn save(&self) -> Result<(), Failure> {
        if !self.changed {
            return Ok(());
        }
        let failed = |e: io::Error| Failure::io(format_args!("cannot write {}", self.path.display()), &e);
        let beside = self.path.with_file_name(format!("{NAME}-{:016x}", random()));
        let text = serde_json::to_vec(&self.versions).map_err(|e| failed(e.into()))?;
        let written = OpenOptions::new().write(true).create_new(true).open(&beside);
        let written = written.and_then(|mut file| file.write_all(&text)).and_then(|()| fs::rename(&beside, &self.path));
        written.map_err(|e| {
            let _ = fs::remove_file(&beside);
            failed(e)
        })
    }
}

fn read(path: &Path) -> Result<BTreeMap<String, Vec<String>>, Failure> {
    let failed = |e: io::Error| Failure::io(format_args!("cannot read {}", path.display()), &e);
    let found = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        found => found.map_err(failed)?,
    };
    if !found.is_file() || found.len() > FILE_MAX {
        return Err(Failure::usage(format!("{} is no file of ours", path.display())));
    }
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(FILE_MAX).read_to_string(&mut text)).map_err(failed)?;
    let broken = |e| Failure::usage(format!("{} is no file of ours, or is broken: {e}", path.display()));
    serde_json::from_str(&text).map_err(broken)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn load(dir: &Path) -> Had {
        Had::load(dir, false).unwrap()
    }

    #[test]
    fn what_was_fetched_is_known_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut had = load(dir.path());
        assert!(had.of("a").is_empty(), "nobody knows");
        for version in 1..=6 {
            had.note("a", version.to_string());
        }
        had.save().unwrap();
        let had = load(dir.path());
        assert_eq!(had.of("a"), ["3", "4", "5", "6"]);
        assert!(had.of("b").is_empty());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    /// However often its successors could not be fetched.
    #[test]
    fn what_is_there_is_not_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let mut had = load(dir.path());
        had.note("a", "1".to_owned());
        for version in 2..=9 {
            had.note("a", "1".to_owned());
            had.note("a", version.to_string());
        }
        assert_eq!(had.of("a"), ["7", "8", "1", "9"]);
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        let refused = |what: &str| {
            let failure = Had::load(dir.path(), false).unwrap_err();
            assert!(format!("{failure:?}").contains("--overwrite"), "{what}: {failure:?}");
            assert!(Had::load(dir.path(), true).unwrap().of("a").is_empty(), "{what}");
        };
        for broken in ["[", "", "{\"a\": 1}"] {
            fs::write(&path, broken).unwrap();
            refused(broken);
        }
        File::create(&path).unwrap().set_len(FILE_MAX + 1).unwrap();
        refused("too large");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/nowhere", &path).unwrap();
        refused("a link");
    }
}

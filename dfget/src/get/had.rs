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
    /// What is known of a directory; nothing where there is no such file, or none that can be read.
    pub(super) fn load(dir: &Path) -> Self {
        let path = dir.join(NAME);
        let is_file = fs::symlink_metadata(&path).is_ok_and(|found| found.is_file());
        let read = || {
            let mut text = String::new();
            File::open(&path).ok()?.take(FILE_MAX).read_to_string(&mut text).ok()?;
            serde_json::from_str(&text).ok()
        };
        let versions = is_file.then(read).flatten().unwrap_or_default();
        Self { path, versions, changed: false }
    }

    /// Whether a file that is of this version is one that somebody else made: another was fetched.
    pub(super) fn is_foreign(&self, path: &str, version: &str) -> bool {
        self.versions.get(path).is_some_and(|known| !known.iter().any(|known| known == version))
    }

    /// A version is there, or is to be fetched.
    pub(super) fn note(&mut self, path: &str, version: String) {
        let known = self.versions.entry(path.to_owned()).or_default();
        if known.contains(&version) {
            return;
        }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_was_fetched_is_not_foreign() {
        let dir = tempfile::tempdir().unwrap();
        let mut had = Had::load(dir.path());
        assert!(!had.is_foreign("a", "1"), "nobody knows");
        for version in 1..=6 {
            had.note("a", version.to_string());
        }
        had.save().unwrap();
        let had = Had::load(dir.path());
        let foreign: Vec<_> = (1..=7).filter(|version| had.is_foreign("a", &version.to_string())).collect();
        assert_eq!(foreign, [1, 2, 7]);
        assert!(!had.is_foreign("b", "7"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
        fs::write(dir.path().join(NAME), "[").unwrap();
        assert!(!Had::load(dir.path()).is_foreign("a", "7"));
    }
}

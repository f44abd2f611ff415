//! Real file systems on loop devices and in memory: sharing blocks, and disks that are really full.
//!
//! They take root and the tools that make them. Without these the tests say so and end, except where `CI` is `true`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

/// A file system of its own, unmounted when it is dropped.
struct Mounted {
    _image: tempfile::TempDir,
    path: PathBuf,
}

impl Mounted {
    /// In memory, with `options`; `None` where it cannot be had.
    fn tmpfs(options: &str) -> Option<Self> {
        Self::mount("tmpfs", |path| run("mount", &["-t", "tmpfs", "-o", options, "tmpfs", text(path)]))
    }

    /// On a loop device, made by `mkfs` with `arguments`; `None` where it cannot be had.
    fn on_loop(mkfs: &str, arguments: &[&str]) -> Option<Self> {
        Self::mount(mkfs, |path| {
            let image = path.with_extension("image");
            fs::File::create(&image).and_then(|file| file.set_len(512 << 20)).map_err(|e| e.to_string())?;
            run(mkfs, &[arguments, &[text(&image)]].concat())?;
            run("mount", &["-o", "loop", text(&image), text(path)])
        })
    }

    fn mount(what: &str, mount: impl FnOnce(&Path) -> Result<(), String>) -> Option<Self> {
        let image = tempfile::tempdir().unwrap();
        let path = image.path().join("mounted");
        fs::create_dir(&path).unwrap();
        let mounted = match rustix::process::geteuid().is_root() {
            true => mount(&path),
            false => Err("it takes root".to_owned()),
        };
        match mounted {
            Ok(()) => Some(Self { _image: image, path }),
            Err(why) => {
                assert!(std::env::var("CI").as_deref() != Ok("true"), "{what}: {why}");
                eprintln!("SKIPPED: no file system by {what}: {why}");
                None
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(why) = run("umount", &[text(&self.path)]) {
            eprintln!("{} stays mounted: {why}", self.path.display());
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let done = Command::new(program).args(arguments).output().map_err(|e| format!("{program}: {e}"))?;
    match done.status.success() {
        true => Ok(()),
        false => Err(format!("{program}: {}", String::from_utf8_lossy(&done.stderr).trim())),
    }
}

/// Outputs share the store's blocks, are whole, and stay as they are when either side is written.
fn outputs_share_blocks(mounted: &Mounted) {
    const LENGTH: u64 = 64 << 20;
    let store = quiet(&mounted.path.join("store"));
    let (entry, bytes) = complete(&store, 1, LENGTH);
    store.flush().unwrap();
    let free = || {
        let stat = rustix::fs::statvfs(&mounted.path).unwrap();
        stat.f_bfree * stat.f_frsize
    };
    run("sync", &["-f", text(&mounted.path)]).unwrap();
    let before = free();
    for (number, follows) in [false, true].into_iter().enumerate() {
        let output = mounted.path.join(format!("output-{number}"));
        let how = if follows {
            let output = Arc::clone(&entry).output(&output, ExportOptions::default()).unwrap();
            output.catch_up().unwrap();
            output.finish().unwrap()
        } else {
            entry.export(&output, ExportOptions::default()).unwrap()
        };
        assert_eq!(how, Exported::Reflink);
        assert!(fs::read(&output).unwrap() == bytes);
        // Somebody writes to the output: the store's content is not theirs to change, and owes no proof.
        fs::write(&output, "mine").unwrap();
        assert!(!entry.needs_proof());
        assert!(read_all(&*entry).unwrap() == bytes);
    }
    let output = mounted.path.join("kept");
    assert_eq!(entry.export(&output, ExportOptions::default()).unwrap(), Exported::Reflink);
    run("sync", &["-f", text(&mounted.path)]).unwrap();
    let taken = before.saturating_sub(free());
    assert!(taken < LENGTH / 8, "an output that shares its blocks took {taken} bytes");
    // The store lets its content go: the output has it still.
    drop(entry);
    assert!(store.remove(&key(1, 1)).unwrap());
    assert!(fs::read(&output).unwrap() == bytes);
}

#[test]
fn outputs_share_blocks_on_xfs() {
    if let Some(mounted) = Mounted::on_loop("mkfs.xfs", &["-q", "-m", "reflink=1"]) {
        outputs_share_blocks(&mounted);
    }
}

#[test]
fn outputs_share_blocks_on_btrfs() {
    if let Some(mounted) = Mounted::on_loop("mkfs.btrfs", &["-q"]) {
        outputs_share_blocks(&mounted);
    }
}

/// A disk that is really full, of bytes or of files: the task keeps what it holds, says what is wrong, and goes on
/// when there is space.
#[test]
fn a_disk_that_is_full_keeps_what_it_holds() {
    for options in ["size=8m", "size=64m,nr_inodes=20"] {
        let Some(mounted) = Mounted::tmpfs(options) else { return };
        let store = quiet(&mounted.path.join("store"));
        let bytes = content(12 << 20, 1);
        let first = store.open(&key(1, 1), &described(12 << 20)).unwrap();
        write(&*first, &bytes, 0).unwrap();
        store.flush().unwrap();
        let fillers: Vec<_> = (0..200).map(|n| mounted.path.join(format!("filler-{n}"))).collect();
        let filled = |path: &PathBuf| fs::write(path, vec![1; 256 << 10]).is_err();
        assert!(fillers.iter().any(filled), "{options}: the disk can be filled");
        let held = first.have();
        // Whether it is bytes or files that lack: some task cannot be taken in.
        let errors: Vec<StoreError> = (2..6)
            .filter_map(|seed| {
                let entry = store.open(&key(seed, 1), &described(12 << 20)).unwrap();
                (0..192).find_map(|index| write(&*entry, &content(12 << 20, seed), index).err())
            })
            .collect();
        assert!(!errors.is_empty(), "{options}");
        for error in errors {
            assert!(matches!(error, StoreError::Full { source: Some(_), .. }), "{options}: {error}");
            assert_eq!(error.kind(), crate::ErrorKind::Full);
            assert!(error.to_string().contains("no space for"), "{error}");
        }
        assert_eq!(first.have(), held);
        for filler in &fillers {
            let _ = fs::remove_file(filler);
        }
        for seed in 2..6 {
            assert!(store.remove(&key(seed, 1)).unwrap());
        }
        for index in 1..8 {
            write(&*first, &bytes, index).unwrap();
        }
        drop(first);
        store.flush().unwrap();
        drop(store);
        let store = quiet(&mounted.path.join("store"));
        let first = store.open(&key(1, 1), &described(12 << 20)).unwrap();
        assert_eq!(first.prove().unwrap().iter().collect::<Vec<_>>(), (0..8).collect::<Vec<_>>(), "{options}");
    }
}

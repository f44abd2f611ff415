//! Repositories of a hub of models, as files.

use std::fs;

use dragonfly_testkit::{Hub, HubConfig};

use super::*;
use crate::harness::Done;

const MODEL: &str = "models/lib/model";

/// Where what was fetched is noted.
const NOTE: &str = ".dfget-had.json";

#[test]
fn a_model_becomes_a_directory_that_follows_its_branch() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for (scheme, alone) in [("hf", false), ("hf", true), ("modelscope", false), ("modelscope", true)] {
        let hub = runtime.block_on(Hub::start(HubConfig::default())).unwrap();
        let (first, second) = (whole(1), whole(2));
        hub.put(MODEL, "config.json", "{}");
        hub.put(MODEL, "weights/model.bin", first.clone());
        hub.put(MODEL, "weights/tokens.txt", "tokens");
        let settings = format!("{scheme}.endpoint={}", hub.endpoint());
        let daemon = (!alone).then(|| Daemon::with_role("peer").args(["--storage", &settings]).start());
        let dir = tempfile::tempdir().unwrap();
        let url = format!("{scheme}://lib/model");
        let get = || {
            let mut command = match &daemon {
                None => dfget(dir.path()),
                Some(daemon) => daemon.dfget_command([] as [&str; 0]),
            };
            let args = ["--recursive", &url, "--storage", &settings, "-O", "out", "--exclude", "*.txt"];
            let done = run(command.current_dir(dir.path()).args(args));
            assert!(done.is_code(0), "{done:?}");
            done
        };
        let out = dir.path().join("out");
        get();
        assert_eq!(fs::read(out.join("weights/model.bin")).unwrap(), first);
        assert_eq!(fs::read(out.join("config.json")).unwrap(), b"{}");
        assert!(!out.join("weights/tokens.txt").exists());
        let sent = |hub: &Hub| hub.seen().iter().filter(|seen| seen.cdn).count();
        // The small file comes from the hub itself.
        let asked = |hub: &Hub| hub.seen().iter().filter(|seen| seen.path.contains("config.json")).count();
        let before = (sent(&hub), asked(&hub));
        assert!(before.1 > 0, "{:?}", hub.seen());
        let done = get();
        assert!(done.stderr.contains("2 files are there already"), "{done:?}");
        assert_eq!((sent(&hub), asked(&hub)), before, "what is there is not asked for again");
        // What somebody changed is his, be the repository's another by then or not.
        fs::write(out.join("config.json"), "{\"mine\": 1}").unwrap();
        for _ in 0..2 {
            let done = get();
            assert!(done.stderr.contains("1 files are not as dfget put them"), "{done:?}");
            assert_eq!(fs::read(out.join("config.json")).unwrap(), b"{\"mine\": 1}", "{scheme} {alone}");
            hub.put(MODEL, "config.json", "{ }");
        }
        fs::remove_file(out.join("config.json")).unwrap();
        // As long as they were.
        hub.put(MODEL, "config.json", "[]");
        hub.put(MODEL, "weights/model.bin", second.clone());
        get();
        assert_eq!(fs::read(out.join("weights/model.bin")).unwrap(), second, "{scheme} {alone}");
        assert_eq!(fs::read(out.join("config.json")).unwrap(), b"[]");
    }
}

/// A directory and a hub, of which each `get` says what comes of it.
struct Scene {
    dir: tempfile::TempDir,
    hub: Hub,
    runtime: tokio::runtime::Runtime,
}

impl Scene {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let hub = runtime.block_on(Hub::start(HubConfig::default())).unwrap();
        Self { dir: tempfile::tempdir().unwrap(), hub, runtime }
    }

    fn run(&self, scheme: &str, args: &[&str]) -> Done {
        let (url, settings) = (format!("{scheme}://lib/model"), format!("{scheme}.endpoint={}", self.hub.endpoint()));
        let mut command = dfget(self.dir.path());
        command.args(["--recursive", &url, "--storage", &settings, "-O", "out"]).args(args);
        run(command.current_dir(self.dir.path()))
    }

    /// What is said of files that are left.
    fn get(&self, scheme: &str, args: &[&str]) -> String {
        let done = self.run(scheme, args);
        assert!(done.is_code(0), "{done:?}");
        done.stderr
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("out").join(name)
    }

    fn text(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn stop(self) {
        drop(self.hub);
        self.runtime.shutdown_background();
    }
}

/// A hub calls a file by another kind of name once it is a large one, and another hub calls it otherwise.
#[test]
fn a_file_is_followed_whatever_names_it_has() {
    let scene = Scene::start();
    let (small, large) = (|at: u8| vec![at; 100], |at: u8| vec![at; 20_000]);
    for (at, scheme, content) in [
        (0, "hf", small(0)),
        (1, "hf", large(1)),
        (2, "hf", small(2)),
        (3, "hf", large(3)),
        (4, "modelscope", small(4)),
        (5, "hf", small(5)),
        (6, "modelscope", large(6)),
        (7, "hf", small(7)),
    ] {
        scene.hub.put(MODEL, "tokenizer.json", content.clone());
        let said = scene.get(scheme, &[]);
        assert!(!said.contains("not as dfget put them"), "{at}: {said}");
        assert!(scene.text("tokenizer.json") == content, "{at}");
    }
    fs::write(scene.path("tokenizer.json"), "mine").unwrap();
    scene.hub.put(MODEL, "tokenizer.json", large(8));
    assert!(scene.get("hf", &[]).contains("1 files are not as dfget put them"));
    assert_eq!(scene.text("tokenizer.json"), b"mine");
    scene.stop();
}

/// What is not known to have been fetched is left, and a note that cannot be read is not taken for none.
#[test]
fn files_of_others_are_left() {
    for scheme in ["hf", "modelscope"] {
        let scene = Scene::start();
        scene.hub.put(MODEL, "config.json", "{}");
        fs::create_dir(scene.dir.path().join("out")).unwrap();
        fs::write(scene.path("config.json"), "mine").unwrap();
        // In a directory without a note, and in one that has one of other files.
        assert!(scene.get(scheme, &[]).contains("1 files are not as dfget put them"));
        scene.hub.put(MODEL, "other.json", "[]");
        for _ in 0..2 {
            assert!(scene.get(scheme, &[]).contains("1 files are not as dfget put them"));
        }
        assert_eq!((scene.text("config.json"), scene.text("other.json")), (b"mine".to_vec(), b"[]".to_vec()));
        let note = fs::read(scene.path(NOTE)).unwrap();
        fs::write(scene.path(NOTE), "[").unwrap();
        scene.hub.put(MODEL, "other.json", "[ ]");
        let refused = scene.run(scheme, &[]);
        assert!(!refused.is_code(0) && refused.stderr.contains("--overwrite"), "{refused:?}");
        assert_eq!((scene.text("config.json"), scene.text("other.json")), (b"mine".to_vec(), b"[]".to_vec()));
        fs::write(scene.path(NOTE), note).unwrap();
        scene.get(scheme, &[]);
        assert_eq!((scene.text("config.json"), scene.text("other.json")), (b"mine".to_vec(), b"[ ]".to_vec()));
        // Once it was fetched it is followed.
        fs::write(scene.path(NOTE), "[").unwrap();
        scene.get(scheme, &["--overwrite"]);
        assert_eq!(scene.text("config.json"), b"{}");
        scene.hub.put(MODEL, "config.json", "{ }");
        assert!(!scene.get(scheme, &[]).contains("not as dfget put them"));
        assert_eq!(scene.text("config.json"), b"{ }");
        scene.stop();
    }
}

/// A repository that was put there from such a directory has the note of somebody else.
#[test]
fn a_note_of_somebody_else_is_left_out() {
    let scene = Scene::start();
    scene.hub.put(MODEL, "config.json", "{}");
    scene.hub.put(MODEL, NOTE, "{\"config.json\": [\"git:00\"]}");
    let said = scene.get("hf", &[]);
    assert!(said.contains("is left out"), "{said}");
    assert!(!String::from_utf8(scene.text(NOTE)).unwrap().contains("git:00"));
    assert_eq!(scene.text("config.json"), b"{}");
    scene.stop();
}

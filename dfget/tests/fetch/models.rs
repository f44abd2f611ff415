//! Repositories of a hub of models, as files.

use std::fs;

use dragonfly_testkit::{Hub, HubConfig};

use super::*;

const MODEL: &str = "models/lib/model";

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
            assert!(done.stderr.contains("1 files were changed here"), "{done:?}");
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

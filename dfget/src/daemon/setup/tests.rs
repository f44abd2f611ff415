#![allow(clippy::unwrap_used)]

use super::*;

fn args(client: ClientKind, root: &Path) -> Setup {
    let registry = vec!["registry.example:5000".to_owned()];
    let gateway = super::super::gateway::ADDRESS;
    Setup { client, gateway, registry, undo: false, dry_run: false, root: root.to_owned() }
}

const ALL: [(ClientKind, &str); 10] = [
    (ClientKind::Apt, "etc/apt/apt.conf.d/95dragonfly"),
    (ClientKind::Containerd, "etc/containerd/certs.d/registry.example:5000/hosts.toml"),
    (ClientKind::Crio, "etc/containers/registries.conf.d/50-dragonfly.conf"),
    (ClientKind::Dnf, "etc/dnf/dnf.conf"),
    (ClientKind::Docker, "etc/docker/daemon.json"),
    (ClientKind::Huggingface, "etc/dragonfly/huggingface.env"),
    (ClientKind::Maven, "etc/maven/settings.xml"),
    (ClientKind::Npm, "etc/npmrc"),
    (ClientKind::Pip, "etc/pip.conf"),
    (ClientKind::Podman, "etc/containers/registries.conf.d/50-dragonfly.conf"),
];

const MAVEN: &str = "etc/maven/settings.xml";

/// What is ours in Maven's settings stands where Maven looks for it, not in a comment.
#[test]
fn proxies_of_maven_are_where_they_count() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(MAVEN);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    for (before, start) in [
        ("<settings>\n<!--\n<proxies>\n-->\n<proxies>\n</proxies>\n</settings>\n", "-->\n<proxies>\n<!-- dfdaemon"),
        ("<settings>\n<!--\n<proxies>\n-->\n</settings>\n", "-->\n<!-- dfdaemon setup: begin -->\n<proxies>\n<proxy>"),
    ] {
        fs::write(&file, before).unwrap();
        setup(&args(ClientKind::Maven, dir.path())).unwrap();
        let after = fs::read_to_string(&file).unwrap();
        assert!(after.contains(start) && after.matches("<proxy>").count() == 1, "{after}");
    }
}

/// Others add to a file that was not there before: what is theirs stays, between our lines and around them.
#[test]
fn what_others_add_to_a_new_file_stays() {
    for (client, path, before, theirs) in [
        (ClientKind::Maven, MAVEN, "</settings>\n", "  <offline>false</offline>\n"),
        (ClientKind::Maven, MAVEN, "</proxies>\n", "<proxy><id>other</id></proxy>\n"),
        (ClientKind::Npm, "etc/npmrc", "", "fund=false\n"),
        (ClientKind::Pip, "etc/pip.conf", "", "timeout = 60\n"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(path);
        setup(&args(client, dir.path())).unwrap();
        let written = fs::read_to_string(&file).unwrap();
        let at = if before.is_empty() { written.len() } else { written.find(before).unwrap() };
        fs::write(&file, format!("{}{theirs}{}", &written[..at], &written[at..])).unwrap();
        for _ in 0..2 {
            setup(&args(client, dir.path())).unwrap();
            let after = fs::read_to_string(&file).unwrap();
            assert!(after.contains(theirs) && names_gateway(&after), "{client:?}: {after}");
            assert_eq!(after.matches("65010").count(), written.matches("65010").count(), "{after}");
        }
        setup(&Setup { undo: true, ..args(client, dir.path()) }).unwrap();
        let left = fs::read_to_string(&file).unwrap();
        assert!(left.contains(theirs) && !left.contains("dfdaemon") && !left.contains("65010"), "{client:?}: {left}");
        assert!(client != ClientKind::Pip || left.starts_with("[global]\n"), "{left}");
        let again = setup(&Setup { undo: true, ..args(client, dir.path()) }).unwrap();
        assert!(again.contains("nothing of ours"), "{again}");
    }
}

/// The file that a link leads to is changed, and stays whose it is.
#[test]
fn links_and_owners_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (file, real) = (dir.path().join("etc/npmrc"), dir.path().join("shared/npmrc"));
    for parent in [&file, &real] {
        fs::create_dir_all(parent.parent().unwrap()).unwrap();
    }
    fs::write(&real, "fund=false\n").unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    // As far as who runs this may.
    let _ = std::os::unix::fs::chown(&real, Some(1234), Some(2345));
    std::os::unix::fs::symlink("../shared/npmrc", &file).unwrap();
    let of = || fs::metadata(&real).map(|meta| (meta.uid(), meta.gid(), meta.permissions().mode() & 0o777)).unwrap();
    let before = of();
    setup(&args(ClientKind::Npm, dir.path())).unwrap();
    assert!(names_gateway(&fs::read_to_string(&real).unwrap()));
    assert!(fs::symlink_metadata(&file).unwrap().is_symlink());
    assert_eq!(of(), before);
    setup(&Setup { undo: true, ..args(ClientKind::Npm, dir.path()) }).unwrap();
    assert_eq!((fs::read_to_string(&real).unwrap(), of()), ("fund=false\n".to_owned(), before));
}

/// Links of an image that is built lead where they lead in it, and never out of it: neither those of files nor those of the
/// directories that files are in.
#[test]
fn links_do_not_lead_out_of_the_root() {
    let link = |to: &Path, at: &Path| {
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(to, at).unwrap();
    };
    let undo = |client, root: &Path| Setup { undo: true, ..args(client, root) };
    for (client, path) in ALL {
        let (scene, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = scene.path().join("root");
        let parent = Path::new(path).parent().unwrap();
        // To the outside, as somebody without this root sees it: nobody there has such a file.
        let beside = scene.path().join("beside");
        fs::create_dir(&beside).unwrap();
        let climbing = PathBuf::from("../".repeat(parent.components().count()) + "beside");
        for (to, outside) in [(other.path(), other.path()), (&climbing, &beside)] {
            link(to, &root.join(parent));
            for asked in [args(client, &root), undo(client, &root), Setup { dry_run: true, ..args(client, &root) }] {
                let refused = format!("{:?}", setup(&asked).unwrap_err());
                assert!(refused.contains("which is not there"), "{client:?}: {refused}");
            }
            assert_eq!(fs::read_dir(outside).unwrap().count(), 0, "{client:?}");
            fs::remove_dir_all(&root).unwrap();
        }
        let outside = other.path().join("file");
        fs::write(&outside, "theirs").unwrap();
        link(&outside, &root.join(path));
        setup(&args(client, &root)).unwrap_err();
        assert_eq!(fs::read_to_string(&outside).unwrap(), "theirs", "{client:?}");
        fs::remove_dir_all(&root).unwrap();
        // Within it, whatever a path says that climbs: above a root is that root.
        for to in ["/shared", "../../../../../../../../../../shared"] {
            fs::create_dir_all(root.join("shared")).unwrap();
            link(Path::new(to), &root.join(parent));
            setup(&args(client, &root)).unwrap();
            let real = root.join("shared").join(Path::new(path).file_name().unwrap());
            assert!(names_gateway(&fs::read_to_string(&real).unwrap()), "{client:?}");
            setup(&undo(client, &root)).unwrap();
            assert!(!real.exists() && root.join(parent).is_symlink(), "{client:?}");
            fs::remove_dir_all(&root).unwrap();
        }
        link(Path::new("etc"), &root.join("etc"));
        let refused = format!("{:?}", setup(&args(client, &root)).unwrap_err());
        assert!(refused.contains("in a circle"), "{client:?}: {refused}");
    }
}

/// Where nothing but ours is in a file that a link leads to, nothing is left in it, and the link stays.
#[test]
fn what_links_lead_to_is_taken_back() {
    for (client, path) in ALL {
        let dir = tempfile::tempdir().unwrap();
        let (file, real) = (dir.path().join(path), dir.path().join("shared/file"));
        setup(&args(client, dir.path())).unwrap();
        fs::create_dir_all(real.parent().unwrap()).unwrap();
        fs::rename(&file, &real).unwrap();
        std::os::unix::fs::symlink("/shared/file", &file).unwrap();
        let undo = Setup { undo: true, ..args(client, dir.path()) };
        let told = setup(&undo).unwrap();
        assert!(told.contains("the link to it stays"), "{client:?}: {told}");
        assert!(fs::symlink_metadata(&file).unwrap().is_symlink(), "{client:?}");
        let left = fs::read_to_string(&real).unwrap();
        let nothing = match client {
            ClientKind::Docker => "{}\n",
            ClientKind::Maven => "<settings>\n<proxies>\n</proxies>\n</settings>\n",
            _ => "",
        };
        assert_eq!(left, nothing, "{client:?}");
        assert!(setup(&undo).unwrap().contains("nothing of ours"), "{client:?}");
    }
}

/// Somebody cut a mark off, or has lines of ours twice: nobody can tell whose the rest is. It is not taken back, not added
/// to, and is told of.
#[test]
fn what_is_torn_is_left_and_told_of() {
    const XML: (&str, &str) = ("<!-- dfdaemon setup: begin -->\n", "<!-- dfdaemon setup: end -->\n");
    const PLAIN: (&str, &str) = ("# dfdaemon setup: begin\n", "# dfdaemon setup: end\n");
    for (client, path, before, (begin, end), ours) in [
        (ClientKind::Maven, MAVEN, None, XML, "<host>127.0.0.1</host>"),
        (ClientKind::Maven, MAVEN, Some("<settings>\n</settings>\n"), XML, "<host>127.0.0.1</host>"),
        (ClientKind::Npm, "etc/npmrc", Some("fund=false\n"), PLAIN, "proxy=http://127.0.0.1:65010"),
        (ClientKind::Pip, "etc/pip.conf", None, PLAIN, "proxy = http://127.0.0.1:65010"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(path);
        if let Some(before) = before {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, before).unwrap();
        }
        setup(&args(client, dir.path())).unwrap();
        let written = fs::read_to_string(&file).unwrap();
        for torn in [
            written.replacen(end, "", 1),
            written.replacen(begin, "", 1),
            written.replacen(begin, &format!("{begin}{begin}"), 1),
            written.replacen(end, "", 1) + &written,
            written.replacen(end, end.trim_end(), 1) + "x=y\n",
        ] {
            fs::write(&file, &torn).unwrap();
            let undo = Setup { undo: true, ..args(client, dir.path()) };
            let refused = format!("{:?}", setup(&undo).unwrap_err());
            assert!(refused.contains("could not be taken back") && refused.contains(path), "{refused}");
            let kept = if torn.contains(begin) { begin } else { end };
            for left in [kept.trim_end(), ours] {
                let number = torn.lines().position(|line| line.trim() == left).unwrap() + 1;
                assert!(refused.contains(&format!("line {number}: {left}")), "{client:?} {left}: {refused}");
            }
            assert!(setup(&args(client, dir.path())).is_err(), "{client:?}");
            assert_eq!(fs::read_to_string(&file).unwrap(), torn, "{client:?}");
        }
        // Whole, but for how its lines end.
        if client == ClientKind::Npm {
            fs::write(&file, written.replace('\n', "\r\n")).unwrap();
            setup(&Setup { undo: true, ..args(client, dir.path()) }).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), "fund=false\r\n");
        }
    }
}

fn names_gateway(text: &str) -> bool {
    text.contains("127.0.0.1:65010") || text.contains("<host>127.0.0.1</host>\n  <port>65010</port>")
}

#[test]
fn what_is_set_up_is_taken_back() {
    for (client, path) in ALL {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(path);
        let shown = setup(&Setup { dry_run: true, ..args(client, dir.path()) }).unwrap();
        assert!(!file.exists(), "a dry run writes nothing");
        setup(&args(client, dir.path())).unwrap();
        let written = fs::read_to_string(&file).unwrap();
        assert!(names_gateway(&written) && shown.contains(&written), "{client:?}: {written}");
        setup(&args(client, dir.path())).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), written, "{client:?}: twice is once");
        setup(&Setup { undo: true, ..args(client, dir.path()) }).unwrap();
        assert!(!file.exists(), "{client:?}");
        let again = setup(&Setup { undo: true, ..args(client, dir.path()) }).unwrap();
        assert!(again.contains("not there"), "{again}");
    }
}

/// Who takes it back need not know any more for which registries it was.
#[test]
fn undo_needs_no_names() {
    for client in [ClientKind::Containerd, ClientKind::Crio, ClientKind::Podman] {
        let dir = tempfile::tempdir().unwrap();
        let names = ["registry.example:5000".to_owned(), "other.example".to_owned()];
        setup(&Setup { registry: names.to_vec(), ..args(client, dir.path()) }).unwrap();
        let theirs = dir.path().join("etc/containerd/certs.d/theirs.example/hosts.toml");
        fs::create_dir_all(theirs.parent().unwrap()).unwrap();
        fs::write(&theirs, "server = \"https://theirs.example\"\n").unwrap();
        let undo = || setup(&Setup { undo: true, registry: Vec::new(), ..args(client, dir.path()) }).unwrap();
        let told = undo();
        let removed = if client == ClientKind::Containerd { 2 } else { 1 };
        assert_eq!(told.matches(": removed").count(), removed, "{told}");
        assert!(theirs.exists());
        assert!(undo().contains("not there"));
        let none = setup(&Setup { registry: Vec::new(), ..args(client, dir.path()) });
        assert_eq!(none.is_ok(), client == ClientKind::Containerd, "to set it up two of them want names");
    }
}

#[test]
fn what_others_wrote_stays() {
    let dir = tempfile::tempdir().unwrap();
    for (client, path, before) in [
        (ClientKind::Dnf, "etc/dnf/dnf.conf", "[main]\ngpgcheck=1\n\n[other]\nx=1\n"),
        (ClientKind::Dnf, "etc/dnf/dnf.conf", "[other]\nx=1\n"),
        (ClientKind::Pip, "etc/pip.conf", "[install]\nx = 1\n[global]\ntimeout = 60\n"),
        (ClientKind::Npm, "etc/npmrc", "fund=false\n"),
        (
            ClientKind::Maven,
            MAVEN,
            "<settings>\n  <!-- <proxies> -->\n  <proxies>\n  <a b=\"c\"/></proxies>\n</settings>\n",
        ),
        (
            ClientKind::Maven,
            MAVEN,
            "<?xml version=\"1.0\"?>\n<settings>\n  <!-- a proxy:\n <proxies> -->\n</settings>\n",
        ),
        (ClientKind::Docker, "etc/docker/daemon.json", "{\n  \"debug\": true\n}\n"),
        (
            ClientKind::Docker,
            "etc/docker/daemon.json",
            "{\n  \"registry-mirrors\": [\n    \"https://other.example\"\n  ]\n}\n",
        ),
    ] {
        let file = dir.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, before).unwrap();
        setup(&args(client, dir.path())).unwrap();
        let after = fs::read_to_string(&file).unwrap();
        assert!(names_gateway(&after), "{after}");
        for line in before.lines().filter(|line| line.contains(['=', ':']) && !line.ends_with('[')) {
            assert!(after.contains(line.trim().trim_end_matches(',')), "{line:?} is kept in {after}");
        }
        setup(&Setup { undo: true, ..args(client, dir.path()) }).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), before, "{client:?}");
    }
}

#[test]
fn files_of_others_are_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    for (client, path, before) in [
        (ClientKind::Apt, "etc/apt/apt.conf.d/95dragonfly", "Acquire::Retries \"3\";\n"),
        (ClientKind::Docker, "etc/docker/daemon.json", "[]"),
        (ClientKind::Docker, "etc/docker/daemon.json", "{\"registry-mirrors\": 1}"),
        (ClientKind::Docker, "etc/docker/daemon.json", "{"),
        (ClientKind::Huggingface, "etc/dragonfly/huggingface.env", "HF_TOKEN=x\n"),
        (ClientKind::Maven, MAVEN, "<settings><proxies/>\n</settings>\n"),
        (ClientKind::Maven, MAVEN, "<settings>\n<proxies><proxy/></proxies>\n</settings>\n"),
        (ClientKind::Maven, MAVEN, "<settings></settings>\n"),
        (ClientKind::Maven, MAVEN, "<!-- <settings></settings> -->\n"),
    ] {
        let file = dir.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, before).unwrap();
        assert!(setup(&args(client, dir.path())).is_err(), "{client:?} {before}");
        let undo = setup(&Setup { undo: true, ..args(client, dir.path()) }).unwrap();
        assert!(undo.contains("nothing of ours"), "{undo}");
        assert_eq!(fs::read_to_string(&file).unwrap(), before);
    }
}

#[test]
fn names_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    for wrong in ["", "..", "a/b", "a\"b", "a b", "../../x"] {
        let registry = vec![wrong.to_owned()];
        let args = Setup { registry, ..args(ClientKind::Containerd, dir.path()) };
        assert!(setup(&args).is_err(), "{wrong:?}");
    }
    let none = Setup { registry: Vec::new(), ..args(ClientKind::Podman, dir.path()) };
    assert!(setup(&none).is_err());
    let all = Setup { registry: Vec::new(), ..args(ClientKind::Containerd, dir.path()) };
    assert!(setup(&all).unwrap().contains("_default/hosts.toml"));
}

//! The gateway's authority, and settings of the gateway that cannot be as they are.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::harness::{Done, dfdaemon, run};

fn ca(dir: &Path, args: &[&str]) -> Done {
    run(dfdaemon(dir).args(["ca", "--data-dir", "data"]).args(args))
}

fn shown(done: &Done) -> Value {
    assert!(done.is_code(0), "{done:?}");
    serde_json::from_str(&done.text()).unwrap()
}

/// Whether these settings are sound, and what is said of them.
fn check(dir: &Path, args: &[&str]) -> Done {
    run(dfdaemon(dir).args(["--check-config", "--data-dir", "data", "--role", "peer,gateway"]).args(args))
}

#[test]
fn an_authority_is_created_once_and_renewed_for_the_same_hosts() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let made = shown(&ca(dir, &["--json", "--host", "pypi.org", "--host", "10.0.0.1"]));
    assert_eq!((&made["created"], &made["hosts"]), (&true.into(), &serde_json::json!(["pypi.org", "10.0.0.1"])));
    let (certificate, key) = (dir.join("data/gateway-ca.pem"), dir.join("data/gateway-ca.key"));
    assert_eq!(made["certificate"], certificate.canonicalize().unwrap().to_str().unwrap());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&certificate), mode(&key)), (0o644, 0o600));
    let pem = fs::read_to_string(&certificate).unwrap();
    let again = ca(dir, &[]);
    assert!(again.is_code(0) && again.text().contains("believed of pypi.org, 10.0.0.1"), "{again:?}");
    assert!(!again.text().contains("PRIVATE"));
    let refused = ca(dir, &["--host", "other.example"]);
    assert!(!refused.is_code(0) && format!("{refused:?}").contains("--renew"), "{refused:?}");
    assert_eq!(fs::read_to_string(&certificate).unwrap(), pem);
    let renewed = shown(&ca(dir, &["--renew", "--json", "--days", "30"]));
    assert_eq!((&renewed["created"], &renewed["hosts"]), (&true.into(), &made["hosts"]));
    assert_ne!(fs::read_to_string(&certificate).unwrap(), pem);
}

/// Of many at a time one creates it, and all tell of the same; of many renewals one is whole.
#[test]
fn many_at_a_time_have_one_authority() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let all = |args: &[&str]| {
        let start = |_| {
            let mut command = dfdaemon(dir);
            command.args(["ca", "--data-dir", "data", "--json"]).args(args).stdout(Stdio::piped()).stdin(Stdio::null());
            command.spawn().unwrap()
        };
        let started: Vec<_> = (0..8).map(start).collect();
        let ended = started.into_iter().map(|process| process.wait_with_output().unwrap());
        let shown = ended.map(|done| {
            assert!(done.status.success(), "{done:?}");
            serde_json::from_slice::<Value>(&done.stdout).unwrap()
        });
        shown.collect::<Vec<_>>()
    };
    let created = |shown: &[Value]| shown.iter().filter(|shown| shown["created"] == true).count();
    assert_eq!(created(&all(&[])), 1);
    // Each of them ends well.
    all(&["--renew"]);
    assert_eq!(shown(&ca(dir, &["--json"]))["created"], false, "its two files are of one");
}

#[test]
fn a_gateway_that_clients_could_not_trust_does_not_start() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let none = check(dir, &["--gateway-intercept", "pypi.org"]);
    assert!(!none.is_code(0) && format!("{none:?}").contains("dfdaemon ca"), "{none:?}");
    shown(&ca(dir, &["--json", "--host", "pypi.org"]));
    let sound = check(dir, &["--gateway-intercept", "pypi.org", "--gateway-intercept", "*.pypi.org"]);
    assert!(sound.is_code(0), "{sound:?}");
    let other = check(dir, &["--gateway-intercept", "bank.example"]);
    assert!(!other.is_code(0) && format!("{other:?}").contains("cannot vouch for bank.example"), "{other:?}");
    // A key that others can read, and one that is another certificate's.
    let key = dir.join("data/gateway-ca.key");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let open = check(dir, &["--gateway-intercept", "pypi.org"]);
    assert!(!open.is_code(0) && format!("{open:?}").contains("chmod 600"), "{open:?}");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let before = fs::read(&key).unwrap();
    shown(&ca(dir, &["--json", "--renew"]));
    fs::write(&key, before).unwrap();
    let mixed = check(dir, &["--gateway-intercept", "pypi.org"]);
    assert!(!mixed.is_code(0) && format!("{mixed:?}").contains("another certificate's"), "{mixed:?}");
    // What it vouched for is not known: it is not renewed for every host.
    let refused = ca(dir, &["--renew"]);
    assert!(!refused.is_code(0) && format!("{refused:?}").contains("--host"), "{refused:?}");
    let renewed = shown(&ca(dir, &["--json", "--renew", "--host", "pypi.org"]));
    assert_eq!(renewed["hosts"], serde_json::json!(["pypi.org"]));
}

#[test]
fn users_and_authorities_that_are_none_are_named() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let users = dir.join("users");
    fs::write(&users, "ann:secret\n").unwrap();
    fs::set_permissions(&users, Permissions::from_mode(0o600)).unwrap();
    assert!(check(dir, &["--gateway-users", "users"]).is_code(0));
    fs::write(&users, "ann:secret\nbob\n").unwrap();
    let wrong = format!("{:?}", check(dir, &["--gateway-users", "users"]));
    assert!(wrong.contains("users: line 2") && !wrong.contains("secret"), "{wrong}");
    fs::set_permissions(&users, Permissions::from_mode(0o640)).unwrap();
    assert!(format!("{:?}", check(dir, &["--gateway-users", "users"])).contains("chmod 600"));
    for (args, why) in [
        (["--gateway-users", "nowhere"], "nowhere"),
        (["--gateway-ca-cert", "users"], "there is no certificate in it"),
        (["--gateway-intercept", "a/b"], "is no host"),
    ] {
        let done = check(dir, &args);
        assert!(!done.is_code(0) && format!("{done:?}").contains(why), "{done:?}");
    }
}

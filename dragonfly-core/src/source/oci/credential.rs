//! As whom a registry is asked: what the settings say, else what `docker login`, `podman login` and `skopeo login` left.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde_json::Value;

use super::super::StorageSettings;

/// The largest file of credentials that is read, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// The most files that are looked at: there are four by the environment.
const FILES_MAX: usize = 8;

/// A credential of this host's own. Not shown by [`Debug`](fmt::Debug).
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credential {
    /// Sent as it is.
    Bearer(String),
    /// Given to who gives out tokens, in place of user and password.
    Identity(String),
    /// User and password.
    Basic { user: String, password: String },
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(hidden)")
    }
}

impl Credential {
    /// What the settings of a registry say.
    pub(super) fn of_settings(settings: &StorageSettings) -> Option<Self> {
        match (&settings.token, &settings.user, &settings.secret) {
            (Some(token), ..) => Some(Self::Bearer(token.clone())),
            (None, None, None) => None,
            (None, user, secret) => Some(Self::Basic {
                user: user.clone().unwrap_or_default(),
                password: secret.clone().unwrap_or_default(),
            }),
        }
    }
}

/// What is in the files of other programs about a registry.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) credential: Option<Credential>,
    /// A program has it, which is not run.
    pub(super) helper: bool,
}

/// The files, read again when they change.
pub(super) struct Files {
    paths: Vec<PathBuf>,
    read: Mutex<Vec<(PathBuf, Stamp, Arc<Value>)>>,
}

/// What tells that a file was changed.
type Stamp = (Option<SystemTime>, u64);

impl Files {
    pub(super) fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths: paths.into_iter().take(FILES_MAX).collect(), read: Mutex::default() }
    }

    /// Where other programs put them, theirs first who have more to choose from.
    pub(super) fn of_environment() -> Self {
        let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = of("HOME");
        let in_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let docker = of("DOCKER_CONFIG").or_else(|| in_home(".docker"));
        let config = of("XDG_CONFIG_HOME").or_else(|| in_home(".config"));
        let paths = [
            of("REGISTRY_AUTH_FILE"),
            of("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")),
            config.map(|dir| dir.join("containers/auth.json")),
            docker.map(|dir| dir.join("config.json")),
        ];
        Self::new(paths.into_iter().flatten().collect())
    }

    /// What is known of a repository of a registry: the first file that knows it, of its entries the closest one.
    pub(super) fn find(&self, registry: &str, repository: &str) -> Found {
        let mut found = Found::default();
        for path in &self.paths {
            let Some(file) = self.file(path) else { continue };
            found.helper |= has_helper(&file, registry);
            if let Some(credential) = credential(&file, registry, repository) {
                found.credential = Some(credential);
                return found;
            }
        }
        found
    }

    /// A file as it is now; absent if it is none that can be read.
    fn file(&self, path: &Path) -> Option<Arc<Value>> {
        let stated = std::fs::metadata(path).ok().filter(|stated| stated.is_file() && stated.len() <= FILE_MAX)?;
        let stamp = (stated.modified().ok(), stated.len());
        // Nothing that holds the lock can leave the list broken.
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, _, value)) = read.iter().find(|(of, at, _)| of == path && *at == stamp) {
            return Some(Arc::clone(value));
        }
        read.retain(|(of, ..)| of != path);
        let parsed = std::fs::read(path).and_then(|text| Ok(serde_json::from_slice(&text)?));
        // What cannot be read is not read again until it changes.
        let value = Arc::new(parsed.unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "credentials of registries cannot be read");
            Value::Null
        }));
        read.push((path.to_owned(), stamp, Arc::clone(&value)));
        Some(value)
    }
}

/// The credential of the closest entry: `host/some/repository`, `host/some`, `host`.
fn credential(file: &Value, registry: &str, repository: &str) -> Option<Credential> {
    let entries = file.get("auths")?.as_object()?;
    let mut best: Option<(usize, Credential)> = None;
    for (key, entry) in entries {
        let Some(closeness) = closeness(key, registry, repository) else { continue };
        if best.as_ref().is_some_and(|(other, _)| *other >= closeness) {
            continue;
        }
        if let Some(credential) = of_entry(entry) {
            best = Some((closeness, credential));
        }
    }
    best.map(|(_, credential)| credential)
}

/// How much of a repository's full name a key has; absent if it is of another. A key is `HOST[:PORT]` and whole parts of
/// the names of repositories (containers-auth.json); the older `https://HOST/v1/` is the host.
fn closeness(key: &str, registry: &str, repository: &str) -> Option<usize> {
    let stripped = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let plain = stripped.unwrap_or(key).trim_end_matches('/');
    let (host, below) = plain.split_once('/').unwrap_or((plain, ""));
    // Without a scheme it is the name of a repository, as others are called.
    let is_api = matches!(below, "v1" | "v2") && (stripped.is_some() || super::is_docker_hub(host));
    let below = if is_api { "" } else { below };
    let same_host = host == registry || super::is_docker_hub(host) && super::is_docker_hub(registry);
    let rest = repository.strip_prefix(below)?;
    let fits = below.is_empty() || rest.is_empty() || rest.starts_with('/');
    (same_host && fits).then_some(below.len())
}

fn of_entry(entry: &Value) -> Option<Credential> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(token) = text("registrytoken") {
        return Some(Credential::Bearer(token.to_owned()));
    }
    if let Some(token) = text("identitytoken") {
        return Some(Credential::Identity(token.to_owned()));
    }
    if let Some(user) = text("username") {
        return Some(Credential::Basic { user: user.to_owned(), password: text("password").unwrap_or("").to_owned() });
    }
    let plain = data_encoding::BASE64.decode(text("auth")?.as_bytes()).ok()?;
    let plain = String::from_utf8(plain).ok()?;
    let (user, password) = plain.split_once(':')?;
    // Some programs fill it up with zeros.
    Some(Credential::Basic { user: user.to_owned(), password: password.trim_end_matches('\0').to_owned() })
}

/// Whether a program is named that has the credential.
fn has_helper(file: &Value, registry: &str) -> bool {
    let named = |name: &str| file.get(name);
    let of_all = named("credsStore").and_then(Value::as_str).is_some_and(|name| !name.is_empty());
    of_all || named("credHelpers").and_then(|of| of.get(registry)).is_some()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn basic(user: &str, password: &str) -> Option<Credential> {
        Some(Credential::Basic { user: user.to_owned(), password: password.to_owned() })
    }

    #[test]
    fn the_closest_entry_is_it() {
        let auth = |text: &str| data_encoding::BASE64.encode(text.as_bytes());
        let file = serde_json::json!({
            "auths": {
                "h:5000": { "auth": auth("host:a:b") },
                "h:5000/team": { "auth": auth("team:c") },
                "https://h:5000/team/app/": { "username": "app", "password": "d" },
                "h:5001": {},
                "https://index.docker.io/v1/": { "auth": auth("hub:e\0\0") },
                "i": { "identitytoken": "refresh" , "auth": auth("00000000-0000-0000-0000-000000000000:") },
                "b": { "registrytoken": "given" },
                "m": { "auth": "???" },
                "n/team/v1": { "auth": auth("first:f") },
                "n/v2": { "auth": auth("second:g") },
                "https://o/v2/": { "auth": auth("old:h") },
            },
            "credHelpers": { "h:5001": "secretservice" },
        });
        for (registry, repository, wanted) in [
            ("h:5000", "other", basic("host", "a:b")),
            ("h:5000", "teamwork", basic("host", "a:b")),
            ("h:5000", "team/x", basic("team", "c")),
            ("h:5000", "team/app", basic("app", "d")),
            ("h:5000", "team/app/y", basic("app", "d")),
            ("docker.io", "library/alpine", basic("hub", "e")),
            ("i", "x", Some(Credential::Identity("refresh".to_owned()))),
            ("b", "x", Some(Credential::Bearer("given".to_owned()))),
            ("h", "x", None),
            ("h:5001", "x", None),
            ("m", "x", None),
            ("n", "team", None),
            ("n", "team/v10", None),
            ("n", "team/v1", basic("first", "f")),
            ("n", "team/v1/x", basic("first", "f")),
            ("n", "v2/x", basic("second", "g")),
            ("n", "other", None),
            ("o", "v2/x", basic("old", "h")),
            ("o", "other", basic("old", "h")),
        ] {
            assert_eq!(credential(&file, registry, repository), wanted, "{registry}/{repository}");
        }
        assert!(has_helper(&file, "h:5001") && !has_helper(&file, "h:5000"));
        assert!(has_helper(&serde_json::json!({ "credsStore": "pass" }), "h"));
        for other in [Value::Null, serde_json::json!([]), serde_json::json!({ "auths": [] })] {
            assert_eq!(credential(&other, "h", "x"), None);
        }
    }

    #[test]
    fn files_are_read_again_when_they_change() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("auth.json"), dir.path().join("config.json"));
        let files = Files::new(vec![first.clone(), second.clone()]);
        assert_eq!(files.find("h", "x"), Found::default());
        std::fs::write(&second, r#"{"auths": {"h": {"username": "second"}}, "credsStore": "pass"}"#).unwrap();
        assert_eq!(files.find("h", "x"), Found { credential: basic("second", ""), helper: true });
        std::fs::write(&first, r#"{"auths": {"h": {"username": "first"}}}"#).unwrap();
        assert_eq!(files.find("h", "x").credential, basic("first", ""));
        std::fs::write(&first, "no JSON").unwrap();
        assert_eq!(files.find("h", "x").credential, basic("second", ""));
        std::fs::write(&first, vec![b' '; FILE_MAX as usize + 1]).unwrap();
        assert_eq!(files.find("h", "x").credential, basic("second", ""));
        assert!(!format!("{:?}", files.find("h", "x")).contains("second"));
    }
}

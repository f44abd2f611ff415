//! `dfdaemon ca`: the authority with which a gateway takes part in TLS, and how clients come to trust it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use dragonfly_core::ErrorKind;
use dragonfly_core::gateway::{Authority, Hosts, InvalidAuthority};
use serde::Serialize;

use super::commands::Ca;
use super::{files, secret};
use crate::error::Failure;

/// In the data directory. The first is for everybody, the second a secret.
const FILES: [&str; 2] = ["gateway-ca.pem", "gateway-ca.key"];

/// Held by who creates them.
const LOCK: &str = "gateway-ca.lock";

/// The longest of these, and of a bundle of authorities.
const FILE_MAX: u64 = 512 << 10;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What is there, for programs.
#[derive(Serialize)]
struct Shown {
    certificate: PathBuf,
    /// Since 1970.
    not_after_unix: u64,
    /// Of which hosts it is believed; none: of all.
    hosts: Vec<String>,
    created: bool,
}

/// Creates the authority if there is none, and says how to trust it.
pub(super) fn ca(args: &Ca) -> Result<String, Failure> {
    let data_dir = args.which.data_dir()?;
    let data_dir = std::path::absolute(&data_dir).map_err(|e| Failure::io("cannot tell the working directory", &e))?;
    let [certificate, _] = paths(&data_dir);
    let found = load(&data_dir);
    // Who creates one is alone with it: of two at a time one finds what the other made. And the two files are another's
    // half-way while they do not fit.
    let creates = args.renew || !matches!(found, Ok(Some(_)));
    let _alone = if creates { Some(lock(&data_dir)?) } else { None };
    let found = match if creates { load(&data_dir) } else { found } {
        // What is to be replaced may be broken. What it vouched for is not known then, and must not become everything.
        Err(_) if args.renew && !args.host.is_empty() => None,
        found => found?,
    };
    if found.is_some() && !args.renew && !args.host.is_empty() {
        let message = format!("there is an authority already: {}", certificate.display());
        let failure = Failure::new(ErrorKind::Config, message);
        return Err(failure.hint("--renew makes another one, which clients have to be told of"));
    }
    let created = args.renew || found.is_none();
    let authority = match found {
        Some(authority) if !args.renew => authority,
        // It vouches for no more than the one before, if nobody says so.
        before => {
            let before = before.as_ref().map(Authority::hosts).filter(|_| args.host.is_empty()).unwrap_or(&args.host);
            create(&data_dir, before, args.days)?
        }
    };
    let hosts: Vec<String> = authority.hosts().iter().map(ToString::to_string).collect();
    let since = authority.not_after().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    if args.json {
        let shown = Shown { certificate, not_after_unix: since.as_secs(), hosts, created };
        return Ok(serde_json::to_string(&shown).unwrap_or_default() + "\n");
    }
    let days = authority.not_after().duration_since(SystemTime::now()).unwrap_or_default().as_secs() / DAY.as_secs();
    let path = certificate.display();
    let made = if created { "created" } else { "found" };
    let whose = match hosts.as_slice() {
        [] => "It vouches for every host: who reads the key beside it can be any of them to who trusts it. With --host it \
               is\nbelieved of those alone."
            .to_owned(),
        hosts => format!("It is believed of {} and what is below, and of nothing else.", hosts.join(", ")),
    };
    Ok(format!(
        "{made} {path}, good for {days} days\n{whose}\n\n\
         Let this machine trust it:\n\
         \x20 Debian, Ubuntu   cp {path} /usr/local/share/ca-certificates/dragonfly.crt && update-ca-certificates\n\
         \x20 Fedora, RHEL     cp {path} /etc/pki/ca-trust/source/anchors/dragonfly.pem && update-ca-trust\n\
         Clients that bring authorities of their own are told where the system's are:\n\
         \x20 pip, requests    PIP_CERT, REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt\n\
         \x20 npm, node        NODE_EXTRA_CA_CERTS=/usr/local/share/ca-certificates/dragonfly.crt\n\
         and give the daemon --gateway-intercept HOST for each host whose content is to be shared.\n"
    ))
}

fn paths(data_dir: &Path) -> [PathBuf; 2] {
    FILES.map(|name| data_dir.join(name))
}

/// Waits for whoever creates an authority there; until the file is closed.
fn lock(data_dir: &Path) -> Result<File, Failure> {
    files::private_dir(data_dir)?;
    let path = data_dir.join(LOCK);
    let failed = |e: std::io::Error| Failure::io(format_args!("cannot lock {}", path.display()), &e);
    let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = open.map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}

fn create(data_dir: &Path, hosts: &[Hosts], days: u32) -> Result<Authority, Failure> {
    let made = Authority::create("Dragonfly gateway", hosts, SystemTime::now(), DAY * days);
    let authority = made.map_err(|e| invalid(data_dir, &e))?;
    let [certificate, key] = paths(data_dir);
    files::replace(&key, authority.key_pem().as_bytes(), 0o600)?;
    files::replace(&certificate, authority.certificate_pem().as_bytes(), 0o644)?;
    Ok(authority)
}

/// The authority in the data directory, if there is one.
pub(super) fn load(data_dir: &Path) -> Result<Option<Authority>, Failure> {
    let [certificate, key] = paths(data_dir);
    if !certificate.exists() && !key.exists() {
        return Ok(None);
    }
    let pem = read(&certificate, "the authority")?;
    let key = secret::read_private(&key, "the authority's key", FILE_MAX)?;
    Authority::from_pem(&pem, &key).map(Some).map_err(|e| invalid(data_dir, &e))
}

/// The same, where somebody may be creating one: the two files are another's half-way.
pub(super) fn load_settled(data_dir: &Path) -> Result<Option<Authority>, Failure> {
    match load(data_dir) {
        Ok(found) => Ok(found),
        // Where it cannot be waited for it cannot be created either.
        Err(failure) => match lock(data_dir) {
            Ok(_alone) => load(data_dir),
            Err(_) => Err(failure),
        },
    }
}

/// The text of a file that anybody may read.
pub(super) fn read(path: &Path, what: &str) -> Result<String, Failure> {
    let opened = File::open(path);
    let file = opened.map_err(|e| Failure::io(format_args!("cannot read {what} in {}", path.display()), &e))?;
    files::read_text(file, path, what, FILE_MAX)
}

/// What is wrong with the authority of this data directory.
pub(super) fn invalid(data_dir: &Path, error: &InvalidAuthority) -> Failure {
    let message = format!("{} in {}: {error}", FILES[0], data_dir.display());
    Failure::new(ErrorKind::Config, message)
        .hint("dfdaemon ca --renew makes another one, --host for each host if this one cannot be read")
}

/// The hosts that settings name.
pub(super) fn parse_hosts(text: &str) -> Result<Hosts, String> {
    text.parse().map_err(|e: dragonfly_core::gateway::InvalidHosts| e.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::sync::Barrier;

    use super::*;

    /// Its key is there before its certificate is.
    #[test]
    fn who_reads_an_authority_waits_for_who_creates_it() {
        let dir = tempfile::tempdir().unwrap();
        create(dir.path(), &[], 1).unwrap();
        let [certificate, _] = paths(dir.path());
        let pem = fs::read(&certificate).unwrap();
        let alone = lock(dir.path()).unwrap();
        fs::remove_file(&certificate).unwrap();
        assert!(load(dir.path()).is_err());
        let begun = Barrier::new(2);
        std::thread::scope(|scope| {
            let reads = scope.spawn(|| {
                begun.wait();
                load_settled(dir.path())
            });
            begun.wait();
            fs::write(&certificate, pem).unwrap();
            drop(alone);
            assert!(reads.join().unwrap().unwrap().is_some());
        });
        fs::remove_file(&certificate).unwrap();
        assert!(load_settled(dir.path()).is_err(), "nobody creates it");
    }
}

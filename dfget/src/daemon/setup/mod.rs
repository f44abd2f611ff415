//! `dfdaemon setup`: has a client of this machine use the gateway, or shows how; `--undo` takes it back.
//!
//! Files of our own have a first line that says so, and no other file is ever replaced. Where a client reads one file
//! alone, our lines stand between two marks in it, and taking them out gives the file back as it was.

mod edit;
mod within;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use clap::{ArgAction, Args, ValueEnum};
use dragonfly_core::ErrorKind;

use self::edit::{Change, Left, undone};
use self::within::Place;
use super::files;
use crate::error::Failure;

/// The client to set up.
#[derive(Debug, Args)]
pub(super) struct Setup {
    /// Which client
    #[arg(value_enum)]
    client: ClientKind,
    /// Where the gateway is
    #[arg(long, value_name = "IP:PORT", default_value_t = super::gateway::ADDRESS)]
    gateway: SocketAddr,
    /// A registry to mirror, as the client calls it (repeatable) [default: for containerd all; podman and CRI-O need names]
    #[arg(long, value_name = "NAME", action = ArgAction::Append)]
    registry: Vec<String>,
    /// Take back what was set up
    #[arg(long)]
    undo: bool,
    /// Show what would be written, and write nothing
    #[arg(long, conflicts_with = "undo")]
    dry_run: bool,
    /// Another directory in place of /, such as the root of an image that is being built
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

/// What can be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ClientKind {
    Apt,
    Containerd,
    Crio,
    Dnf,
    Docker,
    Huggingface,
    Maven,
    Npm,
    Pip,
    Podman,
}

/// A file that a client reads, below the root, and what of it is ours.
struct Piece {
    path: PathBuf,
    change: Change,
}

pub(super) fn setup(args: &Setup) -> Result<String, Failure> {
    let pieces = pieces(args)?;
    let mut text = String::new();
    for piece in &pieces {
        let path = args.root.join(&piece.path);
        let place = Place::below(&args.root, &piece.path)?;
        let before = read(&place.path)?;
        if args.undo {
            let what = match before {
                None => "not there",
                Some(before) => take_back(&path, &place, &before, &piece.change)?,
            };
            let _ = writeln!(text, "{}: {what}", path.display());
            continue;
        }
        let after = piece.change.apply(before.as_deref()).map_err(|why| {
            Failure::new(ErrorKind::Config, format!("{}: {why}", path.display()))
                .hint("dfdaemon setup --dry-run --root DIR shows what to add by hand, for a DIR that is empty")
        })?;
        if args.dry_run {
            let _ = writeln!(text, "# {}\n{after}", path.display());
        } else {
            put(&place.path, &after)?;
            let _ = writeln!(text, "{}: written", path.display());
        }
    }
    if !args.undo {
        let _ = writeln!(text, "{}", args.client.next());
    }
    Ok(text)
}

fn pieces(args: &Setup) -> Result<Vec<Piece>, Failure> {
    let proxy = format!("http://{}", args.gateway);
    let piece = |path: &str, change| Piece { path: PathBuf::from(path), change };
    for name in &args.registry {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
        if name.is_empty() || !name.bytes().all(plain) || name.starts_with('.') {
            return Err(Failure::usage(format!("--registry {name:?}: expected HOST[:PORT]")));
        }
    }
    Ok(match args.client {
        ClientKind::Apt => {
            let text = format!("Acquire::http::Proxy \"{proxy}\";\n");
            vec![piece("etc/apt/apt.conf.d/95dragonfly", Change::own("//", text))]
        }
        ClientKind::Containerd => {
            let host = format!("[host.\"{proxy}\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
            let of = |name: &str, server: String| {
                let path = format!("etc/containerd/certs.d/{name}/hosts.toml");
                piece(&path, Change::own("#", format!("{server}{host}")))
            };
            match args.registry.as_slice() {
                [] if args.undo => {
                    let names = ours_of_containerd(&args.root)?;
                    names.iter().map(|name| of(name, String::new())).collect()
                }
                [] => vec![of("_default", String::new())],
                names => names.iter().map(|name| of(name, format!("server = \"https://{name}\"\n\n"))).collect(),
            }
        }
        ClientKind::Crio | ClientKind::Podman => {
            // Both read one file, and taking it back takes it from both.
            if args.registry.is_empty() && !args.undo {
                return Err(Failure::usage("which registry is to be mirrored? This client wants it named")
                    .hint("--registry registry.example"));
            }
            let text = args.registry.iter().fold(String::new(), |mut text, name| {
                let _ = writeln!(text, "[[registry]]\nprefix = \"{name}\"\nlocation = \"{name}\"\n");
                let _ = writeln!(text, "[[registry.mirror]]\nlocation = \"{}\"\ninsecure = true\n", args.gateway);
                text
            });
            vec![piece("etc/containers/registries.conf.d/50-dragonfly.conf", Change::own("#", text))]
        }
        ClientKind::Dnf => vec![piece("etc/dnf/dnf.conf", Change::section("[main]", format!("proxy={proxy}\n")))],
        ClientKind::Docker => vec![piece("etc/docker/daemon.json", Change::element("registry-mirrors", proxy))],
        ClientKind::Huggingface => {
            // Xet takes files apart into chunks by a protocol of its own, which nobody else's cache sees through.
            let text = format!("HTTP_PROXY={proxy}\nHTTPS_PROXY={proxy}\nHF_HUB_DISABLE_XET=1\n");
            vec![piece("etc/dragonfly/huggingface.env", Change::own("#", text))]
        }
        ClientKind::Maven => {
            let (host, port) = (args.gateway.ip(), args.gateway.port());
            let text = format!(
                "<proxy>\n  <id>dragonfly</id>\n  <active>true</active>\n  <protocol>http</protocol>\n  \
                 <host>{host}</host>\n  <port>{port}</port>\n</proxy>\n"
            );
            vec![piece("etc/maven/settings.xml", Change::xml("settings", "proxies", text))]
        }
        ClientKind::Npm => vec![piece("etc/npmrc", Change::lines(format!("proxy={proxy}\n")))],
        ClientKind::Pip => vec![piece("etc/pip.conf", Change::section("[global]", format!("proxy = {proxy}\n")))],
    })
}

impl ClientKind {
    /// What is left to do by hand.
    const fn next(self) -> &'static str {
        match self {
            Self::Apt | Self::Dnf => "next: give the daemon a rule for packages, --gateway-rule 'swarm:\\.(deb|rpm)$'",
            Self::Containerd => {
                "next: containerd's own configuration must have config_path = \"/etc/containerd/certs.d\" for its registries"
            }
            Self::Crio | Self::Podman => {
                "next: this client does not say which registry it is for; the daemon is told with --gateway-registry-default"
            }
            Self::Docker => {
                "next: restart docker; it asks mirrors for images of Docker Hub alone: --gateway-registry-default \
                 https://registry-1.docker.io"
            }
            Self::Huggingface => {
                "next: it is told by its environment alone: set -a; . /etc/dragonfly/huggingface.env (or EnvironmentFile= of \
                 a service); the hub is at https:, so the daemon takes part in its TLS (dfdaemon ca, --gateway-intercept \
                 huggingface.co --gateway-intercept '*.hf.co') or HF_ENDPOINT is an http: URL and a rule says tls"
            }
            Self::Maven => {
                "next: a Maven that is not the distribution's wants --global-settings /etc/maven/settings.xml; what it gets \
                 over https: is tunnelled, so have a <mirror> with an http: URL, and a rule say tls: \
                 'swarm+tls:\\.(jar|war|aar)$'"
            }
            Self::Npm => {
                "next: npm reads it with NPM_CONFIG_GLOBALCONFIG=/etc/npmrc; the registry's URL must be an http: one"
            }
            Self::Pip => "next: the index's URL must be an http: one, and a rule may say tls: 'swarm+tls:\\.whl$'",
        }
    }
}

/// The registries that containerd has a file of ours for; the name of all registries where there is none, so that it is
/// said where it was looked.
fn ours_of_containerd(root: &Path) -> Result<Vec<String>, Failure> {
    let directory = Path::new("etc/containerd/certs.d");
    let path = Place::below(root, directory)?.path;
    let failed = |e| Failure::io(format_args!("cannot read {}", path.display()), &e);
    let mut names = Vec::new();
    match fs::read_dir(&path) {
        Ok(entries) => {
            for entry in entries {
                let Ok(name) = entry.map_err(failed)?.file_name().into_string() else { continue };
                let file = Place::below(root, &directory.join(&name).join("hosts.toml"))?.path;
                match fs::read_to_string(&file) {
                    Ok(text) if edit::is_ours(&text) => names.push(name),
                    // What is no text is somebody else's.
                    Ok(_) => {}
                    Err(e) if is_none(&e) || e.kind() == io::ErrorKind::InvalidData => {}
                    Err(e) => return Err(Failure::io(format_args!("cannot read {}", file.display()), &e)),
                }
            }
        }
        Err(e) if is_none(&e) => {}
        Err(e) => return Err(failed(e)),
    }
    names.sort();
    if names.is_empty() {
        names.push("_default".to_owned());
    }
    Ok(names)
}

/// Whether nothing is there.
fn is_none(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn read(path: &Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Failure::io(format_args!("cannot read {}", path.display()), &e)),
    }
}

/// Takes ours out of a file, which a client knows by this path, and says what became of it.
fn take_back(path: &Path, place: &Place, before: &str, change: &Change) -> Result<&'static str, Failure> {
    let left = undone(before, change).map_err(|torn| {
        Failure::new(ErrorKind::Config, format!("{} could not be taken back, and is as it is: {torn}", path.display()))
            .hint("take these lines out by hand, with what belongs to them")
    })?;
    match left {
        Left::All => Ok("nothing of ours in it"),
        Left::Theirs(theirs) => put(&place.path, &theirs).map(|()| "as it was"),
        // A link was there before, and what it leads to may be read by others, too.
        Left::Nothing if place.is_linked => {
            put(&place.path, &change.nothing()).map(|()| "nothing is left in it, and the link to it stays")
        }
        Left::Nothing => {
            let failed = |e| Failure::io(format_args!("cannot remove {}", path.display()), &e);
            fs::remove_file(&place.path).map(|()| "removed").map_err(failed)
        }
    }
}

/// Writes a file, with the mode and the owner that it has.
fn put(path: &Path, text: &str) -> Result<(), Failure> {
    if let Some(parent) = path.parent() {
        files::directory(parent, 0o755)?;
    }
    match fs::metadata(path) {
        Ok(meta) => {
            let mode = meta.permissions().mode() & 0o777;
            files::replace_of(path, text.as_bytes(), mode, Some((meta.uid(), meta.gid())))
        }
        Err(_) => files::replace(path, text.as_bytes(), 0o644),
    }
}

#[cfg(test)]
mod tests;

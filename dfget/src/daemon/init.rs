//! `dfdaemon init` and `dfdaemon join`: membership without a daemon.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use dragonfly_core::ErrorKind;
use dragonfly_core::trust::{Identity, Membership};

use super::commands::{Init, Join, Which};
use super::files;
use super::running;
use crate::error::Failure;
use crate::join::read_token;

/// A configuration to start from: what most change, and nothing that is a default.
const TEMPLATE: &str = "\
# Settings of dfdaemon. `dfdaemon --print-config` shows all of them, `dfdaemon --help` what they mean.

# What this host does: any of scheduler, seed and peer. The first host of a network is usually all three.
role = [\"scheduler\", \"seed\", \"peer\"]

# Where it listens for other hosts.
# listen = [\"/ip4/0.0.0.0/tcp/65001\", \"/ip4/0.0.0.0/udp/65001/quic-v1\"]

# The most bytes of content that are kept.
# quota = \"50GiB\"

# Metrics and health for whoever reaches this address.
# metrics = \"127.0.0.1:9090\"
";

fn config(error: impl std::fmt::Display) -> Failure {
    Failure::new(ErrorKind::Config, error.to_string())
}

/// Founds a network, unless the directory has one; says what to do next.
pub(super) fn init(args: &Init) -> Result<String, Failure> {
    let data_dir = args.which.data_dir()?;
    files::private_dir(&data_dir)?;
    let identity = Identity::load_or_create(&data_dir).map_err(config)?;
    let mut text = String::new();
    let membership = match Membership::load(&data_dir, &identity).map_err(config)? {
        Some(membership) => {
            let whose = if membership.is_founder() { "founded here" } else { "joined" };
            let _ = writeln!(text, "{} belongs to a network already, {whose}.", data_dir.display());
            membership
        }
        None => {
            let membership = Membership::found(&identity, args.origin_trust.into());
            membership.save(&data_dir).map_err(config)?;
            let _ = writeln!(text, "Founded a network in {}.", data_dir.display());
            membership
        }
    };
    let _ = writeln!(text, "network  {}", network(&membership));
    let _ = writeln!(text, "peer     {}", identity.peer_id());
    if let Some(path) = &args.write_config {
        write_template(path)?;
        let _ = writeln!(text, "config   {}", path.display());
    }
    let at = format!("--data-dir '{}'", data_dir.display());
    let _ = writeln!(text, "\nNext, start the daemon, then print the token that the other machines join with:");
    let with = args.write_config.as_ref().map_or(String::new(), |path| format!(" --config '{}'", path.display()));
    let role = if args.write_config.is_some() { "" } else { " --role scheduler,seed,peer" };
    let _ = writeln!(text, "  dfdaemon {at}{with}{role}\n  dfdaemon token {at}");
    Ok(text)
}

/// The name of a network, short enough for people.
pub(super) fn network(membership: &Membership) -> String {
    data_encoding::HEXLOWER.encode(&membership.network_id()[..8])
}

fn write_template(path: &Path) -> Result<(), Failure> {
    use std::io::Write;
    let file = std::fs::File::options().write(true).create_new(true).open(path);
    let written = file.and_then(|mut file| file.write_all(TEMPLATE.as_bytes()));
    written.map_err(|e| Failure::io(format_args!("cannot write {}", path.display()), &e))
}

/// Stores the membership that a token gives.
pub(super) async fn join(args: &Join) -> Result<String, Failure> {
    let token = read_token(&args.token)?;
    refuse_running(&args.which).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if token.claims().is_expired(now) {
        return Err(config("the token has expired: ask for another one, `dfdaemon token` prints it"));
    }
    let data_dir = args.which.data_dir()?;
    files::private_dir(&data_dir)?;
    let identity = Identity::load_or_create(&data_dir).map_err(config)?;
    let known = Membership::load(&data_dir, &identity).map_err(config)?;
    if known.is_some_and(|known| known.network_id() != token.network_id()) {
        return Err(config(format!(
            "{0} belongs to another network: use another --data-dir, or remove {0}/membership to leave that one",
            data_dir.display()
        )));
    }
    let membership = Membership::join(&identity, &token);
    membership.save(&data_dir).map_err(config)?;
    Ok(format!(
        "Joined the network {} as {}, for the daemon's next start:\n  dfdaemon --data-dir '{}'\n",
        network(&membership),
        membership.claims().roles,
        data_dir.display()
    ))
}

async fn refuse_running(which: &Which) -> Result<(), Failure> {
    match running::find(which).await? {
        Some(_) => Err(config("a daemon runs there: stop it first, or start it with --join")),
        None => Ok(()),
    }
}

//! The gateway's settings: what container runtimes and package managers speak to.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{ArgAction, Args};
use dragonfly_core::ErrorKind;
use dragonfly_core::gateway::{GatewayConfig, Hosts, Intercept, Rule, Users};
use dragonfly_core::trust::Roles;
use url::Url;

use super::config::Serve;
use super::{ca, secret};
use crate::error::Failure;

/// Where the gateway listens if the role says that there is to be one, and nothing says where.
pub(super) const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 65010);

/// The longest list of users.
const USERS_MAX: u64 = 1 << 20;

/// What a daemon does: roles in its network, and whether it is a gateway, which is between it and its own clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Role {
    pub(super) roles: Roles,
    pub(super) gateway: bool,
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (gateway, roles): (Vec<_>, Vec<_>) = text.split(',').map(str::trim).partition(|name| *name == "gateway");
        if roles.is_empty() {
            return Err("a gateway fetches through a peer or a seed of the same daemon: peer,gateway".to_owned());
        }
        let roles = roles.join(",").parse().map_err(|e| format!("{e}, or gateway"))?;
        Ok(Self { roles, gateway: !gateway.is_empty() })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.roles, if self.gateway { ",gateway" } else { "" })
    }
}

#[derive(Clone, Debug, Args)]
pub(crate) struct GatewayArgs {
    /// Serve container runtimes and package managers here: a registry mirror below /v2/, and a proxy. Who reaches it may use
    /// it [default: none; with the role gateway 127.0.0.1:65010]
    #[arg(long, value_name = "IP:PORT", env = "DFDAEMON_GATEWAY")]
    gateway: Option<SocketAddr>,
    /// Where the registry is that clients call so, such as registry.example:5000=http://10.0.0.1:5000 (repeatable)
    /// [default: at its own name, over HTTPS]
    #[arg(
        long,
        value_name = "NAME=URL",
        value_parser = parse_registry,
        action = ArgAction::Append,
        env = "DFDAEMON_GATEWAY_REGISTRY",
        value_delimiter = ','
    )]
    gateway_registry: Vec<(String, Url)>,
    /// The registry of clients that name none: podman, skopeo, docker
    #[arg(long, value_name = "URL", value_parser = parse_http, env = "DFDAEMON_GATEWAY_REGISTRY_DEFAULT")]
    gateway_registry_default: Option<Url>,
    /// What becomes of requests to the proxy, ACTION[+ACTION...]:REGEX, the actions of swarm, direct, tls,
    /// host=HOST[:PORT] and filter=NAME[,NAME...]; the first rule that fits counts (repeatable) [default: they are passed on]
    #[arg(long, value_name = "RULE", action = ArgAction::Append, env = "DFDAEMON_GATEWAY_RULE")]
    gateway_rule: Vec<Rule>,
    /// Where a client asks for a part, fetch the rest as well
    #[arg(long, env = "DFDAEMON_GATEWAY_PREFETCH")]
    gateway_prefetch: bool,
    /// Give out parts of a blob only from a copy that was checked as a whole; until this host has one, the registry's own
    /// bytes are passed on, and the whole is fetched meanwhile [default: what members attest]
    #[arg(long, env = "DFDAEMON_GATEWAY_PROVEN_PARTS")]
    gateway_proven_parts: bool,
    /// While its server cannot be reached, give out what was had from it without credentials
    #[arg(long, env = "DFDAEMON_GATEWAY_OFFLINE")]
    gateway_offline: bool,
    /// Take part in the TLS of this host's clients, so that its content can be shared: NAME, *.NAME or an IP address, at
    /// port 443 or with :PORT. They have to trust the authority that `dfdaemon ca` creates (repeatable)
    #[arg(
        long,
        value_name = "HOST",
        value_parser = super::ca::parse_hosts,
        action = ArgAction::Append,
        env = "DFDAEMON_GATEWAY_INTERCEPT",
        value_delimiter = ','
    )]
    gateway_intercept: Vec<Hosts>,
    /// Let in only clients that show a name and a password of this file, with NAME:PASSWORD on each line, mode 0600, as
    /// proxies are told (Proxy-Authorization)
    #[arg(long, value_name = "FILE", env = "DFDAEMON_GATEWAY_USERS")]
    gateway_users: Option<PathBuf>,
    /// Trust the authorities of this file (PEM) beside the system's, for the servers behind the gateway (repeatable)
    #[arg(long, value_name = "FILE", action = ArgAction::Append, env = "DFDAEMON_GATEWAY_CA_CERT", value_delimiter = ',')]
    gateway_ca_cert: Vec<PathBuf>,
    /// Refuse CONNECT, but to the hosts of --gateway-intercept
    #[arg(long, env = "DFDAEMON_GATEWAY_NO_TUNNELS")]
    gateway_no_tunnels: bool,
}

fn parse_http(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|e| format!("{text:?}: {e}"))?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if plain { Ok(url) } else { Err(format!("{text:?}: expected http://HOST[:PORT] or https://HOST[:PORT]")) }
}

fn parse_registry(text: &str) -> Result<(String, Url), String> {
    let (name, url) = text.split_once('=').ok_or_else(|| format!("{text:?}: expected NAME=URL"))?;
    Ok((name.to_owned(), parse_http(url)?))
}

impl Serve {
    /// Where the gateway listens, if there is one.
    pub(super) fn gateway_address(&self) -> Option<SocketAddr> {
        self.gateway.gateway.or(self.role.gateway.then_some(ADDRESS))
    }

    /// A gateway fetches through an engine of the same daemon.
    pub(super) fn check_gateway(&self) -> Result<(), Failure> {
        let roles = self.role.roles;
        let fetches = roles.contains(Roles::PEER) || roles.contains(Roles::SEED);
        if self.gateway_address().is_some() && !fetches {
            let message = "a gateway fetches through a peer or a seed of the same daemon";
            return Err(Failure::new(ErrorKind::Config, message).hint("--role scheduler,peer,gateway"));
        }
        Ok(())
    }

    /// `own`: where this daemon listens for other things.
    pub(super) fn gateway_config(&self, own: Vec<SocketAddr>) -> Result<GatewayConfig, Failure> {
        let args = &self.gateway;
        let mut config = GatewayConfig::default();
        config.registries.clone_from(&args.gateway_registry);
        config.registry_default.clone_from(&args.gateway_registry_default);
        config.rules.clone_from(&args.gateway_rule);
        config.prefetch = args.gateway_prefetch;
        config.proven_parts = args.gateway_proven_parts;
        config.offline = args.gateway_offline;
        config.answers = Some(self.data_dir()?.join("gateway-answers"));
        config.tunnels = !args.gateway_no_tunnels;
        config.client_timeout = self.client_timeout;
        config.own = own;
        if !args.gateway_intercept.is_empty() {
            config.intercept = Some(self.intercept(&args.gateway_intercept)?);
        }
        config.users = args.gateway_users.as_deref().map(users).transpose()?;
        for path in &args.gateway_ca_cert {
            let pem = ca::read(path, "the authorities")?;
            if !pem.contains("-----BEGIN CERTIFICATE-----") {
                let message = format!("{}: there is no certificate in it", path.display());
                return Err(Failure::new(ErrorKind::Config, message).hint("--gateway-ca-cert wants a PEM file"));
            }
            config.ca_pem.push(pem.into_bytes());
        }
        Ok(config)
    }

    fn intercept(&self, hosts: &[Hosts]) -> Result<Intercept, Failure> {
        let data_dir = self.data_dir()?;
        let authority = ca::load_settled(&data_dir)?.ok_or_else(|| {
            let message = format!("--gateway-intercept: there is no authority in {}", data_dir.display());
            Failure::new(ErrorKind::Config, message).hint("dfdaemon ca creates one, and says how clients trust it")
        })?;
        Intercept::new(authority, hosts.to_vec()).map_err(|e| ca::invalid(&data_dir, &e))
    }
}

fn users(path: &Path) -> Result<Users, Failure> {
    let text = secret::read_private(path, "users", USERS_MAX)?;
    Users::from_text(&text).map_err(|e| Failure::new(ErrorKind::Config, format!("{}: {e}", path.display())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn roles_with_and_without_a_gateway() {
        for text in ["peer", "peer,gateway", "peer,scheduler,seed,gateway"] {
            assert_eq!(text.parse::<Role>().unwrap().to_string(), text);
        }
        assert_eq!("gateway, seed".parse::<Role>().unwrap().to_string(), "seed,gateway");
        for wrong in ["gateway", "", "gateways", "peer,,gateway"] {
            assert!(wrong.parse::<Role>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn registries() {
        assert_eq!(parse_registry("a:5000=http://b:1").unwrap().0, "a:5000");
        for wrong in ["a", "a=b", "a=ftp://b", "a=http://u@b", "a=http://b?x"] {
            assert!(parse_registry(wrong).is_err(), "{wrong}");
        }
    }
}

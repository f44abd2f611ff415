//! What a gateway is told.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use regex::Regex;
use url::Url;

use super::intercept::Intercept;
use super::users::Users;
use crate::task::{FILTER_DEFAULT, FILTERED_MAX, NAME_BYTES_MAX};

/// The registry that everybody knows by another name than its own.
const DOCKER_HUB: (&str, &str) = ("docker.io", "https://registry-1.docker.io");

/// How a [`Gateway`](super::Gateway) is to be.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GatewayConfig {
    /// Where registries are, by the names that clients give them (`?ns=NAME`, `X-Dragonfly-Registry`): `host[:port]` to
    /// an `http:` or `https:` URL. A name that is not here is the registry's own host, reached over HTTPS.
    pub registries: Vec<(String, Url)>,
    /// The registry of requests that name none, as podman, skopeo and docker do. Without one they are refused.
    pub registry_default: Option<Url>,
    /// What becomes of requests with an absolute URL; the first that fits counts, and without any they are passed on.
    pub rules: Vec<Rule>,
    /// Whether the rest of content is fetched where a client asked for a part. Default: no.
    pub prefetch: bool,
    /// Whether parts of a blob come through the swarm only once this host has read all of it and it has its digest: until
    /// then they are the registry's own, and the whole is fetched meanwhile. Default: no, they are given out as others of the
    /// network attest them, which a member can lie about.
    pub proven_parts: bool,
    /// Whether content that no credential was needed for is given out while its server cannot be reached. Default: no.
    pub offline: bool,
    /// A file of this gateway's own in which it keeps, for [`offline`](Self::offline), what servers said to clients without
    /// credentials: what is held can be given out after a restart, too. Without `offline` it is emptied. Default: none, a
    /// restart forgets it.
    pub answers: Option<PathBuf>,
    /// Whether `CONNECT` is answered to hosts that are not in [`intercept`](Self::intercept). Default: yes.
    pub tunnels: bool,
    /// Of which hosts a tunnel is opened up, so that what is asked for in it can be shared. Default: none.
    pub intercept: Option<Intercept>,
    /// Who may use it. Default: whoever reaches it.
    pub users: Option<Users>,
    /// PEM bundles of authorities to trust beside the system's, of servers. Each must hold a certificate. Gateways share
    /// content with those that are told the same.
    pub ca_pem: Vec<Vec<u8>>,
    /// How long the swarm may take for the first bytes before the server's own answer is passed on, and nothing may come of
    /// it later before the server is asked for the rest. Default 20 s.
    pub patience: Duration,
    /// How long a client may take nothing of what it asked for. Default 10 min.
    pub client_timeout: Duration,
    /// Connections of clients at a time; more wait in the kernel's queue. Default 512.
    pub connections_max: usize,
    /// Where this process listens itself, for other things than the gateway's own node: nobody is led there, nor to where
    /// that node listens.
    pub own: Vec<SocketAddr>,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            registries: Vec::new(),
            registry_default: None,
            rules: Vec::new(),
            prefetch: false,
            proven_parts: false,
            offline: false,
            answers: None,
            tunnels: true,
            intercept: None,
            users: None,
            ca_pem: Vec::new(),
            patience: Duration::from_secs(20),
            client_timeout: Duration::from_secs(600),
            connections_max: 512,
            own: Vec::new(),
        }
    }
}

impl GatewayConfig {
    /// Where the registry is that a client calls so; `None` if that is no host.
    pub(super) fn registry(&self, name: &str) -> Option<Url> {
        if let Some((_, url)) = self.registries.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            return Some(url.clone());
        }
        if name == DOCKER_HUB.0 {
            return Url::parse(DOCKER_HUB.1).ok();
        }
        let plain = !name.is_empty() && !name.contains(['/', '@', '?', '#', '\\']);
        let url = Url::parse(&format!("https://{name}")).ok().filter(|_| plain)?;
        (url.path() == "/" && url.username().is_empty()).then_some(url)
    }

    /// What becomes of a URL.
    pub(super) fn rule(&self, url: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.pattern.is_match(url))
    }
}

/// What becomes of a request with an absolute URL: `ACTION[+ACTION...]:REGEX`, where the expression is searched for in the
/// URL as the client wrote it.
///
/// | action | |
/// |---|---|
/// | `swarm` | content comes through the swarm |
/// | `direct` | it is passed on |
/// | `tls` | the server is spoken to over HTTPS |
/// | `host=HOST[:PORT]` | it is another one |
/// | `filter=NAME[,NAME...]` | these parameters of the query do not change the content |
#[derive(Clone, Debug)]
pub struct Rule {
    pattern: Regex,
    pub(super) swarm: bool,
    pub(super) tls: bool,
    pub(super) host: Option<String>,
    /// Names of parameters, of which a client may say others.
    pub(super) filtered: Option<Vec<String>>,
}

impl Rule {
    /// Leads a URL where the rule says.
    pub(super) fn lead(&self, url: &mut Url) {
        if self.tls && url.scheme() == "http" {
            // Between these two it cannot fail.
            let _ = url.set_scheme("https");
        }
        if let Some(host) = &self.host
            && let Ok(other) = Url::parse(&format!("{}://{host}/", url.scheme()))
        {
            let _ = url.set_host(other.host_str());
            let _ = url.set_port(other.port());
        }
    }
}

/// Text that is no [`Rule`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a rule: {0}; expected ACTION[+ACTION...]:REGEX, the actions of swarm, direct, tls, host=HOST[:PORT] and filter=NAME[,NAME...]"
)]
pub struct InvalidRule(String);

impl FromStr for Rule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        // A port of a host has a colon, too.
        let (actions, pattern) = split(text).ok_or_else(|| InvalidRule("it has no colon".to_owned()))?;
        let pattern = Regex::new(pattern).map_err(|e| InvalidRule(format!("the expression is malformed: {e}")))?;
        let mut rule = Self { pattern, swarm: false, tls: false, host: None, filtered: None };
        let mut way = None;
        for action in actions.split('+') {
            match action.split_once('=') {
                None if action == "swarm" || action == "direct" => {
                    if way.replace(action).is_some_and(|before| before != action) {
                        return Err(InvalidRule("it cannot be both swarm and direct".to_owned()));
                    }
                    rule.swarm = action == "swarm";
                }
                None if action == "tls" => rule.tls = true,
                Some(("host", host)) if is_host(host) => rule.host = Some(host.to_owned()),
                Some(("filter", names))
                    if names.split(',').all(is_name) && names.split(',').count() <= FILTERED_MAX =>
                {
                    rule.filtered = Some(names.split(',').map(str::to_owned).collect());
                }
                _ => return Err(InvalidRule(format!("there is no action {action:?}"))),
            }
        }
        Ok(rule)
    }
}

fn split(text: &str) -> Option<(&str, &str)> {
    let (mut actions, mut pattern) = text.split_once(':')?;
    if actions.contains("host=")
        && let Some((port, rest)) = pattern.split_once(':')
        && !port.is_empty()
        && port.split('+').next().is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
    {
        actions = &text[..actions.len() + 1 + port.len()];
        pattern = rest;
    }
    Some((actions, pattern))
}

/// Whether it can be the name of a query's parameter, as a rule can say it.
fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name != FILTER_DEFAULT
        && name.bytes().all(|byte| byte.is_ascii_graphic() && !b"&#=+:,".contains(&byte))
}

fn is_host(host: &str) -> bool {
    let plain = !host.is_empty() && !host.contains(['/', '@', '?', '#', '\\']);
    plain && Url::parse(&format!("http://{host}/")).is_ok_and(|url| url.path() == "/")
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.swarm { "swarm" } else { "direct" })?;
        if self.tls {
            f.write_str("+tls")?;
        }
        if let Some(host) = &self.host {
            write!(f, "+host={host}")?;
        }
        if let Some(names) = &self.filtered {
            write!(f, "+filter={}", names.join(","))?;
        }
        write!(f, ":{}", self.pattern)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rules_are_read_and_written() {
        for text in [
            "swarm:\\.deb$",
            "direct:.*",
            "swarm+tls:^http://pypi",
            "direct+tls+host=a.example:8443:^http://b/",
            "swarm+filter=X-Amz-Date,token:\\.deb",
            "swarm+tls+host=a.example:8443+filter=a:^http://b/",
        ] {
            let rule: Rule = text.parse().unwrap();
            assert_eq!(rule.to_string(), text);
        }
        let rule: Rule = "host=mirror.example:x:y".parse().unwrap();
        assert_eq!((rule.host.as_deref(), rule.pattern.as_str()), (Some("mirror.example"), "x:y"));
        for wrong in [
            "",
            "swarm",
            "swarm+direct:x",
            "fast:x",
            "swarm:(",
            "host=:x",
            "host=a/b:x",
            "swarm+filter:x",
            "filter=:x",
            "filter=a,:x",
            "filter=a b:x",
            "swarm+filter=@default/1:x",
        ] {
            assert!(wrong.parse::<Rule>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn registries_by_name() {
        let own = ("registry.test:5000".to_owned(), "http://127.0.0.1:5000".parse().unwrap());
        let config = GatewayConfig { registries: vec![own], ..GatewayConfig::default() };
        let of = |name: &str| config.registry(name).map(|url| url.to_string());
        assert_eq!(of("registry.test:5000").as_deref(), Some("http://127.0.0.1:5000/"));
        assert_eq!(of("docker.io").as_deref(), Some("https://registry-1.docker.io/"));
        assert_eq!(of("quay.io").as_deref(), Some("https://quay.io/"));
        for wrong in ["", "a/b", "u@h", "h?x", "h#x", "a b"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}

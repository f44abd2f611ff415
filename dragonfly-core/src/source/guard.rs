//! What a fetch may reach.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use url::{Host, Url};

use super::{SourceError, SourceErrorKind, redact};

/// The rules of this node about origins. They are applied to every URL, those of redirects included, and to the
/// addresses that a name resolves to when a connection is made (so that a name cannot change its mind in between).
///
/// Where a proxy is used it resolves the names itself: then only the host as written in the URL is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Guard {
    /// Loopback may be reached by fetches that no local user asked for: right where the node itself listens only on
    /// loopback. (A local user may always.)
    pub allow_loopback: bool,
    /// Link-local addresses may be reached, metadata services excepted.
    pub allow_link_local: bool,
    /// The metadata services of clouds may be reached: they hand out the machine's credentials.
    pub allow_metadata: bool,
    /// The origins that fetches which no local user asked for may reach, on every hop; absent: any. What is read with
    /// a credential of this host's own is fetched for others only if it is named here, and only then passed on to them.
    pub origins: Option<Vec<OriginPattern>>,
}

/// Addresses at which clouds tell a machine its secrets: AWS, GCP, Azure and most others; Alibaba; Oracle; Azure's
/// second; AWS over IPv6.
const METADATA_V4: [Ipv4Addr; 4] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
];
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

impl Guard {
    /// Refuses a URL by its scheme, host and port as written. `local`: a user of this host asks.
    pub(crate) fn check_url(&self, url: &Url, local: bool) -> Result<(), SourceError> {
        let refused = |why: &str| {
            Err(SourceError::new(SourceErrorKind::Guarded, format!("{} must not be reached: {why}", redact(url))))
        };
        match url.host() {
            None => return refused("it has no host"),
            Some(Host::Ipv4(ip)) => self.check_address(ip.into(), local).or_else(refused)?,
            Some(Host::Ipv6(ip)) => self.check_address(ip.into(), local).or_else(refused)?,
            Some(Host::Domain(name)) => self.check_name(name, local).or_else(refused)?,
        }
        self.check_listed(url, local)
    }

    /// Refuses what is not among [`Guard::origins`], where there is such a list. `local`: a user of this host asks.
    pub(crate) fn check_listed(&self, url: &Url, local: bool) -> Result<(), SourceError> {
        if local || self.origins.is_none() || self.lists(url) {
            return Ok(());
        }
        let why = "it is not among the origins that this node may fetch from for others";
        Err(SourceError::new(SourceErrorKind::Guarded, format!("{} must not be reached: {why}", redact(url))))
    }

    /// Whether the operator named this origin among [`Guard::origins`].
    pub(crate) fn lists(&self, url: &Url) -> bool {
        self.origins.as_ref().is_some_and(|origins| origins.iter().any(|pattern| pattern.matches(url)))
    }

    /// Whether the operator named this origin together with its scheme: a host that is named alone means its web server,
    /// not what this host may read there as somebody.
    #[cfg(feature = "storage")]
    pub(crate) fn lists_by_scheme(&self, url: &Url) -> bool {
        let named = |pattern: &OriginPattern| pattern.scheme.is_some() && pattern.matches(url);
        self.origins.as_ref().is_some_and(|origins| origins.iter().any(named))
    }

    fn check_name(&self, name: &str, local: bool) -> Result<(), &'static str> {
        let name = name.strip_suffix('.').unwrap_or(name);
        if name == "localhost" || name.ends_with(".localhost") {
            return self.check_address(Ipv4Addr::LOCALHOST.into(), local);
        }
        if name == "metadata.google.internal" {
            return self.check_address(METADATA_V4[0].into(), local);
        }
        Ok(())
    }

    /// Refuses an address, saying why. `local`: a user of this host asks.
    pub(crate) fn check_address(&self, ip: IpAddr, local: bool) -> Result<(), &'static str> {
        match ip {
            IpAddr::V4(ip) => self.check_v4(ip, local),
            IpAddr::V6(ip) => match embedded_v4(ip) {
                Some(v4) => self.check_v4(v4, local),
                None => self.check_v6(ip, local),
            },
        }
    }

    fn check_v4(&self, ip: Ipv4Addr, local: bool) -> Result<(), &'static str> {
        let first = ip.octets()[0];
        if METADATA_V4.contains(&ip) {
            return if self.allow_metadata { Ok(()) } else { Err(METADATA) };
        }
        if ip.is_loopback() {
            return if local || self.allow_loopback { Ok(()) } else { Err(LOOPBACK) };
        }
        if ip.is_link_local() {
            return if self.allow_link_local { Ok(()) } else { Err(LINK_LOCAL) };
        }
        // All of 0.0.0.0/8 is "this host" (Linux connects 0.0.0.0 to loopback); 240.0.0.0/4 has the broadcast address.
        match first {
            0 => Err(UNSPECIFIED),
            224..=255 => Err(MULTICAST),
            _ => Ok(()),
        }
    }

    fn check_v6(&self, ip: Ipv6Addr, local: bool) -> Result<(), &'static str> {
        if ip == METADATA_V6 {
            return if self.allow_metadata { Ok(()) } else { Err(METADATA) };
        }
        if ip.is_loopback() {
            return if local || self.allow_loopback { Ok(()) } else { Err(LOOPBACK) };
        }
        if ip.is_unicast_link_local() {
            return if self.allow_link_local { Ok(()) } else { Err(LINK_LOCAL) };
        }
        if ip.is_unspecified() {
            return Err(UNSPECIFIED);
        }
        if ip.is_multicast() { Err(MULTICAST) } else { Ok(()) }
    }
}

const LINK_LOCAL: &str = "link-local addresses are refused";
const LOOPBACK: &str = "loopback is for local users only";
const METADATA: &str = "it is a cloud's metadata service";
const MULTICAST: &str = "it is no address of one host";
const UNSPECIFIED: &str = "it is the unspecified address";

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, NAT64 (RFC 6052) and 6to4.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = ip.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] => Some(v4(high, low)),
        // :: and ::1 are IPv6's own.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 || low > 1 => Some(v4(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

/// Names origins: `[scheme://]host[:port]`, where a host that begins with `*.` stands for every name below it.
/// Without a scheme any, without a port any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern {
    scheme: Option<String>,
    host: String,
    below: bool,
    port: Option<u16>,
}

impl OriginPattern {
    /// As [`OriginPattern::matches`], but a pattern without a port is of URLs without one: who may listen at another
    /// port of a host is not who the host is.
    #[cfg(feature = "storage")]
    pub(crate) fn matches_port(&self, url: &Url) -> bool {
        self.matches(url) && (self.port.is_some() || url.port().is_none())
    }

    /// Whether a URL is one of these.
    pub fn matches(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        let host = host.strip_suffix('.').unwrap_or(host);
        let host_fits = match self.below {
            // The parser keeps their case, and hubs know their owners by any.
            false if matches!(url.scheme(), "hf" | "modelscope") => host.eq_ignore_ascii_case(&self.host),
            false => host == self.host,
            true => host.strip_suffix(&self.host).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        };
        host_fits
            && self.scheme.as_ref().is_none_or(|scheme| scheme == url.scheme())
            && self.port.is_none_or(|port| Some(port) == url.port_or_known_default())
    }
}

/// A pattern that names no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an origin pattern: wanted [scheme://]host[:port], the host perhaps beginning with \"*.\"")]
pub struct InvalidOriginPattern;

impl FromStr for OriginPattern {
    type Err = InvalidOriginPattern;

    fn from_str(text: &str) -> Result<Self, InvalidOriginPattern> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None => (None, text),
        };
        let (below, rest) = match rest.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        // The URL parser drops a port that is its scheme's default, so the port is read here.
        let port = match rest.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && (!host.contains(':') || host.ends_with(']')) => {
                Some(port.parse().map_err(|_| InvalidOriginPattern)?)
            }
            _ => None,
        };
        // The parser writes the host as it writes those that it is compared with.
        let url = Url::parse(&format!("http://{rest}")).map_err(|_| InvalidOriginPattern)?;
        let plain =
            url.path() == "/" && url.query().is_none() && url.fragment().is_none() && !rest.contains(['@', '/']);
        let host = url.host_str().filter(|host| plain && !host.contains('*')).ok_or(InvalidOriginPattern)?;
        Ok(Self { scheme, host: host.to_owned(), below, port })
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = &self.scheme {
            write!(f, "{scheme}://")?;
        }
        write!(f, "{}{}", if self.below { "*." } else { "" }, self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

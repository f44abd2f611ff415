//! Who listens, and who can be reached.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use dragonfly_core::Address;
use http::Method;

use super::Check;
use crate::client::Client;
use crate::daemon::config::{PORT, Serve};
use crate::model::{NeighboursBody, StatusBody};

/// For one address to answer.
const REACH_MAX: Duration = Duration::from_secs(3);
/// Neighbours and coordinators that are tried.
const REACH_COUNT: usize = 16;

/// `HOST`, `PORT` and whether it is TCP, of `/ip4/HOST/tcp/PORT/...` and the like.
fn parts(address: &Address) -> Option<(String, u16, bool)> {
    let text = address.to_string();
    let mut parts = text.split('/').skip(1);
    let (kind, host, transport, port) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let known = matches!(kind, "ip4" | "ip6" | "dns" | "dns4" | "dns6") && matches!(transport, "tcp" | "udp");
    Some((host.to_owned(), port.parse().ok()?, transport == "tcp")).filter(|_| known)
}

async fn connect(host: &str, port: u16) -> io::Result<()> {
    let connecting = tokio::net::TcpStream::connect((host, port));
    match tokio::time::timeout(REACH_MAX, connecting).await {
        Ok(connected) => connected.map(drop),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {REACH_MAX:?}"))),
    }
}

/// Asks the daemon that runs.
pub(super) async fn running(client: &mut Client, checks: &mut Vec<Check>) {
    let status: StatusBody = match client.json(Method::GET, "/v1/status", None::<&()>).await {
        Ok(status) => status,
        Err(e) => {
            let hint = "see its log; restart it if it does not answer";
            checks.push(Check::fail("daemon", e.to_string(), hint));
            return;
        }
    };
    let found = format!("runs as {}, pid {}", status.roles, status.pid);
    checks.push(if status.ready {
        Check::ok("daemon", found)
    } else {
        Check::warn("daemon", format!("{found}, is not ready"), "it starts or stops: see its log")
    });
    let addresses: Vec<Address> = status.listen.iter().filter_map(|address| address.parse().ok()).collect();
    for (host, port, _) in addresses.iter().filter_map(parts).filter(|(.., tcp)| *tcp) {
        let reached = connect(&host, port).await;
        checks.push(match reached {
            Ok(()) => Check::ok("port", format!("{host}:{port} accepts connections")),
            Err(e) => Check::fail("port", format!("{host}:{port}: {e}"), "open the port in this host's firewall"),
        });
    }
    let Ok(met) = client.json::<NeighboursBody>(Method::GET, "/v1/neighbours", None::<&()>).await else { return };
    for met in met.neighbours.iter().filter(|met| !met.connected).take(REACH_COUNT) {
        let addresses: Vec<Address> = met.addresses.iter().filter_map(|address| address.parse().ok()).collect();
        if let Some(refused) = unreachable(&addresses).await {
            let hint = "open its port between the two hosts, TCP and UDP";
            checks.push(Check::warn("neighbour", format!("{}: {refused}", met.peer), hint));
        }
    }
    let connected = met.neighbours.iter().filter(|met| met.connected).count();
    checks.push(Check::ok("neighbours", format!("{connected} connected, {} met", met.neighbours.len())));
}

/// Without a daemon: whether one could listen.
pub(super) async fn stopped(serve: Option<&Serve>, checks: &mut Vec<Check>) {
    let hint = "start it: `systemctl start dfdaemon`, or `dfdaemon` with its --data-dir";
    checks.push(Check::warn("daemon", "does not run, or another user's", hint));
    let addresses = serve.and_then(|serve| serve.listen().ok()).unwrap_or_default();
    let mut wanted: Vec<_> = addresses.iter().filter_map(parts).collect();
    if wanted.is_empty() {
        wanted = vec![("0.0.0.0".to_owned(), PORT, true), ("0.0.0.0".to_owned(), PORT, false)];
    }
    for (host, port, tcp) in wanted {
        let at = (host.as_str(), port);
        let free = if tcp { TcpListener::bind(at).map(drop) } else { UdpSocket::bind(at).map(drop) };
        let name = if tcp { "TCP" } else { "UDP" };
        checks.push(match free {
            Ok(()) => Check::ok("port", format!("{name} {host}:{port} is free")),
            Err(e) => {
                let hint = format!("see who has it with `ss -lnp | grep {port}`, or choose another with --listen");
                Check::fail("port", format!("{name} {host}:{port}: {e}"), hint)
            }
        });
    }
}

/// Who the token names: the first to be asked.
pub(super) async fn coordinators(bootstrap: &[Address], checks: &mut Vec<Check>) {
    let (places, over_udp): (Vec<_>, Vec<_>) = bootstrap.iter().filter_map(parts).partition(|(.., tcp)| *tcp);
    if places.is_empty() {
        // Whether anybody is there only the protocol itself would tell.
        checks.extend(over_udp.iter().map(|(host, port, _)| {
            Check::ok("coordinator", format!("{host}:{port} is reached over UDP alone: not tried"))
        }));
    }
    // The loopback address in a token is its issuer's: here somebody else is behind it.
    let is_far = |host: &str| !host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    let any_far = places.iter().any(|(host, ..)| is_far(host));
    for (host, port, _) in places.into_iter().filter(|(host, ..)| is_far(host) || !any_far).take(REACH_COUNT) {
        checks.push(match connect(&host, port).await {
            Ok(()) => Check::ok("coordinator", format!("{host}:{port} accepts connections")),
            Err(e) => {
                let hint =
                    "see that its daemon runs and its port is open from here; until then this host is on its own";
                Check::fail("coordinator", format!("{host}:{port}: {e}"), hint)
            }
        });
    }
}

/// Why none of a host's TCP addresses can be reached; `None` if one can, or none is known.
async fn unreachable(addresses: &[Address]) -> Option<String> {
    let mut why = None;
    for (host, port, _) in addresses.iter().filter_map(parts).filter(|(.., tcp)| *tcp) {
        match connect(&host, port).await {
            Ok(()) => return None,
            Err(e) => why = Some(format!("{host}:{port}: {e}")),
        }
    }
    why
}

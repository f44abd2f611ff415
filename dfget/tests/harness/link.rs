//! Links between network namespaces, for tests that need a network to misbehave. Gone with their handle, which a
//! failing test drops, too.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Two halves of one link for members, joined by a cable, and a link of its own to the origin: who is cut off from
/// the others still reaches the origin.
pub(crate) struct Link {
    name: String,
    subnet: u8,
    places: u8,
}

/// A namespace on a link.
pub(crate) struct Place {
    namespace: String,
    listen: String,
}

impl Place {
    /// Where a daemon there listens.
    pub(crate) fn listen(&self) -> &str {
        &self.listen
    }

    /// A program to be run there.
    pub(crate) fn command(&self, program: &OsStr) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program);
        command
    }
}

static LINKS: AtomicU32 = AtomicU32::new(0);

impl Link {
    /// A link without anybody on it; `None`, having said so, where namespaces cannot be made. With `CI=true` that
    /// is a failure.
    pub(crate) fn new() -> Option<Self> {
        let number = LINKS.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let name = format!("df{:x}{number:x}", pid & 0xf_ffff);
        // Others may test at the same time on this machine.
        let subnet = (pid.wrapping_mul(7).wrapping_add(number) % 250) as u8;
        let link = Self { name, subnet, places: 0 };
        if let Err(why) = link.lay() {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "network namespaces are needed: {why}");
            println!("SKIPPED: it needs network namespaces (root, ip, veth, bridge): {why}");
            return None;
        }
        Some(link)
    }

    fn lay(&self) -> Result<(), String> {
        let name = &self.name;
        ip(&format!("netns add {name}probe"))?;
        ip(&format!("netns delete {name}probe"))?;
        for half in ["a", "b", "o"] {
            ip(&format!("link add {name}{half} type bridge mcast_snooping 0"))?;
            ip(&format!("link set {name}{half} up"))?;
        }
        ip(&format!("link add {name}x type veth peer name {name}y"))?;
        ip(&format!("link set {name}x master {name}a up"))?;
        ip(&format!("link set {name}y master {name}b up"))?;
        ip(&format!("address add {}/24 dev {name}o", self.origin()))
    }

    /// Where an origin can listen that everyone reaches.
    pub(crate) fn origin(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 251, self.subnet, 1)
    }

    /// One more namespace, in the first half or the other.
    pub(crate) fn place(&mut self, first_half: bool) -> Place {
        self.places += 1;
        let (name, at, subnet) = (&self.name, self.places + 1, self.subnet);
        let namespace = format!("{name}n{at}");
        let half = if first_half { "a" } else { "b" };
        let all = [
            format!("netns add {namespace}"),
            format!("-n {namespace} link set lo up"),
            format!("link add {name}m{at} type veth peer name members netns {namespace}"),
            format!("link set {name}m{at} master {name}{half} up"),
            format!("-n {namespace} address add 10.250.{subnet}.{at}/24 dev members"),
            format!("-n {namespace} link set members up"),
            format!("link add {name}p{at} type veth peer name origin netns {namespace}"),
            format!("link set {name}p{at} master {name}o up"),
            format!("-n {namespace} address add 10.251.{subnet}.{at}/24 dev origin"),
            format!("-n {namespace} link set origin up"),
        ];
        for command in all {
            ip(&command).unwrap();
        }
        Place { namespace, listen: format!("/ip4/10.250.{subnet}.{at}/tcp/0") }
    }

    /// Pulls the cable between the halves: what one sends to the other is lost, and nobody says so.
    pub(crate) fn cut(&self) {
        ip(&format!("link set {}x down", self.name)).unwrap();
    }

    /// Plugs it in again.
    pub(crate) fn heal(&self) {
        ip(&format!("link set {}x up", self.name)).unwrap();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let name = &self.name;
        // Whatever there is of it: a test may have failed half-way.
        for at in 2..=self.places + 1 {
            let _ = ip(&format!("link delete {name}m{at}"));
            let _ = ip(&format!("link delete {name}p{at}"));
            let _ = ip(&format!("netns delete {name}n{at}"));
        }
        let _ = ip(&format!("netns delete {name}probe"));
        for link in ["x", "a", "b", "o"] {
            let _ = ip(&format!("link delete {name}{link}"));
        }
    }
}

fn ip(arguments: &str) -> Result<(), String> {
    let mut command = Command::new("ip");
    command.args(arguments.split(' ')).stdin(Stdio::null());
    let done = command.output().map_err(|error| format!("ip: {error}"))?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&done.stderr).trim()))
}

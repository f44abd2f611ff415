//! A network of hosts on one machine: a namespace for each, all on one bridge, and each link as fast as the bench says.
//! Needs root, `ip` and `tc`. Gone with its handle.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// The share of a link's rate that is left for TCP's payload: the rest are headers of Ethernet, IP and TCP.
const PAYLOAD: f64 = 0.955;

/// A host of a [`Network`].
#[derive(Clone, Debug)]
pub struct Place {
    namespace: String,
    port: String,
    address: Ipv4Addr,
}

impl Place {
    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// A program to be run there.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program);
        command
    }

    /// Sets how fast its link is, in bit/s up and down.
    ///
    /// # Errors
    /// `tc` is refused.
    pub fn shape(&self, up: u64, down: u64) -> anyhow::Result<()> {
        let limit = |rate: u64| format!("root tbf rate {rate}bit burst 128kb latency 50ms");
        run("tc", &format!("-n {} qdisc replace dev eth0 {}", self.namespace, limit(up)))?;
        run("tc", &format!("-n {} qdisc replace dev {} {}", hub(&self.namespace)?, self.port, limit(down)))
    }

    /// Bytes that its link has sent so far, headers included.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn sent(&self) -> anyhow::Result<u64> {
        let output = self.command("cat").arg("/sys/class/net/eth0/statistics/tx_bytes").output()?;
        Ok(String::from_utf8(output.stdout)?.trim().parse()?)
    }
}

/// What a link of `rate` bit/s carries of content, in bytes a second.
pub fn payload(rate: u64) -> f64 {
    rate as f64 * PAYLOAD / 8.0
}

/// Hosts on one bridge.
#[derive(Debug)]
pub struct Network {
    name: String,
    places: Vec<Place>,
}

impl Network {
    /// Lays a network of `hosts` hosts, their links as fast as the machine.
    ///
    /// # Errors
    /// Namespaces cannot be made here.
    pub fn lay(hosts: usize) -> anyhow::Result<Self> {
        let name = format!("dfb{:x}", std::process::id() & 0xf_ffff);
        let mut network = Self { name, places: Vec::new() };
        let hub = format!("{}-hub", network.name);
        run("ip", &format!("netns add {hub}")).context("a network of namespaces needs root")?;
        run("ip", &format!("-n {hub} link set lo up"))?;
        run("ip", &format!("-n {hub} link add br0 type bridge mcast_snooping 0"))?;
        run("ip", &format!("-n {hub} link set br0 up"))?;
        for host in 0..hosts {
            let namespace = format!("{}-{host}", network.name);
            let number = host as u16 + 2;
            let [high, low] = number.to_be_bytes();
            let place = Place { namespace, port: format!("port{host}"), address: Ipv4Addr::new(10, 77, high, low) };
            network.places.push(place.clone());
            let Place { namespace, port, address } = place;
            run("ip", &format!("netns add {namespace}"))?;
            run("ip", &format!("-n {namespace} link set lo up"))?;
            run("ip", &format!("-n {hub} link add {port} type veth peer name eth0 netns {namespace}"))?;
            run("ip", &format!("-n {hub} link set {port} master br0 up"))?;
            run("ip", &format!("-n {namespace} address add {address}/16 dev eth0"))?;
            run("ip", &format!("-n {namespace} link set eth0 up"))?;
        }
        Ok(network)
    }

    /// The hosts.
    pub fn places(&self) -> &[Place] {
        &self.places
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Whatever there is of it: it may have been laid half-way.
        for place in &self.places {
            let _ = run("ip", &format!("netns delete {}", place.namespace));
        }
        let _ = run("ip", &format!("netns delete {}-hub", self.name));
    }
}

fn hub(namespace: &str) -> anyhow::Result<String> {
    let (network, _) = namespace.rsplit_once('-').context("a namespace of a network")?;
    Ok(format!("{network}-hub"))
}

fn run(program: &str, arguments: &str) -> anyhow::Result<()> {
    let mut command = Command::new(Path::new(program));
    let done = command.args(arguments.split(' ')).stdin(Stdio::null()).output().context(program.to_owned())?;
    if !done.status.success() {
        bail!("{program} {arguments}: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}

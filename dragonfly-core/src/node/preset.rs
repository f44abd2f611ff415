//! Settings that go together.

use std::time::Duration;

use crate::wire::Address;

/// The port of hosts that others have to find, as `dfdaemon` has it.
const PORT: u16 = 65001;

/// What kind of host a node is: settings that go together, for [`NodeBuilder::preset`](super::NodeBuilder::preset). What
/// is set after it is set differently; where content is kept, and what network the host is of, it does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Preset {
    /// A program that takes what it wants and ends, such as a job or a tool: it listens nowhere, holds at most 64 MiB in
    /// memory where it has no data directory, and serves 2 neighbours at a time over connections that it made itself.
    Guest,
    /// A machine of a fleet, which stays: it listens on every IPv4 address, on a port of the system's choice, over TCP
    /// and, with the feature `quic`, QUIC; what nobody used for 30 days goes.
    Host,
    /// A machine that schedules or seeds for others, who have to find it again: the same on port 65001, and what is
    /// held stays until there is no more room.
    Server,
}

/// What a preset sets.
pub(super) struct Settings {
    pub(super) listen: Vec<Address>,
    pub(super) memory_bytes: Option<u64>,
    pub(super) upload_slots: Option<u16>,
    pub(super) ttl: Option<Duration>,
}

impl Preset {
    pub(super) fn settings(self) -> Settings {
        let nothing = Settings { listen: Vec::new(), memory_bytes: None, upload_slots: None, ttl: None };
        match self {
            Self::Guest => Settings { memory_bytes: Some(64 << 20), upload_slots: Some(2), ..nothing },
            Self::Host => {
                let ttl = Some(Duration::from_secs(30 * 24 * 60 * 60));
                Settings { listen: everywhere(0), ttl, ..nothing }
            }
            Self::Server => Settings { listen: everywhere(PORT), ..nothing },
        }
    }
}

fn everywhere(port: u16) -> Vec<Address> {
    let quic = cfg!(feature = "quic").then(|| format!("/ip4/0.0.0.0/udp/{port}/quic-v1"));
    let addresses = [Some(format!("/ip4/0.0.0.0/tcp/{port}")), quic];
    // They are sound: the test below reads them all.
    addresses.into_iter().flatten().filter_map(|address| address.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_what_they_say() {
        let listeners =
            |preset: Preset| -> Vec<String> { preset.settings().listen.iter().map(ToString::to_string).collect() };
        assert!(listeners(Preset::Guest).is_empty());
        assert_eq!(listeners(Preset::Host)[0], "/ip4/0.0.0.0/tcp/0");
        assert_eq!(listeners(Preset::Server)[0], "/ip4/0.0.0.0/tcp/65001");
        let quic = listeners(Preset::Server).into_iter().nth(1);
        assert_eq!(quic.as_deref(), cfg!(feature = "quic").then_some("/ip4/0.0.0.0/udp/65001/quic-v1"));
    }
}

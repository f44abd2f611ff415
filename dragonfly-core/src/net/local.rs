//! Who says by mDNS that it is on this link. Hints from anyone who can send a datagram: bounded here, believed by
//! nobody. The transport admits who is dialled, or does not.

use std::time::Duration;

use libp2p::mdns;
use libp2p::swarm::NetworkBehaviour as _;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::behaviour::{ExpiredListenAddr, FromSwarm, NewListenAddr};
use libp2p::{Multiaddr, core::transport::ListenerId};

use super::error::StartError;
use super::host::Found;
use crate::wire::{Address, PeerId};

/// Peers that are remembered.
pub(crate) const PEERS_MAX: usize = 64;

/// Addresses of one peer that are remembered.
pub(super) const ADDRESSES_MAX: usize = 8;

/// Records that the behaviour itself may hold, over all peers: it has no bound of its own, and searches them one by
/// one. Beyond it, it is begun anew.
pub(super) const RECORDS_MAX: usize = 512;

/// How long what this host says of itself holds, and how often it asks. Short beside the field's minutes, so that
/// who is gone is forgotten; a question and its answers are some hundred bytes each.
const TTL: Duration = Duration::from_secs(120);
const QUERY_INTERVAL: Duration = Duration::from_secs(30);

/// mDNS, or nothing at all where it is not wanted.
pub(super) type Behaviour = Toggle<mdns::tokio::Behaviour>;

pub(super) fn behaviour(wanted: bool, local: libp2p::PeerId) -> Result<Behaviour, StartError> {
    let config = mdns::Config { ttl: TTL, query_interval: QUERY_INTERVAL, enable_ipv6: false };
    let made = wanted.then(|| mdns::tokio::Behaviour::new(config, local)).transpose();
    Ok(made.map_err(|e| StartError::Discovery(Box::new(e)))?.into())
}

/// Takes in what was heard; whether anything changed. `keep` says who stays when there are too many.
pub(super) fn heard(found: &mut Found, event: mdns::Event, keep: impl Fn(PeerId) -> bool) -> bool {
    let mut changed = false;
    match event {
        mdns::Event::Discovered(heard) => {
            for (peer, address) in heard {
                let (Ok(peer), Some(address)) = (PeerId::from_libp2p(&peer), usable(address)) else { continue };
                if !found.contains_key(&peer) && found.len() >= PEERS_MAX {
                    // Who floods the link must not keep members out for good.
                    let Some(out) = found.keys().copied().find(|peer| !keep(*peer)) else { continue };
                    found.remove(&out);
                }
                let addresses = found.entry(peer).or_default();
                if addresses.len() < ADDRESSES_MAX && !addresses.contains(&address) {
                    addresses.push(address);
                    changed = true;
                }
            }
        }
        mdns::Event::Expired(gone) => {
            for (peer, address) in gone {
                let (Ok(peer), Some(address)) = (PeerId::from_libp2p(&peer), usable(address)) else { continue };
                let Some(addresses) = found.get_mut(&peer) else { continue };
                addresses.retain(|known| *known != address);
                if addresses.is_empty() {
                    found.remove(&peer);
                }
                changed = true;
            }
        }
    }
    changed
}

/// An address that can be somebody's on a link; a name would have this host ask the DNS for a stranger.
fn usable(address: Multiaddr) -> Option<Address> {
    let address = Address::from_libp2p(address).without_peer();
    let ip = address.ip()?;
    (!ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast()).then_some(address)
}

/// Begins anew when the behaviour holds too much.
pub(super) fn bound<'a>(
    behaviour: &mut Behaviour,
    local: libp2p::PeerId,
    listeners: impl Iterator<Item = &'a Multiaddr>,
) {
    let Some(mdns) = behaviour.as_ref() else { return };
    if mdns.discovered_nodes().len() <= RECORDS_MAX {
        return;
    }
    tracing::warn!("more than {RECORDS_MAX} mDNS records on the link: all are forgotten");
    match self::behaviour(true, local) {
        Ok(anew) => *behaviour = anew,
        Err(error) => tracing::warn!(%error, "mDNS ends"),
    }
    for address in listeners {
        let event = NewListenAddr { listener_id: ListenerId::next(), addr: address };
        behaviour.on_swarm_event(FromSwarm::NewListenAddr(event));
    }
}

/// Says no more where this host listens: the behaviour's tasks outlive it until they hear of somebody.
pub(super) fn hush<'a>(behaviour: &mut Behaviour, listeners: impl Iterator<Item = &'a Multiaddr>) {
    for address in listeners {
        let event = ExpiredListenAddr { listener_id: ListenerId::next(), addr: address };
        behaviour.on_swarm_event(FromSwarm::ExpiredListenAddr(event));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::trust::Identity;

    fn somebody() -> libp2p::PeerId {
        Identity::generate().peer_id().to_libp2p()
    }

    fn at(address: &str) -> Multiaddr {
        address.parse().unwrap()
    }

    #[test]
    fn a_flood_is_bounded_and_does_not_keep_members_out() {
        let mut found = Found::new();
        let member = somebody();
        let kept = PeerId::from_libp2p(&member).unwrap();
        heard(&mut found, mdns::Event::Discovered(vec![(member, at("/ip4/10.0.0.1/tcp/1"))]), |_| false);
        for n in 0..1000_u16 {
            let flood = mdns::Event::Discovered(vec![(somebody(), at(&format!("/ip4/10.0.0.2/tcp/{}", n + 1)))]);
            heard(&mut found, flood, |peer| peer == kept);
            assert!(found.len() <= PEERS_MAX);
        }
        assert!(found.contains_key(&kept));
        let late = somebody();
        heard(&mut found, mdns::Event::Discovered(vec![(late, at("/ip4/10.0.0.3/tcp/1"))]), |peer| peer == kept);
        assert!(found.contains_key(&PeerId::from_libp2p(&late).unwrap()));
        for port in 1..100 {
            let more = mdns::Event::Discovered(vec![(late, at(&format!("/ip4/10.0.0.3/tcp/{port}")))]);
            heard(&mut found, more, |_| true);
        }
        assert_eq!(found[&PeerId::from_libp2p(&late).unwrap()].len(), ADDRESSES_MAX);
    }

    #[test]
    fn what_is_nobodys_on_a_link_is_not_taken_and_who_is_gone_goes() {
        let mut found = Found::new();
        for address in ["/ip4/127.0.0.1/tcp/1", "/ip4/0.0.0.0/tcp/1", "/ip4/224.0.0.251/tcp/1", "/dns4/a.example/tcp/1"]
        {
            assert!(
                !heard(&mut found, mdns::Event::Discovered(vec![(somebody(), at(address))]), |_| true),
                "{address}"
            );
        }
        assert!(found.is_empty());
        let one = somebody();
        assert!(heard(&mut found, mdns::Event::Discovered(vec![(one, at("/ip4/10.0.0.1/tcp/1"))]), |_| true));
        assert!(heard(&mut found, mdns::Event::Expired(vec![(one, at("/ip4/10.0.0.1/tcp/1"))]), |_| true));
        assert!(found.is_empty());
    }
}

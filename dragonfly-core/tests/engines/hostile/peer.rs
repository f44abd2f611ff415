//! A peer that speaks the protocol by hand, over the real transport, and does with it what a test wants.

use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use dragonfly_core::net::{Admission, Admitted, Duplex, Host, HostConfig, Incoming, Refused, Stream};
use dragonfly_core::trust::{self, Identity, Membership, Side};
use dragonfly_core::wire::codec::{self, Decoded, FrameDecoder, Framed};
use dragonfly_core::wire::control::{Announce, ToCoordinator, ToMember, VERSION};
use dragonfly_core::wire::lane::Frame;
use dragonfly_core::{Address, Node, PeerId, Token};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::harness::loopback;

pub(super) const CONTROL: &str = "/dragonfly/control/1";
pub(super) const LANE: &str = "/dragonfly/lane/1";

/// What listens on the other end of every lane in these tests.
pub(super) type Lane = Wire<Frame>;

/// A member that is no friend.
pub(super) struct Hostile {
    pub(super) identity: Identity,
    pub(super) membership: Arc<Membership>,
    pub(super) host: Host,
    lanes: Mutex<Option<mpsc::Receiver<Incoming>>>,
    sessions: Mutex<Option<mpsc::Receiver<Incoming>>>,
}

/// Its admission is real: without one there is nothing to attack. It keeps the credentials that it is shown.
struct Gate(Arc<Membership>);

impl Admission for Gate {
    fn admit<'a>(
        &'a self,
        mut io: &'a mut dyn Duplex,
        dialer: bool,
        local: PeerId,
        remote: PeerId,
        binding: &'a [u8],
    ) -> BoxFuture<'a, Result<Admitted, Refused>> {
        async move {
            let side = if dialer { Side::Dialer } else { Side::Listener };
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
            let admitted = trust::admit_bound(&mut io, &self.0, side, local, remote, now, binding).await;
            let admitted = admitted.map_err(|e| Refused::new(e.to_string()))?;
            Ok(Admitted { claims: Arc::new(admitted.credential), not_after: None })
        }
        .boxed()
    }
}

impl Hostile {
    /// A member of the token's network, that coordinates nothing.
    pub(super) async fn join(token: &Token) -> Self {
        Self::speaking(token, Self::seed(), loopback(), vec![LANE]).await
    }

    /// One that others may open sessions to.
    pub(super) async fn coordinator(token: &Token) -> Self {
        Self::coordinator_at(token, Self::seed(), loopback()).await
    }

    /// One with this identity, at this address.
    pub(super) async fn coordinator_at(token: &Token, seed: [u8; 32], listen: Address) -> Self {
        Self::speaking(token, seed, listen, vec![LANE, CONTROL]).await
    }

    /// An identity that nobody has.
    pub(super) fn seed() -> [u8; 32] {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        seed
    }

    async fn speaking(token: &Token, seed: [u8; 32], listen: Address, protocols: Vec<&'static str>) -> Self {
        let identity = Identity::from_seed(seed);
        let membership = Arc::new(Membership::join(&identity, token));
        let config = HostConfig {
            listen: vec![listen],
            protocols,
            ..HostConfig::new(seed, Arc::new(Gate(Arc::clone(&membership))))
        };
        let (host, mut queues) = Host::start(config, &tokio::runtime::Handle::current()).unwrap();
        host.listening().await.unwrap();
        let (lanes, sessions) = (queues.remove(LANE), queues.remove(CONTROL));
        Self { identity, membership, host, lanes: Mutex::new(lanes), sessions: Mutex::new(sessions) }
    }

    async fn open(&self, node: &Node, protocol: &'static str) -> Option<Stream> {
        let addresses: Vec<Address> = node.listeners().iter().map(Address::without_peer).collect();
        self.host.connect(node.peer_id(), addresses).await.ok()?;
        self.host.open(node.peer_id(), protocol).await.ok()
    }

    /// A session with the coordinator on `node`, announced as a peer with slots.
    pub(super) async fn session(&self, node: &Node) -> Wire<ToMember> {
        let mut session = self.control(node).await;
        let addresses: Vec<Address> = self.host.listeners().iter().map(Address::without_peer).collect();
        let record = trust::sign_record(&self.identity, &addresses).unwrap();
        let announce = Announce { version: VERSION, record: Some(record), seed: false, slots: 8, site: None };
        session.say(&ToCoordinator::Announce(announce)).await.unwrap();
        session
    }

    /// A control stream to `node` on which nothing was said.
    pub(super) async fn control(&self, node: &Node) -> Wire<ToMember> {
        Wire::over(self.open(node, CONTROL).await.unwrap())
    }

    /// The lanes that others open to it; to be taken once.
    pub(super) fn take_lanes(&self) -> mpsc::Receiver<Incoming> {
        self.lanes.lock().unwrap().take().unwrap()
    }

    /// What a member that is connected has shown.
    pub(super) fn credential_of(&self, member: PeerId) -> Vec<u8> {
        self.host.claims(member).unwrap().downcast_ref::<Vec<u8>>().unwrap().clone()
    }

    /// The sessions that others open with it; to be taken once.
    pub(super) fn take_sessions(&self) -> mpsc::Receiver<Incoming> {
        self.sessions.lock().unwrap().take().unwrap()
    }

    /// A lane to `node`; `None` if it is not even connected to.
    pub(super) async fn lane(&self, node: &Node) -> Option<Lane> {
        self.open(node, LANE).await.map(Wire::over)
    }

    /// Whether `node` opens nothing for it: a lane is ended without a word.
    pub(super) async fn is_shunned_by(&self, node: &Node) -> bool {
        match self.lane(node).await {
            None => true,
            Some(mut lane) => lane.hear().await.is_none(),
        }
    }
}

/// A stream of messages.
pub(super) struct Wire<R> {
    stream: Stream,
    buffer: BytesMut,
    decoder: FrameDecoder<R>,
}

impl<R: Framed> Wire<R> {
    pub(super) fn over(stream: Stream) -> Self {
        Self { stream, buffer: BytesMut::new(), decoder: FrameDecoder::new() }
    }

    /// Sends a message.
    pub(super) async fn say<T: Framed>(&mut self, message: &T) -> std::io::Result<()> {
        let mut frame = BytesMut::new();
        codec::encode(message, &mut frame).unwrap();
        self.raw(&frame).await
    }

    /// Sends bytes as they are.
    pub(super) async fn raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The next message; `None` when the other end is done with us. Cancel-safe.
    pub(super) async fn hear(&mut self) -> Option<R> {
        loop {
            match self.decoder.next(&mut self.buffer).ok()? {
                Some(Decoded::Message(message)) => return Some(message),
                Some(Decoded::Ignored) => {}
                None => {
                    if self.stream.read_buf(&mut self.buffer).await.ok()? == 0 {
                        return None;
                    }
                }
            }
        }
    }
}

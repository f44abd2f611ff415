//! Small networks of real nodes.

use std::path::PathBuf;

use dragonfly_core::trust::OriginTrust;
use dragonfly_core::{
    Address, Download, Node, NodeBuilder, Peer, Receipt, Request, Roles, Scheduler, Seed, Token, TokenOptions,
};
use dragonfly_testkit::{Logged, Origin, Resource, content};
use tempfile::TempDir;
use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub(crate) const SEED: u64 = 7;

/// Shows what the library logs, as `RUST_LOG` says, in tests that are run with `--nocapture`, and keeps what it logs at
/// info and above: see [`logged`].
pub(crate) fn log() {
    let shown = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let shown = shown.with_filter(tracing_subscriber::EnvFilter::from_default_env());
    let kept = Kept.with_filter(tracing_subscriber::filter::filter_fn(|meta| {
        meta.target().starts_with("dragonfly_core") && *meta.level() <= tracing::Level::INFO
    }));
    let _ = tracing_subscriber::registry().with(shown).with(kept).try_init();
}

/// What all nodes of this process have logged, of any test: those that have `text` in them, such as a peer's id.
pub(crate) fn logged(text: &str) -> Vec<String> {
    let lines = LINES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    lines.iter().filter(|line| line.contains(text)).cloned().collect()
}

static LINES: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());

/// Keeps lines of the log.
struct Kept;

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Kept {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        struct Line(String);
        impl tracing::field::Visit for Line {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                use std::fmt::Write as _;
                let _ = write!(self.0, "{}={value:?} ", field.name());
            }
        }
        let mut line = Line(String::new());
        event.record(&mut line);
        LINES.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(line.0);
    }
}

/// A scheduler with a seed on one node, and peers that joined with its token.
pub(crate) struct Network {
    pub(crate) origin: Origin,
    pub(crate) scheduler: Option<(Node, Scheduler)>,
    pub(crate) seed: Option<Seed>,
    pub(crate) peers: Vec<Member>,
    pub(crate) dir: TempDir,
    lanes: bool,
}

pub(crate) struct Member {
    pub(crate) node: Node,
    pub(crate) peer: Peer,
}

pub(crate) fn loopback() -> Address {
    "/ip4/127.0.0.1/tcp/0".parse().unwrap()
}

pub(crate) fn quic() -> Address {
    "/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()
}

impl Network {
    /// `seed`: whether the scheduler's node is a seed, too.
    pub(crate) async fn start(peers: usize, seed: bool) -> Self {
        Self::over(peers, seed, loopback(), true).await
    }

    /// With a seed, in a network in which nobody else may say what an origin said.
    pub(crate) async fn of_seeds(peers: usize) -> Self {
        Self::trusting(OriginTrust::Seeds, peers, true, loopback(), true).await
    }

    /// `lanes`: whether pieces may go over lanes; else over streams on what `listen` is.
    pub(crate) async fn over(peers: usize, with_seed: bool, listen: Address, lanes: bool) -> Self {
        Self::trusting(OriginTrust::Members, peers, with_seed, listen, lanes).await
    }

    async fn trusting(trust: OriginTrust, peers: usize, with_seed: bool, listen: Address, lanes: bool) -> Self {
        log();
        let dir = tempfile::tempdir().unwrap();
        let origin = Origin::start().await.unwrap();
        let first = first(&dir, listen.clone()).origin_trust(trust);
        let first = if lanes { first } else { first.no_lanes() }.start().await.unwrap();
        let scheduler = Scheduler::builder(&first).start().await.unwrap();
        let seed = if with_seed { Some(Seed::builder(&first).start().await.unwrap()) } else { None };
        let token = first.token(TokenOptions::default()).unwrap();
        let mut network = Self { origin, scheduler: Some((first, scheduler)), seed, peers: Vec::new(), dir, lanes };
        for number in 0..peers {
            let member = network.member(number, &token, listen.clone()).await;
            network.peers.push(member);
        }
        network
    }

    pub(crate) fn builder(&self, number: usize, token: &Token, listen: Address) -> NodeBuilder {
        let dir = self.dir.path().join(format!("peer-{number}"));
        let builder = Node::builder().data_dir(dir).listen(listen).join(token.clone());
        if self.lanes { builder } else { builder.no_lanes() }
    }

    pub(crate) async fn member(&self, number: usize, token: &Token, listen: Address) -> Member {
        let node = self.builder(number, token, listen).start().await.unwrap();
        let peer = Peer::builder(&node).start().await.unwrap();
        Member { node, peer }
    }

    pub(crate) fn token(&self) -> Token {
        self.scheduler.as_ref().unwrap().0.token(TokenOptions::default()).unwrap()
    }

    pub(crate) fn serve(&self, path: &str, resource: Resource) -> String {
        self.origin.set(path, resource);
        self.origin.url(path)
    }

    pub(crate) fn output(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Has every peer fetch `url` at once and checks what each got.
    pub(crate) async fn fetch_all(&self, url: &str, length: u64) -> Vec<Receipt> {
        let expected = content::blake3(SEED, length);
        let name = blake3::hash(url.as_bytes()).to_hex()[..8].to_owned();
        let downloads = self.peers.iter().enumerate().map(|(number, member)| {
            let output = self.output(&format!("{name}-{number}"));
            let download = member.peer.fetch(Request::new(url).output(&output));
            async move { (download.await, output) }
        });
        let mut receipts = Vec::new();
        for (outcome, output) in futures::future::join_all(downloads).await {
            let receipt = outcome.unwrap();
            assert_eq!(receipt.length, length);
            assert_eq!(receipt.blake3.bytes(), expected);
            let bytes = std::fs::read(&output).unwrap();
            assert_eq!(blake3::hash(&bytes).as_bytes(), &expected, "{}", output.display());
            receipts.push(receipt);
        }
        receipts
    }

    /// Has every peer begin to fetch it into a file of its own.
    pub(crate) fn begin_all(&self, request: &Request) -> Vec<Download> {
        let begin = |(number, member): (usize, &Member)| {
            member.peer.fetch(request.clone().output(self.output(&format!("file-{number}"))))
        };
        self.peers.iter().enumerate().map(begin).collect()
    }

    /// Those files, once they are there, have the bytes of the seeded content.
    pub(crate) fn all_have(&self, length: u64) {
        for number in 0..self.peers.len() {
            let bytes = std::fs::read(self.output(&format!("file-{number}"))).unwrap();
            assert_eq!(blake3::hash(&bytes).as_bytes(), &content::blake3(SEED, length), "file-{number}");
        }
    }

    /// Requests at the origin for one path.
    pub(crate) fn requests(&self, path: &str) -> Vec<Logged> {
        self.origin.log().into_iter().filter(|logged| logged.path == path).collect()
    }

    /// The scheduler's node once more, after it was stopped.
    pub(crate) async fn first_again(&self, listen: Address) -> Node {
        eventually("the directory is free", async || first(&self.dir, listen.clone()).start().await.ok()).await
    }

    pub(crate) async fn stop(self) {
        for member in &self.peers {
            member.peer.shutdown().await.unwrap();
            member.node.shutdown().await.unwrap();
        }
        if let Some(seed) = &self.seed {
            seed.shutdown().await.unwrap();
        }
        if let Some((node, scheduler)) = &self.scheduler {
            scheduler.shutdown().await.unwrap();
            node.shutdown().await.unwrap();
        }
    }
}

/// The node that founds a network.
fn first(dir: &TempDir, listen: Address) -> NodeBuilder {
    Node::builder().data_dir(dir.path().join("first")).listen(listen).allow_loopback_origins(true)
}

pub(crate) fn all_roles() -> TokenOptions {
    let mut options = TokenOptions::default();
    options.roles = Roles::ALL;
    options
}

/// How long tests wait for what has to come about.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Waits until `condition` yields something; it is looked at again and again.
///
/// # Panics
/// It does not come about.
pub(crate) async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("it never came about: {what}"))
}

/// The digest of seeded content.
pub(crate) fn digest(seed: u64, length: u64) -> dragonfly_core::Digest {
    dragonfly_core::Digest::new(dragonfly_core::task::Algorithm::Blake3, &content::blake3(seed, length)).unwrap()
}

/// The value of one number in a node's metrics.
pub(crate) fn metric(node: &Node, name: &str) -> u64 {
    let text = node.metrics_text();
    let line = text.lines().find(|line| line.split(' ').next() == Some(name));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

//! Clients that take their time with the head of a request, on a clock of the test's own.
#![allow(clippy::unwrap_used)]

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::Instant;

use super::*;
use crate::gateway::{Gateway, GatewayConfig};
use crate::node::Node;
use crate::peer::Peer;

struct Scene {
    node: Node,
    peer: Peer,
    gateway: Gateway,
}

impl Scene {
    async fn new() -> Self {
        let node = Node::builder().start().await.unwrap();
        let peer = Peer::builder(&node).start().await.unwrap();
        let gateway = Gateway::new(&peer, GatewayConfig { connections_max: 1, ..GatewayConfig::default() });
        Self { node, peer, gateway }
    }

    /// A client's end of a connection, which has the only place.
    fn connect(&self) -> DuplexStream {
        let inner = &self.gateway.0;
        let (near, far) = tokio::io::duplex(1 << 16);
        let place =
            Arc::clone(&inner.places).try_acquire_owned().expect("the place of the client before is free again");
        let place = Place { _permit: Arc::new(place), _lasting: None };
        let client = Client { local: true };
        inner.tasks.spawn(speak(Arc::clone(inner), far, (client, place), Of::Gateway(None)));
        near
    }

    async fn stop(self) {
        tokio::time::resume();
        assert!(self.gateway.shutdown(HEAD_MAX).await);
        self.peer.shutdown().await.unwrap();
        self.node.shutdown().await.unwrap();
    }
}

/// What came until the gateway ended the connection, and when that was.
async fn ended(mut client: impl AsyncRead + Unpin, since: Instant) -> (Vec<u8>, Duration) {
    let mut said = vec![];
    // A connection that is cut is an end, too.
    let _ = client.read_to_end(&mut said).await;
    (said, since.elapsed())
}

/// Whatever it said of a head, and however slowly: it has the time of one head, and its place is another's then.
#[tokio::test]
async fn a_head_that_does_not_end_ends_its_connection() {
    let scene = Scene::new().await;
    tokio::time::pause();
    for (beginning, rest) in
        [(&b""[..], &b""[..]), (b"GET / HT", b""), (b"GET / HTTP/1.1\r\n", b"a: b\r\n"), (b"PRI * HTTP/2.0\r\n", b"")]
    {
        let (client, since) = (scene.connect(), Instant::now());
        let (read, mut write) = tokio::io::split(client);
        write.write_all(beginning).await.unwrap();
        let slowly = async {
            // Each line in time, and no end of them.
            while !rest.is_empty() && write.write_all(rest).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(20)).await;
            }
            std::future::pending().await
        };
        let (_, after) = tokio::select! {
            ended = ended(read, since) => ended,
            () = slowly => unreachable!(),
        };
        let beginning = String::from_utf8_lossy(beginning);
        assert!((HEAD_MAX..HEAD_MAX + Duration::from_secs(1)).contains(&after), "{beginning}: {after:?}");
        tokio::task::yield_now().await;
    }
    scene.stop().await;
}

/// One that was answered waits as long for the next.
#[tokio::test]
async fn a_kept_connection_has_as_long_for_the_next_head() {
    let scene = Scene::new().await;
    tokio::time::pause();
    let mut client = scene.connect();
    for pause in [0, HEAD_MAX.as_secs() - 1] {
        tokio::time::sleep(Duration::from_secs(pause)).await;
        client.write_all(b"HEAD /nothing HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut answer = vec![];
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(client.read_u8().await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 4"));
    }
    let (_, after) = ended(client, Instant::now()).await;
    assert!((HEAD_MAX..HEAD_MAX + Duration::from_secs(1)).contains(&after), "{after:?}");
    scene.stop().await;
}

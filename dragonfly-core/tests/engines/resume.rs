use dragonfly_core::{ErrorKind, Event, Node, Peer, Request};
use dragonfly_testkit::{Origin, Resource, content};
use futures::StreamExt as _;

const LENGTH: u64 = 8 << 20;

/// What was proven before a download was withdrawn is not fetched again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_download_resumes() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(3, LENGTH).rate(8 << 20));
    let url = origin.url("/file");
    let output = dir.path().join("output");
    {
        let node = Node::builder().data_dir(dir.path().join("data")).start().await.unwrap();
        let peer = Peer::builder(&node).start().await.unwrap();
        let download = peer.fetch(Request::new(&url).output(&output));
        let mut events = download.events();
        while let Some(event) = events.next().await {
            if matches!(event, Event::Progress { bytes, .. } if bytes > LENGTH / 4) {
                break;
            }
        }
        download.cancel();
        assert_eq!(download.await.unwrap_err().kind(), ErrorKind::Cancelled);
        assert!(!output.exists());
        peer.shutdown().await.unwrap();
        node.shutdown().await.unwrap();
    }
    origin.set("/file", Resource::seeded(3, LENGTH));
    let node = Node::builder().data_dir(dir.path().join("data")).start().await.unwrap();
    let peer = Peer::builder(&node).start().await.unwrap();
    let receipt = peer.fetch(Request::new(&url).output(&output)).await.unwrap();
    assert!(receipt.bytes_held > LENGTH / 4, "{receipt:?}");
    assert_eq!(blake3::hash(&std::fs::read(&output).unwrap()).as_bytes(), &content::blake3(3, LENGTH));
    peer.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outputs_are_never_clobbered() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start().await.unwrap();
    origin.set("/file", Resource::seeded(3, LENGTH));
    let node = Node::builder().data_dir(dir.path().join("data")).start().await.unwrap();
    let peer = Peer::builder(&node).start().await.unwrap();
    let output = dir.path().join("output");
    std::fs::write(&output, "precious").unwrap();
    let error = peer.fetch(Request::new(origin.url("/file")).output(&output)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exists);
    assert_eq!(std::fs::read(&output).unwrap(), b"precious");
    peer.fetch(Request::new(origin.url("/file")).output(&output).overwrite(true)).await.unwrap();
    assert_eq!(std::fs::metadata(&output).unwrap().len(), LENGTH);
    peer.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
}

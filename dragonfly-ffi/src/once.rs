//! One download by a program that keeps no engine.

use std::time::Duration;

use dragonfly_core::{Download, Node, NodeBuilder, Peer, Receipt, Request, Result};

use crate::args;
use crate::boundary::run;
use crate::cancel::{Patience, dragonfly_cancel};
use crate::error::{dragonfly_error, dragonfly_status};
use crate::options::{self, Configured, dragonfly_node_options};
use crate::receipt::dragonfly_receipt;
use crate::request::{self, dragonfly_request};

/// For the end of what was begun, however it ended; what has not ended in order by then is cut off.
const END_MAX: Duration = Duration::from_secs(2);

/// Fetches content with a node and a peer that live for this call: they are started, the download is waited for, and
/// both are shut down. They serve others while it lasts only: programs that fetch more than once start a node and a
/// peer of their own.
///
/// `options` must name neither sources nor a policy nor a runtime. `receipt` may be NULL. Only the download decides what is returned,
/// not how the node ends.
///
/// Any thread; blocks, for at most `timeout_ms` (negative: for as long as it takes) and until `cancel` (or NULL) is
/// fired, and at most 4 seconds more for the node and its threads to end. Both withdraw from the download; one that is
/// done all the same by then is a success. Disk work that has not ended by then ends by itself, and holds the data
/// directory until it has: a directory that is held is waited for, at most 2 seconds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_peer_fetch_once(
    options: *const dragonfly_node_options,
    request: *const dragonfly_request,
    timeout_ms: i64,
    cancel: *const dragonfly_cancel,
    receipt: *mut dragonfly_receipt,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        run(error, || {
            if !receipt.is_null() {
                args::size_set(receipt)?;
            }
            let wanted = request::read(request)?;
            let patience = Patience::of(timeout_ms, cancel)?;
            // Threads of its own: when they end, nothing is left of the node.
            let Configured { builder, runtime, .. } = options::read_for_one_call(options)?;
            // What the call before this one began may hold the directory for another moment.
            let builder = builder.lock_wait(END_MAX);
            let mut begun = Begun::default();
            let fetched = patience.wait(&runtime, begun.fetch(builder, wanted));
            let last = runtime.block_on(begun.end());
            // Withdrawn from too late: the output is there.
            let fetched = dragonfly_receipt::from(&fetched.or_else(|error| last.ok_or(error))?);
            if receipt.is_null() { Ok(()) } else { args::write_sized(receipt, &fetched) }
        })
    }
}

/// What has to end with the call.
#[derive(Default)]
struct Begun {
    node: Option<Node>,
    peer: Option<Peer>,
    download: Option<Download>,
}

impl Begun {
    async fn fetch(&mut self, builder: NodeBuilder, request: Request) -> Result<Receipt> {
        let node = self.node.insert(builder.start().await?);
        let peer = self.peer.insert(Peer::builder(node).start().await?);
        self.download.insert(peer.fetch(request)).clone().await
    }

    /// What the download had come to when it was withdrawn from, if that is a success.
    async fn end(self) -> Option<Receipt> {
        let Self { node, peer, download } = self;
        let mut receipt = None;
        let end = async {
            if let Some(download) = download {
                // One that has ended has nothing to withdraw from.
                download.cancel();
                receipt = download.await.ok();
            }
            if let Some(peer) = peer {
                let _ = peer.shutdown().await;
            }
            if let Some(node) = node {
                let _ = node.shutdown().await;
            }
        };
        let _ = tokio::time::timeout(END_MAX, end).await;
        receipt
    }
}

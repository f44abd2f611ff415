//! What a lease holder signs for what it took from the origin.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::content::{Content, keep_evidence};
use super::event::Event;
use super::origin::Fetch;
use crate::node::{Node, now_unix};
use crate::swarm::Input;
use crate::task::{PieceHash, PieceIndex};
use crate::trust::statement::Attester;
use crate::wire::statement::{ATTESTED_PIECES_MAX, Evidence, GrantBundle};

/// Signs for the pieces of one lease as they are stored. It never waits to fill a batch: each signature covers
/// what gathered while the last one was made.
pub(super) struct Signer {
    node: Node,
    content: Arc<Content>,
    bundle: GrantBundle,
    attester: Attester,
    events: mpsc::Sender<Event>,
}

impl Signer {
    pub(super) fn new(fetch: &Fetch) -> Self {
        Self {
            node: fetch.node.clone(),
            content: Arc::clone(&fetch.content),
            attester: Attester::new(&fetch.bundle.grant),
            bundle: fetch.bundle.clone(),
            events: fetch.events.clone(),
        }
    }

    /// Whether all of it holds. Ends at the first that does not.
    pub(super) async fn run(mut self, mut pieces: mpsc::Receiver<(PieceIndex, PieceHash)>) -> bool {
        let mut items = vec![Evidence::Grant(self.bundle.clone())];
        let mut batch = Vec::with_capacity(ATTESTED_PIECES_MAX);
        while pieces.recv_many(&mut batch, ATTESTED_PIECES_MAX).await > 0 {
            // A lease is worked off front to back, but for what was held and attested before.
            for run in batch.chunk_by(|(a, _), (b, _)| a + 1 == *b) {
                let values: Vec<PieceHash> = run.iter().map(|(_, value)| *value).collect();
                let Some(signed) = self.attester.attest(self.node.identity(), run[0].0, &values) else {
                    return false;
                };
                items.push(Evidence::Attestation(signed));
            }
            let refused = {
                let mut evidence = self.content.evidence();
                items.iter().find_map(|item| evidence.accept(item, now_unix()).err())
            };
            if let Some(error) = refused {
                tracing::warn!(task = ?self.content.task, %error, "this host's own attestation does not hold");
                return false;
            }
            keep_evidence(&self.node, &self.content, std::mem::take(&mut items)).await;
            for (piece, _) in batch.drain(..) {
                let input = Input::OriginStored { task: self.content.key, piece };
                // An engine that stops hears of it no more; the evidence counts after a restart.
                let _ = self.events.send(Event::Input(input)).await;
            }
        }
        true
    }
}

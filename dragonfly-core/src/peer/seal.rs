//! A seed's word on a whole generation.

use std::sync::Arc;

use super::content::{Content, keep_evidence};
use crate::node::{Node, now_unix};
use crate::trust::statement::sign_seal;
use crate::wire::statement::{Evidence, Seal, SealBundle};

/// Signs a seal for complete content and keeps it with the content.
pub(super) async fn seal(node: &Node, content: &Arc<Content>) {
    let Some(root) = content.root() else { return };
    let seal = Seal {
        version: 1,
        network: node.network(),
        task: content.task,
        generation: content.generation,
        length: content.layout.length(),
        piece_length: content.layout.piece_length(),
        root,
        digests: Vec::new(),
    };
    let signed = sign_seal(node.identity(), &seal);
    let item = Evidence::Seal(SealBundle { seal: signed, signer: node.membership().credential_bytes().to_vec() });
    let accepted = content.evidence().accept(&item, now_unix());
    match accepted {
        Ok(_) => keep_evidence(node, content, vec![item]).await,
        Err(error) => tracing::warn!(task = ?content.task, %error, "this host's own seal does not hold"),
    }
}

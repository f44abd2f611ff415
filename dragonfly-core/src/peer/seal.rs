//! A seed's word on a whole generation.

use std::sync::Arc;

use super::content::{Content, keep_evidence};
use crate::node::{Node, now_unix};
use crate::trust::statement::sign_seal;
use crate::wire::statement::{Evidence, Seal, SealBundle};

/// Signs a seal for complete content and keeps it with the content; whether there is one to show now.
///
/// The signature is made at once and only its keeping is left to a disk thread: whoever is shown the last piece
/// has been shown the seal before.
pub(super) fn seal(node: &Node, content: &Arc<Content>) -> bool {
    let Some(root) = content.root() else { return false };
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
    if let Err(error) = content.evidence().accept(&item, now_unix()) {
        tracing::warn!(task = ?content.task, %error, "this host's own seal does not hold");
        return false;
    }
    let (keeper, content) = (node.clone(), Arc::clone(content));
    node.spawn(async move { keep_evidence(&keeper, &content, vec![item]).await });
    true
}

//! Generations as the store has them, with what proves them.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::node::{Node, now_unix};
use crate::peer::content::Content;
use crate::peer::event::Scope;
use crate::peer::spool::Spooled;
use crate::store::{Described, Entry, EntryKey};
use crate::swarm::TaskKey;
use crate::task::Layout;
use crate::trust::statement::open_attestation;
use crate::trust::{Coordinators, EvidenceVerifier};
use crate::wire::PeerId;
use crate::wire::codec;
use crate::wire::control::{Current, TaskInfo};
use crate::wire::statement::{Evidence, Signed};
use crate::{Error, ErrorKind, Result};

/// Opens a generation in the store, with what proves it. Runs on a disk thread.
pub(super) fn open(
    node: &Node,
    key: TaskKey,
    current: &Current,
    (info, label, scope): (TaskInfo, String, Scope),
    spooled: Option<Spooled>,
) -> Result<Content> {
    let layout = Layout::new(current.length, current.piece_length)
        .map_err(|e| Error::new(ErrorKind::Network, "the coordinator named an impossible layout").caused_by(e))?;
    let network = node.network();
    let entry_key = EntryKey {
        network,
        tenant: scope.tenant.clone(),
        class: scope.class,
        task: current.task,
        generation: current.generation,
    };
    let described = Described {
        layout,
        validator: current.validator.clone(),
        splittable: current.splittable,
        label,
        spec: info.spec,
        fixed: info.fixed,
    };
    let fresh = spooled.is_some();
    let entry = match spooled {
        Some(Spooled { spool, values, place: _place }) => spool.finish(&entry_key, &described, &values)?,
        None => node.store().open(&entry_key, &described)?,
    };
    let content = content_of(node, key, entry, current, &scope)?;
    Ok(if fresh { content.taken_in() } else { content })
}

/// What is held of a generation, proven if it must be, with the evidence that was kept. Runs on a disk thread.
pub(in crate::peer) fn content_of(
    node: &Node,
    key: TaskKey,
    entry: Arc<dyn Entry>,
    current: &Current,
    scope: &Scope,
) -> Result<Content> {
    // From here on it is not evicted.
    let _use = entry.use_guard()?;
    if entry.needs_proof() {
        entry.prove()?;
    }
    let layout = entry.described().layout;
    let coordinators = if scope.is_local() { Coordinators::AnyMember } else { node.coordinators_policy() };
    let mut evidence = EvidenceVerifier::new(node.membership(), current.task, current.generation, layout, coordinators);
    let liars = node.contradicted().of(current.task);
    evidence.void(&liars);
    let now = now_unix();
    let mut void = false;
    for bytes in entry.evidence() {
        // What was accepted before is accepted again, unless its signer was revoked or contradicted itself since.
        if let Ok(item) = codec::decode_statement::<Evidence>(&bytes) {
            let _ = evidence.accept(&item, now);
            void |= !liars.is_empty() && matches!(&item, Evidence::Attestation(said) if is_by(said, &liars));
        }
    }
    if let Some(seal) = &current.seal {
        let _ = evidence.accept(&Evidence::Seal(seal.clone()), now);
    }
    let content = Content::new((key, current.task, current.generation), entry, evidence, node.task_throttles())?;
    let content = content.encrypted_on(node);
    if void {
        content.taint();
    }
    Ok(content)
}

fn is_by(said: &Signed, signers: &BTreeSet<PeerId>) -> bool {
    open_attestation(said).is_ok_and(|(_, signer)| signers.contains(&signer))
}

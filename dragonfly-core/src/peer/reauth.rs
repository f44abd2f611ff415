//! Whether this host may read what is private at its origin: asked with its own caller's credentials before a byte
//! comes from the store or from others (`docs/design/trust.md`, Private content).

use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt as _;

use super::content::{Content, State};
use super::download::{STALLED_MAX, stalled};
use super::engine::{Engine, stopped};
use super::origin::{OriginAccess, OriginBody};
use crate::node::{Asker, BEGIN_BYTES, Begins, Node, Permit, is_public};
use crate::source::{OpenRequest, Opened, SourceError};
use crate::{Error, ErrorKind, Result};

/// Asks the origin for a single byte as its caller would, unless that was answered of late: how many bytes the origin
/// gives this caller, which is what the content must have, or how they begin where it does not say how many they are. A page
/// that asks for a password is a plain answer, too. Cancel-safe.
///
/// # Errors
/// The origin refuses, or cannot be asked. `None`: nobody is there, which does not matter with `stale_ok` where no
/// credential is at stake.
pub(super) async fn check(
    node: &Node,
    access: Option<&OriginAccess>,
    label: &str,
    stale_ok: bool,
) -> Result<Option<Permit>> {
    let refused = |why: &str| Error::new(ErrorKind::Forbidden, format!("{label}: {why}"));
    let Some(access) = access else {
        return Err(refused("its origin says who may read it, and this host may not ask there"));
    };
    let asker = Asker { url: &access.url, headers: &access.headers, local: access.local };
    if let Some(permit) = node.permits().get(asker, Instant::now()) {
        return Ok(Some(permit));
    }
    match ask(node, access).await {
        Ok(Some(permit)) => {
            node.permits().grant(asker, permit, Instant::now());
            Ok(Some(permit))
        }
        Ok(None) => Err(refused("its origin answered another question")),
        Err(error) => {
            // A query may be a signature.
            let url = &access.url;
            let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
            let open = plain && access.headers.iter().all(|(name, _)| is_public(name));
            if stale_ok && open && error.is_unreached() { Ok(None) } else { Err(error.into()) }
        }
    }
}

/// `None`: it answers something else.
async fn ask(node: &Node, access: &OriginAccess) -> Result<Option<Permit>, SourceError> {
    for bytes in [1, BEGIN_BYTES] {
        let request = OpenRequest { range: Some(0..bytes), ..access.request(None, false) };
        let Opened::Content(content) = node.sources().open(request).await? else { return Ok(None) };
        if let Some(length) = content.length {
            return Ok(Some(Permit::Length(length)));
        }
        if content.offset != 0 {
            return Ok(None);
        }
        // The end of a part says nothing about the end of the whole, unless more was asked for.
        if bytes == BEGIN_BYTES || content.body_length.is_none() {
            return begins(content.body).await.map(|begins| Some(Permit::Begins(begins)));
        }
    }
    Ok(None)
}

async fn begins(mut body: OriginBody) -> Result<Begins, SourceError> {
    let (mut hasher, mut length) = (blake3::Hasher::new(), 0);
    while length < BEGIN_BYTES
        && let Some(bytes) = body.next().await.transpose()?
    {
        let take = bytes.len().min((BEGIN_BYTES - length) as usize);
        hasher.update(&bytes[..take]);
        length += take as u64;
    }
    Ok(Begins { length, hash: *hasher.finalize().as_bytes() })
}

/// Whether content is what the origin gives, which is waited for if its first bytes say so. `None`: another one takes its
/// place. Cancel-safe.
///
/// # Errors
/// It does not come.
pub(super) async fn gives(engine: &Engine, content: &Content, permit: Permit) -> Result<Option<bool>> {
    let (node, mut state) = (engine.node(), content.watch());
    let mut first = true;
    loop {
        // Before the look at what is held, so that nothing that comes meanwhile is missed.
        let now = state.borrow_and_update().clone();
        if let Some(gives) = is_of(node, content, permit).await? {
            return Ok(Some(gives));
        }
        match now {
            State::Failed(error) => return Err(error),
            State::Superseded => return Ok(None),
            State::Complete | State::Running(_) => {}
        }
        if let Permit::Begins(begins) = permit
            && std::mem::take(&mut first)
        {
            // They may come last otherwise.
            engine.window(content.key, content.layout.pieces_of(0..begins.length)).await;
        }
        tokio::select! {
            changed = state.changed() => changed.map_err(|_| stopped())?,
            () = content.arrivals.ceased(STALLED_MAX) => return Err(stalled(content)),
        }
    }
}

/// `None`: it is not known yet.
async fn is_of(node: &Node, content: &Content, permit: Permit) -> Result<Option<bool>> {
    let length = content.layout.length();
    let begins = match permit {
        Permit::Length(permitted) => return Ok(Some(permitted == length)),
        Permit::Begins(begins) => begins,
    };
    let whole = begins.length < BEGIN_BYTES;
    if length < begins.length || whole && length != begins.length {
        return Ok(Some(false));
    }
    if content.layout.pieces_of(0..begins.length).any(|piece| !content.entry.is_held(piece)) {
        return Ok(None);
    }
    let entry = Arc::clone(&content.entry);
    let read = move || {
        let mut bytes = vec![0; begins.length as usize];
        entry.read_at(0, &mut bytes).map(|()| *blake3::hash(&bytes).as_bytes() == begins.hash)
    };
    Ok(Some(node.io().run(read).await??))
}

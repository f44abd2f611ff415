//! Whether this host may read what is private at its origin: asked with its own caller's credentials before a byte
//! comes from the store or from others (`docs/design/trust.md`, Private content).

use std::time::Instant;

use super::origin::OriginAccess;
use crate::node::{Asker, Node, is_public};
use crate::source::{OpenRequest, Opened};
use crate::{Error, ErrorKind, Result};

/// Asks the origin for a single byte as its caller would, unless that was answered of late: how many bytes the origin
/// gives this caller, which is what the content must have. A page that asks for a password is a plain answer, too.
/// Cancel-safe.
///
/// # Errors
/// The origin refuses, says no length, or cannot be asked. `None`: nobody is there, which does not matter with `stale_ok`
/// where no credential is at stake.
pub(super) async fn check(
    node: &Node,
    access: Option<&OriginAccess>,
    label: &str,
    stale_ok: bool,
) -> Result<Option<u64>> {
    let refused = |why: &str| Error::new(ErrorKind::Forbidden, format!("{label}: {why}"));
    let Some(access) = access else {
        return Err(refused("its origin says who may read it, and this host may not ask there"));
    };
    let asker = Asker { url: &access.url, headers: &access.headers, local: access.local };
    if let Some(length) = node.permits().get(asker, Instant::now()) {
        return Ok(Some(length));
    }
    let request = OpenRequest { range: Some(0..1), ..access.request(None, false) };
    match node.sources().open(request).await {
        Ok(Opened::Content(content)) => {
            let length = content.length.ok_or_else(|| refused("its origin does not say how long it is"))?;
            node.permits().grant(asker, length, Instant::now());
            Ok(Some(length))
        }
        Ok(Opened::Unchanged { .. }) => Err(refused("its origin answered another question")),
        Err(error) => {
            // A query may be a signature.
            let url = &access.url;
            let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
            let open = plain && access.headers.iter().all(|(name, _)| is_public(name));
            if stale_ok && open && error.is_unreached() { Ok(None) } else { Err(error.into()) }
        }
    }
}

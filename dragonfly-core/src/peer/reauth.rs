//! Whether this host may read what is private at its origin: asked with its own caller's credentials before a byte
//! comes from the store or from others (`docs/design/trust.md`, Private content).

use std::time::Instant;

use super::origin::OriginAccess;
use crate::node::{Node, is_public};
use crate::source::{OpenRequest, SourceErrorKind};
use crate::{Error, ErrorKind, Result};

/// Asks the origin for a single byte as its caller would, unless that was answered of late. Cancel-safe.
///
/// # Errors
/// The origin refuses or cannot be asked. `stale_ok`: one that cannot be reached does not matter where no credential
/// is at stake.
pub(super) async fn check(node: &Node, access: Option<&OriginAccess>, label: &str, stale_ok: bool) -> Result<()> {
    let Some(access) = access else {
        let context = format!("{label}: its origin says who may read it, and this host may not ask there");
        return Err(Error::new(ErrorKind::Forbidden, context));
    };
    if node.permits().has(&access.url, &access.headers, Instant::now()) {
        return Ok(());
    }
    let request = OpenRequest { range: Some(0..1), ..access.request(None, false) };
    match node.sources().open(request).await {
        Ok(_) => {
            node.permits().grant(&access.url, &access.headers, Instant::now());
            Ok(())
        }
        Err(error) => {
            let away = matches!(error.kind(), SourceErrorKind::Network | SourceErrorKind::Stalled);
            let open = access.headers.iter().all(|(name, _)| is_public(name)) && access.url.username().is_empty();
            if stale_ok && away && open { Ok(()) } else { Err(error.into()) }
        }
    }
}

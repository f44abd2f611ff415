//! `dfdaemon token`: asks the running daemon, which knows its addresses; else reads the stored membership.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use dragonfly_core::trust::{Identity, Membership};
use dragonfly_core::{Address, ErrorKind};
use http::Method;

use super::commands::Token;
use super::running;
use crate::client::Client;
use crate::error::Failure;
use crate::model::{TokenBody, TokenRequest};

/// The token's text.
pub(super) async fn token(args: &Token) -> Result<String, Failure> {
    let request = TokenRequest {
        roles: Some(args.role.to_string()),
        expires_s: args.expires.map(|expires| expires.as_secs().max(1)),
        addresses: args.address.iter().map(ToString::to_string).collect(),
    };
    match running::find(&args.which).await? {
        Some(client) => ask(client, &request).await,
        None => offline(&args.which.data_dir()?, &request),
    }
}

async fn ask(mut client: Client, request: &TokenRequest) -> Result<String, Failure> {
    Ok(client.json::<TokenBody>(Method::POST, "/v1/token", Some(request)).await?.token)
}

/// A token of the stored membership. It carries the addresses that are given, since nothing listens.
fn offline(data_dir: &Path, request: &TokenRequest) -> Result<String, Failure> {
    let options = crate::api::token_options(request)?;
    let failed = |e: &dyn std::fmt::Display| Failure::new(ErrorKind::Config, e.to_string());
    let identity = Identity::load_or_create(data_dir).map_err(|e| failed(&e))?;
    let membership = Membership::load(data_dir, &identity).map_err(|e| failed(&e))?.ok_or_else(|| {
        Failure::new(ErrorKind::Config, format!("{} holds no membership: start the daemon once", data_dir.display()))
    })?;
    if options.addresses.is_empty() {
        eprintln!("dfdaemon: warning: no daemon runs there, so the token has no address: give --address, or start it");
    }
    let since = |at: SystemTime| at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // An address without a peer is this host's own.
    let me = identity.peer_id();
    let own = |address: Address| if address.peer().is_some() { address } else { address.with_peer(me) };
    let addresses = options.addresses.into_iter().map(own).collect();
    let token = membership.token(options.roles, options.not_after.map(since), addresses);
    Ok(token.map_err(|e| failed(&e))?.to_text())
}

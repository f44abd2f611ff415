//! The daemon, if one answers.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use dragonfly_core::ErrorKind;

use super::args;
use crate::client::{Client, Endpoint};
use crate::error::Failure;

/// A daemon that answered.
#[derive(Debug)]
pub(super) struct Door {
    endpoint: Endpoint,
    token: Option<String>,
    /// The connection by which it was found.
    first: Mutex<Option<Client>>,
}

impl Door {
    /// One more connection.
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        if let Some(client) = self.first.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Ok(client);
        }
        let connected = Client::connect_to(&self.endpoint, self.token.as_deref()).await;
        connected.map_err(|e| {
            let temporary = e.kind() == std::io::ErrorKind::ConnectionRefused;
            Failure { temporary, ..no_answer(&self.endpoint, &e) }
        })
    }
}

fn no_answer(endpoint: &Endpoint, error: &std::io::Error) -> Failure {
    let failure = Failure::new(ErrorKind::Config, format!("no daemon answers at {endpoint}: {error}"));
    failure.hint("start dfdaemon, or fetch without one with --standalone")
}

/// A daemon that answers, if there is one in the usual places; one that was named must answer.
pub(super) async fn find(args: &args::Door) -> Result<Option<Door>, Failure> {
    let token = args.api_token_file.as_deref().map(read_token).transpose()?;
    let places: Vec<_> = match &args.endpoint {
        Some(endpoint) => vec![endpoint.clone()],
        None => crate::places::api_sockets().into_iter().map(Endpoint::Unix).collect(),
    };
    for endpoint in places {
        match Client::connect_to(&endpoint, token.as_deref()).await {
            Ok(client) => {
                tracing::info!("fetching through the daemon at {endpoint}");
                return Ok(Some(Door { endpoint, token, first: Mutex::new(Some(client)) }));
            }
            Err(e) if args.endpoint.is_some() => return Err(no_answer(&endpoint, &e)),
            Err(e) => tracing::debug!("no daemon answers at {endpoint}: {e}"),
        }
    }
    tracing::info!("no daemon answers");
    Ok(None)
}

/// For commands that make no sense without a daemon.
pub(super) async fn need(args: &args::Door) -> Result<Client, Failure> {
    let none = || {
        let failure = Failure::new(ErrorKind::Config, "no daemon answers in the usual places");
        failure.hint("start dfdaemon, or name its endpoint with -e")
    };
    find(args).await?.ok_or_else(none)?.connect().await
}

fn read_token(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::io(format_args!("cannot read the token in {}", path.display()), &e))?;
    Ok(text.trim().to_owned())
}

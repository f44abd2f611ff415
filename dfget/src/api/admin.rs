//! How the daemon is, and how others join.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use dragonfly_core::ErrorKind;
use dragonfly_core::node::TokenOptions;
use http::{StatusCode, header};

use super::Context;
use super::body::Asked;
use crate::error::Failure;
use crate::model::{StatusBody, TokenBody, TokenRequest};

/// `/metrics`, `/healthz` and `/readyz`.
pub(super) fn health() -> axum::Router<Arc<Context>> {
    axum::Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
}

async fn metrics(State(context): State<Arc<Context>>) -> impl IntoResponse {
    const TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, TYPE)], super::counters::text(&context).await)
}

async fn ready(State(context): State<Arc<Context>>) -> impl IntoResponse {
    if context.is_ready() { (StatusCode::OK, "ready\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready\n") }
}

pub(super) async fn status(State(context): State<Arc<Context>>) -> Json<StatusBody> {
    let usage = context.node.usage();
    let met = match context.peer() {
        Ok(peer) => peer.neighbours().await.unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    Json(StatusBody {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        peer_id: context.node.peer_id().to_string(),
        roles: context.roles.clone(),
        listen: context.node.listeners().iter().map(ToString::to_string).collect(),
        ready: context.is_ready(),
        pid: std::process::id(),
        uptime_s: context.started.elapsed().as_secs(),
        tenant: context.node.claims().tenant.clone(),
        allowed: context.node.claims().roles.to_string(),
        store_bytes: usage.bytes,
        store_entries: usage.entries as u64,
        store_quota: usage.quota,
        neighbours: met.iter().filter(|host| host.connected).count() as u32,
    })
}

pub(super) async fn scheduler(State(context): State<Arc<Context>>) -> Result<impl IntoResponse, Failure> {
    let none = || Failure::new(ErrorKind::Config, "this daemon has not the role scheduler");
    let snapshot = context.scheduler.as_ref().ok_or_else(none)?.snapshot().await?;
    Ok(Json(snapshot))
}

pub(super) async fn token(
    State(context): State<Arc<Context>>,
    Asked(request): Asked<TokenRequest>,
) -> Result<Json<TokenBody>, Failure> {
    let options = token_options(&request)?;
    Ok(Json(TokenBody { token: context.node.token(options)?.to_text() }))
}

/// Checks what is asked of a token.
pub(crate) fn token_options(request: &TokenRequest) -> Result<TokenOptions, Failure> {
    let mut options = TokenOptions::default();
    if let Some(roles) = &request.roles {
        options.roles = roles.parse().map_err(|e| Failure::usage(format!("roles: {e}")))?;
    }
    if let Some(seconds) = request.expires_s {
        let until = SystemTime::now().checked_add(Duration::from_secs(seconds));
        options.not_after = Some(until.ok_or_else(|| Failure::usage("expires: too far away"))?);
    }
    for address in &request.addresses {
        options.addresses.push(address.parse().map_err(|e| Failure::usage(format!("address: {e}")))?);
    }
    Ok(options)
}

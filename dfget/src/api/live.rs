//! What the daemon does now.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::Context;
use super::body::Asked;
use crate::error::Failure;
use crate::model::{ActiveBody, ActivesBody, FetchRequest, LogBody, NeighbourBody, NeighboursBody, ResolveBody};

/// The id of the task that a request names, without fetching anything.
pub(super) async fn resolve(
    State(context): State<Arc<Context>>,
    Asked(request): Asked<FetchRequest>,
) -> Result<Json<ResolveBody>, Failure> {
    let request = request.to_request()?;
    Ok(Json(ResolveBody { task: context.peer()?.task_id(&request)?.to_string() }))
}

pub(super) async fn active(State(context): State<Arc<Context>>) -> Result<Json<ActivesBody>, Failure> {
    let active = context.peer()?.active().await?;
    Ok(Json(ActivesBody { tasks: active.iter().map(ActiveBody::from).collect() }))
}

pub(super) async fn neighbours(State(context): State<Arc<Context>>) -> Result<Json<NeighboursBody>, Failure> {
    let met = context.peer()?.neighbours().await?;
    Ok(Json(NeighboursBody { neighbours: met.iter().map(NeighbourBody::from).collect() }))
}

pub(super) async fn log(State(context): State<Arc<Context>>) -> Json<LogBody> {
    Json(LogBody { levels: context.log.levels() })
}

pub(super) async fn set_log(
    State(context): State<Arc<Context>>,
    Asked(wanted): Asked<LogBody>,
) -> Result<Json<LogBody>, Failure> {
    context.log.set(&wanted.levels)?;
    Ok(log(State(context)).await)
}

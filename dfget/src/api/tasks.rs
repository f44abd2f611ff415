//! `/v1/tasks`: what the store holds.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use dragonfly_core::ErrorKind;
use dragonfly_core::task::{Generation, TaskId};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Context;
use crate::error::Failure;
use crate::model::{TaskBody, TasksBody};

/// Tasks on a page, unless the client says otherwise.
const PAGE: usize = 100;
/// The longest page: about half a megabyte of JSON.
const PAGE_MAX: usize = 1000;

#[derive(Deserialize)]
pub(super) struct Page {
    after: Option<String>,
    max: Option<usize>,
}

pub(super) async fn list(
    State(context): State<Arc<Context>>,
    Query(page): Query<Page>,
) -> Result<Json<TasksBody>, Failure> {
    let after = page.after.as_deref().filter(|after| !after.is_empty()).map(cursor).transpose()?;
    let max = page.max.unwrap_or(PAGE).clamp(1, PAGE_MAX);
    let (mut after, mut tasks) = (after, Vec::new());
    loop {
        let found = context.peer()?.list(after, max).await?;
        after = found.last().map(|last| (last.task, last.generation)).filter(|_| found.len() >= max);
        // An id that is a capability is not listed, and is no cursor either.
        tasks.extend(found.iter().filter(|task| !task.private).map(TaskBody::from));
        if after.is_none() || tasks.len() >= max {
            break;
        }
    }
    let more = after.is_some() || tasks.len() > max;
    tasks.truncate(max);
    let next = tasks.last().filter(|_| more).map(|last| format!("{}:{}", last.task, last.generation));
    Ok(Json(TasksBody { tasks, next }))
}

pub(super) async fn stat(
    State(context): State<Arc<Context>>,
    Path(id): Path<String>,
) -> Result<Json<TasksBody>, Failure> {
    let found = context.peer()?.stat(task(&id)?).await?;
    if found.is_empty() {
        return Err(Failure::new(ErrorKind::NotFound, "the task is not held"));
    }
    Ok(Json(TasksBody { tasks: found.iter().map(TaskBody::from).collect(), next: None }))
}

pub(super) async fn remove(
    State(context): State<Arc<Context>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    let freed = context.peer()?.remove(task(&id)?).await?;
    Ok(Json(json!({"bytes_freed": freed})))
}

pub(super) async fn pin(State(context): State<Arc<Context>>, Path(id): Path<String>) -> Result<StatusCode, Failure> {
    context.peer()?.pin(task(&id)?, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn unpin(State(context): State<Arc<Context>>, Path(id): Path<String>) -> Result<StatusCode, Failure> {
    context.peer()?.pin(task(&id)?, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Reads a task's id.
pub(super) fn task(text: &str) -> Result<TaskId, Failure> {
    text.parse().map_err(|e| Failure::usage(format!("task: {e}")))
}

/// `TASK:GENERATION`, as a page's `next` has it.
fn cursor(text: &str) -> Result<(TaskId, Generation), Failure> {
    let malformed = || Failure::usage("after: expected TASK:GENERATION");
    let (id, generation) = text.split_once(':').ok_or_else(malformed)?;
    Ok((task(id)?, generation.parse().map_err(|_| malformed())?))
}

//! `/v1/tasks`: what the store holds.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use dragonfly_core::ErrorKind;
use dragonfly_core::task::{Generation, TaskId};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Context, query};
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
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<TasksBody>, Failure> {
    let page = query(page)?;
    let after = page.after.as_deref().filter(|after| !after.is_empty()).map(cursor).transpose()?;
    let max = page.max.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&max) {
        return Err(Failure::usage(format!("max: expected 1 to {PAGE_MAX}")));
    }
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

pub(super) async fn stat(State(context): State<Arc<Context>>, id: Id) -> Result<Json<TasksBody>, Failure> {
    let found = context.peer()?.stat(named(id)?).await?;
    if found.is_empty() {
        return Err(Failure::new(ErrorKind::NotFound, "the task is not held"));
    }
    Ok(Json(TasksBody { tasks: found.iter().map(TaskBody::from).collect(), next: None }))
}

pub(super) async fn remove(State(context): State<Arc<Context>>, id: Id) -> Result<Json<Value>, Failure> {
    let freed = context.peer()?.remove(named(id)?).await?;
    Ok(Json(json!({"bytes_freed": freed})))
}

pub(super) async fn pin(State(context): State<Arc<Context>>, id: Id) -> Result<StatusCode, Failure> {
    context.peer()?.pin(named(id)?, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn unpin(State(context): State<Arc<Context>>, id: Id) -> Result<StatusCode, Failure> {
    context.peer()?.pin(named(id)?, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The id in a path.
type Id = Result<Path<String>, PathRejection>;

fn named(id: Id) -> Result<TaskId, Failure> {
    task(&id.map_err(|e| Failure::usage(e.body_text()))?)
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

//! The daemon's local HTTP API. Only [`crate::daemon`] serves it, on a Unix socket, and over TCP to who has a token.
//!
//! `POST /v1/fetch` takes a [`FetchRequest`](crate::model::FetchRequest) and answers with the content, in order, as
//! it is proven. To a client that sends `TE: trailers` the answer ends with the trailer `dragonfly-receipt` or
//! `dragonfly-error`; to any other it has a `content-length`, and a failure cuts the connection. The last bytes are
//! held back until the whole is verified, so that neither kind of client mistakes bad content for good.
//!
//! | | |
//! |---|---|
//! | `GET /v1/tasks?after=&max=`, `GET`/`DELETE /v1/tasks/{id}`, `POST /v1/tasks/{id}/pin`, `.../unpin` | the store |
//! | `POST /v1/preheat` (`?wait=false`) | the seed fetches before anyone asks |
//! | `POST /v1/resolve` | the id of the task that a request names |
//! | `GET /v1/active`, `/v1/neighbours`, `/v1/events` (server-sent) | what happens now |
//! | `GET`/`PUT /v1/log` | log levels |
//! | `GET /v1/scheduler` | what the scheduler knows |
//! | `POST /v1/token` | a join token |
//! | `GET /v1/status`, `/metrics`, `/healthz`, `/readyz` | how it is |
//! | `GET /v1/openapi.yaml` | all of this, for programs |
//!
//! Failures are an [`ErrorBody`] with a fitting status. No request names a path: the daemon opens none for a client.

mod admin;
mod body;
mod counters;
mod door;
mod events;
mod fetch;
mod live;
mod tasks;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Query};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use dragonfly_core::node::Node;
use dragonfly_core::peer::{LeasesOf, Peer};
use dragonfly_core::scheduler::Scheduler;
use dragonfly_core::seed::Seed;
use dragonfly_core::{Error, ErrorKind};
use http::{StatusCode, header};
use tokio_util::sync::CancellationToken;

pub(crate) use self::admin::token_options;
pub(crate) use self::counters::Counters;
pub(crate) use self::door::{Caller, Key};
pub(crate) use self::events::Hub;
use crate::error::Failure;
use crate::logging::LogControl;
use crate::model::ErrorBody;

/// The largest request body: room for a bundle of certificates, too little to hurt.
const BODY_MAX: usize = 1 << 20;

/// The name of a metric, what it bounds, and how much.
pub(crate) type Bound = (&'static str, &'static str, u64);

/// The bounds of what a request may be.
pub(crate) const BOUNDS: [Bound; 2] = [
    (
        "dragonfly_api_body_seconds_limit",
        "Seconds that the body of a request to the local API may take.",
        body::BODY_TIME_MAX.as_secs(),
    ),
    ("dragonfly_api_body_bytes_limit", "Bytes of such a body.", BODY_MAX as u64),
];

/// What the handlers share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) node: Node,
    pub(crate) scheduler: Option<Scheduler>,
    pub(crate) seed: Option<Seed>,
    pub(crate) peer: Option<Peer>,
    /// Set once it serves, after the engines.
    pub(crate) gateway: std::sync::OnceLock<dragonfly_core::gateway::Gateway>,
    /// `scheduler,seed,peer,gateway`.
    pub(crate) roles: String,
    pub(crate) started: Instant,
    /// Every engine serves, and the daemon is not about to stop.
    pub(crate) ready: AtomicBool,
    /// Cancelled when the daemon is about to stop.
    pub(crate) stopping: CancellationToken,
    pub(crate) counters: Arc<Counters>,
    /// The daemon's own bounds, for its operator to see.
    pub(crate) bounds: Mutex<Vec<Bound>>,
    pub(crate) events: Hub,
    pub(crate) log: LogControl,
}

impl Context {
    /// The engine that fetches: the peer, or the seed's.
    pub(crate) fn peer(&self) -> Result<&Peer, Failure> {
        let peer = self.peer.as_ref().or(self.seed.as_ref().map(Seed::peer));
        peer.ok_or_else(|| Failure::new(ErrorKind::Config, "this daemon has neither the role peer nor seed"))
    }

    /// Whether the engines answer. Takes as long as they need.
    pub(crate) async fn is_alive(&self) -> bool {
        if let Some(scheduler) = &self.scheduler
            && scheduler.snapshot().await.is_err()
        {
            return false;
        }
        match self.peer() {
            Ok(peer) => peer.active().await.is_ok(),
            Err(_) => true,
        }
    }

    /// Gives leases on origins back.
    pub(crate) async fn hand_over(&self, whose: LeasesOf) {
        if let Ok(peer) = self.peer()
            && let Err(error) = peer.give_back_leases(whose).await
        {
            tracing::warn!("cannot give leases back: {error}");
        }
    }

    /// What other hosts would miss if this one stopped now: their requests that are served or wait to be, and how many
    /// pieces they want that only this host has.
    pub(crate) async fn owed(&self) -> (u64, u64) {
        let Ok(peer) = self.peer() else { return (0, 0) };
        let requests = peer.neighbours().await.unwrap_or_default().iter().map(|host| u64::from(host.queued)).sum();
        (requests, peer.owed().await.unwrap_or(0))
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }
}

/// The document that describes this API to programs.
const OPENAPI: &str = include_str!("../../api/openapi.yaml");

/// Everything, for the Unix socket.
pub(crate) fn local(context: Arc<Context>) -> axum::Router {
    routes(&context).with_state(context)
}

/// Everything, for a TCP port, to who has the token.
pub(crate) fn remote(context: Arc<Context>, key: Arc<Key>) -> axum::Router {
    let check = from_fn_with_state((Arc::clone(&context), key), door::check);
    routes(&context).layer(check).with_state(context)
}

fn routes(context: &Arc<Context>) -> axum::Router<Arc<Context>> {
    admin::health()
        .route("/v1/fetch", post(fetch::fetch))
        .route("/v1/preheat", post(fetch::preheat))
        .route("/v1/tasks", get(tasks::list))
        .route("/v1/tasks/{id}", get(tasks::stat).delete(tasks::remove))
        .route("/v1/tasks/{id}/pin", post(tasks::pin))
        .route("/v1/tasks/{id}/unpin", post(tasks::unpin))
        .route("/v1/resolve", post(live::resolve))
        .route("/v1/active", get(live::active))
        .route("/v1/neighbours", get(live::neighbours))
        .route("/v1/events", get(events::events))
        .route("/v1/log", get(live::log).put(live::set_log))
        .route("/v1/openapi.yaml", get(async || ([(header::CONTENT_TYPE, "application/yaml")], OPENAPI)))
        .route("/v1/scheduler", get(admin::scheduler))
        .route("/v1/status", get(admin::status))
        .route("/v1/token", post(admin::token))
        .fallback(async || Failure::new(ErrorKind::NotFound, "no such path in this API"))
        .method_not_allowed_fallback(async || {
            let failure = Failure::usage("this path takes another method");
            (StatusCode::METHOD_NOT_ALLOWED, Json(ErrorBody::from(&failure)))
        })
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(from_fn_with_state(Arc::clone(context), counters::count))
}

/// Metrics and health alone, for a TCP port.
pub(crate) fn metrics(context: Arc<Context>) -> axum::Router {
    admin::health().with_state(context)
}

/// What a reader's error says; the engine's own errors come through as they are.
pub(crate) fn read_failed(error: &io::Error) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(error) => error.clone().into(),
        None => Failure::io("cannot read the content", error),
    }
}

/// What follows the question mark.
fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Failure> {
    query.map(|Query(query)| query).map_err(|e| Failure::usage(e.body_text()))
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (status(self.kind), Json(ErrorBody::from(&self))).into_response()
    }
}

const fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::InvalidInput => StatusCode::BAD_REQUEST,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Config | ErrorKind::Exists => StatusCode::CONFLICT,
        ErrorKind::DigestMismatch => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::Network | ErrorKind::Origin => StatusCode::BAD_GATEWAY,
        ErrorKind::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Full => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

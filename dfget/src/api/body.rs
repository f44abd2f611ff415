//! What a request says in its body.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use dragonfly_core::ErrorKind;
use http::{StatusCode, header};
use serde::de::DeserializeOwned;

use crate::error::Failure;
use crate::model::ErrorBody;

/// For the whole body: it is small, and who sends it drop by drop must not hold a place.
pub(super) const BODY_TIME_MAX: Duration = Duration::from_secs(10);

/// A JSON object; no body at all is the same as `{}`.
pub(super) struct Asked<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Asked<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let body = within(BODY_TIME_MAX, Bytes::from_request(request, state)).await?;
        let body = body.map_err(|e| Failure::usage(format!("cannot read the request: {}", e.body_text())));
        body.and_then(|body| parse(&body)).map(Self).map_err(IntoResponse::into_response)
    }
}

async fn within<T>(bound: Duration, read: impl Future<Output = T>) -> Result<T, Response> {
    tokio::time::timeout(bound, read).await.map_err(|_| {
        let failure = Failure::new(ErrorKind::Timeout, format!("the request was not here in whole after {bound:?}"));
        let close = [(header::CONNECTION, "close")];
        (StatusCode::REQUEST_TIMEOUT, close, Json(ErrorBody::from(&failure))).into_response()
    })
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    let body = if body.is_empty() { b"{}" } else { body };
    // A list would be taken for the values of the fields, in their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Failure::usage("the request is no JSON object"));
    }
    serde_json::from_slice(body).map_err(|e| Failure::usage(format!("the request is not understood: {e}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use axum::body::Body;
    use futures::{StreamExt as _, stream};

    use super::*;
    use crate::model::LogBody;

    async fn read(body: Body) -> Result<Asked<LogBody>, Response> {
        Asked::from_request(Request::new(body), &()).await
    }

    #[tokio::test]
    async fn who_sends_drop_by_drop_is_not_waited_for() {
        let drops = stream::repeat_with(|| Ok::<_, std::io::Error>(" ")).then(async |drop| {
            tokio::task::yield_now().await;
            drop
        });
        for endless in [Body::from_stream(drops), Body::from_stream(stream::pending::<std::io::Result<&str>>())] {
            let request = Request::new(endless);
            let refused = within(Duration::ZERO, Bytes::from_request(request, &())).await.map(|_| ()).unwrap_err();
            assert_eq!(refused.status(), StatusCode::REQUEST_TIMEOUT);
            assert_eq!(refused.headers()[header::CONNECTION], "close");
        }
    }

    #[tokio::test]
    async fn it_is_an_object_or_nothing() {
        for wrong in ["[]", "{", "7", "{\"levels\": 7}"] {
            assert_eq!(
                read(Body::from(wrong)).await.map(|_| ()).unwrap_err().status(),
                StatusCode::BAD_REQUEST,
                "{wrong}"
            );
        }
        assert_eq!(read(Body::from(" {\"levels\": \"info\"}")).await.map_err(|_| ()).unwrap().0.levels, "info");
    }
}

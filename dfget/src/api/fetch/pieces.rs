//! What has come of content whose file the client has a descriptor of: a line for each range of bytes, as pieces are proven,
//! so that its copy is nearly done when the last one is.

use std::fmt::Write as _;
use std::ops::Range;

use axum::body::{Body, Bytes};
use axum::response::Response;
use dragonfly_core::peer::Reader;
use futures::Stream;
use http::{HeaderValue, header};
use http_body_util::StreamBody;
use hyper::body::Frame;

use super::{WHY_MAX, trailer};
use crate::api::events::Watch;
use crate::error::Failure;
use crate::model::{self, ErrorBody, ReceiptBody};

/// What is still to come of the answer.
enum Rest {
    First(Reader, Watch, Vec<Range<u64>>),
    More(Reader, Watch),
    Nothing,
}

/// The answer, which begins with these ranges and ends with the receipt, or what failed, as a trailer.
pub(super) fn answer(reader: Reader, watch: Watch, first: Vec<Range<u64>>) -> Response {
    let length = reader.length();
    let mut response = Response::new(Body::new(StreamBody::new(frames(reader, watch, first))));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(model::LENGTH, length.into());
    headers.insert(header::TRAILER, HeaderValue::from_static("dragonfly-receipt, dragonfly-error"));
    response
}

fn frames(
    reader: Reader,
    watch: Watch,
    first: Vec<Range<u64>>,
) -> impl Stream<Item = Result<Frame<Bytes>, std::io::Error>> + Send {
    futures::stream::unfold(Rest::First(reader, watch, first), async |rest| {
        let (mut reader, mut watch, arrived) = match rest {
            Rest::First(reader, watch, first) => (reader, watch, Ok(Some(first))),
            Rest::More(mut reader, watch) => {
                let arrived = reader.arrivals().await;
                (reader, watch, arrived)
            }
            Rest::Nothing => return None,
        };
        let failure = match arrived {
            Ok(Some(ranges)) => {
                return Some((Ok(Frame::data(lines(&ranges))), Rest::More(reader, watch)));
            }
            Ok(None) => match reader.receipt().await {
                Ok(receipt) => {
                    let receipt = ReceiptBody::from(&receipt);
                    watch.receipt(&receipt);
                    return Some((Ok(trailer(model::RECEIPT, model::header_json(&receipt))), Rest::Nothing));
                }
                Err(error) => error.into(),
            },
            Err(error) => why(&mut reader, error.into()).await,
        };
        watch.failed(&failure);
        Some((Ok(trailer(model::ERROR, model::header_json(&ErrorBody::from(&failure)))), Rest::Nothing))
    })
}

/// Content that was found to be wrong is removed while it comes: why says the receipt.
pub(super) async fn why(reader: &mut Reader, failure: Failure) -> Failure {
    match tokio::time::timeout(WHY_MAX, reader.receipt()).await {
        Ok(Err(why)) => why.into(),
        Ok(Ok(_)) | Err(_) => failure,
    }
}

/// `FIRST-END` of each, the byte after the last one for its end.
fn lines(ranges: &[Range<u64>]) -> Bytes {
    let mut text = String::new();
    for range in ranges {
        // To a string it cannot fail.
        let _ = writeln!(text, "{}-{}", range.start, range.end);
    }
    text.into()
}

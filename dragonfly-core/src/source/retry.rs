//! Failures that may pass, tried again.

use super::{OpenRequest, SourceError, SourceErrorKind, redact};

/// Makes attempts until one succeeds or fails for good, by the rules of [`OpenRequest::retry`].
pub(super) async fn retrying<T, F>(request: &OpenRequest, mut attempt: impl FnMut() -> F) -> Result<T, SourceError>
where
    F: Future<Output = Result<T, SourceError>> + Send,
{
    let mut failures = 0;
    loop {
        let error = match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        failures += 1;
        // Silence was waited for long enough: who has other means should use them now.
        let again = error.is_temporary() && error.kind() != SourceErrorKind::Stalled;
        let told_to_wait = error.retry_after().is_some_and(|after| after > request.retry.retry_after_max);
        if !again || told_to_wait || failures >= request.retry.attempts {
            return Err(error);
        }
        let delay = error.retry_after().unwrap_or_else(|| request.retry.delay(failures));
        tracing::debug!(url = redact(&request.url), failures, ?delay, %error, "trying the origin again");
        request.retries.count();
        tokio::time::sleep(delay).await;
    }
}

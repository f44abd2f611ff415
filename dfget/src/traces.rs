//! Traces of downloads, for a collector that takes OTLP over HTTP: see [`dragonfly_core::peer::TRACE_TARGET`]. Only in
//! programs that were built with the feature `otlp`; the options are there in all of them, so that help and manual are
//! one.

#[cfg(feature = "otlp")]
mod ids;
#[cfg(feature = "otlp")]
mod otlp;

use std::time::Duration;

use tracing_subscriber::Registry;

use crate::error::Failure;

/// What hands spans on.
pub(crate) type Layer = Box<dyn tracing_subscriber::Layer<Registry> + Send + Sync>;

/// What the standard calls a collector that takes everything, and one that takes traces.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// For one request to the collector.
pub(crate) const SEND_MAX: Duration = Duration::from_secs(10);
/// For the last spans, when the program ends.
pub(crate) const END_MAX: Duration = Duration::from_secs(5);

/// Traces that are being sent. Ended with [`Traces::end`], or the last ones are lost.
#[must_use]
#[derive(Default)]
pub(crate) struct Traces {
    #[cfg(feature = "otlp")]
    provider: Option<opentelemetry_sdk::trace::SdkTracerProvider>,
}

impl Traces {
    /// Starts to send traces, if `endpoint` or the environment say where: the URL of a collector, to which `/v1/traces`
    /// is appended. Not to be called in an asynchronous context.
    pub(crate) fn start(endpoint: Option<&str>, program: &'static str) -> Result<(Self, Option<Layer>), Failure> {
        if let Some(endpoint) = endpoint {
            check(endpoint)?;
        }
        let by_environment = ENDPOINTS.iter().any(|name| set(name).is_some());
        let refused = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
            || set("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
        if refused || (endpoint.is_none() && !by_environment) {
            return Ok((Self::default(), None));
        }
        #[cfg(feature = "otlp")]
        {
            let (provider, layer) = otlp::start(endpoint, program)?;
            Ok((Self { provider: Some(provider) }, Some(layer)))
        }
        // The variables are for every program of a machine: only who asks for traces of this one is told.
        #[cfg(not(feature = "otlp"))]
        {
            let _ = program;
            Ok((Self::default(), None))
        }
    }

    /// Sends what is left, within a few seconds. Not to be called in an asynchronous context.
    pub(crate) fn end(self) {
        #[cfg(feature = "otlp")]
        if let Some(Err(error)) = self.provider.map(|provider| provider.shutdown_with_timeout(END_MAX)) {
            tracing::warn!("the last traces were not sent: {error}");
        }
    }
}

/// Whether traces can be sent there.
pub(crate) fn check(endpoint: &str) -> Result<(), Failure> {
    if cfg!(not(feature = "otlp")) {
        let failure = Failure::usage("--otlp-endpoint: this program was built without traces");
        return Err(failure.hint("build it with the feature otlp: cargo install --path dfget --features otlp"));
    }
    match url::Url::parse(endpoint) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(()),
        _ => {
            Err(Failure::usage(format!("--otlp-endpoint: expected http://HOST:PORT or https://HOST, not {endpoint:?}")))
        }
    }
}

/// A variable of the environment that says something.
fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

//! The collector's side: spans are gathered, named and sent from a thread of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dragonfly_core::ErrorKind;
use dragonfly_core::peer::TRACE_TARGET;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::filter_fn;

use super::{Layer, SEND_MAX, ids, set};
use crate::error::Failure;

pub(super) fn start(endpoint: Option<&str>, program: &'static str) -> Result<(SdkTracerProvider, Layer), Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::new(ErrorKind::Config, format!("traces cannot be sent: {e}"));
    let client = client().map_err(|e| failed(&e))?;
    let mut exporter = SpanExporter::builder().with_http().with_http_client(client).with_timeout(SEND_MAX);
    if let Some(endpoint) = endpoint {
        exporter = exporter.with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')));
    }
    let exporter = exporter.build().map_err(|e| failed(&e))?;
    let named = Named { exporter, share: share()?, failing: AtomicBool::new(false) };
    let mut resource = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if set("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(program);
    }
    let provider = SdkTracerProvider::builder()
        // Ids are given later, and with them it is known which traces are wanted.
        .with_sampler(Sampler::AlwaysOn)
        .with_batch_exporter(named)
        .with_resource(resource.build())
        .build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("dragonfly"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_level(false)
        .with_tracked_inactivity(false)
        .with_filter(filter_fn(|metadata| metadata.is_span() && metadata.target() == TRACE_TARGET));
    Ok((provider, layer.boxed()))
}

/// The share of traces that is sent, by the standard's variables.
fn share() -> Result<f64, Failure> {
    let Some(sampler) = set("OTEL_TRACES_SAMPLER") else { return Ok(1.0) };
    let argument = || {
        let Some(text) = set("OTEL_TRACES_SAMPLER_ARG") else { return Ok(1.0) };
        let share = text.trim().parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
        share.ok_or_else(|| {
            Failure::usage(format!("OTEL_TRACES_SAMPLER_ARG: expected a share from 0 to 1, not {text:?}"))
        })
    };
    match sampler.trim().trim_start_matches("parentbased_") {
        "always_on" => Ok(1.0),
        "always_off" => Ok(0.0),
        "traceidratio" => argument(),
        _ => Err(Failure::usage(format!("OTEL_TRACES_SAMPLER: there is no sampler {sampler:?} here"))),
    }
}

/// The system's authorities count, and the proxies that the environment names.
fn client() -> Result<reqwest::blocking::Client, Box<dyn std::error::Error>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let tls = tls.with_root_certificates(roots).with_no_client_auth();
    let client = reqwest::blocking::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .timeout(SEND_MAX);
    Ok(client.build()?)
}

/// Gives each span the place that its fields name, and sends those of the traces that are wanted.
#[derive(Debug)]
struct Named {
    exporter: SpanExporter,
    share: f64,
    /// Whether the last ones could not be sent.
    failing: AtomicBool,
}

impl opentelemetry_sdk::trace::SpanExporter for Named {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let named: Vec<SpanData> =
            batch.into_iter().filter_map(ids::placed).filter(|span| ids::is_in(span, self.share)).collect();
        if named.is_empty() {
            return Ok(());
        }
        let sent = self.exporter.export(named).await;
        let failed_before = self.failing.swap(sent.is_err(), Ordering::Relaxed);
        match &sent {
            Err(error) if !failed_before => tracing::warn!("traces are lost: {error}"),
            Ok(()) if failed_before => tracing::info!("traces are sent again"),
            _ => {}
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

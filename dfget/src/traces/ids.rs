//! Where a span belongs: what the library says in its fields becomes what a collector understands.

use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, TraceFlags, TraceId, TraceState};
use opentelemetry::{KeyValue, Value};
use opentelemetry_sdk::trace::SpanData;
use std::time::Duration;

/// The span in its place; `None` without a trace, which only a fault of the library's could bring about.
pub(super) fn placed(mut span: SpanData) -> Option<SpanData> {
    let trace = TraceId::from_hex(&text(&mut span, "dragonfly.trace")?).ok()?;
    let own = match text(&mut span, "dragonfly.span") {
        Some(own) => SpanId::from_hex(&own).ok()?,
        None => span.span_context.span_id(),
    };
    span.parent_span_id = match text(&mut span, "dragonfly.parent") {
        Some(parent) => SpanId::from_hex(&parent).ok()?,
        None => SpanId::INVALID,
    };
    span.parent_span_is_remote = span.span_kind == SpanKind::Server;
    span.span_context = context(trace, own);
    if let Some(link) = text(&mut span, "dragonfly.link")
        && let Some((trace, own)) = link.split_at_checked(32)
    {
        let linked = context(TraceId::from_hex(trace).ok()?, SpanId::from_hex(own).ok()?);
        span.links.links.push(Link::new(linked, Vec::new(), 0));
    }
    if let Some(Value::I64(waited)) = take(&mut span, "dragonfly.waited_us") {
        let waited = Duration::from_micros(u64::try_from(waited).unwrap_or(0));
        span.start_time = span.start_time.checked_sub(waited).unwrap_or(span.start_time);
    }
    Some(span)
}

/// Whether the trace of a span is among this share of all. All hosts agree on it, as the standard's sampler does.
pub(super) fn is_in(span: &SpanData, share: f64) -> bool {
    let bytes = span.span_context.trace_id().to_bytes();
    let low = bytes[8..].iter().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
    share >= 1.0 || low >> 1 < (share * (1_u64 << 63) as f64) as u64
}

fn context(trace: TraceId, span: SpanId) -> SpanContext {
    SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::default())
}

fn text(span: &mut SpanData, name: &str) -> Option<String> {
    take(span, name).map(|value| value.as_str().into_owned())
}

fn take(span: &mut SpanData, name: &str) -> Option<Value> {
    let at = span.attributes.iter().position(|KeyValue { key, .. }| key.as_str() == name)?;
    Some(span.attributes.remove(at).value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn span(attributes: Vec<KeyValue>) -> SpanData {
        SpanData {
            span_context: context(TraceId::from_bytes([9; 16]), SpanId::from_bytes([9; 8])),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Server,
            name: "serve".into(),
            start_time: std::time::UNIX_EPOCH + Duration::from_secs(5),
            end_time: std::time::UNIX_EPOCH + Duration::from_secs(9),
            attributes,
            dropped_attributes_count: 0,
            events: Default::default(),
            links: Default::default(),
            status: Default::default(),
            instrumentation_scope: Default::default(),
        }
    }

    #[test]
    fn fields_become_a_place() {
        let trace = "0123456789abcdef0123456789abcdef";
        let root = "1111111111111111";
        let placed_root = placed(span(vec![
            KeyValue::new("dragonfly.trace", trace),
            KeyValue::new("dragonfly.span", root),
            KeyValue::new("dragonfly.waited_us", 2_000_000),
            KeyValue::new("bytes", 7),
        ]));
        let placed_root = placed_root.unwrap();
        assert_eq!(placed_root.span_context.trace_id().to_string(), trace);
        assert_eq!(placed_root.span_context.span_id().to_string(), root);
        assert_eq!(placed_root.parent_span_id, SpanId::INVALID);
        assert_eq!(placed_root.start_time, std::time::UNIX_EPOCH + Duration::from_secs(3));
        assert_eq!(placed_root.attributes, [KeyValue::new("bytes", 7)], "the rest is for people");
        let link = format!("{trace}2222222222222222");
        let below = placed(span(vec![
            KeyValue::new("dragonfly.trace", trace),
            KeyValue::new("dragonfly.parent", root),
            KeyValue::new("dragonfly.link", link),
        ]));
        let below = below.unwrap();
        assert_eq!(below.parent_span_id, placed_root.span_context.span_id());
        assert_eq!(below.span_context.span_id(), SpanId::from_bytes([9; 8]), "its own");
        assert!(below.parent_span_is_remote);
        assert_eq!(below.links.links[0].span_context.span_id().to_string(), "2222222222222222");
        assert!(placed(span(vec![KeyValue::new("bytes", 7)])).is_none());
        assert!(placed(span(vec![KeyValue::new("dragonfly.trace", "none")])).is_none());
    }

    #[test]
    fn a_share_of_the_traces_is_in() {
        let of = |byte: u8| {
            let mut span = span(Vec::new());
            span.span_context = context(TraceId::from_bytes([byte; 16]), SpanId::from_bytes([1; 8]));
            span
        };
        let count = |share: f64| (0..=255).filter(|byte| is_in(&of(*byte), share)).count();
        assert_eq!([count(0.0), count(0.5), count(1.0)], [0, 128, 256]);
    }
}

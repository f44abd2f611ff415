//! What an embedder in Rust brings: its runtime, its metrics registry, settings that go together.

use std::io::Cursor;
use std::sync::{Arc, Mutex};

use dragonfly_core::source::{self, BlockingContent, BlockingSource, OpenRequest, SourceError};
use dragonfly_core::{Metric, MetricKind, Node, Peer, Preset, Request};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

const LENGTH: u64 = 70_000;

/// An origin that remembers on which threads it was asked.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<String>>>);

impl BlockingSource for Asked {
    fn open(&self, request: &OpenRequest) -> Result<BlockingContent, SourceError> {
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        self.0.lock().unwrap().push(name);
        let start = request.range.as_ref().map_or(0, |range| range.start);
        let mut content = BlockingContent::new(Cursor::new(vec![7; (LENGTH - start) as usize]));
        (content.length, content.offset, content.ranges) = (Some(LENGTH), start, true);
        content.version = Some("1".into());
        Ok(content)
    }
}

#[tokio::test]
async fn a_node_runs_on_the_runtime_that_it_is_given() {
    let mut given = tokio::runtime::Builder::new_multi_thread();
    let given = given.worker_threads(1).thread_name("given").enable_all().build().unwrap();
    let asked = Asked::default();
    let builder = Node::builder().runtime(given.handle().clone());
    let node = builder.source_for("own", source::blocking(asked.clone())).start().await.unwrap();
    let peer = Peer::builder(&node).start().await.unwrap();
    let receipt = peer.fetch(Request::new("own://any/content")).await.unwrap();
    assert_eq!(receipt.length, LENGTH);
    let asked = asked.0.lock().unwrap().clone();
    assert!(!asked.is_empty() && asked.iter().all(|thread| thread == "given"), "{asked:?}");
    peer.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
    given.shutdown_background();
}

/// A node in a registry of the program's own: whenever that is asked, it asks the node.
#[derive(Debug)]
struct Metrics(Node);

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for Metric { name, help, kind, value, .. } in self.0.metrics_now() {
            // The registry adds the full stop, and the ending of counters.
            let help = help.trim_end_matches('.');
            match kind {
                MetricKind::Counter => {
                    let (name, counter) = (name.trim_end_matches("_total"), ConstCounter::new(value));
                    counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
                }
                _ => {
                    let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
                    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
                }
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn metrics_are_collected_by_a_registry_of_the_programs_own() {
    let node = Node::builder().source_for("own", source::blocking(Asked::default())).start().await.unwrap();
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Metrics(node.clone())));
    let peer = Peer::builder(&node).start().await.unwrap();
    peer.fetch(Request::new("own://any/content")).await.unwrap();
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let line = format!("dragonfly_origin_bytes_total {LENGTH}");
    assert!(text.lines().any(|shown| shown == line), "{text}");
    for metric in node.metrics_now() {
        let described = format!("# TYPE {} ", metric.name.trim_end_matches("_total"));
        assert!(text.contains(&described), "{}: {text}", metric.name);
    }
    peer.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_is_set_after_a_preset_is_set_differently() {
    let listening = Node::builder().preset(Preset::Host).start().await.unwrap();
    assert!(!listening.listeners().is_empty());
    listening.shutdown().await.unwrap();
    let guest = Node::builder().preset(Preset::Guest).start().await.unwrap();
    assert!(guest.listeners().is_empty());
    assert_eq!(guest.usage().quota, Some(64 << 20));
    guest.shutdown().await.unwrap();
    let larger = Node::builder().preset(Preset::Guest).memory_bytes(128 << 20).start().await.unwrap();
    assert_eq!(larger.usage().quota, Some(128 << 20));
    larger.shutdown().await.unwrap();
}

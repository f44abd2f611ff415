//! Traces: what a collector gets of a download that two hosts had a part in.

#[cfg(feature = "otlp")]
mod collector;

use crate::harness::{dfdaemon, run};

/// Whoever asks for traces of a program that has none is told; the standard's variables are for all programs.
#[cfg(not(feature = "otlp"))]
#[test]
fn a_program_without_traces_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let asked = run(dfdaemon(dir.path()).args(["--check-config", "--otlp-endpoint", "http://127.0.0.1:4318"]));
    assert!(asked.is_code(2) && asked.stderr.contains("--features otlp"), "{asked:?}");
    let mut command = dfdaemon(dir.path());
    let not_asked = run(command.arg("--check-config").env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318"));
    assert!(not_asked.is_code(0), "{not_asked:?}");
}

#[cfg(feature = "otlp")]
#[test]
fn an_endpoint_that_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for wrong in ["collector:4318", "ftp://collector", "nonsense"] {
        let done = run(dfdaemon(dir.path()).args(["--check-config", "--otlp-endpoint", wrong]));
        assert!(done.is_code(2) && done.stderr.contains("--otlp-endpoint"), "{wrong}: {done:?}");
    }
}

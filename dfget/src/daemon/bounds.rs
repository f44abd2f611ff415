//! Every bound of the daemon's own, for its operator to see: each room says its own.

use super::config::Serve;
use super::{engines, serve};
use crate::api::{self, Bound};
use crate::traces;

/// As the settings are now: some of them can change while the daemon runs.
pub(super) fn of(settings: &Serve) -> Vec<Bound> {
    let own = [
        (
            "dragonfly_drain_seconds_limit",
            "Seconds that what is under way has when the daemon is asked to end.",
            settings.drain_timeout.as_secs(),
        ),
        ("dragonfly_engine_stop_seconds_limit", "Seconds that one engine has to stop.", engines::STOP_MAX.as_secs()),
        (
            "dragonfly_api_connections_limit",
            "Connections to one door of the daemon at the most.",
            serve::CONNECTIONS_MAX as u64,
        ),
        (
            "dragonfly_api_head_seconds_limit",
            "Seconds that the head of a request to the daemon may take.",
            serve::HEAD_MAX.as_secs(),
        ),
        (
            "dragonfly_api_client_silence_seconds_limit",
            "Seconds for which a client may take nothing of what it asked for.",
            settings.client_timeout.as_secs(),
        ),
    ];
    let mut all = [&own[..], &api::BOUNDS].concat();
    if cfg!(feature = "otlp") {
        let help = "Seconds that one request to a collector of traces may take.";
        all.push(("dragonfly_traces_request_seconds_limit", help, traces::SEND_MAX.as_secs()));
        let help = "Seconds for the last traces, when the daemon ends.";
        all.push(("dragonfly_traces_end_seconds_limit", help, traces::END_MAX.as_secs()));
    }
    all
}

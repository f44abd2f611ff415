//! What systemd is told: ready, reloading, stopping, and that the daemon is alive. Without systemd nothing happens.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use crate::api::Context;

/// Tells systemd; that it does not listen is no failure of ours.
pub(super) fn tell(state: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(state) {
        tracing::debug!("cannot tell the service manager: {e}");
    }
}

/// That a reload has begun: with the time, as `Type=notify-reload` wants it.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// Feeds the watchdog for as long as the engines answer; a daemon that hangs is then restarted.
pub(super) async fn watchdog(context: Arc<Context>, stop: CancellationToken) {
    let Some(interval) = sd_notify::watchdog_enabled() else { return };
    let every = (interval / 2).max(Duration::from_millis(10));
    loop {
        match tokio::time::timeout(every, context.is_alive()).await {
            Ok(true) => tell(&[NotifyState::Watchdog]),
            Ok(false) => tracing::error!("an engine has stopped: the watchdog is not fed"),
            Err(_) => tracing::error!("the engines do not answer within {every:?}: the watchdog is not fed"),
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = stop.cancelled() => return,
        }
    }
}

//! SIGHUP: the settings are read again; what can change while the daemon runs does, and the rest is named.

use std::ffi::OsString;
use std::sync::PoisonError;

use super::config::{Refused, Settings, resolve};
use super::{Running, bounds, engines, notify, secret};

/// Settings that take effect at once.
const LIVE: [&str; 5] = ["log-level", "download-limit", "upload-limit", "drain-timeout", "api-token-file"];

/// Reads the settings again. What is wrong with them goes to the log, and everything stays as it was.
pub(super) fn reload(running: &mut Running, line: &[OsString]) {
    notify::reloading();
    match resolve(line) {
        Ok((_, settings)) => apply(running, settings),
        Err(refused) => {
            let why = match refused {
                Refused::Failure(failure) => failure.message,
                Refused::Clap(error) => error.to_string().trim_end().to_owned(),
            };
            tracing::error!("the settings stay as they were: {why}");
        }
    }
    notify::tell(&[sd_notify::NotifyState::Ready]);
}

fn apply(running: &mut Running, settings: Settings) {
    let is_live = |key: &String| LIVE.contains(&key.as_str());
    let now: Vec<_> = settings.changed(&running.settings).into_iter().filter(is_live).collect();
    let later: Vec<_> = settings.changed(&running.started).into_iter().filter(|key| !is_live(key)).collect();
    let serve = &settings.serve;
    if let Err(failure) = crate::logging::check(serve.levels()) {
        tracing::error!("the settings stay as they were: {}", failure.message);
        return;
    }
    if now.iter().any(|key| key == "log-level")
        && let Err(failure) = running.context.log.set(serve.levels())
    {
        tracing::error!("the log's levels stay as they were: {}", failure.message);
    }
    engines::limits(&running.context.node, serve);
    *running.context.bounds.lock().unwrap_or_else(PoisonError::into_inner) = bounds::of(serve);
    if let Some(key) = &running.key {
        // Also where the file is the same one: what is in it may have changed.
        match serve.api_token_file().and_then(|path| secret::read(&path)) {
            Ok(token) => key.replace(&token),
            Err(failure) => tracing::error!("the token of the TCP API stays as it was: {}", failure.message),
        }
    }
    match now.as_slice() {
        [] => tracing::info!("settings read again: nothing that can change while the daemon runs has changed"),
        now => tracing::info!("settings read again; changed: {}", now.join(", ")),
    }
    if !later.is_empty() {
        tracing::warn!("changed, but only a restart makes it so: {}", later.join(", "));
    }
    running.settings = settings;
}

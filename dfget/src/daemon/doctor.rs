//! `dfdaemon doctor`: what an operator would check at 3 a.m., each with what to do about it.

mod machine;
mod network;

use std::fmt::Write as _;

use serde::Serialize;

use super::commands::Doctor;
use super::{config, running};
use crate::error::Failure;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    found: String,
    /// What to do; only where something is amiss.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Ok, found: found.into(), hint: None }
    }

    fn warn(name: &'static str, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, state: State::Warn, found: found.into(), hint: Some(hint.into()) }
    }

    fn fail(name: &'static str, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, state: State::Fail, found: found.into(), hint: Some(hint.into()) }
    }
}

/// The report, and whether everything is in order.
pub(super) async fn doctor(args: &Doctor) -> Result<(String, bool), Failure> {
    let data_dir = args.which.data_dir()?;
    let mut checks = Vec::new();
    // What the environment says counts for the daemon as well, with a file or without.
    let mut line = vec!["dfdaemon".into()];
    line.extend(args.config.iter().flat_map(|path| ["--config".into(), path.clone().into_os_string()]));
    let settings = match config::resolve(&line) {
        Ok((_, settings)) => {
            if let Some(path) = &args.config {
                checks.push(Check::ok("configuration", format!("{} is understood", path.display())));
            }
            Some(settings)
        }
        Err(refused) => {
            let why = match refused {
                config::Refused::Failure(failure) => failure.message,
                config::Refused::Clap(error) => error.to_string().lines().next().unwrap_or_default().to_owned(),
            };
            let hint = "correct it; `dfdaemon --help` lists what may be set, by flag, variable and file";
            checks.push(Check::fail("configuration", why, hint));
            None
        }
    };
    checks.push(machine::clock());
    checks.push(machine::descriptors());
    checks.extend(machine::data_dir(&data_dir));
    let mut client = running::find(&args.which).await?;
    let membership = machine::membership(&data_dir, &mut checks);
    match &mut client {
        Some(client) => network::running(client, &mut checks).await,
        None => network::stopped(settings.as_ref().map(|settings| &settings.serve), &mut checks).await,
    }
    let mut places = settings.map(|settings| settings.serve.meeting_places()).unwrap_or_default();
    if let Some(membership) = membership {
        for place in membership.bootstrap() {
            if !places.contains(place) {
                places.push(place.clone());
            }
        }
    }
    network::coordinators(&places, &mut checks).await;
    let sound = checks.iter().all(|check| check.state != State::Fail);
    let text = if args.json {
        let json = serde_json::to_string(&checks);
        json.map_err(|e| Failure::new(dragonfly_core::ErrorKind::Internal, e.to_string()))? + "\n"
    } else {
        report(&checks)
    };
    Ok((text, sound))
}

fn report(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let state = match check.state {
            State::Ok => "ok  ",
            State::Warn => "WARN",
            State::Fail => "FAIL",
        };
        let _ = writeln!(text, "{state} {:<14} {}", check.name, check.found);
        if let Some(hint) = &check.hint {
            let _ = writeln!(text, "     {:<14} hint: {hint}", "");
        }
    }
    text
}

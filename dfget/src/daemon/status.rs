//! `dfdaemon status`.

use std::fmt::Write as _;

use dragonfly_core::ErrorKind;
use http::Method;

use super::commands::Status;
use super::running;
use crate::error::Failure;
use crate::model::{ActivesBody, StatusBody};
use crate::units::{age_text, size_text};

/// What the daemon says of itself, for people or as JSON.
pub(super) async fn status(args: &Status) -> Result<String, Failure> {
    let none = || {
        let failure = Failure::new(ErrorKind::Config, "no daemon runs here");
        failure.hint("start one, or name its --data-dir, or its socket with --api")
    };
    let mut client = running::find(&args.which).await?.ok_or_else(none)?;
    if args.json {
        let status: serde_json::Value = client.json(Method::GET, "/v1/status", None::<&()>).await?;
        return Ok(format!("{status}\n"));
    }
    let status: StatusBody = client.json(Method::GET, "/v1/status", None::<&()>).await?;
    // A scheduler alone has no tasks of its own.
    let active = client.json::<ActivesBody>(Method::GET, "/v1/active", None::<&()>).await;
    let mut text = String::new();
    let state = if status.ready { "ready" } else { "not ready" };
    let up = age_text(std::time::Duration::from_secs(status.uptime_s));
    let _ = writeln!(text, "dfdaemon {} (pid {}), {state}, up {up}", status.version, status.pid);
    let _ = writeln!(text, "peer        {}", status.peer_id);
    let _ = writeln!(text, "roles       {} (allowed: {})", status.roles, status.allowed);
    let _ = writeln!(text, "tenant      {}", status.tenant);
    for (index, address) in status.listen.iter().enumerate() {
        let _ = writeln!(text, "{:<11} {address}", if index == 0 { "listens at" } else { "" });
    }
    let quota = status.store_quota.map_or("no quota".to_owned(), |quota| format!("of {}", size_text(quota)));
    let _ = writeln!(text, "store       {} {quota}, {} entries", size_text(status.store_bytes), status.store_entries);
    let _ = writeln!(text, "neighbours  {}", status.neighbours);
    if let Ok(active) = active {
        let wanted = active.tasks.iter().filter(|task| task.callers > 0).count();
        let _ = writeln!(text, "tasks       {} in the swarm, {wanted} being fetched", active.tasks.len());
    }
    Ok(text)
}

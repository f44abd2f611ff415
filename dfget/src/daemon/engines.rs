//! The engines that the roles ask for, on one node: started bottom up, stopped top down.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dragonfly_core::Error;
use dragonfly_core::node::Node;
use dragonfly_core::peer::Peer;
use dragonfly_core::scheduler::Scheduler;
use dragonfly_core::seed::Seed;
use dragonfly_core::trust::Roles;
use tokio_util::sync::CancellationToken;

use super::bounds;
use super::config::Serve;
use crate::api::{Context, Hub};
use crate::error::Failure;
use crate::join::read_token;
use crate::logging::LogControl;

/// For one engine to stop; one that hangs must not keep the others from closing their stores.
pub(super) const STOP_MAX: Duration = Duration::from_secs(10);

pub(super) async fn start(args: &Serve, data_dir: &Path, log: LogControl) -> Result<Context, Failure> {
    let mut builder = Node::builder()
        .data_dir(data_dir.to_owned())
        .allow_loopback_origins(args.allow_loopback_origins)
        .origin_trust(args.origin_trust.into())
        .discover_locally(args.mdns)
        .upload_slots(args.upload_slots);
    for address in args.listen()? {
        builder = builder.listen(address);
    }
    for address in &args.lane_listen {
        builder = builder.lane_listen(*address);
    }
    if let Some(name) = &args.lane_congestion {
        builder = builder.lane_congestion(name);
    }
    if let Some(site) = &args.site {
        builder = builder.site(site);
    }
    if args.plain_lanes {
        builder = builder.plain_lanes(true);
    }
    if args.no_lanes {
        builder = builder.no_lanes();
    }
    for address in &args.scheduler {
        builder = builder.scheduler(address.clone());
    }
    for address in &args.bootstrap {
        builder = builder.bootstrap(address.clone());
    }
    for origin in &args.allow_origin {
        builder = builder.allow_origin(origin.clone());
    }
    #[cfg(feature = "storages")]
    {
        builder = builder.storage(crate::storages::config(&args.storage)?);
    }
    if let Some(connections) = args.connections() {
        builder = builder.connections_max(connections);
    }
    if let Some(bytes) = args.quota {
        builder = builder.quota_bytes(bytes);
    }
    if let Some(join) = &args.join {
        builder = builder.join(read_token(join)?);
    }
    let node = builder.start().await?;
    limits(&node, args);
    let mut context = Context {
        node: node.clone(),
        scheduler: None,
        seed: None,
        peer: None,
        gateway: std::sync::OnceLock::new(),
        roles: args.role.to_string(),
        started: Instant::now(),
        ready: AtomicBool::new(false),
        stopping: CancellationToken::new(),
        counters: Arc::default(),
        bounds: Mutex::new(bounds::of(args)),
        events: Hub::default(),
        log,
    };
    if let Err(e) = start_roles(&mut context, args.role.roles).await {
        stop(&context).await;
        return Err(Failure::from(e).while_(format_args!("cannot start as {}", context.roles)));
    }
    Ok(context)
}

/// Sets what can be changed while the node runs. A limit of nothing is none.
pub(super) fn limits(node: &Node, args: &Serve) {
    node.set_download_limit(args.download_limit.filter(|limit| *limit > 0));
    node.set_upload_limit(args.upload_limit.filter(|limit| *limit > 0));
}

async fn start_roles(context: &mut Context, roles: Roles) -> Result<(), Error> {
    if roles.contains(Roles::SCHEDULER) {
        context.scheduler = Some(Scheduler::builder(&context.node).start().await?);
    }
    if roles.contains(Roles::SEED) {
        context.seed = Some(Seed::builder(&context.node).start().await?);
    }
    if roles.contains(Roles::PEER) {
        context.peer = Some(Peer::builder(&context.node).start().await?);
    }
    Ok(())
}

/// Stops what runs. An engine that fails to is named in the log, and the next one is stopped all the same.
pub(super) async fn stop(context: &Context) {
    if let Some(peer) = &context.peer {
        bounded("peer", peer.shutdown()).await;
    }
    if let Some(seed) = &context.seed {
        bounded("seed", seed.shutdown()).await;
    }
    if let Some(scheduler) = &context.scheduler {
        bounded("scheduler", scheduler.shutdown()).await;
    }
    bounded("node", context.node.shutdown()).await;
}

async fn bounded(name: &str, stopping: impl Future<Output = Result<(), Error>>) {
    match tokio::time::timeout(STOP_MAX, stopping).await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => tracing::warn!("the {name} did not stop in order: {e:?}"),
        Err(_) => tracing::warn!("the {name} did not stop within {STOP_MAX:?}"),
    }
}

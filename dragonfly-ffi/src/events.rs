//! Members that come and go.

use std::ffi::{c_char, c_void};

use dragonfly_core::{NodeEvent, NodeEvents};
use futures::StreamExt as _;

use crate::args::{self, sized};
use crate::boundary::{free, run};
use crate::cancel::dragonfly_cancel;
use crate::context::{Context, dragonfly_drop_fn};
use crate::engine::{self, On};
use crate::error::{dragonfly_error, dragonfly_status};
use crate::node::dragonfly_node;
use crate::policy::DRAGONFLY_PEER_ROOM;
use crate::receipt::room;
use crate::table::{self, handle};

/// The events of a node from some time on. Freed with `dragonfly_node_events_free`.
pub struct dragonfly_node_events {
    _private: [u8; 0],
}

handle!(dragonfly_node_events, On<tokio::sync::Mutex<NodeEvents>>, "events");

/// What happened to a node.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dragonfly_node_event_type {
    /// Nothing: the node is gone.
    DRAGONFLY_NODE_EVENT_END = 0,
    /// The first connection to a member is up.
    DRAGONFLY_NODE_EVENT_PEER_UP = 1,
    /// The last connection to a member is gone.
    DRAGONFLY_NODE_EVENT_PEER_DOWN = 2,
}

/// An event of a node. The caller of `dragonfly_node_events_next` sets `size` before the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dragonfly_node_event {
    /// `sizeof(dragonfly_node_event)`.
    pub size: usize,
    /// A `dragonfly_node_event_type`; programs must expect ones that this header does not name.
    pub r#type: i32,
    /// The member's peer id.
    pub peer: [c_char; DRAGONFLY_PEER_ROOM],
}

/// An event. It lives for the call.
pub type dragonfly_node_event_fn = Option<unsafe extern "C" fn(ctx: *mut c_void, event: *const dragonfly_node_event)>;

/// Callbacks of a node, called one at a time from threads of the library's: `on_event` any number of times, then `drop`
/// once, when the node is gone. They may call any function of the library, also those that block, and free any handle.
/// They must not throw or jump out.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dragonfly_node_watcher {
    /// `sizeof(dragonfly_node_watcher)`.
    pub size: usize,
    /// An event. Must be there. It is lossy: one that lags far behind misses some.
    pub on_event: dragonfly_node_event_fn,
    /// Handed to each.
    pub ctx: *mut c_void,
    /// Called when `ctx` is used no more, or NULL.
    pub drop: dragonfly_drop_fn,
}

sized! {
    dragonfly_node_event, "node event";
    dragonfly_node_watcher, "node watcher";
}

impl dragonfly_node_event {
    fn of(event: Option<&NodeEvent>) -> Option<Self> {
        use dragonfly_node_event_type as Type;
        let (kind, peer) = match event {
            None => (Type::DRAGONFLY_NODE_EVENT_END, None),
            Some(NodeEvent::PeerUp(peer)) => (Type::DRAGONFLY_NODE_EVENT_PEER_UP, Some(peer)),
            Some(NodeEvent::PeerDown(peer)) => (Type::DRAGONFLY_NODE_EVENT_PEER_DOWN, Some(peer)),
            // One that this version of the ABI has no words for.
            Some(_) => return None,
        };
        let peer = room(&peer.map(ToString::to_string).unwrap_or_default());
        Some(Self { size: size_of::<Self>(), r#type: kind as i32, peer })
    }
}

/// Members that come and go from now on. Bounded and lossy: who lags far behind misses events, and should look at
/// `dragonfly_node_peers`. A handle to be freed; it does not keep the node alive.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_node_events_open(
    node: *const dragonfly_node,
    events: *mut *mut dragonfly_node_events,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        run(error, || {
            args::wanted(events, "events")?;
            let node = table::get(node)?;
            let opened = node.with(tokio::sync::Mutex::new(node.it.events()));
            events.write(table::insert::<dragonfly_node_events>(opened));
            Ok(())
        })
    }
}

/// The next event; `DRAGONFLY_NODE_EVENT_END` once the node is gone.
///
/// Any thread (several take turns); blocks, for at most `timeout_ms` (negative: for as long as it takes; 0: not at all)
/// and until `cancel` (or NULL) is fired.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_node_events_next(
    events: *const dragonfly_node_events,
    timeout_ms: i64,
    cancel: *const dragonfly_cancel,
    event: *mut dragonfly_node_event,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        run(error, || {
            args::wanted(event, "event")?;
            let next = engine::ask(events, timeout_ms, cancel, async |events: &tokio::sync::Mutex<NodeEvents>| {
                let mut events = events.lock().await;
                loop {
                    if let Some(event) = dragonfly_node_event::of(events.next().await.as_ref()) {
                        return Ok(event);
                    }
                }
            })?;
            args::write_sized(event, &next)
        })
    }
}

/// Frees the handle. NULL is fine.
///
/// Any thread, but no callback of a policy or of the log; does not block, unless it was the last that used a node's own
/// threads: see `dragonfly_node_free`.
#[unsafe(no_mangle)]
pub extern "C" fn dragonfly_node_events_free(events: *mut dragonfly_node_events) {
    free(events);
}

/// Has the library call when members come and go, until the node is gone. May be done several times. If this function
/// fails, no callback is ever called, `drop` included.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_node_watch(
    node: *const dragonfly_node,
    watcher: *const dragonfly_node_watcher,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        run(error, || {
            let given = args::read_sized(watcher)?;
            let call = given.on_event.ok_or_else(|| args::invalid("on_event is NULL"))?;
            let node = table::get(node)?;
            let mut events = node.it.events();
            let mut place = Some(Context::new(given.ctx, given.drop));
            node.runtime.handle().spawn(async move {
                while let Some(event) = events.next().await {
                    let Some(event) = dragonfly_node_event::of(Some(&event)) else { continue };
                    let Some(context) = place.take() else { return };
                    // On a thread that may be blocked.
                    let called = tokio::task::spawn_blocking(move || {
                        // SAFETY: as the program registered it; the event lives for the call.
                        context.call(|ctx| call(ctx, &raw const event));
                        context
                    });
                    let Ok(context) = called.await else { return };
                    place = Some(context);
                }
                let _ = tokio::task::spawn_blocking(move || drop(place)).await;
            });
            Ok(())
        })
    }
}

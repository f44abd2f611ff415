//! Fetches from the origin.

use std::ops::Range;
use std::time::Duration;

use dragonfly_core::swarm::{Input, LeaseKey, TaskKey};

use super::{CONTROL, Event, World};
use crate::network::duration;
use crate::origin::Fetch;

/// Who fetches gives up when nothing comes for so long.
const SILENCE_MAX: Duration = Duration::from_secs(10);

impl World {
    pub(super) fn fetch(&mut self, host: u32, task: TaskKey, lease: LeaseKey, pieces: Range<u32>) {
        if self.origin.failures > 0 {
            self.origin.failures -= 1;
            self.authority.end(task, lease, true);
            return self.later(CONTROL * 2, host, Input::OriginFailed { task, lease });
        }
        let (next, end) = (pieces.start, pieces.end);
        self.origin.fetches.push_back(Fetch { host, task, lease, next, end, heard: self.now });
        self.events.push(self.now.after(SILENCE_MAX), Event::OriginSilent { host, task, lease });
        self.origin_next();
    }

    pub(super) fn origin_next(&mut self) {
        if self.origin.is_busy {
            return;
        }
        if let Some(fetch) = self.origin.fetches.front() {
            let bytes = self.layouts[&fetch.task].length_of(fetch.next).unwrap_or(0);
            self.origin.is_busy = true;
            let from = self.now.max(self.origin.stalled_until);
            self.events.push(from.after(duration(bytes, self.origin.rate)), Event::OriginPiece);
        }
    }

    pub(super) fn origin_piece(&mut self) {
        self.origin.is_busy = false;
        if self.origin.stalled_until > self.now {
            // It stopped in the middle of the piece.
            return self.origin_next();
        }
        let Some(mut fetch) = self.origin.fetches.pop_front() else { return };
        let (task, lease, piece) = (fetch.task, fetch.lease, fetch.next);
        let bytes = self.layouts[&task].length_of(piece).unwrap_or(0);
        self.origin_used = self.now;
        self.origin.bytes += bytes;
        if self.origin.breaks > 0 {
            // Everything but the last byte of the piece came.
            self.origin.breaks -= 1;
            self.lost += bytes;
            self.authority.end(task, lease, true);
            self.later(CONTROL, fetch.host, Input::OriginFailed { task, lease });
            return self.origin_next();
        }
        *self.delivered.entry((task, piece)).or_default() += 1;
        self.authority.fetched(task, lease, piece);
        self.later(CONTROL, fetch.host, Input::OriginStored { task, piece });
        (fetch.next, fetch.heard) = (fetch.next + 1, self.now);
        if fetch.next < fetch.end {
            self.origin.fetches.push_back(fetch);
        } else {
            self.authority.end(task, lease, false);
            self.later(CONTROL, fetch.host, Input::OriginDone { task, lease });
        }
        self.origin_next();
    }

    /// A fetch that brought nothing for too long fails.
    pub(super) fn origin_silent(&mut self, host: u32, task: TaskKey, lease: LeaseKey) {
        let is_it = |fetch: &&Fetch| (fetch.host, fetch.task, fetch.lease) == (host, task, lease);
        let Some(heard) = self.origin.fetches.iter().find(is_it).map(|fetch| fetch.heard) else { return };
        if self.now.since(heard) < SILENCE_MAX {
            return self.events.push(heard.after(SILENCE_MAX), Event::OriginSilent { host, task, lease });
        }
        self.origin.abort(host, task, lease);
        self.authority.end(task, lease, true);
        self.later(CONTROL, host, Input::OriginFailed { task, lease });
    }
}

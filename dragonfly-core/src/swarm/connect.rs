//! Neighbours: whom to dial, which tasks to open over which lane, when to ask for more.

use std::time::Duration;

use super::host::Host;
use super::task::{Candidate, Member, Task};
use super::timers::Timer;
use super::whole::Asking;
use super::{Action, HostKey, Swarm, TaskKey, Time};
use crate::wire::control::Share;

/// The shortest pause between two questions for neighbours; it doubles while they bring nobody new.
pub(super) const ASK_PAUSE_MIN: Duration = Duration::from_secs(1);

/// The longest one: also in a small swarm somebody may join.
const ASK_PAUSE_MAX: Duration = Duration::from_secs(60);

/// A host that opened a lane to us has so long to prove useful before its place may be given to another.
const PROOF_MAX: Duration = Duration::from_secs(20);

/// How soon a host that found no place for its lane is tried again.
const ROOM_PAUSE: Duration = Duration::from_secs(1);

/// Nothing came for so long, although pieces are missing that no neighbour holds: longer than it takes to find a
/// neighbour to be stalled and to ask another one.
pub(super) const STARVED_MIN: Duration = Duration::from_secs(20);

/// How often that is said.
const STARVED_PAUSE: Duration = Duration::from_secs(10);

/// Hosts remembered per task: twice as many as one message names, so that some are left when others fail.
pub(super) const CANDIDATES_MAX: usize = 64;

/// A host that cannot be reached is tried again after this, doubled each time.
const REDIAL_MIN: Duration = Duration::from_secs(1);

/// After so many failures in a row a host is forgotten until it is named again.
const FAILURES_MAX: u32 = 6;

/// A neighbour that does not answer to an offer to open a task within this time is not waited for.
const OPENING_MAX: Duration = Duration::from_secs(10);

/// A lane without a task is kept for so long: what comes next may need it.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(30);

impl Swarm {
    pub(super) fn named(&mut self, key: TaskKey, hosts: &[HostKey], across: &[(HostKey, Share)]) {
        let Some(task) = self.tasks.get_mut(&key) else { return };
        let mut any_new = false;
        task.across.name(self.now, &hosts[..hosts.len().min(CANDIDATES_MAX)], across);
        for (rank, host) in (0u32..).zip(hosts.iter().take(CANDIDATES_MAX)) {
            let retry = task.bans.get(host).map_or(self.now, |ban| ban.until);
            let candidate = task.candidates.entry(*host).or_insert_with(|| {
                any_new = true;
                Candidate { rank, failures: 0, retry }
            });
            candidate.rank = rank;
        }
        while task.candidates.len() > CANDIDATES_MAX {
            let worst = task
                .candidates
                .iter()
                .filter(|(host, _)| !task.members.contains_key(host))
                .max_by_key(|(host, candidate)| (candidate.failures, candidate.rank, **host))
                .map(|(host, _)| *host);
            let Some(worst) = worst.or_else(|| task.candidates.keys().next_back().copied()) else { break };
            task.candidates.remove(&worst);
        }
        let (candidates, members) = (&task.candidates, &task.members);
        task.across.retain(|host| candidates.contains_key(host) || members.contains_key(host));
        if !task.across.is_empty() {
            task.reports.every();
        }
        if any_new {
            task.ask_pause = ASK_PAUSE_MIN;
        }
        // Who names neighbours may have leases, too: that is the news which an unlimited wait waits for.
        if task.leases.ask == super::lease::Ask::Never {
            task.leases.ask = super::lease::Ask::Now;
        }
        self.restless.insert(key);
        self.timers.set_earlier(Timer::Connect(key), self.now);
    }

    /// Dials and opens until enough neighbours are on their way, asks for more where they lack, and sets the next
    /// deadline.
    pub(super) fn connect(&mut self, key: TaskKey) {
        let Some(task) = self.tasks.get(&key) else { return };
        let injects = self.config.upload && task.public.held() < task.pieces.have().held();
        if !task.is_wanting() && !injects || self.asks(key) {
            return;
        }
        let Some(task) = self.tasks.get(&key) else { return };
        let mut order: Vec<(u32, u32, HostKey)> = task
            .candidates
            .iter()
            .filter(|(host, _)| !task.members.contains_key(host))
            .map(|(host, candidate)| (candidate.failures, candidate.rank, *host))
            .collect();
        order.sort_unstable();
        let opens = task.is_wanting() || !task.is_small();
        // Those across are there to bring what no other brings: they come on top.
        let mut neighbours = task.members.keys().filter(|host| !task.across.contains(**host)).count();
        let mut next = None;
        for (_, _, host) in order {
            let is_across = self.tasks.get(&key).is_some_and(|task| task.across.contains(host));
            if !is_across && neighbours >= self.config.neighbours_wanted {
                continue;
            }
            match self.approach(key, host, opens) {
                Ok(()) => neighbours += usize::from(!is_across),
                Err(Some(retry)) => next = Some(next.map_or(retry, |next: super::Time| next.min(retry))),
                Err(None) => {}
            }
        }
        let ask = self.ask_neighbours(key, neighbours);
        let next = next.into_iter().chain(ask).min();
        if let Some(next) = next {
            self.timers.set(Timer::Connect(key), next.max(self.now.after(Duration::from_millis(1))));
        }
    }

    /// Takes the next step towards a neighbour: an error tells when it may be tried, if it may. Without `opens` a lane to it is
    /// all that there is to do: who lacks small content asks for it, or opens it.
    fn approach(&mut self, key: TaskKey, host_key: HostKey, opens: bool) -> Result<(), Option<super::Time>> {
        let now = self.now;
        let retry = self
            .tasks
            .get(&key)
            .and_then(|task| task.candidates.get(&host_key))
            .map(|candidate| candidate.retry)
            .filter(|retry| *retry > now);
        if let Some(host) = self.hosts.get_mut(&host_key) {
            if !host.up || !opens {
                return Ok(());
            }
            if let Some(since) = host.opening.get(&key) {
                return if now.since(*since) < OPENING_MAX { Ok(()) } else { Err(None) };
            }
            if retry.is_some() {
                return Err(retry);
            }
            host.opening.insert(key, now);
            self.actions.push_back(Action::Open { host: host_key, task: key });
            return Ok(());
        }
        if retry.is_some() {
            return Err(retry);
        }
        if self.hosts.len() >= self.config.lanes_max {
            return Err(self.make_room(key));
        }
        self.hosts.insert(host_key, Host::new(false, now));
        self.actions.push_back(Action::Dial { host: host_key });
        Ok(())
    }

    /// All lanes are taken, and a task lacks pieces that none of its neighbours holds: of those that opened a lane to
    /// us and never sent anything useful the oldest gives its place. Else whoever has many identities could take all the
    /// places and keep us from the others. When to try again.
    fn make_room(&mut self, key: TaskKey) -> Option<super::Time> {
        if !self.tasks.get(&key).is_some_and(|task| task.is_wanting() && self.is_lacking(task)) {
            return None;
        }
        if self.reserved > self.now {
            return Some(self.now.after(ROOM_PAUSE));
        }
        let is_idle = |host: &Host| host.up && !host.dialled && !host.useful && self.now.since(host.since) >= PROOF_MAX;
        let idle = self.hosts.iter().filter(|(_, host)| is_idle(host));
        if let Some((oldest, _)) = idle.min_by_key(|(key, host)| (host.since, **key)) {
            let oldest = *oldest;
            self.actions.push_back(Action::Close { host: oldest });
            // Who was closed may be quicker to come back than we are to dial.
            self.reserved = self.now.after(ROOM_PAUSE * 2);
            // It counts until the lane is down; it is not chosen twice.
            if let Some(host) = self.hosts.get_mut(&oldest) {
                host.since = self.now;
            }
        }
        Some(self.now.after(ROOM_PAUSE))
    }

    /// Asks for neighbours if that is due and useful; when it is to be looked at again.
    fn ask_neighbours(&mut self, key: TaskKey, neighbours: usize) -> Option<super::Time> {
        let wanted = self.config.neighbours_wanted;
        let lacking = self.tasks.get(&key).is_some_and(|task| self.is_lacking(task));
        let now = self.now;
        let task = self.tasks.get_mut(&key).filter(|task| task.is_wanting() && task.authority)?;
        let starved = Some(now.since(task.fed)).filter(|time| lacking && *time >= STARVED_MIN);
        if task.ask_at <= now || starved.is_some() && now.since(task.asked) >= STARVED_PAUSE {
            if lacking || neighbours < wanted {
                self.actions.push_back(Action::AskNeighbours { task: key, lacking, starved });
                if lacking {
                    task.reports.expect();
                }
                task.asked = now;
                task.ask_at = now.after(task.ask_pause);
                task.ask_pause = (task.ask_pause * 2).min(ASK_PAUSE_MAX);
            } else {
                task.ask_pause = ASK_PAUSE_MIN;
                task.ask_at = now.after(OPENING_MAX);
            }
        }
        // Looked at in time to see that nothing comes.
        Some(task.ask_at.min(task.fed.after(STARVED_MIN).max(now.after(STARVED_PAUSE))))
    }

    pub(super) fn lane_up(&mut self, key: HostKey) {
        let reserved = usize::from(self.reserved > self.now);
        let lanes = self.hosts.len() + reserved;
        match self.hosts.get_mut(&key) {
            Some(host) if host.up => return,
            Some(host) => host.up = true,
            None if lanes >= self.config.lanes_max => {
                return self.actions.push_back(Action::Close { host: key });
            }
            None => {
                self.hosts.insert(key, Host::new(true, self.now));
            }
        }
        for (task_key, task) in &mut self.tasks {
            let Some(candidate) = task.candidates.get_mut(&key) else { continue };
            // The pause is between attempts to reach it, and it is reached: two hosts that dial each other at once lose one of
            // the two lanes, which is nobody's failure.
            candidate.retry = task.bans.get(&key).map_or(self.now, |ban| ban.until);
            self.timers.set_earlier(Timer::Connect(*task_key), self.now);
        }
        self.timers.set_earlier(Timer::Host(key), self.now.after(IDLE_MAX));
    }

    pub(super) fn lane_down(&mut self, key: HostKey) {
        if !self.hosts.contains_key(&key) {
            return;
        }
        self.drop_requests(key, None, false);
        let tasks: Vec<TaskKey> = self.tasks.keys().copied().collect();
        for task_key in tasks {
            self.ask_anew(task_key, key);
            self.part(key, task_key);
            let Some(task) = self.tasks.get_mut(&task_key) else { continue };
            task.failed(key, self.now);
            self.timers.set_earlier(Timer::Connect(task_key), self.now);
        }
        if self.hosts.get(&key).is_some_and(|host| host.slot.is_some()) {
            self.slots -= 1;
        }
        self.waiting.remove(&key);
        self.hungry.remove(&key);
        self.timers.clear(Timer::Host(key));
        self.hosts.remove(&key);
    }

    pub(super) fn task_opened(&mut self, host_key: HostKey, key: TaskKey, wanted: bool) {
        let Some(task) = self.tasks.get_mut(&key) else { return };
        let Some(host) = self.hosts.get_mut(&host_key).filter(|host| host.up) else { return };
        if task.members.contains_key(&host_key) {
            return;
        }
        host.opening.remove(&key);
        host.tasks.insert(key);
        let banned = task.bans.get(&host_key).filter(|ban| ban.until > self.now).map(|ban| ban.until);
        task.members.insert(host_key, Member::new(task.layout.pieces(), wanted, banned.is_none()));
        if let Some(candidate) = task.candidates.get_mut(&host_key) {
            candidate.failures = 0;
        }
        if let Some(until) = banned {
            self.timers.set_earlier(Timer::Host(host_key), until);
        }
        self.send_all(host_key, key);
        self.restless.insert(key);
    }

    pub(super) fn task_closed(&mut self, host_key: HostKey, key: TaskKey) {
        self.part(host_key, key);
        if let Some(task) = self.tasks.get_mut(&key) {
            task.candidates.remove(&host_key);
            self.timers.set_earlier(Timer::Connect(key), self.now);
        }
    }

    pub(super) fn task_reopened(&mut self, host_key: HostKey, key: TaskKey) {
        self.part(host_key, key);
        if let Some(host) = self.hosts.get_mut(&host_key).filter(|_| self.tasks.contains_key(&key)) {
            host.opening.insert(key, self.now);
        }
    }

    /// A host is no neighbour of a task any more.
    pub(super) fn part(&mut self, host_key: HostKey, key: TaskKey) {
        self.drop_requests(host_key, Some(key), false);
        if self.tasks.get(&key).is_some_and(|task| task.asking == Asking::Of(host_key)) {
            self.ask_no_more(key);
        }
        let Some(host) = self.hosts.get_mut(&host_key) else { return };
        host.opening.remove(&key);
        if !host.tasks.remove(&key) {
            return;
        }
        if host.tasks.is_empty() {
            self.timers.set_earlier(Timer::Host(host_key), self.now.after(IDLE_MAX));
        }
        let uploads: Vec<u32> =
            host.uploads.iter().filter(|upload| upload.task == key).map(|upload| upload.request).collect();
        for request in uploads {
            self.remove_upload(host_key, request);
        }
        let Some(task) = self.tasks.get_mut(&key) else { return };
        let Some(member) = task.members.remove(&host_key) else { return };
        if member.counted {
            for piece in member.theirs.iter() {
                task.pieces.holder_removed(piece);
            }
        }
        task.inject.orphaned(host_key, &task.pieces);
        self.restless.insert(key);
    }

    /// The end of a host's probation or of a ban, or a lane that was idle for too long.
    pub(super) fn host_timer(&mut self, key: HostKey) {
        let now = self.now;
        let Some(host) = self.hosts.get(&key) else { return };
        let mut next = (host.probation > now).then_some(host.probation);
        for task_key in &host.tasks {
            let Some(task) = self.tasks.get_mut(task_key) else { continue };
            match task.bans.get(&key).map(|ban| ban.until) {
                Some(until) if until > now => next = Some(next.map_or(until, |next| next.min(until))),
                _ => task.recount(key),
            }
        }
        let is_idle = host.up && host.tasks.is_empty() && host.opening.is_empty();
        // Small content goes over it without a task.
        let rests = host.used.after(IDLE_MAX);
        if is_idle && host.used > Time::ZERO && rests > now {
            next = Some(next.map_or(rests, |next| next.min(rests)));
        }
        self.hungry.insert(key);
        if let Some(next) = next {
            self.timers.set(Timer::Host(key), next);
        } else if is_idle && !self.timers.is_set(Timer::Host(key)) {
            self.actions.push_back(Action::Close { host: key });
        }
    }
}

impl Task {
    /// An attempt to have this neighbour, or its lane, failed.
    fn failed(&mut self, host: HostKey, now: super::Time) {
        let Some(candidate) = self.candidates.get_mut(&host) else { return };
        candidate.retry = candidate.retry.max(now.after(REDIAL_MIN * (1 << candidate.failures)));
        candidate.failures += 1;
        if candidate.failures >= FAILURES_MAX {
            self.candidates.remove(&host);
        }
    }
}

//! What is asked of neighbours: feeding them requests, and what becomes of these.

use std::ops::Range;
use std::time::Duration;

use super::choose::{choose, extend, in_window};
use super::pieces::PieceState;
use super::takeover::{Current, Takeover, takeover};
use super::task::{Ban, Task};
use super::timers::Timer;
use super::{Action, HostKey, RequestId, Swarm, TaskKey, Time, depth};
use crate::task::PieceIndex;
use crate::wire::lane::{REQUEST_PIECES_MAX, REQUESTS_MAX, RejectReason};

/// The coarse tick on which stalls, takeovers and lapsed allotments are noticed.
pub(super) const SWEEP: Duration = Duration::from_millis(250);

/// A slow neighbour is asked for nothing for this long, doubled each time it happens again.
const PROBATION: Duration = Duration::from_secs(5);

/// A neighbour that was busy is asked again after this, doubled likewise.
const BUSY: Duration = Duration::from_millis(250);

/// Fewer bytes than this are no progress: who sends one now and then would keep its requests for ever.
pub(crate) const PROGRESS_BYTES_MIN: u64 = 16 << 10;

/// Probations double at most this often.
const STRIKES_MAX: u32 = 4;

/// A host that sent bytes that fail their hash, or does not have what it claims, is not used for the task for this long, doubled each time.
const BAN: Duration = Duration::from_secs(60);

/// Bans remembered per task: hosts beyond are forgotten soonest-free first.
const BANS_MAX: usize = 256;

/// So often in a row a host may refuse what it claimed to have.
pub(super) const REFUSALS_MAX: u32 = 4;

/// A neighbour that is known to be slow is given this many times the time for a piece before it counts as stalled.
const STALL_PIECES: u32 = 4;

/// However slow it is, silence for this many times the configured bound is a stall.
const STALL_MAX: u32 = 6;

/// A request of ours.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) host: HostKey,
    pub(super) task: TaskKey,
    pub(super) first: PieceIndex,
    /// One bit for each piece, from the first, that has not arrived.
    pub(super) pending: u64,
    asked: Time,
    started: bool,
    /// How often it was moved from one neighbour to another.
    moves: u32,
}

impl Request {
    /// The pieces that have not arrived.
    pub(super) fn pieces(&self) -> impl Iterator<Item = PieceIndex> + use<> {
        let (first, pending) = (self.first, self.pending);
        (0..u64::BITS).filter(move |bit| pending >> bit & 1 == 1).map(move |bit| first + bit)
    }

    fn is_pending(&self, piece: PieceIndex) -> bool {
        piece.checked_sub(self.first).is_some_and(|bit| bit < u64::BITS && self.pending >> bit & 1 == 1)
    }
}

impl Swarm {
    /// Asks a host for as much as it should be asked for.
    pub(super) fn feed(&mut self, key: HostKey) {
        while self.feed_once(key) {}
    }

    fn feed_once(&mut self, key: HostKey) -> bool {
        let Some(host) = self.hosts.get(&key) else { return false };
        if !host.up || host.probation > self.now || host.requests.len() >= REQUESTS_MAX {
            return false;
        }
        let mut tasks: Vec<(usize, u64, TaskKey)> = host
            .tasks
            .iter()
            .filter_map(|task_key| {
                let task = self.tasks.get(task_key)?;
                let useful = task.is_wanting() && task.members.get(&key)?.counted;
                useful.then(|| (task.class(), self.pulls.rank(task.class(), task.pulled), *task_key))
            })
            .collect();
        tasks.sort_unstable();
        for (_, _, task) in &tasks {
            if let Some(run) = self.pick(key, *task) {
                return self.issue(key, *task, run);
            }
        }
        self.hosts.get(&key).is_some_and(|host| host.requests.is_empty())
            && tasks.iter().any(|(_, _, task)| self.relieve(key, *task))
    }

    /// The next run to ask this host for: the reader's window, then what it allotted to us (at any depth, for it
    /// waits for us), then the rarest.
    fn pick(&mut self, key: HostKey, task_key: TaskKey) -> Option<Range<PieceIndex>> {
        let host = self.hosts.get(&key)?;
        let task = self.tasks.get_mut(&task_key)?;
        let piece_length = task.layout.piece_length();
        let rate = host.down.value();
        let run = depth::run(rate, piece_length, task.pieces.missing().count(), task.members.len());
        let depth = depth::requests(rate, host.round_trip(), piece_length.saturating_mul(u64::from(run)));
        let is_full = host.requests.len() >= depth;
        let allotted = task.next_allotted(key);
        let member = task.members.get(&key)?;
        if let Some(allotted) = allotted
            && (is_full || in_window(&task.pieces, &member.theirs, &task.window).is_none())
        {
            return Some(allotted);
        }
        if is_full {
            return None;
        }
        if !task.across.contains(key) {
            return choose(&task.pieces, &member.theirs, &task.window, run, &mut self.random);
        }
        let (open, most) = self.open_across(key, task_key)?;
        let task = self.tasks.get(&task_key)?;
        let chosen = choose(&task.pieces, &open, &task.window, run.min(most), &mut self.random)?;
        self.asked_across(key, task_key, chosen.start);
        Some(chosen)
    }

    /// Sends a request for as much of `run` (pieces that are missing) as the budget allows; whether it was sent.
    fn issue(&mut self, key: HostKey, task_key: TaskKey, run: Range<PieceIndex>) -> bool {
        let Some(task) = self.tasks.get_mut(&task_key) else { return false };
        let Some(host) = self.hosts.get_mut(&key) else { return false };
        let mut bytes = 0;
        let mut end = run.start;
        while end < run.end {
            let more = bytes + task.bytes(end);
            // One piece is always let through, however large: else nothing would ever come.
            if self.in_flight + more > self.config.in_flight_bytes_max && self.in_flight + bytes > 0 {
                break;
            }
            bytes = more;
            end += 1;
        }
        let count = end - run.start;
        if count == 0 {
            self.parched = true;
            return false;
        }
        for piece in run.start..end {
            task.pieces.set(piece, PieceState::Requested);
        }
        let id = RequestId(self.next_request);
        self.next_request = self.next_request.wrapping_add(1);
        let class = task.class();
        self.pulls.charge(class, &mut task.pulled, bytes);
        task.rate.start(self.now);
        if host.requests.is_empty() {
            host.progress = self.now;
            host.down.start(self.now);
        }
        host.requests.insert(id);
        host.pending += bytes;
        self.in_flight += bytes;
        let pending = u64::MAX >> (u64::BITS - count);
        let request =
            Request { host: key, task: task_key, first: run.start, pending, asked: self.now, started: false, moves: 0 };
        self.requests.insert(id, request);
        self.timers.set_earlier(Timer::Sweep, self.now.after(SWEEP));
        self.actions.push_back(Action::Request { host: key, task: task_key, request: id, first: run.start, count });
        true
    }

    /// Lets an idle host take over a request of this task from another; whether it did.
    fn relieve(&mut self, key: HostKey, task_key: TaskKey) -> bool {
        let Some((id, verdict)) = self.relief(key, task_key) else { return false };
        let Some(request) = self.requests.get(&id) else { return false };
        let (victim, first, moves) = (request.host, request.first + request.pending.trailing_zeros(), request.moves);
        let count = request.pieces().count() as u32;
        self.drop_request(id, true);
        if verdict == Takeover::Take {
            self.strike(victim, PROBATION);
        }
        let Some(task) = self.tasks.get(&task_key) else { return false };
        let Some(member) = task.members.get(&key) else { return false };
        let run = if verdict == Takeover::Move {
            // Of what only waited nothing has come: it moves as a whole, but for what a lease took out of it.
            let moves =
                |piece: &PieceIndex| task.pieces.is(*piece, PieceState::Missing) && member.theirs.contains(*piece);
            first..first + (first..first + count).take_while(moves).count() as u32
        } else {
            extend(&task.pieces, &member.theirs, first, count)
        };
        if run.is_empty() {
            return false;
        }
        let id = RequestId(self.next_request);
        let is_moved = self.issue(key, task_key, run);
        if let Some(request) = self.requests.get_mut(&id) {
            request.moves = moves + 1;
        }
        is_moved
    }

    /// The request that an idle host should take over: the newest of the neighbour that owes us most.
    fn relief(&self, key: HostKey, task_key: TaskKey) -> Option<(RequestId, Takeover)> {
        let task = self.tasks.get(&task_key)?;
        let theirs = &task.members.get(&key)?.theirs;
        let rate = self.hosts.get(&key)?.down.value();
        let mut best: Option<(Takeover, u64, RequestId)> = None;
        for other in task.members.keys().filter(|other| **other != key && self.may_relieve(task, key, **other)) {
            let Some(host) = self.hosts.get(other) else { continue };
            let mut ahead = 0;
            for (older, id) in host.requests.iter().enumerate() {
                let Some(request) = self.requests.get(id) else { continue };
                let owner = self.tasks.get(&request.task)?;
                let bytes: u64 = request.pieces().map(|piece| owner.bytes(piece)).sum();
                ahead += bytes;
                if request.task != task_key || !request.pieces().all(|piece| theirs.contains(piece)) {
                    continue;
                }
                let current = Current {
                    ahead,
                    rate: host.down.value(),
                    silent: self.now.since(host.progress),
                    asked: self.now.since(request.asked),
                    round_trip: host.round_trip(),
                    moves: request.moves,
                    started: request.started,
                    older,
                };
                let verdict = match takeover(current, bytes, rate) {
                    // Between those across nothing moves only because it waits: over a thin link it may be on its way.
                    Takeover::Move if task.across.contains(key) && task.across.contains(*other) => Takeover::Leave,
                    verdict => verdict,
                };
                let better = best.is_none_or(|(best, most, _)| match (verdict, best) {
                    (Takeover::Leave, _) => false,
                    (Takeover::Move, Takeover::Take) => true,
                    (Takeover::Take, Takeover::Move) => false,
                    _ => ahead > most,
                });
                if better && verdict != Takeover::Leave {
                    best = Some((verdict, ahead, *id));
                }
            }
        }
        best.map(|(verdict, _, id)| (id, verdict))
    }

    /// Removes a piece from a request: it arrived, or comes from elsewhere.
    fn settle_piece(&mut self, id: RequestId, piece: PieceIndex) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        if !request.is_pending(piece) {
            return;
        }
        request.pending &= !(1 << (piece - request.first));
        let (host_key, task_key, is_over) = (request.host, request.task, request.pending == 0);
        let Some(task) = self.tasks.get(&task_key) else { return };
        let bytes = task.bytes(piece);
        self.in_flight -= bytes;
        if let Some(host) = self.hosts.get_mut(&host_key) {
            host.pending -= bytes;
            if is_over {
                host.requests.remove(&id);
                if host.requests.is_empty() {
                    host.down.stop(self.now);
                }
            }
        }
        if is_over {
            self.requests.remove(&id);
        }
        self.hungry.insert(host_key);
        if self.parched {
            self.parched = false;
            self.hungry.extend(self.hosts.keys());
        }
    }

    /// Ends a request; its pieces are needed again. `cancel`: the neighbour is told.
    pub(super) fn drop_request(&mut self, id: RequestId, cancel: bool) {
        let Some(request) = self.requests.get(&id).cloned() else { return };
        for piece in request.pieces() {
            self.settle_piece(id, piece);
            self.missing(request.task, piece);
        }
        if cancel {
            self.actions.push_back(Action::Cancel { host: request.host, request: id });
        }
    }

    /// Ends all requests to a host, or those for one task; whether there were any.
    pub(super) fn drop_requests(&mut self, key: HostKey, task: Option<TaskKey>, cancel: bool) -> bool {
        let Some(host) = self.hosts.get(&key) else { return false };
        let ids: Vec<RequestId> = host
            .requests
            .iter()
            .filter(|id| task.is_none_or(|task| self.requests.get(id).is_some_and(|request| request.task == task)))
            .copied()
            .collect();
        for id in &ids {
            self.drop_request(*id, cancel);
        }
        !ids.is_empty()
    }

    /// Takes a piece out of whatever request it is in, because it is had from elsewhere.
    pub(super) fn strip(&mut self, key: TaskKey, piece: PieceIndex) {
        if !self.tasks.get(&key).is_some_and(|task| task.pieces.is(piece, PieceState::Requested)) {
            return;
        }
        let found = self.requests.iter().find(|(_, request)| request.task == key && request.is_pending(piece));
        let Some((id, host)) = found.map(|(id, request)| (*id, request.host)) else { return };
        self.settle_piece(id, piece);
        if !self.requests.contains_key(&id) {
            self.actions.push_back(Action::Cancel { host, request: id });
        }
    }

    /// The request of this number, if it was made to this host.
    fn own_request(&mut self, host: HostKey, id: RequestId) -> Option<&mut Request> {
        self.requests.get_mut(&id).filter(|request| request.host == host)
    }

    pub(super) fn received(&mut self, key: HostKey, id: RequestId, bytes: u32) {
        let now = self.now;
        let Some(request) = self.own_request(key, id) else { return };
        let first = !std::mem::replace(&mut request.started, true);
        let (asked, task_key) = (request.asked, request.task);
        let mut feeds = false;
        if let Some(host) = self.hosts.get_mut(&key) {
            host.trickle += u64::from(bytes);
            if host.trickle >= PROGRESS_BYTES_MIN {
                (host.progress, host.trickle) = (now, 0);
                feeds = true;
            }
            host.down.add(now, u64::from(bytes));
            if first {
                let waited = now.since(asked);
                host.round_trip = Some(host.round_trip.map_or(waited, |old| old.min(waited)));
            }
        }
        if let Some(task) = self.tasks.get_mut(&task_key) {
            task.rate.add(now, u64::from(bytes));
            task.fed = if feeds { now } else { task.fed };
        }
    }

    pub(super) fn held_up(&mut self, key: HostKey) {
        let now = self.now;
        if let Some(host) = self.hosts.get_mut(&key) {
            host.progress = now;
        }
    }

    pub(super) fn proven(&mut self, key: HostKey, task_key: TaskKey, id: RequestId, piece: PieceIndex) {
        let now = self.now;
        if !self.own_request(key, id).is_some_and(|request| request.task == task_key && request.is_pending(piece)) {
            return self.proven_late(task_key, piece);
        }
        if let Some(task) = self.tasks.get_mut(&task_key) {
            task.pieces.set(piece, PieceState::Proven);
            task.fed = now;
            if let Some(ban) = task.bans.get_mut(&key) {
                ban.refusals = 0;
            }
        }
        if let Some(host) = self.hosts.get_mut(&key) {
            (host.progress, host.useful) = (now, true);
            host.strikes = host.strikes.saturating_sub(1);
        }
        self.settle_piece(id, piece);
    }

    /// All of a piece had come when its request was withdrawn: nobody need send it again.
    fn proven_late(&mut self, key: TaskKey, piece: PieceIndex) {
        self.strip(key, piece);
        if let Some(task) = self.tasks.get_mut(&key)
            && matches!(task.pieces.state(piece), Some(PieceState::Missing | PieceState::Requested))
        {
            task.pieces.set(piece, PieceState::Proven);
            task.fed = self.now;
        }
    }

    pub(super) fn refuted(&mut self, key: HostKey, id: RequestId, piece: PieceIndex) {
        let Some(request) = self.own_request(key, id) else { return };
        if !request.is_pending(piece) {
            return;
        }
        let task_key = request.task;
        self.refute(key, task_key, piece);
    }

    /// What several have sent of a piece does not match: whose fault that is nobody knows. All of it is asked for again.
    pub(super) fn mixed(&mut self, key: HostKey, id: RequestId, piece: PieceIndex) {
        let Some(request) = self.own_request(key, id) else { return };
        if !request.is_pending(piece) {
            return;
        }
        let task_key = request.task;
        self.settle_piece(id, piece);
        self.missing(task_key, piece);
    }

    /// A neighbour sent what does not match: it does not count for the task for a time.
    pub(super) fn refute(&mut self, key: HostKey, task_key: TaskKey, piece: PieceIndex) {
        self.actions.push_back(Action::Blame { host: key, task: task_key, piece });
        self.drop_requests(key, Some(task_key), true);
        self.ban(key, task_key);
    }

    /// A host does not count for a task for a time, also when it comes back on another lane.
    fn ban(&mut self, key: HostKey, task_key: TaskKey) {
        let now = self.now;
        let Some(task) = self.tasks.get_mut(&task_key) else { return };
        let ban = task.ban_mut(key);
        let until = now.after(BAN * (1 << ban.strikes.min(STRIKES_MAX)));
        *ban = Ban { until, strikes: ban.strikes + 1, refusals: 0 };
        task.discount(key);
        if let Some(candidate) = task.candidates.get_mut(&key) {
            candidate.retry = until;
        }
        self.timers.set_earlier(Timer::Host(key), until);
        self.restless.insert(task_key);
    }

    /// A host does not have what it said it had. Content may be evicted at any time, so once is no matter; one that goes
    /// on claiming is not asked for a time.
    fn refused(&mut self, key: HostKey, task_key: TaskKey) {
        let Some(task) = self.tasks.get_mut(&task_key) else { return };
        let ban = task.ban_mut(key);
        ban.refusals += 1;
        if ban.refusals >= REFUSALS_MAX {
            self.actions.push_back(Action::Unkept { host: key, task: task_key });
            self.drop_requests(key, Some(task_key), true);
            self.ban(key, task_key);
        }
    }

    pub(super) fn rejected(&mut self, key: HostKey, id: RequestId, reason: RejectReason) {
        let Some(request) = self.own_request(key, id).cloned() else { return };
        self.drop_request(id, false);
        if reason == RejectReason::Busy {
            return self.strike(key, BUSY);
        }
        // Whatever the reason, asking for the same again would have the same answer.
        if let Some(task) = self.tasks.get_mut(&request.task) {
            for piece in request.pieces() {
                task.unhold(key, piece);
            }
        }
        if reason == RejectReason::NotHeld {
            self.refused(key, request.task);
        }
        self.restless.insert(request.task);
    }

    /// Puts a host on probation.
    fn strike(&mut self, key: HostKey, base: Duration) {
        let Some(host) = self.hosts.get_mut(&key) else { return };
        let until = self.now.after(base * (1 << host.strikes.min(STRIKES_MAX)));
        host.strikes = (host.strikes + 1).min(STRIKES_MAX);
        host.probation = host.probation.max(until);
        let until = host.probation;
        self.restless.extend(&host.tasks);
        self.timers.set_earlier(Timer::Host(key), until);
    }

    /// The coarse tick: requests that make no progress go elsewhere, idle hosts take over, allotments lapse.
    pub(super) fn sweep(&mut self) {
        let hosts: Vec<HostKey> = self.hosts.keys().copied().collect();
        for key in hosts {
            let Some(host) = self.hosts.get(&key) else { continue };
            if host.requests.is_empty() {
                self.hungry.insert(key);
            } else if self.now.since(host.progress) >= self.stall_bound(key) {
                self.actions.push_back(Action::Stalled { host: key, silent: self.now.since(host.progress) });
                self.drop_requests(key, None, true);
                self.strike(key, PROBATION);
            }
        }
        let tasks: Vec<TaskKey> = self.tasks.keys().copied().collect();
        let mut goes_on = !self.requests.is_empty();
        for key in tasks {
            goes_on |= self.lapse(key);
        }
        if goes_on {
            self.timers.set(Timer::Sweep, self.now.after(SWEEP));
        }
    }

    /// How long a host may be silent while it owes us something.
    fn stall_bound(&self, key: HostKey) -> Duration {
        let min = self.config.stall;
        let Some(host) = self.hosts.get(&key) else { return min };
        let piece = host
            .requests
            .first()
            .and_then(|id| self.requests.get(id))
            .and_then(|request| self.tasks.get(&request.task))
            .map_or(0, |task| task.layout.piece_length());
        // Who would not make what counts as progress in the longest time is not slow, but of no use.
        let least = PROGRESS_BYTES_MIN / (min * STALL_MAX).as_secs().max(1);
        let Some(rate) = host.down.value().filter(|rate| *rate >= least.max(1)) else { return min };
        let own = Duration::from_millis((u128::from(piece) * 1000 / u128::from(rate)).min(3_600_000) as u64);
        (own * STALL_PIECES).clamp(min, min * STALL_MAX)
    }
}

impl Task {
    /// The next run of missing pieces that a neighbour allotted to us.
    fn next_allotted(&mut self, host: HostKey) -> Option<Range<PieceIndex>> {
        let member = self.members.get_mut(&host)?;
        while let Some(range) = member.allotted.front_mut() {
            let is_useful =
                |piece: PieceIndex| self.pieces.is(piece, PieceState::Missing) && member.theirs.contains(piece);
            let start = (range.start..range.end).find(|piece| is_useful(*piece));
            let Some(start) = start else {
                member.allotted.pop_front();
                continue;
            };
            range.start = start;
            let limit = range.end.min(start + REQUEST_PIECES_MAX as u32);
            let end = (start..limit).find(|piece| !is_useful(*piece)).unwrap_or(limit);
            return Some(start..end);
        }
        None
    }

    /// What is remembered against a host.
    fn ban_mut(&mut self, host: HostKey) -> &mut Ban {
        if self.bans.len() >= BANS_MAX
            && !self.bans.contains_key(&host)
            && let Some(soonest) = self.bans.iter().min_by_key(|(_, ban)| ban.until).map(|(host, _)| *host)
        {
            self.bans.remove(&soonest);
        }
        self.bans.entry(host).or_default()
    }

    /// The holdings of a banned host no longer count.
    fn discount(&mut self, host: HostKey) {
        let Some(member) = self.members.get_mut(&host).filter(|member| member.counted) else { return };
        member.counted = false;
        for piece in member.theirs.iter() {
            self.pieces.holder_removed(piece);
        }
    }

    /// Counts the holdings of a host again.
    pub(super) fn recount(&mut self, host: HostKey) {
        let Some(member) = self.members.get_mut(&host).filter(|member| !member.counted) else { return };
        member.counted = true;
        for piece in member.theirs.iter() {
            self.pieces.holder_added(piece);
        }
    }
}

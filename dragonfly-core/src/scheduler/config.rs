//! What an operator may change about the core, and the bounds that nobody may.

use std::time::Duration;

/// Tasks of one host that a coordinator keeps, unless it is told otherwise: those that it takes part in, and small content that it
/// only gives out. A directory of ten thousand files is that of one host.
pub(crate) const TASKS_PER_HOST_MAX: usize = 12 << 10;

/// Twice as many as a member wants at a time.
const LACKING_PER_HOST_MAX: usize = 4096;

/// Settings of a [`Core`](super::Core). The defaults suit both one laptop and ten thousand hosts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The network's public key, named in every grant.
    pub network: [u8; 32],
    /// Epochs start above this. A shell that may have lived before gives a number above all earlier epochs (wall
    /// clock time in units of 2^-20 s will do), so that its grants win over those of its earlier life.
    pub epoch_floor: u64,
    /// How often a host is to say something; silent for three intervals it counts as down.
    pub interval: Duration,
    /// T: a lease without progress for so long is aborted by its holder; the core grants it again after 2T.
    pub lease_timeout: Duration,
    /// After the holder's session ended its leases are granted again so much later. Shorter than T because a dead
    /// process is the common case; safety rests on hashes and epochs, a mistake costs at most one range twice.
    pub lost_holder_grace: Duration,
    /// W: how old the origin's word on a URL that is not fixed may be, where neither origin nor caller say otherwise.
    pub window: Duration,
    /// The longest time for which an origin's `max-age` is believed.
    pub fresh_max: Duration,
    /// A seed that was triggered is to join within so long, else another one is.
    pub trigger_timeout: Duration,
    /// A host that could not fetch is not asked again for so long.
    pub unfit_time: Duration,
    /// After a member brought a task that another coordinator had, ranges are leased so much later: by then the others
    /// have said what they hold and what they are fetching.
    pub collect_time: Duration,
    /// Neighbours a member is given.
    pub neighbours_wanted: usize,
    /// Of these a joiner is given so many at once; the others are to be who comes after it. Were it given all at once,
    /// those who come first would be full of each other: a cluster around the seed, which would have everything first,
    /// trade it among itself and pass it out through few.
    pub neighbours_at_join: usize,
    /// What it lacks then it is given so much later, out of all who are there by then.
    pub deal_time: Duration,
    /// Candidates that are compared for them.
    pub sampled_max: usize,
    /// Members with so many neighbours are chosen last.
    pub degree_preferred_max: usize,
    /// Members of a site that bring a task from other sites, if there are others. Each has a part of its pieces of its own,
    /// so that each crosses once however many they are; two or four are too few where the link between is not thin
    /// (`docs/design/swarm.md` has what was measured).
    pub bridges_per_site: usize,
    /// Hosts that hold leases of one task at a time.
    pub holders_max: usize,
    /// Content has one seed fetching it for each so many bytes, up to `seeds_per_task_max`.
    pub seed_share: u64,
    /// Seeds that are triggered for one task.
    pub seeds_per_task_max: usize,
    /// Hosts in all.
    pub hosts_max: usize,
    /// Tasks in all.
    pub tasks_max: usize,
    /// Tasks that one host may take part in.
    pub tasks_per_host_max: usize,
    /// How many of these may be such of which it lacked something when it joined, and still does.
    pub lacking_per_host_max: usize,
    /// A task in which nobody takes part is remembered for so long.
    pub idle_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            network: [0; 32],
            epoch_floor: 0,
            interval: Duration::from_secs(10),
            lease_timeout: Duration::from_secs(10),
            lost_holder_grace: Duration::from_secs(1),
            window: Duration::from_secs(10),
            fresh_max: Duration::from_secs(3600),
            trigger_timeout: Duration::from_secs(3),
            unfit_time: Duration::from_secs(5),
            collect_time: Duration::from_secs(1),
            neighbours_wanted: 12,
            neighbours_at_join: 4,
            deal_time: Duration::from_millis(100),
            sampled_max: 32,
            degree_preferred_max: 24,
            bridges_per_site: 8,
            holders_max: 16,
            seed_share: 256 << 20,
            seeds_per_task_max: 3,
            hosts_max: HOSTS_MAX,
            tasks_max: 1_000_000,
            tasks_per_host_max: TASKS_PER_HOST_MAX,
            lacking_per_host_max: LACKING_PER_HOST_MAX,
            idle_max: Duration::from_secs(600),
        }
    }
}

/// Hosts that a coordinator knows by default, and so the most connections that a node may be given.
pub(crate) const HOSTS_MAX: usize = 100_000;

/// Silent for so many intervals a host counts as down: two lost keepalives are forgiven.
pub(super) const SILENT_INTERVALS: u32 = 3;

/// The most pieces of one lease, so that holders share a task finely (`docs/design`, Cold origin).
pub(super) const LEASE_PIECES_MAX: u32 = 8;

/// Pieces in the leases of a host that has the origin to itself: nobody waits for its share, and each new range of a
/// connection costs the origin's link a round trip in which nothing comes.
pub(super) const LONE_LEASE_PIECES_MAX: u32 = 32;

/// Small pieces are leased at least so many bytes at a time: below it the origin's round trip dominates.
pub(super) const LEASE_BYTES_MIN: u64 = 1 << 20;

/// One origin request is at most so many bytes, so that the overrun of a lapsed lease is bounded.
pub(super) const LEASE_BYTES_MAX: u64 = 32 << 20;

/// A holder that says that bytes come keeps its lease for as long as a piece takes at this rate, in bytes a second, and no
/// longer: a liar could keep the others from the origin for ever. A quarter of the least `dfget --limit-rate`.
pub(super) const LEASE_RATE_LEAST: u64 = 16 << 10;

/// And at least so long.
pub(super) const PIECE_TIME_LEAST: Duration = Duration::from_secs(30);

/// Whoever is to describe a task's content has so long for it; of content without a length, for each next MiB. Time for
/// the tries that a source makes, and short of that after which those who wait give up.
pub(super) const DESCRIBE_TIME_MAX: Duration = Duration::from_secs(60);

/// Ranges of one task that are fetched from its origin at a time, if the origin can be asked for ranges: one connection is
/// seldom as fast as the link, least of all where the holder's own uplink, which carries the questions, is full. More
/// ranges at a time would let each piece come later. A holder has one of them at least, whatever their number.
pub(super) const RANGES_AT_ONCE: u32 = 2;

/// Leases of one task that one host may hold: those being fetched, and the next.
pub(super) const LEASES_PER_HOLDER_MAX: u32 = RANGES_AT_ONCE + 1;

/// How often all candidates are asked to describe a task before those who wait are told that it failed.
pub(super) const DESCRIBE_ROUNDS_MAX: u8 = 3;

/// Candidates asked in one round; more would find the same origin down.
pub(super) const DESCRIBE_CANDIDATES_MAX: usize = 16;

/// The pause before the second round of candidates, doubled for the next, unless the origin named one.
pub(super) const DESCRIBE_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause between rounds, whatever the origin named: those who wait are to learn of the failure.
pub(super) const DESCRIBE_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Failed leases of a task in a row, without a piece between them, after which its members are told; where the failure may
/// pass, not before one host that waits [`Config::unfit_time`] after each could have failed so often.
pub(super) const LEASE_FAILURES_MAX: u8 = 6;

/// For so long nothing came of what a member lacks before it counts as starved: longer than it takes to find a
/// neighbour to be stalled and to ask the next one.
pub(super) const STARVED_MIN: Duration = Duration::from_secs(15);

/// How soon a member that starves says so again, and so how often a task is looked at for it.
pub(super) const STARVED_NEWS: Duration = Duration::from_secs(10);

/// Bytes of a failure's text that are passed on.
pub(super) const FAILURE_TEXT_MAX: usize = 256;

/// Neighbours that a member who asks for more is given beyond those it has.
pub(super) const NEIGHBOURS_MORE: usize = 4;

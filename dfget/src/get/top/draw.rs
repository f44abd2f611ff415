//! The picture: a pure function of what the daemon said, so that it can be tested.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::model::{ActiveBody, NeighbourBody, StatusBody};
use crate::units::{age_text, size_text};

/// Columns of the bar.
const BAR: usize = 8;

/// What the daemon said at one moment.
#[derive(Debug, Serialize)]
pub(super) struct View {
    pub(super) status: StatusBody,
    pub(super) tasks: Vec<ActiveBody>,
    pub(super) neighbours: Vec<NeighbourBody>,
}

/// Bytes at the last look, for rates.
#[derive(Debug, Default)]
pub(super) struct Rates {
    at: Option<Instant>,
    bytes: HashMap<String, (u64, u64)>,
}

impl Rates {
    /// Bytes a second from the origin and from peers since the last look.
    fn of(&self, task: &ActiveBody, now: Instant) -> (u64, u64) {
        let before = self.bytes.get(key(task)).copied();
        let Some(((origin, peers), at)) = before.zip(self.at) else { return (0, 0) };
        let seconds = now.saturating_duration_since(at).as_secs_f64().max(0.001);
        let rate = |now: u64, before: u64| (now.saturating_sub(before) as f64 / seconds) as u64;
        (rate(task.bytes_from_origin, origin), rate(task.bytes_from_peers, peers))
    }

    fn note(&mut self, tasks: &[ActiveBody], now: Instant) {
        self.at = Some(now);
        let bytes = |task: &ActiveBody| (key(task).to_owned(), (task.bytes_from_origin, task.bytes_from_peers));
        self.bytes = tasks.iter().map(bytes).collect();
    }
}

/// Where the id is not shown, the label has to do.
fn key(task: &ActiveBody) -> &str {
    task.task.as_deref().unwrap_or(&task.label)
}

/// The lines of a screen of this size.
pub(super) fn lines(view: &View, rates: &mut Rates, now: Instant, columns: usize, rows: usize) -> Vec<String> {
    let status = &view.status;
    let of_tasks: Vec<_> = view.tasks.iter().map(|task| rates.of(task, now)).collect();
    rates.note(&view.tasks, now);
    let (origin, peers) = of_tasks.iter().fold((0, 0), |sum, rate| (sum.0 + rate.0, sum.1 + rate.1));
    let connected = view.neighbours.iter().filter(|host| host.connected).count();
    let up: u64 = view.neighbours.iter().filter(|host| host.queued > 0).filter_map(|host| host.up).sum();
    let quota = status.store_quota.map_or(String::new(), |quota| format!(" of {}", size_text(quota)));
    let state = if status.ready { "ready" } else { "not ready" };
    let age = age_text(Duration::from_secs(status.uptime_s));
    let mut lines = vec![
        format!(
            "dfdaemon {} {}, {state}, up {age}, store {}{quota}",
            status.version,
            status.roles,
            size_text(status.store_bytes)
        ),
        format!("from origin {}  from peers {}  to peers {}", rate(origin), rate(peers), rate(up)),
        String::new(),
        format!("TASKS{:>5}  {:BAR$}    LENGTH    ORIGIN     PEERS HOSTS WHAT", view.tasks.len(), ""),
    ];
    let mut tasks: Vec<_> = view.tasks.iter().zip(of_tasks).collect();
    // What moves comes first, then what somebody waits for.
    tasks.sort_by_key(|(task, rate)| std::cmp::Reverse((rate.0 + rate.1, task.callers)));
    // Half of the screen at least is the neighbours', if there are so many.
    let neighbours = view.neighbours.len().min((rows / 2).saturating_sub(3)) + 2;
    let room = rows.saturating_sub(lines.len() + neighbours);
    lines.extend(tasks.iter().take(room).map(|(task, rate)| task_line(task, *rate, columns)));
    lines.push(String::new());
    let title = format!("NEIGHBOURS {connected} up, {} met", view.neighbours.len());
    lines.push(format!("{title:<27} {:>9} {:>9} TASKS PEER", "DOWN", "UP"));
    let mut hosts: Vec<_> = view.neighbours.iter().collect();
    hosts.sort_by_key(|host| std::cmp::Reverse((host.connected, host.down.max(host.up))));
    lines.extend(hosts.iter().map(|host| host_line(host)));
    lines.truncate(rows);
    lines.iter().map(|line| line.chars().take(columns).collect()).collect()
}

fn task_line(task: &ActiveBody, (origin, peers): (u64, u64), columns: usize) -> String {
    let done = task.length.map_or(0, |length| task.bytes_held.saturating_mul(100).checked_div(length).unwrap_or(100));
    let filled = usize::try_from(done).unwrap_or(0).min(100) * BAR / 100;
    let bar = format!("[{}{}]", "=".repeat(filled), " ".repeat(BAR - filled));
    let length = task.length.map_or("-".to_owned(), size_text);
    let waits = if task.callers > 0 { "fetch" } else { "serve" };
    let (origin, peers, hosts) = (rate(origin), rate(peers), task.neighbours);
    let line = format!("{waits:<5} {done:>3}% {bar} {length:>9} {origin:>9} {peers:>9} {hosts:>5} ");
    let room = columns.saturating_sub(line.chars().count());
    line + &end(&task.label, room)
}

/// The end of a label that is too long: there URLs differ.
fn end(label: &str, room: usize) -> String {
    let count = label.chars().count();
    if count <= room {
        return label.to_owned();
    }
    std::iter::once('~').chain(label.chars().skip(count + 1 - room.max(1))).collect()
}

fn host_line(host: &NeighbourBody) -> String {
    let (down, up) = (host.down.unwrap_or(0), host.up.unwrap_or(0));
    format!("{:<27} {:>9} {:>9} {:>5} {}", host.lane(), rate(down), rate(up), host.tasks, tail(&host.peer))
}

/// Identities all start alike.
fn tail(peer: &str) -> String {
    let count = peer.chars().count();
    peer.chars().skip(count.saturating_sub(12)).collect()
}

fn rate(bytes: u64) -> String {
    if bytes == 0 { "-".to_owned() } else { format!("{}/s", size_text(bytes).replace("iB", "")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn view() -> View {
        let status = serde_json::json!({
            "version": "0.1.0", "peer_id": "12D3KooW", "roles": "seed,peer", "listen": [], "ready": true, "pid": 1,
            "uptime_s": 3700, "store_bytes": 1 << 30, "store_quota": 10_u64 << 30,
        });
        let task = |task: &str, held: u64, callers: u32| ActiveBody {
            task: Some(task.to_owned()),
            generation: None,
            label: "https://example.org/a/long/path/to/some/model-00001-of-00030.safetensors".to_owned(),
            length: Some(1 << 30),
            bytes_held: held,
            bytes_from_origin: held / 4,
            bytes_from_peers: held - held / 4,
            neighbours: 12,
            callers,
        };
        let host = |peer: &str, connected| NeighbourBody {
            peer: peer.to_owned(),
            addresses: Vec::new(),
            connected,
            carrier: connected.then(|| "lane".to_owned()),
            tasks: 2,
            down: Some(100 << 20),
            up: None,
            round_trip_us: None,
            requests: 1,
            queued: 0,
        };
        View {
            status: serde_json::from_value(status).unwrap(),
            tasks: vec![task("a", 1 << 30, 0), task("b", 1 << 29, 1)],
            neighbours: vec![host("12D3KooWpeerone", true), host("12D3KooWpeertwo", false)],
        }
    }

    #[test]
    fn a_screen_of_80_columns() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        let mut seen = view();
        lines(&seen, &mut rates, start, 80, 24);
        seen.tasks[1].bytes_from_peers += 10 << 20;
        let drawn = lines(&seen, &mut rates, start + Duration::from_secs(1), 80, 24);
        assert!(drawn.iter().all(|line| line.chars().count() <= 80), "{drawn:#?}");
        assert_eq!(drawn[0], "dfdaemon 0.1.0 seed,peer, ready, up 1 h 1 min, store 1.0 GiB of 10.0 GiB");
        assert_eq!(drawn[1], "from origin -  from peers 10.0 M/s  to peers -");
        // The one that moves is first.
        assert_eq!(drawn[3], "TASKS    2              LENGTH    ORIGIN     PEERS HOSTS WHAT");
        assert_eq!(drawn[4], "fetch  50% [====    ]   1.0 GiB         -  10.0 M/s    12 ~-of-00030.safetensors");
        assert!(drawn[5].starts_with("serve 100% [========]"), "{drawn:#?}");
        assert!(drawn[7].starts_with("NEIGHBOURS 1 up, 2 met"));
        assert!(drawn[8].trim_start().starts_with("lane") && drawn[8].ends_with("3KooWpeerone"), "{drawn:#?}");
        assert_eq!(drawn.len(), 10);
    }

    #[test]
    fn a_small_screen_is_not_overrun() {
        for rows in 0..12 {
            assert!(lines(&view(), &mut Rates::default(), Instant::now(), 20, rows).len() <= rows);
        }
    }
}

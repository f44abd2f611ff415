//! What harm costs those whom it is done to: each scene once more in a process of its own, whose memory is bounded as a
//! whole, with honest nodes, their origin and the hostile peer in it. Prints what each took of memory and time.

use std::fs;
use std::io::{Read as _, Seek as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// For all that is in such a process, five nodes and more. Less than the sum of what each may hold: nothing of what is
/// done to them makes them use their bounds to the full.
const RESIDENT_MAX_KIB: u64 = 96 << 10;

/// And the CPU time of such a process, all of its nodes together. A flood goes on for as long as the download does.
const CPU_MAX: Duration = Duration::from_secs(15);

const SCENES: [&str; 17] = [
    "garbage_and_absurd_sizes",
    "floods",
    "forged_evidence",
    "other_versions",
    "floods_of_the_coordinator",
    "replayed_evidence",
    "slow_lorises",
    "vanishing_and_false_claims",
    "wrong_pieces",
    "pieces_of_a_wrong_length",
    "bytes_that_nobody_asked_for",
    "a_liar_who_fetches_for_others",
    "strangers",
    "contradicting::what_many_liars_took_the_place_of_counts_again",
    "contradicting::evidence_that_teaches_nothing",
    "forged::evidence_that_contradicts_itself",
    "forged::a_seal_of_something_else",
];

/// Often enough to see what a process comes to before it ends.
const LOOK: Duration = Duration::from_millis(20);

/// What a process took so far: the most memory resident, in KiB, and CPU time.
#[derive(Clone, Copy, Default)]
struct Taken {
    resident: u64,
    cpu: Duration,
}

impl Taken {
    /// Nothing of one that is gone.
    fn by(process: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let resident = peak.trim().trim_end_matches(" kB").parse().ok()?;
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The name, in parentheses, may hold anything; after it the times are the 12th and 13th.
        let rest: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: u64 = rest.get(11)?.parse::<u64>().ok()? + rest.get(12)?.parse::<u64>().ok()?;
        Some(Self { resident, cpu: Duration::from_secs(ticks) / rustix::param::clock_ticks_per_second() as u32 })
    }
}

/// One that is left alone would go on when this test fails.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn said(mut out: fs::File) -> String {
    let mut text = String::new();
    out.rewind().unwrap();
    out.read_to_string(&mut text).unwrap();
    text
}

fn play(scene: &str) -> Taken {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let out = tempfile::tempfile().unwrap();
    // The backtrace of a panic, which may be a scene's own, takes 70 MiB to be told where that is asked for.
    command
        .env("RUST_BACKTRACE", "0")
        .args(["--exact", &format!("hostile::{scene}")])
        .stdout(out.try_clone().unwrap())
        .stderr(Stdio::null());
    let mut process = Ended(command.spawn().unwrap());
    let mut taken = Taken::default();
    loop {
        taken = Taken::by(process.0.id()).unwrap_or(taken);
        if let Some(status) = process.0.try_wait().unwrap() {
            let said = said(out);
            assert!(status.success() && said.contains("1 passed"), "{scene}: {status}: {said}");
            return taken;
        }
        std::thread::sleep(LOOK);
    }
}

#[test]
fn what_harm_costs_is_bounded() {
    for scene in SCENES {
        let Taken { resident, cpu } = play(scene);
        println!("{scene}: {} MiB resident, {:.1} s of CPU", resident >> 10, cpu.as_secs_f64());
        assert!(resident > 0 && resident < RESIDENT_MAX_KIB, "{scene}: {resident} KiB");
        assert!(cpu > Duration::ZERO && cpu < CPU_MAX, "{scene}: {cpu:?} of CPU");
    }
}

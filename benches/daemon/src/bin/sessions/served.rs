//! The scheduler, in a process of its own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use dragonfly_bench::{processor_of, resident_of};
use dragonfly_core::wire::control::{Announce, ToCoordinator, VERSION};
use dragonfly_core::wire::statement::Signed;
use dragonfly_core::{Address, Node, PeerId, Scheduler, Token, TokenOptions};
use serde::{Deserialize, Serialize};

use crate::load::Task;

/// Peers that were put in are dealt their neighbours within this. Nothing says when it is done, and what is measured next is
/// not to pay for it.
const DEALT: Duration = Duration::from_millis(300);

/// The bytes of a record of addresses: with two addresses it has about so many.
const RECORD_BYTES: usize = 220;

/// What the scheduler's process is told, a line of JSON each.
#[derive(Debug, Serialize, Deserialize)]
enum Order {
    /// Put so many peers into the task of this number.
    Fill { task: u32, count: u32 },
    /// Say how many messages members have sent.
    Count,
}

/// Its first line.
#[derive(Debug, Serialize, Deserialize)]
struct Ready {
    token: String,
    address: String,
}

/// The process as its parent sees it; killed when dropped.
#[derive(Debug)]
pub(crate) struct Served {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    pub(crate) token: Token,
    pub(crate) address: Address,
}

impl Served {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.arg("--serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().context("its input")?;
        let mut output = BufReader::new(child.stdout.take().context("its output")?);
        let ready: Ready = serde_json::from_str(&line(&mut output)?)?;
        Ok(Self { child, input, output, token: ready.token.parse()?, address: ready.address.parse()? })
    }

    fn order(&mut self, order: &Order) -> anyhow::Result<u64> {
        writeln!(self.input, "{}", serde_json::to_string(order)?)?;
        Ok(line(&mut self.output)?.trim().parse()?)
    }

    /// Puts peers without a connection into a task.
    pub(crate) fn fill(&mut self, task: &Task, count: u32) -> anyhow::Result<()> {
        let there = self.order(&Order::Fill { task: task.number, count })?;
        ensure!(there == u64::from(count), "{there} of {count} peers are in the task");
        Ok(())
    }

    /// Messages that it has taken in.
    pub(crate) fn messages(&mut self) -> anyhow::Result<u64> {
        self.order(&Order::Count)
    }

    /// Processor time of all its threads, in seconds.
    pub(crate) fn processor(&self) -> anyhow::Result<f64> {
        processor_of(self.child.id())
    }

    /// Its memory, in bytes.
    pub(crate) fn resident(&self) -> anyhow::Result<u64> {
        resident_of(self.child.id())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn line(output: &mut BufReader<ChildStdout>) -> anyhow::Result<String> {
    let mut line = String::new();
    ensure!(output.read_line(&mut line)? > 0, "the scheduler ended");
    Ok(line)
}

/// Is the scheduler, until its input ends.
pub(crate) async fn serve() -> anyhow::Result<()> {
    let node = Node::builder().listen("/ip4/127.0.0.1/tcp/0".parse()?).start().await?;
    let scheduler = Scheduler::builder(&node).start().await?;
    let token = node.token(TokenOptions::default())?.to_text();
    let address = node.listeners().first().context("an address")?.to_string();
    say(&serde_json::to_string(&Ready { token, address })?)?;
    let (orders, mut queue) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if orders.blocking_send(line).is_err() {
                return;
            }
        }
    });
    while let Some(order) = queue.recv().await {
        let answer = match serde_json::from_str(&order)? {
            Order::Fill { task, count } => fill(&scheduler, &Task::new(task), count).await?,
            Order::Count => {
                let found = node.metrics_now().into_iter().find(|m| m.name == "dragonfly_coordinator_messages_total");
                found.context("a metric")?.value
            }
        };
        say(&answer.to_string())?;
    }
    Ok(())
}

fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// How many peers of the task there are afterwards.
async fn fill(scheduler: &Scheduler, task: &Task, count: u32) -> anyhow::Result<u64> {
    for number in 0..count {
        let mut key = [7; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        let record = Some(Signed(vec![0; RECORD_BYTES]));
        let announce = Announce { version: VERSION, record, seed: false, slots: 8, site: None };
        let says = vec![ToCoordinator::Announce(announce), ToCoordinator::Join(task.join(number == 0))];
        let ip = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 | number));
        scheduler.put_in(PeerId::from_public_key(key), ip, says).await?;
    }
    tokio::time::sleep(DEALT).await;
    let snapshot = scheduler.snapshot().await?;
    Ok(snapshot.tasks.iter().find(|known| known.task == task.id).map_or(0, |known| known.peers as u64))
}

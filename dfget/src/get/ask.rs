//! `dfget stat|ls|rm|pin|unpin|preheat|tasks|peers`: questions to the daemon.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use dragonfly_core::{ErrorKind, TaskId};
use http::Method;
use serde_json::{Value, json};

use super::args::{self, Command, Naming, Preheat, Several, Talk};
use super::{End, door, output_failed, summary, top};
use crate::client::Client;
use crate::error::Failure;
use crate::model::{ActivesBody, NeighboursBody, ReceiptBody, ResolveBody, TaskBody, TasksBody};
use crate::names::redact;
use crate::units::size_text;

const NOTHING: Option<&()> = None;

/// Which daemon is asked, and how its answer is shown.
#[derive(Clone, Copy)]
pub(super) struct How<'a> {
    pub(super) door: &'a args::Door,
    pub(super) talk: &'a Talk,
}

pub(super) async fn obey(command: &Command, how: How<'_>) -> Result<(), End> {
    match command {
        Command::Stat(args) => {
            let mut client = door::need(how.door).await?;
            let task = task(&mut client, &args.what, &args.naming).await?;
            let found: TasksBody = client.json(Method::GET, &format!("/v1/tasks/{task}"), NOTHING).await?;
            show_held(how.talk, found.tasks)
        }
        Command::Ls => ls(how).await,
        Command::Rm(args) => {
            each(args, how, Method::DELETE, "", |freed| {
                format!("{} freed", size_text(freed["bytes_freed"].as_u64().unwrap_or(0)))
            })
            .await
        }
        Command::Pin(args) => each(args, how, Method::POST, "/pin", |_| "pinned".to_owned()).await,
        Command::Unpin(args) => each(args, how, Method::POST, "/unpin", |_| "unpinned".to_owned()).await,
        Command::Preheat(args) => preheat(args, how).await,
        Command::Tasks => tasks(how).await,
        Command::Peers => peers(how).await,
        Command::Top(args) => top::top(args, how).await,
    }
}

/// Prints to standard output.
pub(super) fn print(text: &str) -> Result<(), End> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| output_failed(&e))
}

fn print_json(value: &impl serde::Serialize) -> Result<(), End> {
    let text = serde_json::to_string(value).map_err(|e| Failure::new(ErrorKind::Internal, e.to_string()))?;
    print(&(text + "\n"))
}

/// The task that a URL or an id names.
async fn task(client: &mut Client, what: &str, naming: &Naming) -> Result<String, Failure> {
    if what.parse::<TaskId>().is_ok() {
        return Ok(what.to_owned());
    }
    let request = naming.request(what).map_err(|e| {
        let message = format!("{} is neither the id of a task nor a URL: {}", redact_word(what), e.message);
        Failure { message, ..e }
    })?;
    Ok(client.json::<ResolveBody>(Method::POST, "/v1/resolve", Some(&request)).await?.task)
}

/// What was given, unless it may hold a secret.
fn redact_word(what: &str) -> String {
    if what.contains("://") { redact(what) } else { format!("{what:?}") }
}

async fn ls(how: How<'_>) -> Result<(), End> {
    let mut client = door::need(how.door).await?;
    let mut after = String::new();
    let mut first = true;
    loop {
        let page: TasksBody = client.json(Method::GET, &format!("/v1/tasks?max=1000&after={after}"), NOTHING).await?;
        if how.talk.json {
            page.tasks.iter().try_for_each(print_json)?;
        } else if !page.tasks.is_empty() {
            let header = if std::mem::take(&mut first) { "     HELD     LENGTH PIN TASK / WHAT\n" } else { "" };
            print(&(header.to_owned() + &page.tasks.iter().map(held_lines).collect::<String>()))?;
        }
        match page.next {
            Some(next) => after = next,
            None => return Ok(()),
        }
    }
}

fn held_lines(task: &TaskBody) -> String {
    let held = if task.complete { "all".to_owned() } else { size_text(task.bytes_held) };
    let pin = if task.pinned { "pin" } else { "-" };
    format!("{held:>9} {:>10} {pin:<3} {}\n{:25}{}\n", size_text(task.length), task.task, "", task.label)
}

fn show_held(talk: &Talk, tasks: Vec<TaskBody>) -> Result<(), End> {
    if talk.json {
        return tasks.iter().try_for_each(print_json);
    }
    let mut text = String::new();
    for task in &tasks {
        let _ = writeln!(text, "{}", task.label);
        let _ = writeln!(text, "  task        {}", task.task);
        let _ = writeln!(text, "  generation  {}", task.generation);
        let _ = writeln!(text, "  length      {} ({} bytes)", size_text(task.length), task.length);
        let whole = if task.complete { ", all of it" } else { "" };
        let _ = writeln!(text, "  held        {}{whole}", size_text(task.bytes_held));
        let _ = writeln!(text, "  pinned      {}", if task.pinned { "yes" } else { "no" });
        let _ = writeln!(text, "  neighbours  {}", task.neighbours);
    }
    print(&text)
}

/// Does one thing to each of several tasks. One that fails does not keep the others from it.
async fn each(
    args: &Several,
    how: How<'_>,
    method: Method,
    action: &str,
    said: impl Fn(&Value) -> String,
) -> Result<(), End> {
    let mut client = door::need(how.door).await?;
    let mut failed = None;
    for what in &args.what {
        let done: Result<Value, Failure> = async {
            let task = task(&mut client, what, &args.naming).await?;
            let answer = client.bytes(method.clone(), &format!("/v1/tasks/{task}{action}"), None).await?;
            // To be pinned or not is answered without a body.
            Ok(serde_json::from_slice(&answer).unwrap_or_else(|_| json!({ "pinned": action == "/pin" })))
        }
        .await;
        match done {
            Ok(mut answer) if how.talk.json => {
                answer["what"] = Value::from(redact_plain(what));
                print_json(&answer)?;
            }
            Ok(_) if how.talk.quiet => {}
            Ok(answer) => print(&format!("{}: {}\n", redact_plain(what), said(&answer)))?,
            Err(failure) => {
                if let Some(before) = failed.replace(failure.while_(redact_plain(what))) {
                    eprintln!("dfget: {}", before.message);
                }
            }
        }
    }
    failed.map_or(Ok(()), |failure| Err(failure.into()))
}

fn redact_plain(what: &str) -> String {
    if what.contains("://") { redact(what) } else { what.to_owned() }
}

async fn preheat(args: &Preheat, how: How<'_>) -> Result<(), End> {
    let mut client = door::need(how.door).await?;
    let path = if args.no_wait { "/v1/preheat?wait=false" } else { "/v1/preheat" };
    for url in &args.urls {
        let request = args.naming.request(url)?;
        request.to_request()?;
        let shown = redact(url);
        let answer: Result<Value, _> = client.json(Method::POST, path, Some(&request)).await;
        let mut answer = answer.map_err(|e| Failure::from(e).while_(format_args!("cannot preheat {shown}")))?;
        if how.talk.json {
            answer["url"] = Value::from(shown);
            print_json(&answer)?;
        } else if !how.talk.quiet {
            let text = match serde_json::from_value::<ReceiptBody>(answer.clone()) {
                Ok(receipt) => summary(&receipt),
                Err(_) => format!("started as task {}", answer["task"].as_str().unwrap_or("unknown")),
            };
            print(&format!("{shown}: {text}\n"))?;
        }
    }
    Ok(())
}

async fn tasks(how: How<'_>) -> Result<(), End> {
    let mut client = door::need(how.door).await?;
    let active: ActivesBody = client.json(Method::GET, "/v1/active", NOTHING).await?;
    if how.talk.json {
        return active.tasks.iter().try_for_each(print_json);
    }
    let mut text = String::new();
    if !active.tasks.is_empty() {
        text.push_str("DONE     LENGTH     ORIGIN      PEERS HOSTS CALLERS WHAT\n");
    }
    for task in &active.tasks {
        let done = task.length.map_or("-".to_owned(), |length| {
            format!("{}%", task.bytes_held.saturating_mul(100).checked_div(length).unwrap_or(100))
        });
        let length = task.length.map_or("-".to_owned(), size_text);
        let (origin, peers) = (size_text(task.bytes_from_origin), size_text(task.bytes_from_peers));
        let (hosts, callers, what) = (task.neighbours, task.callers, &task.label);
        let _ = writeln!(text, "{done:>4} {length:>10} {origin:>10} {peers:>10} {hosts:>5} {callers:>7} {what}");
    }
    print(&text)
}

async fn peers(how: How<'_>) -> Result<(), End> {
    let mut client = door::need(how.door).await?;
    let met: NeighboursBody = client.json(Method::GET, "/v1/neighbours", NOTHING).await?;
    if how.talk.json {
        return met.neighbours.iter().try_for_each(print_json);
    }
    let mut text = String::new();
    if !met.neighbours.is_empty() {
        text.push_str("LANE   TASKS       DOWN         UP  PEER / ADDRESS\n");
    }
    let rate = |rate: Option<u64>| rate.map_or("-".to_owned(), |rate| format!("{}/s", size_text(rate)));
    for host in &met.neighbours {
        let (down, up) = (rate(host.down), rate(host.up));
        let _ = writeln!(text, "{:<6} {:>5} {down:>10} {up:>10}  {}", host.lane(), host.tasks, host.peer);
        for address in &host.addresses {
            let _ = writeln!(text, "{:36}{address}", "");
        }
    }
    print(&text)
}

//! `dfget top`: a live view of tasks, neighbours and rates.

mod draw;

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use crossterm::event::{Event, KeyCode, KeyModifiers, poll, read};
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use crossterm::{cursor, execute, queue};
use http::Method;
use tokio::sync::mpsc;

use self::draw::{Rates, View};
use super::args::Top;
use super::ask::{How, print};
use super::{End, door, output_failed};
use crate::client::Client;
use crate::error::Failure;
use crate::model::{ActivesBody, NeighboursBody, StatusBody};

/// Columns where there is no terminal to ask.
const COLUMNS: u16 = 80;
/// Lines where there is no terminal: all that there are.
const LINES: u16 = u16::MAX;
/// How long the keyboard's thread waits before it looks whether it is still needed.
const KEY_LOOK: Duration = Duration::from_millis(100);

pub(super) async fn top(args: &Top, how: How<'_>) -> Result<(), End> {
    let mut client = door::need(how.door).await?;
    let screen = io::stdout().is_terminal() && io::stdin().is_terminal() && !how.talk.json;
    let mut count = args.count.unwrap_or(if screen { u32::MAX } else { 1 });
    let mut rates = Rates::default();
    let terminal = if screen { Some(Terminal::enter()?) } else { None };
    let mut keys = terminal.as_ref().map(|_| keys());
    while count > 0 {
        count -= 1;
        let view = look(&mut client).await?;
        if how.talk.json {
            let line = serde_json::to_string(&view).map_err(|e| Failure::usage(e.to_string()))?;
            print(&(line + "\n"))?;
        } else {
            let (columns, lines) = if screen { size().unwrap_or((COLUMNS, LINES)) } else { (COLUMNS, LINES) };
            let lines = draw::lines(&view, &mut rates, Instant::now(), columns.into(), lines.into());
            match &terminal {
                Some(terminal) => terminal.show(&lines).map_err(|e| output_failed(&e))?,
                None => print(&(lines.join("\n") + "\n"))?,
            }
        }
        if count == 0 || wait(args.interval, &mut keys).await {
            break;
        }
    }
    Ok(())
}

/// Waits for the next look; whether the user has enough.
async fn wait(interval: Duration, keys: &mut Option<mpsc::Receiver<()>>) -> bool {
    let enough = async {
        match keys {
            Some(keys) => keys.recv().await.is_some(),
            None => std::future::pending().await,
        }
    };
    tokio::time::timeout(interval, enough).await.unwrap_or(false)
}

async fn look(client: &mut Client) -> Result<View, Failure> {
    let nothing = None::<&()>;
    let status: StatusBody = client.json(Method::GET, "/v1/status", nothing).await?;
    // A scheduler alone fetches nothing and has no neighbours.
    let active = client.json::<ActivesBody>(Method::GET, "/v1/active", nothing).await;
    let met = client.json::<NeighboursBody>(Method::GET, "/v1/neighbours", nothing).await;
    let tasks = active.map(|active| active.tasks).unwrap_or_default();
    let neighbours = met.map(|met| met.neighbours).unwrap_or_default();
    Ok(View { status, tasks, neighbours })
}

/// q, Escape and Ctrl-C, from a thread of their own: the terminal is read without a time-out otherwise.
fn keys() -> mpsc::Receiver<()> {
    let (enough, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        while !enough.is_closed() {
            match poll(KEY_LOOK) {
                Ok(false) => {}
                Ok(true) => {
                    let Ok(Event::Key(key)) = read() else { continue };
                    let control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                    if control_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                        let _ = enough.blocking_send(());
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    });
    receiver
}

/// The terminal while it is ours; dropped, it is as it was.
struct Terminal;

impl Terminal {
    fn enter() -> Result<Self, Failure> {
        let failed = |e: io::Error| Failure::io("cannot use the terminal", &e);
        enable_raw_mode().map_err(failed)?;
        let terminal = Self;
        execute!(io::stdout(), EnterAlternateScreen, cursor::Hide).map_err(failed)?;
        Ok(terminal)
    }

    fn show(&self, lines: &[String]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        queue!(out, cursor::MoveTo(0, 0))?;
        for (index, line) in lines.iter().enumerate() {
            // No line break after the last one: the screen would scroll.
            if index > 0 {
                write!(out, "\r\n")?;
            }
            write!(out, "{line}")?;
            queue!(out, Clear(ClearType::UntilNewLine))?;
        }
        queue!(out, Clear(ClearType::FromCursorDown))?;
        out.flush()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = execute!(io::stdout(), cursor::Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

//! FTP, by ourselves: plain, passive, binary.
//!
//! A server can name any host for its data; data is taken only from the address that the commands go to, so that it
//! cannot send us elsewhere. Nothing is ever written there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use url::Url;

use super::super::body::{Promise, checked, stalled};
use super::super::retry::retrying;
use super::super::{Entry, OpenRequest, Opened, SourceError, SourceErrorKind, redact};
use super::list::plain;
use super::open::{confirmed, content, settled, version};
use super::place::Site;
use super::services::login;
use super::{Permit, Reach};

/// The port of FTP.
const PORT: u16 = 21;

/// The longest line of a reply, and the most lines of one.
const LINE_MAX: usize = 8 * 1024;
const LINES_MAX: usize = 256;

/// The most entries that are taken of a directory.
const ENTRIES_MAX: usize = 200_000;

/// How much is read at a time, in bytes.
const CHUNK_BYTES: usize = 256 << 10;

/// A server, as one request may ask it.
#[derive(Clone)]
pub(super) struct Ftp {
    reach: Arc<Reach>,
    authority: String,
    user: String,
    password: String,
    local: bool,
    private: bool,
    /// The URL, for errors.
    shown: String,
}

/// What a server says of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Facts {
    length: Option<u64>,
    modified: Option<SystemTime>,
}

impl Ftp {
    pub(super) fn new(reach: &Arc<Reach>, site: &Site, permit: &Permit, request: &OpenRequest) -> Self {
        let (user, password) = login(site, &permit.settings);
        Self {
            reach: Arc::clone(reach),
            authority: site.authority.clone(),
            user: user.unwrap_or("anonymous").to_owned(),
            password: password.unwrap_or("anonymous@").to_owned(),
            local: request.local,
            private: permit.private,
            shown: redact(&request.url),
        }
    }

    /// One attempt to open a file.
    pub(super) async fn open(&self, key: &str, request: &OpenRequest) -> Result<Opened, SourceError> {
        if request.range.as_ref().is_some_and(|range| range.start >= range.end) {
            return Err(self.error(SourceErrorKind::InvalidInput, "the range is empty"));
        }
        if !request.headers.is_empty() {
            return Err(self.error(SourceErrorKind::InvalidInput, "FTP has no headers"));
        }
        let mut session = self.session().await?;
        let facts = session.facts(key).await?;
        let Some(length) = facts.length else {
            return self.open_unknown(session, key, request).await;
        };
        let validator = facts.modified.and_then(|modified| version(modified, length, SystemTime::now()));
        let Some(shape) = settled(request, length, validator.as_ref(), &self.shown)? else {
            return Ok(Opened::Unchanged { fresh: None });
        };
        let wanted = shape.body_length.unwrap_or(0);
        if wanted == 0 {
            return Ok(Opened::Content(content(stream::empty().boxed(), shape, validator, self.private)));
        }
        let data = session.retrieve(key, shape.offset).await?;
        // One byte more shows a file that grew.
        let most = if shape.offset + wanted == length { wanted.saturating_add(1) } else { wanted };
        let body = self.body(session, data, most, Some(wanted));
        let (own, key) = (self.clone(), key.to_owned());
        let same = async move {
            let again = own.session().await?.facts(&key).await?;
            Ok(again == facts)
        };
        let body = confirmed(body, wanted, same, self.shown.clone());
        Ok(Opened::Content(content(body, shape, validator, self.private)))
    }

    /// What is in a directory.
    pub(super) fn list(
        &self,
        key: String,
        request: OpenRequest,
    ) -> BoxStream<'static, Result<Vec<Entry>, SourceError>> {
        let own = self.clone();
        let listing = async move { retrying(&request, || own.list_once(&key, &request.url)).await };
        listing.into_stream().boxed()
    }

    async fn list_once(&self, key: &str, prefix: &Url) -> Result<Vec<Entry>, SourceError> {
        let mut session = self.session().await?;
        let key = key.trim_end_matches('/');
        if !key.is_empty() {
            // A list of what is not there is empty with some servers.
            let changed = session.command(&format!("CWD {key}")).await?;
            session.wanted(changed, &[250, 200], "going into the directory")?;
        }
        // The newer command has a format; servers without it refuse it before they connect.
        let (data, machine) = match session.transfer("MLSD", 0, "listing").await {
            Ok(data) => (data, true),
            Err(error) if matches!(error.status(), Some(500 | 502 | 504 | 501)) => {
                (session.transfer("LIST", 0, "listing").await?, false)
            }
            Err(error) => return Err(error),
        };
        let silence = self.reach.http.silence_timeout;
        let mut data = BufReader::new(data);
        let mut entries = Vec::new();
        loop {
            let mut line = Vec::new();
            let mut bounded = (&mut data).take(LINE_MAX as u64);
            let read = self.in_time(silence, bounded.read_until(b'\n', &mut line)).await?;
            if read.map_err(|e| self.network("the connection broke").caused_by(e))? == 0 {
                break;
            }
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            let found = if machine { machine_entry(line) } else { unix_entry(line) };
            if let Some((name, directory, length)) = found.filter(|(name, ..)| !matches!(*name, "." | "..")) {
                entries.extend(plain(prefix, name, directory, length));
            }
            if entries.len() > ENTRIES_MAX {
                let what = format!("more than {ENTRIES_MAX} entries are in it");
                return Err(self.error(SourceErrorKind::Origin, &what));
            }
        }
        let end = session.reply().await?;
        session.wanted(end, &[226, 250], "the end of the list")?;
        Ok(entries)
    }

    /// A server that does not tell lengths is asked for all of it.
    async fn open_unknown(
        &self,
        mut session: Session,
        key: &str,
        request: &OpenRequest,
    ) -> Result<Opened, SourceError> {
        if request.expect.is_some() || request.expect_length.is_some() {
            let what = "the content is not the version that was expected any more";
            return Err(self.error(SourceErrorKind::Changed, what));
        }
        let data = session.retrieve(key, 0).await?;
        let mut content = super::super::Content::new(self.body(session, data, u64::MAX, None));
        content.private = self.private;
        Ok(Opened::Content(content))
    }

    /// The bytes of a data connection. The session lives as long: to end it would end them.
    fn body(
        &self,
        session: Session,
        data: TcpStream,
        most: u64,
        promised: Option<u64>,
    ) -> BoxStream<'static, Result<Bytes, SourceError>> {
        let reading = stream::unfold((session, data, most), |(mut session, mut data, left)| async move {
            if left == 0 {
                return None;
            }
            let room = usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
            let mut chunk = BytesMut::with_capacity(room);
            let read = (&mut data).take(left).read_buf(&mut chunk).await;
            match read {
                // The end of the data is that of the file only if the server says so.
                Ok(0) => match session.reply().await {
                    Ok((226 | 250, _)) => None,
                    _ => Some((Err(std::io::ErrorKind::UnexpectedEof.into()), (session, data, 0))),
                },
                Ok(read) => Some((Ok(chunk.freeze()), (session, data, left - read as u64))),
                Err(error) => Some((Err(error), (session, data, 0))),
            }
        });
        let promise = Promise { shown: self.shown.clone(), length: promised, silence: self.reach.http.silence_timeout };
        checked(reading, promise, |error: std::io::Error, shown, seen| {
            let text = format!("{shown}: the connection broke after {seen} bytes");
            SourceError::new(SourceErrorKind::Network, text).temporary(true).caused_by(error)
        })
    }

    /// Connects and logs in.
    async fn session(&self) -> Result<Session, SourceError> {
        let (host, port) = match self.authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().unwrap_or(PORT)),
            _ => (self.authority.as_str(), PORT),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let limit = self.reach.http.connect_timeout;
        let resolved = self.in_time(limit, tokio::net::lookup_host((host, port))).await?;
        let resolved = resolved.map_err(|e| self.network("the host's name cannot be resolved").caused_by(e))?;
        let mut last = self.network("the host has no address");
        for address in resolved {
            // What is checked is what is connected to.
            if let Err(why) = self.reach.guard.check_address(address.ip(), self.local) {
                let text = format!("{} must not be reached: {why}", self.shown);
                last = SourceError::new(SourceErrorKind::Guarded, text);
                continue;
            }
            match self.in_time(limit, TcpStream::connect(address)).await? {
                Ok(stream) => return self.log_in(stream, address).await,
                Err(error) => last = self.network("cannot connect").caused_by(error),
            }
        }
        Err(last)
    }

    async fn log_in(&self, stream: TcpStream, peer: SocketAddr) -> Result<Session, SourceError> {
        let _ = stream.set_nodelay(true);
        let mut session = Session { own: self.clone(), control: BufReader::new(stream), peer };
        let greeting = session.reply().await?;
        session.wanted(greeting, &[220], "connecting")?;
        let user = session.command(&format!("USER {}", self.user)).await?;
        if user.0 == 331 {
            let password = session.command(&format!("PASS {}", self.password)).await?;
            session.wanted(password, &[230, 202], "logging in")?;
        } else {
            session.wanted(user, &[230], "logging in")?;
        }
        let kind = session.command("TYPE I").await?;
        session.wanted(kind, &[200], "asking for binary transfers")?;
        Ok(session)
    }

    async fn in_time<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Result<T, SourceError> {
        tokio::time::timeout(limit, work).await.map_err(|_| stalled(&self.shown, limit))
    }

    fn error(&self, kind: SourceErrorKind, what: &str) -> SourceError {
        SourceError::new(kind, format!("{}: {what}", self.shown))
    }

    fn network(&self, what: &str) -> SourceError {
        self.error(SourceErrorKind::Network, what).temporary(true)
    }
}

/// A reply: its code and its last line.
type Reply = (u16, String);

/// A connection for commands.
struct Session {
    own: Ftp,
    control: BufReader<TcpStream>,
    peer: SocketAddr,
}

impl Session {
    /// Sends a command. It has no line breaks: keys and credentials with control characters are refused before.
    async fn command(&mut self, line: &str) -> Result<Reply, SourceError> {
        let limit = self.own.reach.http.first_byte_timeout;
        let line = format!("{line}\r\n");
        let sent = self.own.in_time(limit, self.control.get_mut().write_all(line.as_bytes())).await?;
        sent.map_err(|e| self.own.network("the connection broke").caused_by(e))?;
        self.reply().await
    }

    async fn reply(&mut self) -> Result<Reply, SourceError> {
        let first = self.line().await?;
        let code = code(&first).ok_or_else(|| self.own.error(SourceErrorKind::Origin, "it does not speak FTP"))?;
        if first.as_bytes().get(3) != Some(&b'-') {
            return Ok((code, first));
        }
        for _ in 0..LINES_MAX {
            let line = self.line().await?;
            if line.as_bytes().get(3) == Some(&b' ') && self::code(&line) == Some(code) {
                return Ok((code, line));
            }
        }
        Err(self.own.error(SourceErrorKind::Origin, "a reply has too many lines"))
    }

    async fn line(&mut self) -> Result<String, SourceError> {
        let limit = self.own.reach.http.first_byte_timeout;
        let mut line = Vec::new();
        let mut bounded = (&mut self.control).take(LINE_MAX as u64);
        let read = self.own.in_time(limit, bounded.read_until(b'\n', &mut line)).await?;
        read.map_err(|e| self.own.network("the connection broke").caused_by(e))?;
        if line.last() != Some(&b'\n') {
            return Err(self.own.network("the connection broke, or a line has no end"));
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Refuses a reply that is not one of those wanted.
    fn wanted(&self, (code, _): Reply, good: &[u16], doing: &str) -> Result<(), SourceError> {
        if good.contains(&code) {
            return Ok(());
        }
        let (kind, what) = match code {
            530 | 532 => (SourceErrorKind::Forbidden, "user and password are not accepted"),
            550 => (SourceErrorKind::NotFound, "there is no such file, or no permission to read it"),
            553 => (SourceErrorKind::InvalidInput, "the server does not take the name"),
            _ => (SourceErrorKind::Origin, "the server failed"),
        };
        let text = format!("{what} ({code} on {doing})");
        Err(self.own.error(kind, &text).temporary((400..500).contains(&code)).with_status(code))
    }

    /// Length and time of a file, as far as the server tells them.
    async fn facts(&mut self, key: &str) -> Result<Facts, SourceError> {
        let size = self.command(&format!("SIZE {key}")).await?;
        let length = match size.0 {
            213 => {
                let digits = size.1.get(4..).unwrap_or_default().trim();
                let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
                Some(number.ok_or_else(|| self.own.error(SourceErrorKind::Origin, "a length that is no number"))?)
            }
            500 | 502 | 504 => None,
            _ => {
                self.wanted(size, &[213], "asking for the length")?;
                None
            }
        };
        let modified = match self.command(&format!("MDTM {key}")).await? {
            (213, line) => time(line.get(4..).unwrap_or_default().trim()),
            _ => None,
        };
        Ok(Facts { length, modified })
    }

    /// The data of a file from a byte on.
    async fn retrieve(&mut self, key: &str, offset: u64) -> Result<TcpStream, SourceError> {
        self.transfer(&format!("RETR {key}"), offset, "reading").await
    }

    async fn transfer(&mut self, command: &str, offset: u64, doing: &str) -> Result<TcpStream, SourceError> {
        let port = self.passive().await?;
        let limit = self.own.reach.http.connect_timeout;
        let address = SocketAddr::new(self.peer.ip(), port);
        let data = self.own.in_time(limit, TcpStream::connect(address)).await?;
        let data = data.map_err(|e| self.own.network("cannot connect for the data").caused_by(e))?;
        if offset > 0 {
            let rest = self.command(&format!("REST {offset}")).await?;
            self.wanted(rest, &[350], "asking for a part")?;
        }
        let begun = self.command(command).await?;
        self.wanted(begun, &[125, 150], doing)?;
        Ok(data)
    }

    /// The port at which the server waits. The address that it may name is not used.
    async fn passive(&mut self) -> Result<u16, SourceError> {
        let wrong = |own: &Ftp| own.error(SourceErrorKind::Origin, "a passive port that makes no sense");
        let extended = self.command("EPSV").await?;
        let port = if extended.0 == 229 {
            extended_port(&extended.1)
        } else {
            let passive = self.command("PASV").await?;
            let line = passive.1.clone();
            self.wanted(passive, &[227], "asking for a passive port")?;
            passive_port(&line)
        };
        // Those below are other services', which would be sent nothing, but connected to.
        port.filter(|port| *port >= 1024).ok_or_else(|| wrong(&self.own))
    }
}

/// A line of `MLSD`: `type=file;size=3; name`.
fn machine_entry(line: &str) -> Option<(&str, bool, Option<u64>)> {
    let (facts, name) = line.split_once(' ')?;
    let fact = |wanted: &str| {
        let mut facts = facts.split(';').filter_map(|fact| fact.split_once('='));
        facts.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
    };
    match fact("type")?.to_ascii_lowercase().as_str() {
        "file" => Some((name, false, fact("size").and_then(|size| size.parse().ok()))),
        "dir" => Some((name, true, None)),
        _ => None,
    }
}

/// A line of `LIST` as Unix servers write it: eight columns, one space, the name. Links are left out: they may lead
/// round in circles.
fn unix_entry(line: &str) -> Option<(&str, bool, Option<u64>)> {
    let directory = match line.as_bytes().first()? {
        b'-' => false,
        b'd' => true,
        _ => return None,
    };
    let mut rest = line;
    let mut size = None;
    for column in 0..8 {
        let end = rest.find(' ')?;
        if column == 4 {
            size = Some(rest[..end].parse().ok()?);
        }
        rest = if column == 7 { &rest[end + 1..] } else { rest[end..].trim_start_matches(' ') };
    }
    Some((rest, directory, size.filter(|_| !directory)))
}

fn code(line: &str) -> Option<u16> {
    let digits = line.get(..3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok().filter(|code| (100..600).contains(code))
}

/// `229 text (|||PORT|)`.
fn extended_port(line: &str) -> Option<u16> {
    let inner = line.split_once("(|||")?.1;
    inner.split_once('|')?.0.parse().ok()
}

/// `227 text (h1,h2,h3,h4,p1,p2)`.
fn passive_port(line: &str) -> Option<u16> {
    let inner = line.split_once('(').map(|(_, inner)| inner)?.split_once(')')?.0;
    let numbers: Vec<u8> = inner.split(',').map(|number| number.trim().parse().ok()).collect::<Option<_>>()?;
    let [_, _, _, _, high, low] = numbers[..] else { return None };
    Some(u16::from(high) << 8 | u16::from(low))
}

/// `YYYYMMDDhhmmss`, perhaps with a fraction, which is UTC.
fn time(text: &str) -> Option<SystemTime> {
    let digits = text.get(..14).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let number = |at: std::ops::Range<usize>| digits.get(at).and_then(|part| part.parse::<u32>().ok());
    let (year, month, day) = (number(0..4)?, number(4..6)?, number(6..8)?);
    let (hour, minute, second) = (number(8..10)?, number(10..12)?, number(12..14)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let february = if leap { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *lengths.get(month.checked_sub(1)? as usize)?;
    let sound = year >= 1970 && (1..=length).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    // The leap days before a year.
    let leaps = |year: u32| (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
    let days = |year: u32| 365 * year + leaps(year);
    let day = sound.then(|| days(year) - days(1970) + lengths[..month as usize - 1].iter().sum::<u32>() + day - 1)?;
    let seconds = u64::from(day) * 86_400 + u64::from(hour * 3600 + minute * 60 + second);
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn replies_are_read() {
        assert_eq!(extended_port("229 Entering Extended Passive Mode (|||9481|)"), Some(9481));
        assert_eq!(extended_port("229 (|||99999|)"), None);
        assert_eq!(passive_port("227 Entering Passive Mode (127,0,0,1,37,9)."), Some(9481));
        assert_eq!(passive_port("227 (1,2,3,4,256,1)"), None);
        assert_eq!(passive_port("227 (1,2,3,4,5)"), None);
        assert_eq!((code("226 done"), code("22"), code("999 x"), code("é26")), (Some(226), None, None, None));
    }

    #[test]
    fn lists_are_read() {
        let file = "-rw-r--r--    1 0        0          300000 Nov 29 15:40 a  b.bin";
        assert_eq!(unix_entry(file), Some(("a  b.bin", false, Some(300_000))));
        assert_eq!(unix_entry("drwxr-xr-x    2 0        0            4096 Nov 29  2025 d"), Some(("d", true, None)));
        assert_eq!(unix_entry("lrwxrwxrwx    1 0        0               1 Nov 29  2025 l -> d"), None);
        assert_eq!(unix_entry("total 12"), None);
        assert_eq!(unix_entry("-rw-r--r-- 1 0 0 x Nov 29 15:40 a"), None);
        assert_eq!(unix_entry(""), None);
        assert_eq!(machine_entry("Type=file;Size=3;modify=20240229120102; a b"), Some(("a b", false, Some(3))));
        assert_eq!(machine_entry("type=dir;sizd=4096; d"), Some(("d", true, None)));
        assert_eq!(machine_entry("type=cdir; ."), None);
        assert_eq!(machine_entry("garbage"), None);
    }

    #[test]
    fn times_are_read() {
        let at = time("20240229120102").unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(at.as_secs(), 1_709_208_062);
        let of = |text| time(text).map(|at| at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
        assert_eq!((of("20261129000046"), of("19700101000000")), (Some(1_795_910_446), Some(0)));
        assert_eq!((of("20000301000000"), of("20991231235959")), (Some(951_868_800), Some(4_102_444_799)));
        assert_eq!(time("20240229120102.123"), time("20240229120102"));
        for wrong in ["", "2024", "20241329120102", "2024022912010x", "20240001000000", "20250229000000"] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }
}

//! A hub of models and datasets that speaks the APIs of Hugging Face and of ModelScope, for sources and real clients.
//!
//! What it answers is what those servers do: small files come from the hub itself, by way of a redirect within it, large
//! ones (LFS) from another server, which takes no credential beside the signature in its URL.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::content::hex;
use crate::counters::lock;

/// The most entries of a page of a tree, few enough that tests see a second one.
const PAGE_MAX: usize = 3;

/// How a [`Hub`] is to be.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// Without this token every repository is hidden.
    pub token: Option<String>,
    /// Files from so many bytes on are LFS files.
    pub lfs_min: usize,
    /// The most entries of a page of ModelScope's, whatever it is asked for.
    pub page_max: usize,
    /// What ModelScope's numbered pages after the last are answered with; by default they are empty.
    pub after_last: Option<u16>,
    /// Whether ModelScope's pages say how many entries there are.
    pub totals: bool,
    /// Where it listens; by default on 127.0.0.1.
    pub address: SocketAddr,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            token: None,
            lfs_min: 10_000,
            page_max: usize::MAX,
            after_last: None,
            totals: false,
            address: ([127, 0, 0, 1], 0).into(),
        }
    }
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct HubRequest {
    /// Whether it came to the server that has the large files.
    pub cdn: bool,
    /// Path and query.
    pub path: String,
    /// `Authorization`, `Cookie` and `Range`.
    pub authorization: Option<String>,
    /// See `authorization`.
    pub cookie: Option<String>,
    /// See `authorization`.
    pub range: Option<String>,
}

/// The two servers. Dropping it stops them.
pub struct Hub {
    shared: Arc<Shared>,
    servers: [JoinHandle<()>; 2],
}

struct Shared {
    config: HubConfig,
    address: SocketAddr,
    cdn: SocketAddr,
    /// By `models/owner/name`.
    repositories: Mutex<BTreeMap<String, Vec<Commit>>>,
    seen: Mutex<Vec<HubRequest>>,
}

#[derive(Clone)]
struct Commit {
    id: String,
    files: BTreeMap<String, Bytes>,
}

type Answer = Response<Full<Bytes>>;

impl Hub {
    /// Starts it on the runtime that this is called in.
    ///
    /// # Errors
    /// No socket is to be had.
    pub async fn start(config: HubConfig) -> io::Result<Self> {
        let listener = TcpListener::bind(config.address).await?;
        let mut of_cdn = config.address;
        of_cdn.set_port(0);
        let cdn = TcpListener::bind(of_cdn).await?;
        let address = listener.local_addr()?;
        let (repositories, seen) = (Mutex::default(), Mutex::default());
        let shared = Arc::new(Shared { config, address, cdn: cdn.local_addr()?, repositories, seen });
        let server = |listener, cdn| tokio::spawn(accept(listener, Arc::clone(&shared), cdn));
        let servers = [server(listener, false), server(cdn, true)];
        Ok(Self { shared, servers })
    }

    /// Puts a file into a repository, `models/owner/name` or of `datasets` or `spaces`: a new commit of its branch.
    pub fn put(&self, repository: &str, path: &str, content: impl Into<Bytes>) {
        let mut repositories = lock(&self.shared.repositories);
        let commits = repositories.entry(repository.to_owned()).or_default();
        let mut files = commits.last().map(|commit| commit.files.clone()).unwrap_or_default();
        files.insert(path.to_owned(), content.into());
        let text = format!("{repository} {} {:?}", commits.len(), files.keys());
        commits.push(Commit { id: git_id(text.as_bytes()), files });
    }

    /// The commit that a branch is at.
    pub fn commit(&self, repository: &str) -> Option<String> {
        Some(lock(&self.shared.repositories).get(repository)?.last()?.id.clone())
    }

    /// What clients are told as their endpoint.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.shared.address)
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<HubRequest> {
        lock(&self.shared.seen).clone()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.servers.iter().for_each(JoinHandle::abort);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, cdn: bool) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let answer = shared.answer(&request, cdn);
                async move { Ok::<_, Infallible>(answer) }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

impl Shared {
    fn answer<B>(&self, request: &Request<B>, cdn: bool) -> Answer {
        let header = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let (authorization, cookie, range) = (header("authorization"), header("cookie"), header("range"));
        let secret = authorization.is_some() || cookie.is_some();
        let is_let_in = self.config.token.as_ref().is_none_or(|token| {
            authorization.as_deref() == Some(&*format!("Bearer {token}"))
                || cookie.as_deref() == Some(&*format!("m_session_id={token}"))
        });
        let path = request.uri().to_string();
        lock(&self.seen).push(HubRequest { cdn, path, authorization, cookie, range });
        let uri = request.uri();
        let path = percent_decoded(uri.path());
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let query = |name: &str| {
            let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
            pairs.filter(|(found, _)| *found == name).map(|(_, value)| percent_decoded(&value.replace('+', " "))).next()
        };
        let found = match parts.as_slice() {
            ["cdn", sha] if cdn => self.blob(sha, secret, request.headers()),
            ["api", "resolve-cache", kind, owner, name, commit, rest @ ..] => {
                self.cached(&format!("{kind}/{owner}/{name}"), commit, &rest.join("/"), request.headers())
            }
            _ if !is_let_in => return hidden(parts.get(1) == Some(&"v1")),
            ["api", "v1", kind, owner, name, "repo", rest @ ..] => {
                let query = |name: &str| query(name).unwrap_or_default();
                self.modelscope(&format!("{kind}/{owner}/{name}"), rest, &query, request.headers())
            }
            ["api", "v1", kind, owner, name, rest @ ..] => self.described(&format!("{kind}/{owner}/{name}"), rest),
            ["api", kind, owner, name, rest @ ..] => {
                let after = query("cursor").and_then(|after| after.parse().ok()).unwrap_or(0);
                let deep = query("recursive").is_some_and(|deep| deep.eq_ignore_ascii_case("true"));
                self.hugging_face(&format!("{kind}/{owner}/{name}"), uri.path(), rest, (deep, after))
            }
            [kind @ ("datasets" | "spaces"), owner, name, "resolve", rest @ ..] => {
                self.resolved(&format!("{kind}/{owner}/{name}"), rest)
            }
            [owner, name, "resolve", rest @ ..] => self.resolved(&format!("models/{owner}/{name}"), rest),
            _ => None,
        };
        found.unwrap_or_else(|| error(404, "RepoNotFound", "Repository not found"))
    }

    /// A version of a repository, and how many parts of a path named it: branches may have slashes in their names.
    fn at(&self, repository: &str, rest: &[&str]) -> Option<Result<(Commit, usize), Answer>> {
        let repositories = lock(&self.repositories);
        let commits = repositories.get(repository)?;
        let (last, revision) = (commits.last()?, *rest.first()?);
        let found = match revision {
            "main" | "master" => Some(last),
            "refs" if rest.get(1..3) == Some(&["pr", "1"]) => return Some(Ok((last.clone(), 3))),
            _ => commits.iter().find(|commit| commit.id == revision),
        };
        let missing = || error(404, "RevisionNotFound", "Invalid rev id");
        Some(found.cloned().map(|commit| (commit, 1)).ok_or_else(missing))
    }

    /// `page`: whether files that are deeper below are listed, too, and how many were listed before.
    fn hugging_face(&self, repository: &str, path: &str, rest: &[&str], page: (bool, usize)) -> Option<Answer> {
        let (deep, after) = page;
        let (what, rest) = rest.split_first().map_or((&"revision", &["main"][..]), |(what, rest)| (what, rest));
        let (commit, named) = match self.at(repository, rest)? {
            Ok(found) => found,
            Err(answer) => return Some(answer),
        };
        match *what {
            "revision" => {
                let siblings: Vec<Value> = commit.files.keys().map(|path| json!({"rfilename": path})).collect();
                let id = repository.split_once('/')?.1;
                Some(ok(&json!({"_id": "1", "id": id, "modelId": id, "sha": commit.id, "private": false,
                    "gated": false, "disabled": false, "downloads": 0, "likes": 0, "tags": [], "siblings": siblings,
                    "lastModified": "2026-01-01T00:00:00.000Z", "createdAt": "2026-01-01T00:00:00.000Z"})))
            }
            "tree" => {
                let below = rest[named..].join("/");
                let all = if deep { files(&commit) } else { level(&commit, below.trim_matches('/')) };
                if all.is_empty() && !below.is_empty() {
                    return Some(error(404, "EntryNotFound", "path does not exist"));
                }
                let described = |(path, content): &(String, Option<Bytes>)| match content {
                    None => json!({"type": "directory", "path": path, "oid": git_id(path.as_bytes()), "size": 0}),
                    Some(bytes) => {
                        let mut file = json!({"type": "file", "path": path, "oid": git_id(bytes), "size": bytes.len()});
                        if self.is_lfs(bytes) {
                            file["lfs"] = json!({"oid": sha256(bytes), "size": bytes.len(), "pointerSize": 134});
                        }
                        file
                    }
                };
                let page: Vec<Value> = all.iter().skip(after).take(PAGE_MAX).map(described).collect();
                let next = after + page.len();
                let mut answer = ok(&Value::from(page));
                if next < all.len() {
                    let link = format!(
                        "<http://{}{path}?recursive={deep}&expand=false&cursor={next}>; rel=\"next\"",
                        self.address
                    );
                    answer.headers_mut().insert("link", link.parse().ok()?);
                }
                Some(answer)
            }
            _ => None,
        }
    }

    fn resolved(&self, repository: &str, rest: &[&str]) -> Option<Answer> {
        let (commit, named) = match self.at(repository, rest)? {
            Ok(found) => found,
            Err(answer) => return Some(answer),
        };
        let path = rest[named..].join("/");
        let Some(bytes) = commit.files.get(&path) else {
            return Some(error(404, "EntryNotFound", "Entry not found"));
        };
        let (mut answer, etag) = if self.is_lfs(bytes) {
            let sha = sha256(bytes);
            let mut answer = self.to_cdn(&sha);
            answer.headers_mut().insert("x-linked-size", bytes.len().to_string().parse().ok()?);
            answer.headers_mut().insert("x-linked-etag", format!("\"{sha}\"").parse().ok()?);
            (answer, format!("\"{}\"", git_id(sha.as_bytes())))
        } else {
            let to = format!("/api/resolve-cache/{repository}/{}/{}", commit.id, percent_encoded(&path));
            (redirect(307, &to), format!("\"{}\"", git_id(bytes)))
        };
        answer.headers_mut().insert("x-repo-commit", commit.id.parse().ok()?);
        answer.headers_mut().insert("etag", etag.parse().ok()?);
        Some(answer)
    }

    fn cached(&self, repository: &str, commit: &str, path: &str, headers: &HeaderMap) -> Option<Answer> {
        let (commit, _) = self.at(repository, &[commit])?.ok()?;
        let bytes = commit.files.get(path)?;
        let mut answer = part(bytes, headers);
        answer.headers_mut().insert("etag", format!("\"{}\"", git_id(bytes)).parse().ok()?);
        answer.headers_mut().insert("x-repo-commit", commit.id.parse().ok()?);
        Some(answer)
    }

    fn blob(&self, sha: &str, secret: bool, headers: &HeaderMap) -> Option<Answer> {
        if secret {
            return Some(error(400, "InvalidArgument", "Only one auth mechanism allowed"));
        }
        let repositories = lock(&self.repositories);
        let all = repositories.values().flatten().flat_map(|commit| commit.files.values());
        let bytes = all.into_iter().find(|bytes| self.is_lfs(bytes) && sha256(bytes) == sha)?.clone();
        let mut answer = part(&bytes, headers);
        answer.headers_mut().insert("etag", format!("\"{}\"", &sha[..32]).parse().ok()?);
        Some(answer)
    }

    /// What of a repository of ModelScope is not in its files.
    fn described(&self, repository: &str, rest: &[&str]) -> Option<Answer> {
        let commits = lock(&self.repositories).get(repository)?.len();
        let data = match rest {
            [] => json!({"Id": 1, "Name": repository.rsplit('/').next(), "Visibility": 5, "Commits": commits}),
            ["revisions"] => json!({"RevisionMap": {"Branches": [{"Revision": "master"}], "Tags": []}}),
            _ => return None,
        };
        Some(ok(&json!({"Code": 200, "Success": true, "Message": "", "Data": data})))
    }

    fn modelscope(
        &self,
        repository: &str,
        rest: &[&str],
        query: &dyn Fn(&str) -> String,
        headers: &HeaderMap,
    ) -> Option<Answer> {
        let fails = |code: u16, what: &str| {
            let mut answer = ok(&json!({"Code": 10_010_205_001_u64, "Success": false, "Message": what}));
            *answer.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
            answer
        };
        let revision = query("Revision");
        let commit = match self.at(repository, &[&revision])? {
            Ok((commit, _)) => commit,
            Err(_) => return Some(fails(404, "no such revision")),
        };
        match rest {
            [] => {
                let Some(bytes) = commit.files.get(&query("FilePath")) else {
                    return Some(fails(404, "no such file"));
                };
                if self.is_lfs(bytes) {
                    return Some(self.to_cdn(&sha256(bytes)));
                }
                let mut answer = part(bytes, headers);
                answer.headers_mut().insert("etag", format!("\"{}\"", git_id(bytes)).parse().ok()?);
                Some(answer)
            }
            ["files" | "tree"] => {
                let root = query("Root");
                let root = root.trim_matches('/');
                let deep = query("Recursive").eq_ignore_ascii_case("true");
                let all = if deep { files(&commit) } else { level(&commit, root) };
                let number = |name: &str, absent| query(name).parse().unwrap_or(absent);
                let (page, size): (usize, usize) = (number("PageNumber", 1), number("PageSize", usize::MAX));
                let size = if query("PageNumber").is_empty() { size } else { size.min(self.config.page_max) };
                let before = page.saturating_sub(1).saturating_mul(size);
                if let Some(status) = self.config.after_last.filter(|_| page > 1 && before >= all.len()) {
                    return Some(fails(status, "no such page"));
                }
                let files = all.iter().skip(before).take(size);
                let files: Vec<Value> = files
                    .map(|(path, content)| {
                        let name = path.rsplit('/').next();
                        match content {
                            None => json!({"Name": name, "Path": path, "Type": "tree", "Size": 0, "Sha256": ""}),
                            Some(bytes) => json!({"Name": name, "Path": path, "Type": "blob", "Size": bytes.len(),
                                "Sha256": sha256(bytes), "Revision": commit.id, "IsLFS": self.is_lfs(bytes)}),
                        }
                    })
                    .collect();
                let mut answer = json!({"Code": 200, "Success": true, "Message": "", "Data": {"Files": files}});
                if self.config.totals {
                    answer["TotalCount"] = all.len().into();
                }
                Some(ok(&answer))
            }
            _ => None,
        }
    }

    fn is_lfs(&self, bytes: &Bytes) -> bool {
        bytes.len() >= self.config.lfs_min
    }

    fn to_cdn(&self, sha: &str) -> Answer {
        // By name, so that it is another host: clients send cookies to every port of one.
        redirect(302, &format!("http://localhost:{}/cdn/{sha}?Expires=9&Signature=abc", self.cdn.port()))
    }
}

/// All files, in the form of [`level`].
fn files(commit: &Commit) -> Vec<(String, Option<Bytes>)> {
    commit.files.iter().map(|(path, bytes)| (path.clone(), Some(bytes.clone()))).collect()
}

/// What is directly below a directory; directories without content.
fn level(commit: &Commit, root: &str) -> Vec<(String, Option<Bytes>)> {
    let prefix = if root.is_empty() { String::new() } else { format!("{root}/") };
    let mut found = BTreeMap::new();
    for (path, bytes) in &commit.files {
        let Some(below) = path.strip_prefix(&prefix) else { continue };
        match below.split_once('/') {
            None => found.insert(path.clone(), Some(bytes.clone())),
            Some((directory, _)) => found.insert(format!("{prefix}{directory}"), None),
        };
    }
    found.into_iter().collect()
}

/// Content, or the part of it that a range asks for.
fn part(bytes: &Bytes, headers: &HeaderMap) -> Answer {
    let length = bytes.len();
    let builder = Response::builder().header("accept-ranges", "bytes").header("content-type", "binary/octet-stream");
    let range = headers.get("range").and_then(|range| range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-'));
    let answer = match range {
        None => builder.body(Full::new(bytes.clone())),
        Some((from, last)) => {
            let from = from.parse().unwrap_or(0);
            let to = last.parse::<usize>().map_or(length, |last| (last + 1).min(length));
            if from >= to {
                builder.status(416).header("content-range", format!("bytes */{length}")).body(Full::default())
            } else {
                let said = format!("bytes {from}-{}/{length}", to - 1);
                builder.status(206).header("content-range", said).body(Full::new(bytes.slice(from..to)))
            }
        }
    };
    answer.unwrap_or_default()
}

fn ok(value: &Value) -> Answer {
    let answer = Response::builder().header("content-type", "application/json");
    answer.body(Full::new(value.to_string().into())).unwrap_or_default()
}

fn redirect(status: u16, to: &str) -> Answer {
    Response::builder().status(status).header("location", to).body(Full::default()).unwrap_or_default()
}

fn error(status: u16, code: &str, message: &str) -> Answer {
    let answer = Response::builder().status(status).header("x-error-code", code).header("x-error-message", message);
    answer.body(Full::new(json!({"error": message}).to_string().into())).unwrap_or_default()
}

/// A repository that is not shown: Hugging Face says so of what is not there, too.
fn hidden(modelscope: bool) -> Answer {
    if modelscope {
        let mut answer = ok(&json!({"Code": 10_010_205_001_u64, "Success": false, "Message": "not found"}));
        *answer.status_mut() = http::StatusCode::NOT_FOUND;
        return answer;
    }
    error(401, "RepoNotFound", "Invalid username or password.")
}

/// The name that git has for a file of this content.
fn git_id(bytes: &[u8]) -> String {
    let mut hasher = sha1::Sha1::new();
    hasher.update(format!("blob {}\0", bytes.len()));
    hasher.update(bytes);
    hex(&hasher.finalize())
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let pair = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    text.bytes().map(|b| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}

//! Requests to the API, with what the registry wants to know of who asks.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::http::header;
use futures::FutureExt as _;
use serde::Deserialize;
use url::Url;

use super::super::body::stalled;
use super::super::http::short::{malformed, read};
use super::super::http::{Reached, failure, is_same_origin};
use super::super::{OpenRequest, OriginTrust, SourceError, SourceErrorKind, redact};
use super::challenge::{Challenge, challenge};
use super::credential::Credential;
use super::failure::unauthorized;
use super::{Asking, is_loopback};

/// The most tokens that are kept: one a repository that is read at a time.
const TOKENS_MAX: usize = 128;

/// The longest token, in bytes: it is sent with every request, and servers take no longer headers.
const TOKEN_MAX: usize = 16 * 1024;

/// The longest answer with a token: there are two, and what they are good for.
const TOKEN_ANSWER_MAX: usize = 4 * TOKEN_MAX;

/// How long a token is good whose answer does not say (Docker registry, Token authentication).
const TOKEN_AGE_DEFAULT: Duration = Duration::from_secs(60);

/// A token is not used until the very end of its time, and not longer than this, so that what was withdrawn is noticed.
const TOKEN_AGE_MAX: Duration = Duration::from_secs(600);

/// As who this program is to who gives out tokens for a token.
const CLIENT: &str = "dragonfly";

/// What was answered to challenges. Least recently used first.
#[derive(Default)]
pub(super) struct Tokens(Mutex<Vec<Token>>);

struct Token {
    key: Key,
    /// The value of `Authorization`.
    authorization: String,
    until: Instant,
}

/// What a token is for.
#[derive(Clone, PartialEq, Eq)]
struct Key {
    endpoint: Url,
    repository: String,
    credential: Option<Credential>,
    trust: OriginTrust,
}

impl Tokens {
    fn get(&self, key: &Key) -> Option<String> {
        // Nothing that holds the lock can leave the list broken.
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        tokens.retain(|token| token.until > now);
        let token = tokens.iter().position(|token| token.key == *key).map(|at| tokens.remove(at))?;
        let authorization = token.authorization.clone();
        tokens.push(token);
        Some(authorization)
    }

    fn put(&self, key: Key, authorization: String, age: Duration) {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.retain(|token| token.key != key);
        if tokens.len() >= TOKENS_MAX {
            tokens.remove(0);
        }
        // A token that is good for no time at all is used for the request that it was got for.
        tokens.push(Token { key, authorization, until: Instant::now() + age });
    }

    fn forget(&self, key: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|token| token.key != *key);
    }
}

impl Asking<'_> {
    /// Asks for `/v2/REPOSITORY/PATH`, whatever the status of the answer, but for one: who the registry will not hear is
    /// an error.
    pub(super) async fn ask(
        &self,
        path: &str,
        accept: Option<&'static str>,
        range: Option<Range<u64>>,
    ) -> Result<Reached, SourceError> {
        let mut url = self.endpoint.clone();
        url.set_path(&format!("/v2/{}/{path}", self.repository));
        let key = Key {
            endpoint: self.endpoint.clone(),
            repository: self.repository.to_owned(),
            credential: self.credential.clone(),
            trust: self.trust(),
        };
        let mut authorization = self.shared.tokens.get(&key);
        let mut answered = false;
        loop {
            let request = self.request_to(url.clone(), authorization.as_deref(), accept, range.clone());
            let reached = self.shared.http.reach(&request, range.is_some()).await?;
            // A server that the registry sent us to has no business with who we are.
            let of_registry = is_same_origin(&reached.url, &url);
            if reached.response.status().as_u16() != 401 || !of_registry {
                return Ok(reached);
            }
            self.shared.tokens.forget(&key);
            let headers = reached.response.headers();
            // What was kept may be good no more; what was just given is not good enough.
            let Some(challenge) = challenge(headers).filter(|_| !answered) else {
                return Err(unauthorized(self.request, self.asker, headers));
            };
            let (given, age) = self.answer(challenge, headers).await?;
            self.shared.tokens.put(key.clone(), given.clone(), age);
            authorization = Some(given);
            answered = true;
        }
    }

    /// A request that carries nothing of the caller's but how it may be made.
    fn request_to(
        &self,
        url: Url,
        authorization: Option<&str>,
        accept: Option<&'static str>,
        range: Option<Range<u64>>,
    ) -> OpenRequest {
        let mut headers = Vec::new();
        headers.extend(authorization.map(|value| (header::AUTHORIZATION.to_string(), value.to_owned())));
        headers.extend(accept.map(|value| (header::ACCEPT.to_string(), value.to_owned())));
        let mut request = OpenRequest::new(url);
        (request.headers, request.range) = (headers, range);
        (request.trust, request.local) = (self.trust(), self.request.local);
        request
    }

    /// The authorization that a challenge asks for, and how long it is good.
    async fn answer(
        &self,
        challenge: Challenge,
        headers: &header::HeaderMap,
    ) -> Result<(String, Duration), SourceError> {
        match (challenge, &self.credential) {
            (_, Some(Credential::Bearer(token))) => Ok((format!("Bearer {token}"), TOKEN_AGE_MAX)),
            (Challenge::Basic, Some(Credential::Basic { user, password })) => {
                Ok((basic(user, password), TOKEN_AGE_MAX))
            }
            (Challenge::Basic, _) => Err(unauthorized(self.request, self.asker, headers)),
            (Challenge::Bearer { realm, service, scope }, credential) => {
                let realm = self.realm(&realm)?;
                let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.repository));
                let mut asked = vec![("scope", scope)];
                asked.extend(service.map(|service| ("service", service)));
                let reached = match credential {
                    Some(Credential::Identity(token)) => self.exchange(realm, asked, token).await?,
                    Some(Credential::Basic { user, password }) => {
                        self.token(realm, asked, Some(&basic(user, password))).await?
                    }
                    _ => self.token(realm, asked, None).await?,
                };
                self.given(reached).await
            }
        }
    }

    /// Who gives out tokens: over TLS, or as near as the registry itself.
    fn realm(&self, text: &str) -> Result<Url, SourceError> {
        let refused = |what| self.error(SourceErrorKind::Guarded, what);
        let nowhere = "the registry sends us to nowhere for a token";
        let url = Url::parse(text).map_err(|cause| refused(nowhere).caused_by(cause))?;
        // A registry elsewhere does not name this host's own services.
        let near = is_loopback(&url) && is_loopback(&self.endpoint) || url.host() == self.endpoint.host();
        let plain = url.scheme() == "http" && self.endpoint.scheme() == "http" && near;
        if url.scheme() != "https" && !plain {
            return Err(refused("the registry sends us for a token over plain HTTP, or not over HTTP"));
        }
        Ok(url)
    }

    /// Asks for a token with user and password, or with nothing.
    async fn token(
        &self,
        mut realm: Url,
        asked: Vec<(&'static str, String)>,
        authorization: Option<&str>,
    ) -> Result<Reached, SourceError> {
        realm.query_pairs_mut().extend_pairs(asked);
        let request = self.request_to(realm, authorization, None, None);
        // What is redirected elsewhere goes without the credential.
        self.shared.http.reach(&request, false).await
    }

    /// Asks for a token with another one (Docker registry, OAuth2 token authentication).
    async fn exchange(
        &self,
        realm: Url,
        asked: Vec<(&'static str, String)>,
        token: &str,
    ) -> Result<Reached, SourceError> {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(asked)
            .extend_pairs([("grant_type", "refresh_token"), ("client_id", CLIENT), ("refresh_token", token)])
            .finish();
        self.shared.http.post_form(&realm, form, &self.trust(), self.request.local).await
    }

    /// The token in an answer.
    async fn given(&self, reached: Reached) -> Result<(String, Duration), SourceError> {
        let shown = redact(&reached.url);
        let (status, headers) = (reached.response.status().as_u16(), reached.response.headers().clone());
        if matches!(status, 401 | 403) {
            return Err(unauthorized(self.request, self.asker, &headers));
        }
        if status != 200 {
            let judged = super::super::http::status_failure(&shown, status, &headers);
            let text = format!("{}: no token could be had: {shown} answered {status}", redact(&self.request.url));
            // That there is no token says nothing of whether there is content.
            return Err(SourceError::new(SourceErrorKind::Origin, text)
                .temporary(judged.is_temporary())
                .with_status(status)
                .with_retry_after(judged.retry_after()));
        }
        let body = read(&self.shared.http, reached.response, TOKEN_ANSWER_MAX).await;
        let body =
            body.map_err(|error| error.of(format_args!("{}: the token of {shown}", redact(&self.request.url))))?;
        let none = |why: &str| {
            let text = format!("{}: {shown} gave no token: {why}", redact(&self.request.url));
            SourceError::new(SourceErrorKind::Origin, text)
        };
        let given: Given =
            serde_json::from_slice(&body).map_err(|cause| none(&format!("its answer is {}", malformed(&cause))))?;
        let token = given.token.as_ref().or(given.access_token.as_ref());
        let is_token = |token: &&String| {
            (1..=TOKEN_MAX).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let token = token.ok_or_else(|| none("there is none in its answer"))?;
        if !is_token(&token) {
            return Err(none(&format!("it is empty, has more than {TOKEN_MAX} bytes or characters that none has")));
        }
        let age = given.expires_in.map_or(TOKEN_AGE_DEFAULT, Duration::from_secs);
        Ok((format!("Bearer {token}"), age.mul_f32(0.8).min(TOKEN_AGE_MAX)))
    }
}

impl super::Inner {
    /// Sends a form, and follows no redirect.
    async fn post_form(
        &self,
        url: &Url,
        form: String,
        trust: &OriginTrust,
        local: bool,
    ) -> Result<Reached, SourceError> {
        self.check(url, local).await?;
        let request = self.clients.client(url, trust, local)?.post(url.clone());
        let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        let limit = self.config.first_byte_timeout;
        let sent = tokio::time::timeout(limit, request.send()).map(|sent| match sent {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(failure(url, error)),
            Err(_) => Err(stalled(&redact(url), limit)),
        });
        let response = sent.await?;
        Ok(Reached { url: url.clone(), response, caching: Default::default(), hops: Vec::new() })
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", data_encoding::BASE64.encode(format!("{user}:{password}").as_bytes()))
}

#[derive(Deserialize)]
struct Given {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

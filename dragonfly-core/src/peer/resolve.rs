//! From what a caller asks to what a task is.

use url::Url;

use super::Request;
use super::event::Scope;
use super::origin::OriginAccess;
use crate::node::Node;
use crate::source::{OriginTrust, Retries};
use crate::task::{Algorithm, Class, Digest, SpecOptions, TaskSpec};
use crate::wire::control::TaskInfo;
use crate::{Error, ErrorKind, Result};

/// A request, understood.
pub(crate) struct Resolved {
    pub(super) info: TaskInfo,
    pub(super) label: String,
    pub(super) scope: Scope,
    pub(super) access: Option<OriginAccess>,
    /// It is read with a credential of this host's own.
    pub(super) is_own: bool,
}

impl Resolved {
    /// The task's URL without anything secret.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }
}

/// A request that is held to the digest that its URL names, too.
///
/// # Errors
/// Its own digest is another one, or of another kind, which cannot be compared.
pub(super) fn held(node: &Node, mut request: Request) -> Result<Request> {
    let named = Url::parse(&request.url).ok().and_then(|url| node.sources().named_digest(&url));
    match (&request.digest, named) {
        (_, None) => {}
        (None, named) => request.digest = named,
        (Some(given), Some(named)) if *given == named => {}
        (Some(given), Some(named)) => {
            let what = if given.algorithm() == named.algorithm() { "" } else { ", which cannot be compared" };
            let context = format!("the URL names the digest {named}, the request {given}{what}");
            return Err(Error::new(ErrorKind::InvalidInput, context));
        }
    }
    Ok(request)
}

/// Understands a request of a local caller, which is [`held`] to what it names.
pub(super) fn resolve(node: &Node, request: &Request) -> Result<Resolved> {
    let membership = node.membership();
    let trust = OriginTrust { ca_pem: request.ca_pem.clone(), insecure: request.insecure };
    let options = SpecOptions {
        filtered: request.filtered_query_params.as_deref(),
        tag: &request.tag,
        application: &request.application,
        tenant: &membership.claims().tenant,
        headers: &request.headers,
        tenant_key: Some(membership.tenant_key()),
        tls: fingerprint(&request.ca_pem),
        insecure: request.insecure,
        digest: request.digest.clone(),
        reauth: request.named_by_digest.is_some(),
    };
    if request.named_by_digest.is_some() && !request.digest.as_ref().is_some_and(fixes) {
        return Err(Error::new(ErrorKind::InvalidInput, "only a strong digest can name content in place of its URL"));
    }
    let specified = TaskSpec::of_url(request.named_by_digest.as_ref().unwrap_or(&request.url), &options)
        .map_err(|e| Error::new(ErrorKind::InvalidInput, "the request is malformed").caused_by(e))?;
    let url = Url::parse(&request.url)
        .map_err(|e| Error::new(ErrorKind::InvalidInput, "the URL cannot be parsed").caused_by(e))?;
    if !node.sources().serves(url.scheme()) {
        let context = format!("nothing here fetches {}: URLs", url.scheme());
        return Err(Error::new(ErrorKind::InvalidInput, context));
    }
    let is_own = node.sources().is_own(&url);
    let access = request.back_to_source.then(|| OriginAccess {
        url,
        headers: request.headers.clone(),
        trust,
        local: request.local,
        retries: Retries::default(),
    });
    let plain = request.named_by_digest.is_none()
        && request.headers.is_empty()
        && request.ca_pem.is_empty()
        && !specified.filtered;
    let mut resolved = of_spec(specified.spec, plain, access);
    if is_own {
        // Nobody else is told of what this host reads with credentials of its own, or is asked for it.
        (resolved.scope.class, resolved.info.spec, resolved.is_own) = (Class::HostLocal, None, true);
    }
    Ok(resolved)
}

/// A task that a scheduler asks this seed to take part in.
///
/// # Errors
/// The spec does not have the id that is claimed, or is not one that a seed can fetch by its URL alone.
pub(crate) fn resolve_trigger(node: &Node, info: &TaskInfo) -> Result<Resolved> {
    let refuse = |why: &str| Error::new(ErrorKind::InvalidInput, format!("a trigger was refused: {why}"));
    let spec = info.spec.clone().ok_or_else(|| refuse("it says not what to fetch"))?;
    spec.check().map_err(|e| refuse("its task is malformed").caused_by(e))?;
    if spec.id() != info.task || spec.class != Class::Public || spec.tls.is_some() {
        return Err(refuse("its task is not what it says"));
    }
    if spec.tenant != node.claims().tenant {
        return Err(refuse("it is of another tenant"));
    }
    let url = Url::parse(&spec.url).map_err(|e| refuse("its URL cannot be parsed").caused_by(e))?;
    if !node.sources().serves(url.scheme()) {
        return Err(refuse("nothing here fetches such URLs"));
    }
    let (trust, retries) = (OriginTrust::default(), Retries::default());
    if node.sources().is_own(&url) {
        return Err(refuse("it is read with this host's own credentials"));
    }
    let access = OriginAccess { url, headers: Vec::new(), trust, local: false, retries };
    Ok(of_spec(spec, true, Some(access)))
}

/// `plain`: whoever has the canonical URL can fetch the content as the caller would.
fn of_spec(spec: TaskSpec, plain: bool, access: Option<OriginAccess>) -> Resolved {
    let seedable = plain && spec.class == Class::Public;
    let fixed = spec.digest.as_ref().is_some_and(fixes);
    let scope = Scope { class: spec.class, tenant: spec.tenant.clone(), fixed };
    let (label, task) = (spec.label(), spec.id());
    Resolved { info: TaskInfo { task, spec: seedable.then_some(spec), fixed }, label, scope, access, is_own: false }
}

/// Whether a digest fixes content: others only guard against accidents.
fn fixes(digest: &Digest) -> bool {
    matches!(digest.algorithm(), Algorithm::Blake3 | Algorithm::Sha256 | Algorithm::Sha512)
}

/// The fingerprint of authorities beyond the system's, in whatever order they were given.
fn fingerprint(ca_pem: &[Vec<u8>]) -> Option<[u8; 32]> {
    if ca_pem.is_empty() {
        return None;
    }
    let mut hashes: Vec<[u8; 32]> = ca_pem.iter().map(|pem| *blake3::hash(pem).as_bytes()).collect();
    hashes.sort_unstable();
    hashes.dedup();
    let mut hasher = blake3::Hasher::new_derive_key("dragonfly origin authorities v1");
    for hash in &hashes {
        hasher.update(hash);
    }
    Some(*hasher.finalize().as_bytes())
}

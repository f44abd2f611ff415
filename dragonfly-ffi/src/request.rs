//! What is to be fetched.

use std::ffi::c_char;
use std::time::Duration;

use dragonfly_core::{Digest, Error, ErrorKind, Request, Result};

use crate::args;

/// One piece of content to fetch. Zero is the default of every field but `size` and `url`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dragonfly_request {
    /// `sizeof(dragonfly_request)`.
    pub size: usize,
    /// Where it comes from.
    pub url: *const c_char,
    /// The path that it appears under, once complete and verified; NULL: it stays in the store only.
    pub output: *const c_char,
    /// Whether an existing output may be replaced.
    pub overwrite: bool,
    /// This host must not go to the origin itself: the content must come from peers.
    pub no_back_to_source: bool,
    /// Accepts any TLS certificate of the origin. The content is then kept to this host.
    pub insecure: bool,
    /// Accepts content of any age, also while the origin cannot be reached.
    pub stale_ok: bool,
    /// `priority` counts.
    pub has_priority: bool,
    /// How urgent it is, 0 (most) to 7; without `has_priority` 4.
    pub priority: u8,
    /// `age_max_ms` counts.
    pub has_age_max: bool,
    /// How long ago the origin may have confirmed the content at the most, in milliseconds.
    pub age_max_ms: u64,
    /// The longest time that the whole may take, in milliseconds; 0: no bound but that of progress.
    pub timeout_ms: u64,
    /// The digest that the whole must have, such as "sha256:..."; NULL: any.
    pub digest: *const c_char,
    /// Headers for the origin: name, value, name, value.
    pub headers: *const *const c_char,
    /// How many texts: twice as many as headers.
    pub headers_length: usize,
    /// Keeps content apart that has one URL; NULL: none.
    pub tag: *const c_char,
    /// The application that asks; NULL: none.
    pub application: *const c_char,
    /// Query parameters that do not change the content, in place of the default list; NULL: the default list.
    pub filtered_query_params: *const *const c_char,
    /// How many. With a list that is not NULL, 0 filters none.
    pub filtered_query_params_length: usize,
    /// Certificate authorities to trust beside the system's, in PEM; NULL: none.
    pub ca_pem: *const c_char,
}

crate::args::sized! { dragonfly_request, "request"; }

/// # Safety
/// As [`args::read_sized`], and its texts as [`args::text`].
pub(crate) unsafe fn read(given: *const dragonfly_request) -> Result<Request> {
    // SAFETY: the caller's promise.
    unsafe {
        let given = args::read_sized(given)?;
        let mut request = Request::new(args::text(given.url, "url")?)
            .overwrite(given.overwrite)
            .back_to_source(!given.no_back_to_source)
            .insecure(given.insecure)
            .stale_ok(given.stale_ok);
        if let Some(output) = args::optional_text(given.output, "output")? {
            request = request.output(output);
        }
        if given.has_priority {
            request = request.priority(given.priority);
        }
        if given.has_age_max {
            request = request.age_max(Duration::from_millis(given.age_max_ms));
        }
        if given.timeout_ms > 0 {
            request = request.timeout(Duration::from_millis(given.timeout_ms));
        }
        if let Some(digest) = args::optional_text(given.digest, "digest")? {
            let digest: Digest =
                digest.parse().map_err(|e| Error::new(ErrorKind::InvalidInput, "the digest").caused_by(e))?;
            request = request.digest(digest);
        }
        let headers = args::texts(given.headers, given.headers_length, "headers")?;
        let (pairs, rest) = headers.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "headers: a name without a value"));
        }
        for [name, value] in pairs {
            request = request.header(*name, *value);
        }
        if let Some(tag) = args::optional_text(given.tag, "tag")? {
            request = request.tag(tag);
        }
        if let Some(application) = args::optional_text(given.application, "application")? {
            request = request.application(application);
        }
        if !given.filtered_query_params.is_null() {
            let (list, length) = (given.filtered_query_params, given.filtered_query_params_length);
            request = request.filtered_query_params(args::texts(list, length, "filtered_query_params")?);
        }
        if let Some(pem) = args::optional_text(given.ca_pem, "ca_pem")? {
            request = request.ca_pem(pem);
        }
        Ok(request)
    }
}

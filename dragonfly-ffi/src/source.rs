//! Origins that the program brings: URL schemes of its own.

use std::ffi::{CStr, c_char, c_void};
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use dragonfly_core::source::{
    self, BlockingContent, BlockingSource, OpenRequest, Source, SourceError, SourceErrorKind,
};
use dragonfly_core::{Error, ErrorKind, Result};

use crate::args::{self, sized};
use crate::context::{Context, dragonfly_drop_fn};
use crate::error::{c_text, dragonfly_kind, dragonfly_status};

/// The room for a version as text: 512 bytes and a NUL.
pub const DRAGONFLY_VERSION_ROOM: usize = 520;

/// The room for a message, with its NUL.
pub const DRAGONFLY_MESSAGE_ROOM: usize = 256;

/// What a source is asked for. It lives for the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dragonfly_source_request {
    /// `sizeof(dragonfly_source_request)`, as the library knows it.
    pub size: usize,
    /// The whole URL, credentials and all.
    pub url: *const c_char,
    /// The first byte that is wanted.
    pub range_start: u64,
    /// The end of what is wanted, exclusive; `UINT64_MAX`: the end of the content.
    pub range_end: u64,
    /// The headers of the request that was made of the library: names and values by turns.
    pub headers: *const *const c_char,
    /// How many texts these are, twice the number of headers.
    pub headers_length: usize,
}

/// What a source answers. It is all zeros, but for its size, before the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dragonfly_source_content {
    /// `sizeof(dragonfly_source_content)`, as the library knows it.
    pub size: usize,
    /// Handed to `read` and `close`.
    pub body: *mut c_void,
    /// The length of the whole, if `has_length`.
    pub length: u64,
    /// The offset in the whole of the first byte that `read` will give: `range_start` of the request, or 0 if the origin
    /// has no ranges.
    pub offset: u64,
    /// How long the answer stays current, in milliseconds, if `has_fresh`.
    pub fresh_ms: u64,
    /// Whether the length is known.
    pub has_length: bool,
    /// Whether the origin says how long the answer stays current.
    pub has_fresh: bool,
    /// Whether the origin serves ranges.
    pub ranges: bool,
    /// What tells this version from all others, as text; "": nothing does, and a download that breaks off begins anew.
    pub version: [c_char; DRAGONFLY_VERSION_ROOM],
}

/// Why a source could not answer. It is all zeros, but for its size, before the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dragonfly_source_failure {
    /// `sizeof(dragonfly_source_failure)`, as the library knows it.
    pub size: usize,
    /// Whether the same call may succeed later: it is tried again.
    pub temporary: bool,
    /// What happened, as text, without credentials.
    pub message: [c_char; DRAGONFLY_MESSAGE_ROOM],
}

/// Asks the origin for content. Anything but `DRAGONFLY_OK` is a failure, and `close` is then not called.
pub type dragonfly_source_open_fn = Option<
    unsafe extern "C" fn(
        ctx: *mut c_void,
        request: *const dragonfly_source_request,
        content: *mut dragonfly_source_content,
        failure: *mut dragonfly_source_failure,
    ) -> dragonfly_status,
>;

/// Reads from a body: at least one byte and at most `room`, 0 at its end. One body is read by one thread at a time.
pub type dragonfly_source_read_fn = Option<
    unsafe extern "C" fn(
        ctx: *mut c_void,
        body: *mut c_void,
        buffer: *mut u8,
        room: usize,
        read: *mut usize,
        failure: *mut dragonfly_source_failure,
    ) -> dragonfly_status,
>;

/// The last call with this `body`.
pub type dragonfly_source_close_fn = Option<unsafe extern "C" fn(ctx: *mut c_void, body: *mut c_void)>;

/// An origin that the program brings, for one URL scheme. Its callbacks are called from threads of the library's that are
/// there to be blocked, several at once (but one at a time with one `body`). A call under way cannot be withdrawn from:
/// what waits in it must have a bound of its own. They may call any function of the library, and free any handle. They
/// must not throw or jump out.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dragonfly_source {
    /// `sizeof(dragonfly_source)`.
    pub size: usize,
    /// The scheme, in lower case, such as "s3". It takes the place of a source that the library has for it.
    pub scheme: *const c_char,
    /// Must be there.
    pub open: dragonfly_source_open_fn,
    /// Must be there.
    pub read: dragonfly_source_read_fn,
    /// Called when a body is used no more, or NULL.
    pub close: dragonfly_source_close_fn,
    /// Handed to each.
    pub ctx: *mut c_void,
    /// Called when `ctx` is used no more, or NULL.
    pub drop: dragonfly_drop_fn,
}

sized! {
    dragonfly_source, "source";
    dragonfly_source_content, "source content";
    dragonfly_source_failure, "source failure";
    dragonfly_source_request, "source request";
}

/// The program's callbacks.
#[derive(Clone, Copy)]
struct Calls {
    open: unsafe extern "C" fn(
        *mut c_void,
        *const dragonfly_source_request,
        *mut dragonfly_source_content,
        *mut dragonfly_source_failure,
    ) -> dragonfly_status,
    read: unsafe extern "C" fn(
        *mut c_void,
        *mut c_void,
        *mut u8,
        usize,
        *mut usize,
        *mut dragonfly_source_failure,
    ) -> dragonfly_status,
    close: dragonfly_source_close_fn,
}

/// A source of the program's, its scheme, and what registers it.
pub(crate) struct Registered {
    pub(crate) scheme: String,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) context: Arc<Context>,
}

/// Reads a source.
///
/// # Safety
/// As [`args::read_sized`].
pub(crate) unsafe fn read(given: *const dragonfly_source) -> Result<Registered> {
    // SAFETY: the caller's promise.
    let (given, scheme) = unsafe {
        let given = args::read_sized(given)?;
        (given, args::text(given.scheme, "scheme")?.to_owned())
    };
    let invalid = |what: &str| Error::new(ErrorKind::InvalidInput, format!("source: {what}"));
    let mut letters = scheme.bytes();
    let named = letters.next().is_some_and(|first| first.is_ascii_lowercase())
        && letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"+-.".contains(&c));
    if !named {
        return Err(invalid("its scheme is not one of a URL, in lower case"));
    }
    let open = given.open.ok_or_else(|| invalid("open is NULL"))?;
    let read = given.read.ok_or_else(|| invalid("read is NULL"))?;
    let calls = Calls { open, read, close: given.close };
    let context = Arc::new(Context::new(given.ctx, given.drop));
    let source = source::blocking(Origin { calls, context: Arc::clone(&context) });
    Ok(Registered { scheme, source, context })
}

struct Origin {
    calls: Calls,
    context: Arc<Context>,
}

impl BlockingSource for Origin {
    fn open(&self, request: &OpenRequest) -> std::result::Result<BlockingContent, SourceError> {
        let url = c_text(request.url.as_str());
        let texts = request.headers.iter().flat_map(|(name, value)| [c_text(name), c_text(value)]).collect::<Vec<_>>();
        let headers: Vec<_> = texts.iter().map(|text| text.as_ptr()).collect();
        let range = request.range.clone().unwrap_or(0..u64::MAX);
        let asked = dragonfly_source_request {
            size: size_of::<dragonfly_source_request>(),
            url: url.as_ptr(),
            range_start: range.start,
            range_end: range.end,
            headers: headers.as_ptr(),
            headers_length: headers.len(),
        };
        let mut content = args::zeroed::<dragonfly_source_content>();
        let mut failure = args::zeroed::<dragonfly_source_failure>();
        let called = self.context.call(|ctx| {
            // SAFETY: as the program registered it; everything lives for the call.
            unsafe { (self.calls.open)(ctx, &raw const asked, &raw mut content, &raw mut failure) }
        });
        judge(called, &failure)?;
        let body = Body { calls: self.calls, body: content.body, context: Arc::clone(&self.context) };
        let version = text_of(&content.version);
        let mut opened = BlockingContent::new(body);
        opened.length = content.has_length.then_some(content.length);
        opened.offset = content.offset;
        opened.ranges = content.ranges;
        opened.fresh = content.has_fresh.then(|| Duration::from_millis(content.fresh_ms));
        opened.version = (!version.is_empty()).then_some(version);
        Ok(opened)
    }
}

struct Body {
    calls: Calls,
    body: *mut c_void,
    context: Arc<Context>,
}

// SAFETY: the program promises that it may be used from any thread, one at a time.
unsafe impl Send for Body {}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        let mut failure = args::zeroed::<dragonfly_source_failure>();
        let called = self.context.call(|ctx| {
            let (start, room) = (buffer.as_mut_ptr(), buffer.len());
            // SAFETY: as the program registered it; everything lives for the call.
            unsafe { (self.calls.read)(ctx, self.body, start, room, &raw mut read, &raw mut failure) }
        });
        judge(called, &failure).map_err(io::Error::other)?;
        Ok(read)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(close) = self.calls.close {
            // SAFETY: as the program registered it.
            self.context.call(|ctx| unsafe { close(ctx, self.body) });
        }
    }
}

/// Whether a callback succeeded; `None`: it was not called, because its node could not be started.
fn judge(status: Option<dragonfly_status>, failure: &dragonfly_source_failure) -> std::result::Result<(), SourceError> {
    use dragonfly_kind as Kind;
    let kinds = [
        (Kind::DRAGONFLY_FORBIDDEN, SourceErrorKind::Forbidden),
        (Kind::DRAGONFLY_INVALID_INPUT, SourceErrorKind::InvalidInput),
        (Kind::DRAGONFLY_IO, SourceErrorKind::Local),
        (Kind::DRAGONFLY_NETWORK, SourceErrorKind::Network),
        (Kind::DRAGONFLY_NOT_FOUND, SourceErrorKind::NotFound),
        (Kind::DRAGONFLY_TIMEOUT, SourceErrorKind::Stalled),
    ];
    let status = match status {
        Some(0) => return Ok(()),
        Some(status) => status,
        None => return Err(SourceError::new(SourceErrorKind::Local, "the source is gone")),
    };
    let kind = kinds.iter().find(|(kind, _)| *kind as i32 == status).map_or(SourceErrorKind::Origin, |(_, kind)| *kind);
    let message = text_of(&failure.message);
    let message = if message.is_empty() { "the source failed, and does not say why" } else { &message };
    Err(SourceError::new(kind, message).temporary(failure.temporary))
}

/// Text that the program wrote into a room of ours.
fn text_of<const ROOM: usize>(room: &[c_char; ROOM]) -> String {
    // SAFETY: any bytes are characters of C.
    let bytes = unsafe { std::slice::from_raw_parts(room.as_ptr().cast::<u8>(), ROOM) };
    match CStr::from_bytes_until_nul(bytes) {
        Ok(text) => text.to_string_lossy().into_owned(),
        // It was filled to the last byte.
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

//! What the library has to say.

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use dragonfly_core::log::{self, Level};

use crate::args::{self, sized};
use crate::boundary::run;
use crate::context::{Context, dragonfly_drop_fn};
use crate::error::{c_text, dragonfly_error, dragonfly_status};

/// How much a record matters.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dragonfly_log_level {
    /// Something failed for good.
    DRAGONFLY_LOG_ERROR = 1,
    /// Something is not as it should be; the library goes on.
    DRAGONFLY_LOG_WARN = 2,
    /// What an operator wants to know.
    DRAGONFLY_LOG_INFO = 3,
    /// What a developer wants to know.
    DRAGONFLY_LOG_DEBUG = 4,
    /// Everything.
    DRAGONFLY_LOG_TRACE = 5,
}

/// One thing that the library has to say; it holds no credential. It lives for the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dragonfly_log_record {
    /// `sizeof(dragonfly_log_record)`, as the library knows it.
    pub size: usize,
    /// A `dragonfly_log_level`.
    pub level: i32,
    /// Which part of the library says it.
    pub target: *const c_char,
    /// What it says, in one line.
    pub message: *const c_char,
}

/// A record.
pub type dragonfly_log_fn = Option<unsafe extern "C" fn(ctx: *mut c_void, record: *const dragonfly_log_record)>;

/// Where the library's log goes. `on_record` is called from any thread, several at once, and must not block: it calls
/// functions that do not block only, and must not throw or jump out. What the library says because of it is not told.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dragonfly_log {
    /// `sizeof(dragonfly_log)`.
    pub size: usize,
    /// The `dragonfly_log_level` down to which it is told; 0: `DRAGONFLY_LOG_INFO`. Of the libraries beneath this one,
    /// warnings and errors at most.
    pub level: i32,
    /// Must be there.
    pub on_record: dragonfly_log_fn,
    /// Handed to it.
    pub ctx: *mut c_void,
    /// Called when `ctx` is used no more, or NULL.
    pub drop: dragonfly_drop_fn,
}

sized! {
    dragonfly_log, "log";
    dragonfly_log_record, "log record";
}

fn number(level: Level) -> i32 {
    use dragonfly_log_level as Number;
    (match level {
        Level::Error => Number::DRAGONFLY_LOG_ERROR,
        Level::Warn => Number::DRAGONFLY_LOG_WARN,
        Level::Info => Number::DRAGONFLY_LOG_INFO,
        Level::Debug => Number::DRAGONFLY_LOG_DEBUG,
        _ => Number::DRAGONFLY_LOG_TRACE,
    }) as i32
}

/// Has the library tell what it has to say; one callback for the process, in place of the one before. NULL: none, as it
/// is at the start. If this function fails, the one before stays, and no callback of the new one is ever called, `drop`
/// included.
///
/// Any thread but a log callback's; does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_log_set(
    log: *const dragonfly_log,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        run(error, || {
            if log.is_null() {
                log::unset();
                return Ok(());
            }
            let given = args::read_sized(log)?;
            let call = given.on_record.ok_or_else(|| args::invalid("on_record is NULL"))?;
            let wanted = if given.level == 0 { number(Level::Info) } else { given.level };
            let level = Level::ALL.iter().copied().find(|level| number(*level) == wanted);
            let level = level.ok_or_else(|| args::invalid("level is none of DRAGONFLY_LOG_*"))?;
            let context = Arc::new(Context::new(given.ctx, given.drop));
            let kept = Arc::clone(&context);
            let set = log::set(level, move |record| {
                let (target, message) = (c_text(record.target), c_text(record.message));
                let shown = dragonfly_log_record {
                    size: size_of::<dragonfly_log_record>(),
                    level: number(record.level),
                    target: target.as_ptr(),
                    message: message.as_ptr(),
                };
                // As the program registered it; everything lives for the call.
                context.call(|ctx| call(ctx, &raw const shown));
            });
            set.inspect_err(|_| kept.withdraw())
        })
    }
}

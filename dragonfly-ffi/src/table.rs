//! The live handles of the process.
//!
//! A handle is a number that C sees as a pointer to an incomplete type. It is looked up, never followed, and never given
//! out twice: a stale or forged one is found out, whatever other threads do meanwhile. Costs one lock of one of a few
//! shards per call, which no call that moves data notices.

use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use dragonfly_core::{Error, ErrorKind, Result};

/// Ties the type that C sees to what is behind it.
pub(crate) trait Handle: Sized {
    /// What is behind the handle.
    type Object: Send + Sync + 'static;
    /// How the type is called in errors.
    const NAME: &'static str;
}

type Shard = RwLock<HashMap<u64, Arc<dyn Any + Send + Sync>>>;

/// Enough that threads which use different handles seldom meet.
const SHARDS: usize = 16;

/// Bits that no address of a process has, so that a program which follows a handle stops at once.
const TAG: u64 = 0x4df0_0000_0000_0000;

/// Handles look aligned to who checks alignment.
const SHIFT: u32 = 4;

static TABLE: LazyLock<[Shard; SHARDS]> = LazyLock::new(Default::default);
static NEXT: AtomicU64 = AtomicU64::new(1);
static LIVE: AtomicUsize = AtomicUsize::new(0);

fn shard(number: u64) -> &'static Shard {
    &TABLE[number as usize % SHARDS]
}

fn number<H>(handle: *const H) -> u64 {
    (handle.addr() as u64 ^ TAG) >> SHIFT
}

/// Gives an object a handle.
pub(crate) fn insert<H: Handle>(object: H::Object) -> *mut H {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let object: Arc<dyn Any + Send + Sync> = Arc::new(object);
    shard(number).write().unwrap_or_else(PoisonError::into_inner).insert(number, object);
    LIVE.fetch_add(1, Ordering::Relaxed);
    std::ptr::without_provenance_mut(((number << SHIFT) | TAG) as usize)
}

/// What is behind a handle.
pub(crate) fn get<H: Handle>(handle: *const H) -> Result<Arc<H::Object>> {
    let invalid = |why: &str| Err(Error::new(ErrorKind::InvalidInput, format!("{} handle: {why}", H::NAME)));
    if handle.is_null() {
        return invalid("it is NULL");
    }
    let found = shard(number(handle)).read().unwrap_or_else(PoisonError::into_inner).get(&number(handle)).cloned();
    match found.map(|object| object.downcast::<H::Object>()) {
        Some(Ok(object)) => Ok(object),
        Some(Err(_)) => invalid("it is a handle of another type"),
        None => invalid("it was freed, or never was one"),
    }
}

/// Takes a handle back. NULL, stale and foreign ones are left alone.
pub(crate) fn free<H: Handle>(handle: *mut H) {
    if get::<H>(handle).is_err() {
        return;
    }
    let removed = shard(number(handle)).write().unwrap_or_else(PoisonError::into_inner).remove(&number(handle));
    // Dropped outside of the lock: destructors may free other handles.
    if removed.is_some() {
        LIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many handles of the process are live: for tests of leaks.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub extern "C" fn dragonfly_live_handles() -> usize {
    LIVE.load(Ordering::Relaxed)
}

/// Declares handle types.
macro_rules! handle {
    ($handle:ident, $object:ty, $name:literal) => {
        impl $crate::table::Handle for $handle {
            type Object = $object;
            const NAME: &'static str = $name;
        }
    };
}
pub(crate) use handle;

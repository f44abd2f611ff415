//! What the store holds.

use std::ffi::{CString, c_char};

use dragonfly_core::{Error, ErrorKind, TaskInfo};

use crate::args;
use crate::boundary::{free, run, run_or};
use crate::error::{c_text, dragonfly_error, dragonfly_status};
use crate::receipt::{DRAGONFLY_ID_ROOM, room};
use crate::table::{self, handle};

/// A list of tasks. Freed with `dragonfly_tasks_free`.
pub struct dragonfly_tasks {
    _private: [u8; 0],
}

/// A list, as C holds it.
pub struct TasksObject(Vec<(TaskInfo, CString)>);

handle!(dragonfly_tasks, TasksObject, "tasks");

/// A task as the store holds it. The caller sets `size` before the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dragonfly_task_info {
    /// `sizeof(dragonfly_task_info)`.
    pub size: usize,
    /// The task.
    pub task: [c_char; DRAGONFLY_ID_ROOM],
    /// The version of its content.
    pub generation: [c_char; DRAGONFLY_ID_ROOM],
    /// Its URL without anything secret. It lives as long as the list.
    pub label: *const c_char,
    /// Its length in bytes.
    pub length: u64,
    /// Bytes of it that are held and proven.
    pub bytes_held: u64,
    /// Hosts that its pieces are exchanged with now.
    pub neighbours: u32,
    /// Whether every piece is held.
    pub complete: bool,
    /// Whether it is kept whatever the quota says.
    pub pinned: bool,
}

crate::args::sized! { dragonfly_task_info, "task info"; }

/// Makes a list.
pub(crate) fn give(tasks: Vec<TaskInfo>) -> *mut dragonfly_tasks {
    let named = tasks.into_iter().map(|info| {
        let label = c_text(&info.label);
        (info, label)
    });
    table::insert::<dragonfly_tasks>(TasksObject(named.collect()))
}

/// How many there are; 0 for what is no list.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub extern "C" fn dragonfly_tasks_length(tasks: *const dragonfly_tasks) -> usize {
    run_or(0, || Ok(table::get(tasks)?.0.len()))
}

/// One of them, from 0.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dragonfly_tasks_get(
    tasks: *const dragonfly_tasks,
    index: usize,
    info: *mut dragonfly_task_info,
    error: *mut *mut dragonfly_error,
) -> dragonfly_status {
    // SAFETY: what the caller owes for its pointers.
    unsafe {
        run(error, || {
            let list = table::get(tasks)?;
            let beyond =
                || Error::new(ErrorKind::InvalidInput, format!("there are {} tasks in the list", list.0.len()));
            let (task, label) = list.0.get(index).ok_or_else(beyond)?;
            let shown = dragonfly_task_info {
                size: size_of::<dragonfly_task_info>(),
                task: room(&task.task.to_string()),
                generation: room(&task.generation.to_string()),
                label: label.as_ptr(),
                length: task.length,
                bytes_held: task.bytes_held,
                neighbours: task.neighbours,
                complete: task.complete,
                pinned: task.pinned,
            };
            args::write_sized(info, &shown)
        })
    }
}

/// Frees the list. NULL is fine.
///
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub extern "C" fn dragonfly_tasks_free(tasks: *mut dragonfly_tasks) {
    free(tasks);
}

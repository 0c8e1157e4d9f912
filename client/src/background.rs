//! Background tasks of the prompt, as seen from within the task.

use std::sync::{Arc, Mutex, PoisonError};

/// Latest progress line of a background task.
pub(crate) type TaskStatus = Arc<Mutex<String>>;

tokio::task_local! {
    /// Progress of this task; set in background tasks only.
    pub(crate) static STATUS: TaskStatus;
}

/// Returns true in a background task. Such a task must not move the cursor.
pub(crate) fn is_background_task() -> bool {
    STATUS.try_with(|_| ()).is_ok()
}

/// Stores the progress of this background task for `jobs`.
pub(crate) fn set_status(text: String) {
    let _ = STATUS.try_with(|status| *status.lock().unwrap_or_else(PoisonError::into_inner) = text);
}

//! Background tasks of the prompt.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{task::JoinHandle, time};
use tokio_util::sync::CancellationToken;
use wire::grammar::counted;

use super::line::Entered;
use crate::{
    background::{STATUS, TaskStatus},
    commands,
    context::Context,
    exit::Exit,
    output::{print, status},
};

/// Time for a cancelled task to end by itself.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);
/// Tasks that run at the same time.
const MAX_TASKS: usize = 32;

/// Background tasks by number.
#[derive(Default)]
pub(super) struct BackgroundTasks {
    tasks: BTreeMap<u32, Task>,
    last: u32,
    /// Set once a task failed.
    has_failed: Arc<AtomicBool>,
}

struct Task {
    line: String,
    status: TaskStatus,
    cancel: CancellationToken,
    handle: JoinHandle<()>,
}

impl BackgroundTasks {
    /// Starts a task; returns false if too many run.
    pub(super) fn start(&mut self, context: &Context, entered: Entered, line: &str) -> bool {
        if self.tasks.len() >= MAX_TASKS {
            status(&format!("{MAX_TASKS} background tasks run already: wait for one or cancel one."));
            return false;
        }
        self.last += 1;
        let (number, task_status, cancel) = (self.last, TaskStatus::default(), context.cancel.child_token());
        let own = context.with_options(entered.common, cancel.clone());
        let (text, has_failed) = (line.to_owned(), Arc::clone(&self.has_failed));
        let work = async move {
            let exit = commands::run(&own, entered.command).await;
            has_failed.fetch_or(matches!(exit, Exit::Failed | Exit::Usage), Ordering::Relaxed);
            let ended = match exit {
                Exit::Done => "is done",
                Exit::Failed | Exit::Usage | Exit::OutputClosed => "failed",
                Exit::Interrupted => "was cancelled; the same command resumes it",
            };
            status(&format!("[{number}] {ended}: {text}"));
        };
        let handle = tokio::spawn(STATUS.scope(Arc::clone(&task_status), work));
        status(&format!("[{number}] started (jobs lists it, wait {number} waits for it, cancel {number} cancels it)"));
        self.tasks.insert(number, Task { line: line.to_owned(), status: task_status, cancel, handle });
        true
    }

    /// Returns true once a task failed.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.values().all(|task| task.handle.is_finished())
    }

    pub(super) fn remove_ended(&mut self) {
        self.tasks.retain(|_, task| !task.handle.is_finished());
    }

    pub(super) fn exit_question(&self) -> String {
        let tasks = counted(self.tasks.len(), "running background task");
        format!("Cancel {tasks} and leave? A cancelled task can be resumed. [y/N] ")
    }

    pub(super) fn list(&self) {
        for (number, task) in self.tasks.iter().filter(|(_, task)| !task.handle.is_finished()) {
            let task_status = task.status.lock().unwrap_or_else(PoisonError::into_inner);
            print(&format!("[{number}] {}", task.line));
            if !task_status.is_empty() {
                print(&format!("    {task_status}"));
            }
        }
    }

    /// Returns the numbers of the named tasks; of all tasks when none is named.
    fn selected(&self, names: &[&str]) -> Vec<u32> {
        if names.is_empty() {
            return self.tasks.keys().copied().collect();
        }
        let numbers = names.iter().filter_map(|name| {
            let number =
                name.trim_matches(['[', ']', '%']).parse().ok().filter(|number| self.tasks.contains_key(number));
            if number.is_none() {
                status(&format!("No background task {}; type jobs for a list.", name.escape_debug()));
            }
            number
        });
        numbers.collect()
    }

    /// Waits for tasks. Returns false if `cancel` was cancelled meanwhile.
    pub(super) async fn wait(&mut self, names: &[&str], cancel: &CancellationToken) -> bool {
        for number in self.selected(names) {
            let Some(task) = self.tasks.get_mut(&number) else { continue };
            if cancel.run_until_cancelled(&mut task.handle).await.is_none() {
                return false;
            }
            self.tasks.remove(&number);
        }
        true
    }

    pub(super) async fn cancel(&mut self, names: &[&str]) {
        if names.is_empty() {
            status("Give the number of a background task; type jobs for a list.");
            return;
        }
        for number in self.selected(names) {
            if let Some(task) = self.tasks.remove(&number) {
                end(task).await;
            }
        }
    }

    pub(super) async fn cancel_all(&mut self) {
        self.tasks.values().for_each(|task| task.cancel.cancel());
        for (_, task) in std::mem::take(&mut self.tasks) {
            end(task).await;
        }
    }
}

async fn end(mut task: Task) {
    task.cancel.cancel();
    if time::timeout(CANCEL_TIMEOUT, &mut task.handle).await.is_err() {
        task.handle.abort();
    }
}

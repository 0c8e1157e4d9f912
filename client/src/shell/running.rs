//! What runs beside the prompt.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{task::JoinHandle, time};
use tokio_util::sync::CancellationToken;
use wire::TraceId;

use crate::{
    cli::Command,
    commands::{self, Context, Exit, say, tell},
};

/// How long what runs may take to end when it is told to.
const LEAVE: Duration = Duration::from_secs(5);
/// What may run at once.
const MOST: usize = 32;

tokio::task_local! {
    /// How far the download of this task is; set for what runs beside a prompt alone.
    static STATUS: Arc<Mutex<String>>;
}

/// Whether this task runs beside a prompt: it must not move the cursor.
pub(crate) fn in_background() -> bool {
    STATUS.try_with(|_| ()).is_ok()
}

/// Notes how far this task is, for whoever asks.
pub(crate) fn note_status(words: String) {
    let _ = STATUS.try_with(|status| *status.lock().unwrap_or_else(PoisonError::into_inner) = words);
}

/// All that runs, by number.
#[derive(Default)]
pub(super) struct Running {
    tasks: BTreeMap<u32, Task>,
    last: u32,
}

struct Task {
    line: String,
    status: Arc<Mutex<String>>,
    cancel: CancellationToken,
    handle: JoinHandle<()>,
}

impl Running {
    pub(super) fn start(&mut self, context: &Context, command: Command, line: &str) {
        if self.tasks.len() >= MOST {
            tell(&format!("{MOST} things run already: wait for one of them, or cancel it."));
            return;
        }
        self.last += 1;
        let (number, status, cancel) = (self.last, Arc::default(), context.cancel.child_token());
        let own = Context { common: context.common.clone(), cancel: cancel.clone(), trace: TraceId::new() };
        let words = line.to_owned();
        let work = async move {
            let exit = commands::outcome(&own, command).await;
            let ended = match exit {
                Exit::Done => "is done",
                Exit::Failed => "failed",
                Exit::Interrupted => "was ended; the same command goes on with it",
            };
            tell(&format!("[{number}] {ended}: {words}"));
        };
        let handle = tokio::spawn(STATUS.scope(Arc::clone(&status), work));
        tell(&format!("[{number}] runs. jobs shows it, wait {number} waits for it, cancel {number} ends it."));
        self.tasks.insert(number, Task { line: line.to_owned(), status, cancel, handle });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.values().all(|task| task.handle.is_finished())
    }

    pub(super) fn forget_ended(&mut self) {
        self.tasks.retain(|_, task| !task.handle.is_finished());
    }

    pub(super) fn question(&self) -> String {
        format!("{} running; end it, to be resumed later? [y/N] ", self.tasks.len())
    }

    pub(super) fn list(&self) {
        for (number, task) in self.tasks.iter().filter(|(_, task)| !task.handle.is_finished()) {
            let status = task.status.lock().unwrap_or_else(PoisonError::into_inner);
            say(&format!("[{number}] {}", task.line));
            if !status.is_empty() {
                say(&format!("    {status}"));
            }
        }
    }

    /// The tasks that are meant; all when none is named.
    fn meant(&self, which: &[&str]) -> Vec<u32> {
        if which.is_empty() {
            return self.tasks.keys().copied().collect();
        }
        let named = which.iter().filter_map(|word| {
            let number =
                word.trim_matches(['[', ']', '%']).parse().ok().filter(|number| self.tasks.contains_key(number));
            if number.is_none() {
                tell(&format!("Nothing runs here under {}; jobs shows what does.", word.escape_debug()));
            }
            number
        });
        named.collect()
    }

    pub(super) async fn wait(&mut self, which: &[&str], cancel: &CancellationToken) {
        for number in self.meant(which) {
            let Some(task) = self.tasks.get_mut(&number) else { continue };
            if cancel.run_until_cancelled(&mut task.handle).await.is_none() {
                return;
            }
            self.tasks.remove(&number);
        }
    }

    pub(super) async fn cancel(&mut self, which: &[&str]) {
        if which.is_empty() {
            tell("Which? jobs shows the numbers.");
            return;
        }
        for number in self.meant(which) {
            if let Some(task) = self.tasks.remove(&number) {
                end(task).await;
            }
        }
    }

    pub(super) async fn end_all(&mut self) {
        self.tasks.values().for_each(|task| task.cancel.cancel());
        for (_, task) in std::mem::take(&mut self.tasks) {
            end(task).await;
        }
    }
}

async fn end(mut task: Task) {
    task.cancel.cancel();
    if time::timeout(LEAVE, &mut task.handle).await.is_err() {
        task.handle.abort();
    }
}

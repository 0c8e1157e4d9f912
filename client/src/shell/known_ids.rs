//! Words for the completion: commands of the prompt, ids and names.

use std::sync::{Arc, Mutex};

/// Commands of the prompt that the command line lacks, or has with another meaning.
pub(super) const SHELL_COMMANDS: [(&str, &str); 5] = [
    ("help", "Show this list"),
    ("jobs", "List the background tasks and the jobs that you requested"),
    ("wait", "Wait for all background tasks, or for those with the given numbers"),
    ("cancel", "Cancel the background task with a number; the same command resumes it later"),
    ("exit", "Leave the prompt; background tasks are cancelled and can be resumed"),
];
/// Commands that are not available at the prompt.
pub(super) const HIDDEN_COMMANDS: [&str; 3] = ["shell", "completions", "man"];

/// Ids and names of files and jobs, for the completion.
pub(super) type KnownIds = Arc<Mutex<Vec<String>>>;

//! Exit statuses.

/// Outcome of a command; its number is the exit status of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Success.
    Done = 0,
    /// Failure; the error was printed.
    Failed = 1,
    /// Arguments that contradict each other or the state they refer to; the error was printed.
    Usage = 2,
    /// Interruption by a signal; completed work is kept.
    Interrupted = 3,
    /// The reader of `-o -` closed its end; the status of curl.
    OutputClosed = 23,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Arguments that only the command itself can refuse. They have the exit status of the errors that the parser finds.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);

impl UsageError {
    /// Returns the refusal as the error of a command.
    pub(crate) fn refusal(message: impl Into<String>) -> anyhow::Error {
        Self(message.into()).into()
    }
}

//! The ways to show a download.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use wire::{FileId, FileName, catalogue::FileSummary};

use crate::background;

/// File that is shown.
#[derive(Debug, Clone)]
pub struct ShownFile {
    /// Id of the file.
    pub id: FileId,
    /// Name of the file.
    pub name: FileName,
    /// Size in bytes.
    pub size: u64,
}

impl From<&FileSummary> for ShownFile {
    fn from(file: &FileSummary) -> Self {
        Self { id: file.id, name: file.name.clone(), size: file.size }
    }
}

/// Way to show a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Display {
    /// Moving bars on a terminal.
    Bars,
    /// A line now and then, for logs and simple terminals.
    Lines,
    /// One JSON object per line.
    Json,
    /// The result only.
    Quiet,
    /// Notices, and the progress on request: the download runs beside a prompt.
    Background,
}

impl Display {
    /// Returns the display that suits standard error.
    pub fn choose(json: bool, quiet: bool) -> Self {
        match (json, quiet) {
            (true, _) => Self::Json,
            _ if background::is_background_task() => Self::Background,
            (false, true) => Self::Quiet,
            (false, false) if io::stderr().is_terminal() && moves_cursor(std::env::var("TERM").ok()) => Self::Bars,
            (false, false) => Self::Lines,
        }
    }

    /// Returns true if a person looks on.
    pub(super) fn is_on_terminal(self) -> bool {
        self != Self::Json && io::stderr().is_terminal()
    }

    pub(super) const fn interval(self) -> Duration {
        Duration::from_millis(match self {
            Self::Bars => 100,
            Self::Lines | Self::Json | Self::Quiet | Self::Background => 1000,
        })
    }
}

/// Returns true for a terminal whose cursor can be moved.
fn moves_cursor(terminal: Option<String>) -> bool {
    terminal.is_some_and(|terminal| !terminal.is_empty() && terminal != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_for_terminals_that_can_move_their_cursor() {
        for (terminal, moves) in [(None, false), (Some(""), false), (Some("dumb"), false), (Some("xterm"), true)] {
            assert_eq!(moves_cursor(terminal.map(str::to_owned)), moves, "{terminal:?}");
        }
    }
}

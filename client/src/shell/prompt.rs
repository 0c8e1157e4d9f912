//! The input line. It is read on a thread of its own, so that no task waits for it.

use std::{path::PathBuf, thread};

use anyhow::Context as _;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::{CompletionType, Config, Editor, ExternalPrinter as _, error::ReadlineError, history::FileHistory};
use tokio::sync::mpsc;

use super::{complete::Completion, known_ids::KnownIds};
use crate::output::{set_prompt_printer, status};

/// Lines of history that are stored.
const MAX_HISTORY_LINES: usize = 1000;

/// Answer to a question.
pub(super) enum Input {
    /// Line of text.
    Line(String),
    /// Ctrl-C: the line is discarded.
    Interrupt,
    /// Ctrl-D, or the end of the input.
    End,
}

/// Open prompt.
pub(super) struct Prompt {
    questions: std::sync::mpsc::Sender<String>,
    answers: mpsc::Receiver<Input>,
    /// Settings of the terminal before the prompt. An unfinished line would leave others behind.
    terminal: Option<Termios>,
}

impl Prompt {
    pub(super) fn open(known_ids: &KnownIds, json: bool) -> anyhow::Result<Self> {
        let terminal = tcgetattr(std::io::stdin()).ok();
        let config = Config::builder()
            .max_history_size(MAX_HISTORY_LINES)?
            .history_ignore_dups(true)?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .build();
        let mut editor: Editor<Completion, FileHistory> = Editor::with_config(config)?;
        editor.set_helper(Some(Completion::new(known_ids)));
        let history = history().inspect_err(|error| status(&format!("History is not stored: {error:#}"))).ok();
        if let Some(path) = &history {
            // A missing or unreadable history starts empty.
            let _ = editor.load_history(path);
        }
        if !json && let Ok(mut printer) = editor.create_external_printer() {
            // Fails only when the terminal is closed.
            set_prompt_printer(Some(Box::new(move |text| drop(printer.print(text)))));
        }
        let (questions, asked) = std::sync::mpsc::channel::<String>();
        let (answered, answers) = mpsc::channel(1);
        let reader = thread::Builder::new().name("prompt".to_owned());
        reader
            .spawn(move || {
                for question in asked {
                    if answered.blocking_send(read(&mut editor, &question, history.as_ref())).is_err() {
                        return;
                    }
                }
            })
            .context("cannot open the prompt")?;
        Ok(Self { questions, answers, terminal })
    }

    /// Prompts for one line.
    pub(super) async fn ask(&mut self, question: &str) -> Input {
        if self.questions.send(question.to_owned()).is_err() {
            return Input::End;
        }
        self.answers.recv().await.unwrap_or(Input::End)
    }

    /// Asks a yes-or-no question. The end of the input means yes.
    pub(super) async fn confirm(&mut self, question: &str) -> bool {
        match self.ask(question).await {
            Input::Line(line) => matches!(line.trim().to_lowercase().as_str(), "y" | "yes"),
            Input::Interrupt => false,
            Input::End => true,
        }
    }

    /// Restores the terminal.
    pub(super) fn close(self) {
        set_prompt_printer(None);
        if let Some(terminal) = &self.terminal {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, terminal);
        }
    }
}

fn read(editor: &mut Editor<Completion, FileHistory>, question: &str, history: Option<&PathBuf>) -> Input {
    match editor.readline(question) {
        Ok(line) => {
            if !holds_secret(&line) {
                let _ = editor.add_history_entry(&line);
            }
            // Written after every line: the process may be killed. The file is readable by its owner only.
            if let Some(Err(error)) = history.map(|path| editor.save_history(path)) {
                tracing::debug!(%error, "cannot write the history");
            }
            Input::Line(line)
        }
        Err(ReadlineError::Interrupted) => Input::Interrupt,
        Err(_) => Input::End,
    }
}

/// Returns true if a line has a header field, which may hold credentials, on the line itself and not in a file.
fn holds_secret(line: &str) -> bool {
    line.split_whitespace().any(|word| word.starts_with("-H") || word.starts_with("--header"))
}

/// Returns the path of the history.
///
/// # Errors
/// When the user's state folder is unknown or cannot be created.
fn history() -> anyhow::Result<PathBuf> {
    let dirs = directories::ProjectDirs::from("", "", "ddm").context("cannot find your home folder")?;
    let folder = dirs.state_dir().unwrap_or_else(|| dirs.data_local_dir()).to_owned();
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder.join("history"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_a_header_field_stays_out_of_the_history() {
        for line in ["fetch -H 'X-Key: k' http://a.org/", "http://a.org/ --header=X-Key:k", "-HX-Key:k http://a.org/"] {
            assert!(holds_secret(line), "{line}");
        }
        assert!(!holds_secret("fetch http://a.org/-H --help") && !holds_secret("list"));
    }
}

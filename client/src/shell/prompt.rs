//! The line that is being typed. It is read on a thread of its own, so that nothing else waits for it.

use std::{path::PathBuf, thread};

use anyhow::Context as _;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::{CompletionType, Config, Editor, ExternalPrinter as _, error::ReadlineError, history::FileHistory};
use tokio::sync::mpsc;

use super::{Seen, complete::Completion};
use crate::commands::{print_through, tell};

/// Lines of history that are kept.
const HISTORY: usize = 1000;

/// What came of asking.
pub(super) enum Said {
    /// A line.
    Line(String),
    /// Ctrl-C: what was typed is thrown away.
    Interrupt,
    /// Ctrl-D, or the end of the input.
    End,
}

/// The prompt.
pub(super) struct Prompt {
    questions: std::sync::mpsc::Sender<String>,
    answers: mpsc::Receiver<Said>,
    /// How the terminal was: a line that is still being typed at the end leaves it in disorder.
    terminal: Option<Termios>,
}

impl Prompt {
    pub(super) fn open(seen: &Seen, json: bool) -> anyhow::Result<Self> {
        let terminal = tcgetattr(std::io::stdin()).ok();
        let config = Config::builder()
            .max_history_size(HISTORY)?
            .history_ignore_dups(true)?
            .history_ignore_space(true)
            .auto_add_history(true)
            .completion_type(CompletionType::List)
            .build();
        let mut editor: Editor<Completion, FileHistory> = Editor::with_config(config)?;
        editor.set_helper(Some(Completion::new(seen)));
        let history = super::history().inspect_err(|error| tell(&format!("No history is kept: {error:#}"))).ok();
        if let Some(path) = &history {
            // None yet, or one that cannot be read: then it begins anew.
            let _ = editor.load_history(path);
        }
        if !json && let Ok(mut printer) = editor.create_external_printer() {
            // A terminal that is gone has nobody to tell.
            print_through(Some(Box::new(move |text| drop(printer.print(text)))));
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
            .context("cannot start the prompt")?;
        Ok(Self { questions, answers, terminal })
    }

    /// Asks for one line.
    pub(super) async fn ask(&mut self, question: &str) -> Said {
        if self.questions.send(question.to_owned()).is_err() {
            return Said::End;
        }
        self.answers.recv().await.unwrap_or(Said::End)
    }

    /// Asks whether something is meant. The end of the input means that it is.
    pub(super) async fn agrees(&mut self, question: &str) -> bool {
        match self.ask(question).await {
            Said::Line(line) => matches!(line.trim().to_lowercase().as_str(), "y" | "yes"),
            Said::Interrupt => false,
            Said::End => true,
        }
    }

    /// Leaves the terminal as it was.
    pub(super) fn close(self) {
        print_through(None);
        if let Some(terminal) = &self.terminal {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, terminal);
        }
    }
}

fn read(editor: &mut Editor<Completion, FileHistory>, question: &str, history: Option<&PathBuf>) -> Said {
    match editor.readline(question) {
        Ok(line) => {
            // At once: the next thing may be a kill. Its file is made so that only its owner reads it.
            if let Some(Err(error)) = history.map(|path| editor.save_history(path)) {
                tracing::debug!(%error, "the history was not written");
            }
            Said::Line(line)
        }
        Err(ReadlineError::Interrupted) => Said::Interrupt,
        Err(_) => Said::End,
    }
}

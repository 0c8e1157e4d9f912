//! Standard output and standard error.

use std::{
    io::{self, Write as _},
    sync::{
        LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use indicatif::MultiProgress;
use serde::Serialize;
use serde_json::Value;

/// Set when a result could not be written, for example to a full disk.
static WRITE_FAILED: AtomicBool = AtomicBool::new(false);

/// Printer that keeps a prompt below the lines that it prints.
type Printer = Box<dyn FnMut(String) + Send>;

/// Printer of the open prompt.
static PROMPT_PRINTER: Mutex<Option<Printer>> = Mutex::new(None);

/// Bars of all running downloads of this process. What is printed meanwhile goes above them.
pub(crate) static BARS: LazyLock<MultiProgress> =
    LazyLock::new(|| MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::stderr_with_hz(10)));

tokio::task_local! {
    /// Item of a batch that this task works on, as the user named it.
    static ITEM: String;
}

/// Runs the work on one item of a batch: each of its JSON events names the item.
pub(crate) async fn about<F: Future>(item: String, work: F) -> F::Output {
    ITEM.scope(item, work).await
}

/// Returns the item of a batch that this task works on.
pub(crate) fn current_item() -> Option<String> {
    ITEM.try_with(String::clone).ok()
}

/// Replaces the control characters of a text except line ends: no name or message may control the terminal.
fn harmless(text: &str) -> String {
    let harmful = |character: char| character.is_control() && character != '\n' && character != '\t';
    text.chars().map(|character| if harmful(character) { char::REPLACEMENT_CHARACTER } else { character }).collect()
}

/// Sends text through the printer of a prompt; with none, to the standard streams again.
pub(crate) fn set_prompt_printer(printer: Option<Printer>) {
    *PROMPT_PRINTER.lock().unwrap_or_else(PoisonError::into_inner) = printer;
}

/// Prints one line of a result to standard output.
pub(crate) fn print(text: &str) {
    let text = harmless(text);
    if print_above_prompt(&text) {
        return;
    }
    BARS.suspend(|| {
        let mut out = io::stdout().lock();
        record(writeln!(out, "{text}").and_then(|()| out.flush()));
    });
}

/// Prints one JSON object on its own line to standard output and flushes it.
pub(crate) fn print_json(event: &impl Serialize) {
    let text = match current_item() {
        None => serde_json::to_string(event),
        Some(item) => serde_json::to_value(event).map(|mut event| {
            if let Value::Object(members) = &mut event {
                members.insert("target".to_owned(), Value::String(item));
            }
            event.to_string()
        }),
    };
    if let Ok(text) = &text
        && print_above_prompt(text)
    {
        return;
    }
    let mut out = io::stdout().lock();
    let written = text.map_err(io::Error::from).and_then(|text| out.write_all(text.as_bytes()));
    record(written.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()));
}

/// Prints one status line to standard error. A closed standard error must not end the command.
pub(crate) fn status(text: &str) {
    let text = harmless(text);
    if print_above_prompt(&text) {
        return;
    }
    BARS.suspend(|| {
        let _ = writeln!(io::stderr().lock(), "{text}");
    });
}

/// Returns true if a result could not be written to standard output.
pub(crate) fn write_failed() -> bool {
    WRITE_FAILED.load(Ordering::Relaxed)
}

fn print_above_prompt(text: &str) -> bool {
    let mut printer = PROMPT_PRINTER.lock().unwrap_or_else(PoisonError::into_inner);
    printer.as_mut().map(|print| print(format!("{text}\n"))).is_some()
}

/// Records a failed write. A reader that closed the pipe needs no more output; every other error is a failure.
fn record(written: io::Result<()>) {
    if written.is_err_and(|error| error.kind() != io::ErrorKind::BrokenPipe) {
        WRITE_FAILED.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_controls_the_terminal() {
        for (text, shown) in [
            ("two\nlines\tand a tab", "two\nlines\tand a tab"),
            ("n\u{1b}[2J\u{9b}m\u{7}\r", "n\u{fffd}[2J\u{fffd}m\u{fffd}\u{fffd}"),
            ("データ 👩‍👩‍👧", "データ 👩‍👩‍👧"),
        ] {
            assert_eq!(harmless(text), shown, "{text:?}");
        }
    }
}

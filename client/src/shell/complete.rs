//! Completion of the line that is being typed.

use clap::CommandFactory as _;
use rustyline::{
    Context, Helper,
    completion::{Completer, FilenameCompleter, Pair},
    highlight::Highlighter,
    hint::Hinter,
    validate::Validator,
};

use super::known_ids::{HIDDEN_COMMANDS, KnownIds, SHELL_COMMANDS};
use crate::cli::CommandLine;

/// Completer of commands, flags, known ids and paths.
pub(super) struct Completion {
    command: clap::Command,
    known_ids: KnownIds,
    files: FilenameCompleter,
}

impl Completion {
    pub(super) fn new(known_ids: &KnownIds) -> Self {
        let mut command = CommandLine::command();
        command.build();
        Self { command, known_ids: KnownIds::clone(known_ids), files: FilenameCompleter::new() }
    }

    /// Returns the completions of the last of `words`, which may be empty.
    fn candidates(&self, words: &[&str], ids: &[String]) -> Vec<String> {
        let Some((last, before)) = words.split_last() else { return Vec::new() };
        let mut found: Vec<String> = match before {
            [] => {
                let known = self.command.get_subcommands().map(clap::Command::get_name);
                let known = known.filter(|name| !HIDDEN_COMMANDS.contains(name));
                known.chain(SHELL_COMMANDS.iter().map(|(name, _)| *name)).chain(["quit"]).map(str::to_owned).collect()
            }
            [first, rest @ ..] => {
                let command = rest.iter().fold(self.command.find_subcommand(first), |command, word| {
                    command.and_then(|command| command.find_subcommand(word).or(Some(command)))
                });
                let subcommands =
                    command.into_iter().flat_map(clap::Command::get_subcommands).map(clap::Command::get_name);
                let flags = command.into_iter().flat_map(clap::Command::get_arguments).filter_map(clap::Arg::get_long);
                let flags = flags.map(|flag| format!("--{flag}"));
                subcommands.map(str::to_owned).chain(flags).chain(ids.iter().cloned()).collect()
            }
        };
        found.retain(|candidate| candidate.starts_with(last) && (candidate.len() > last.len()));
        // Flags are offered only after a dash.
        found.retain(|candidate| last.starts_with('-') || !candidate.starts_with('-'));
        found.sort();
        found.dedup();
        found
    }
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, context: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = line.get(..at).unwrap_or(line);
        let start = typed.rfind(char::is_whitespace).map_or(0, |space| space + 1);
        let mut words: Vec<&str> = typed.get(..start).unwrap_or_default().split_whitespace().collect();
        words.push(typed.get(start..).unwrap_or_default());
        let ids = self.known_ids.lock().map(|ids| ids.clone()).unwrap_or_default();
        let found = self.candidates(&words, &ids);
        if found.is_empty() && words.len() > 1 {
            return self.files.complete(line, at, context);
        }
        // A name may hold spaces.
        let quoted = |text: &str| shlex::try_quote(text).map_or_else(|_| text.to_owned(), std::borrow::Cow::into_owned);
        let pair = |text: String| Pair { replacement: format!("{} ", quoted(&text)), display: text };
        Ok((start, found.into_iter().map(pair).collect()))
    }
}

impl Hinter for Completion {
    type Hint = String;
}

impl Highlighter for Completion {}

impl Validator for Completion {}

impl Helper for Completion {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_flags_and_ids_are_completed() {
        let completion = Completion::new(&KnownIds::default());
        let ids = ["01890a5d-ac96-774b-bcce-b302099a8057".to_owned(), "my file.bin".to_owned()];
        for (typed, expected) in [
            (vec!["fe"], vec!["fetch"]),
            (vec!["sh"], vec![]),
            (vec!["ex"], vec!["exit"]),
            (vec!["jobs", "ca"], vec!["cancel"]),
            (vec!["fetch", "--sh"], vec!["--sha256"]),
            (vec!["get", "0189"], vec!["01890a5d-ac96-774b-bcce-b302099a8057"]),
            (vec!["jobs", "cancel", "0189"], vec!["01890a5d-ac96-774b-bcce-b302099a8057"]),
            (vec!["get", "my"], vec!["my file.bin"]),
            (vec!["info", "my"], vec!["my file.bin"]),
            (vec!["nonsense", "x"], vec![]),
        ] {
            assert_eq!(completion.candidates(&typed, &ids), expected, "{typed:?}");
        }
    }
}

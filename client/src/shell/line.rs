//! A line of the prompt: a command, and options of every command that hold for it alone.

use std::ffi::OsString;

use clap::{ArgMatches, CommandFactory, FromArgMatches, error::ErrorKind};
use lifecycle::telemetry::Telemetry;

use crate::{
    cli::{self, Command, CommandLine, Common},
    session,
};

/// Command of a line, and its options of every command.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) command: Command,
    pub(super) common: Common,
}

/// Options that the prompt was started with.
#[derive(Debug)]
pub(crate) struct PromptOptions {
    /// Arguments of the process without the program and the command.
    args: Vec<OsString>,
    log: Telemetry,
}

impl PromptOptions {
    /// Returns the options of the process that `args` started, with the log that was installed.
    pub(crate) fn new(args: &[OsString], log: Telemetry) -> Self {
        Self { args: cli::without_command(args), log }
    }

    /// Parses a line. Its options go before those of the prompt, and those of the prompt before the environment and the config file.
    ///
    /// # Errors
    /// When the line is not valid, or sets what the process has once: its log.
    pub(super) fn parse(&self, words: &[&str]) -> Result<Entered, clap::Error> {
        let line = std::iter::once("ddm-client").chain(words.iter().copied()).map(Into::into).collect();
        let mut args = cli::with_default_command(line)?;
        args.splice(1..1, self.args.iter().cloned());
        let file = session::folder().map(|folder| folder.join("client.toml"));
        let environment = std::env::var_os("DDM_CONFIG").map(Into::into);
        let PromptLine(line) = lifecycle::settings::parse_from(args, environment, file.as_deref())?;
        if line.telemetry != self.log {
            let message =
                "the log is that of the whole prompt: give --log and --log-format when you start `ddm-client shell`";
            return Err(PromptLine::command().error(ErrorKind::ArgumentConflict, message));
        }
        Ok(Entered { command: line.command, common: line.common })
    }
}

/// Command line whose options may be given twice: the last one counts.
struct PromptLine(CommandLine);

impl CommandFactory for PromptLine {
    fn command() -> clap::Command {
        CommandLine::command().args_override_self(true)
    }

    fn command_for_update() -> clap::Command {
        CommandLine::command_for_update().args_override_self(true)
    }
}

impl FromArgMatches for PromptLine {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        CommandLine::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn started(line: &str) -> PromptOptions {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let log = CommandLine::try_parse_from(&args).unwrap().telemetry;
        PromptOptions::new(&args, log)
    }

    #[test]
    fn options_of_a_line_hold_for_it_and_those_of_the_prompt_for_the_others() {
        let prompt = started("ddm-client --zone shell --limit-rate 1M shell --info http://a.org/");
        for (line, zone, info, json) in [
            ("list", "shell", "http://a.org/", false),
            ("list --zone us --json", "us", "http://a.org/", true),
            ("--zone us get --info http://b.org/ x.bin --json", "us", "http://b.org/", true),
            ("--json --info http://b.org/ x.bin", "shell", "http://b.org/", true),
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            let common = prompt.parse(&words).unwrap().common;
            let zone_of = common.zone.map(|zone| zone.to_string());
            assert_eq!((zone_of.as_deref(), common.info.as_str()), (Some(zone), info), "{line}");
            assert_eq!((common.json, common.limit_rate), (json, Some(1 << 20)), "{line}");
        }
        assert_eq!(prompt.parse(&["list", "--limit-rate", "2M"]).unwrap().common.limit_rate, Some(2 << 20));
    }

    #[test]
    fn a_line_that_sets_the_log_of_the_process_is_refused() {
        let prompt = started("ddm-client --log warn shell");
        assert!(prompt.parse(&["list"]).is_ok() && prompt.parse(&["list", "--log", "warn"]).is_ok());
        for line in [["list", "--log", "debug"], ["list", "--log-format", "json"]] {
            let error = prompt.parse(&line).unwrap_err().to_string();
            assert!(error.contains("when you start `ddm-client shell`"), "{error}");
        }
    }

    #[test]
    fn a_config_file_holds_for_the_lines_too_and_the_one_of_a_line_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (first, second) = (file("first.toml", "wait = \"7s\""), file("second.toml", "wait = \"9s\""));
        let prompt = started("ddm-client --json shell");
        let prompt = PromptOptions { args: vec!["--config".into(), first.into()], ..prompt };
        for (line, seconds) in [(vec!["x.bin"], 7), (vec!["get", "x.bin", "--config", &second], 9)] {
            let Command::Get(get) = prompt.parse(&line).unwrap().command else { panic!("{line:?}") };
            assert_eq!(get.options.wait.as_secs(), seconds, "{line:?}");
        }
    }
}

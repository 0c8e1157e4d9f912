//! One precedence for every setting: flag, environment, config file, default.
//!
//! clap handles flags, environment and defaults. The config file's values become defaults before clap parses, so they are checked
//! exactly like those of flags, and `--help` shows them.

mod addresses;
mod size;

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{
    Arg, ArgMatches, Command, CommandFactory, FromArgMatches,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};
use toml::{Table, Value};
use wire::{account::Role, name::escaped_lines};

pub use self::{
    addresses::{info_server_url, listen_address},
    size::{Size, size},
};

/// Parses the process's arguments. A usage error has the exit status of clap's errors (2).
///
/// `default_file` is read if it exists and neither `--config` nor `DDM_CONFIG` names another file.
///
/// # Errors
/// A [`clap::Error`], to be printed with its `exit` or `print`.
pub fn parse<C: CommandFactory + FromArgMatches>(default_file: Option<&Path>) -> Result<C, clap::Error> {
    parse_from(std::env::args_os(), std::env::var_os("DDM_CONFIG").map(PathBuf::from), default_file)
}

/// Parses as [`parse`] does, with given arguments and a given value of `DDM_CONFIG`.
///
/// # Errors
/// See [`parse`].
pub fn parse_from<C: CommandFactory + FromArgMatches>(
    args: impl IntoIterator<Item = OsString>,
    environment: Option<PathBuf>,
    default_file: Option<&Path>,
) -> Result<C, clap::Error> {
    let args: Vec<OsString> = args.into_iter().collect();
    let mut command = described::<C>();
    let named = named_file(&args).or(environment);
    let required = named.is_some();
    let mut settings = Settings::default();
    if let Some(path) = named.as_deref().or(default_file) {
        match fs::read_to_string(path) {
            Ok(text) => settings = Settings::read(&mut command, path, &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !required => {}
            Err(error) => return Err(usage(&mut command, &format!("cannot read {}: {error}", path.display()))),
        }
    }
    let parse = |settings: &Settings| settings.apply(command.clone()).try_get_matches_from(args.clone());
    let mut matches = parse(&settings).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp => {
            // The help of a command; that of the program itself stays as it is.
            let shorter = with_short_global_help(settings.apply(command.clone()));
            shorter.try_get_matches_from(args.clone()).err().unwrap_or(error)
        }
        _ => name_origin(error, &command, &args, &settings),
    })?;
    if settings.yield_to_explicit(&command, &matches) {
        matches = parse(&settings)?;
    }
    C::from_arg_matches(&matches)
}

/// Heading of the options that every command of a program takes, where a program has commands for people.
pub const GLOBAL_OPTIONS: &str = "Global options";

/// Returns the description of a command line, with `--config`.
pub fn described<C: CommandFactory>() -> Command {
    let command = C::command();
    let has_heading = command.get_arguments().any(|arg| arg.get_help_heading() == Some(GLOBAL_OPTIONS));
    let config = config_argument();
    command.arg(if has_heading { config.help_heading(GLOBAL_OPTIONS).hide_short_help(true) } else { config })
}

/// Replaces the global options in the help of each command by one line. The description serves for printing help only.
fn with_short_global_help(mut command: Command) -> Command {
    command.build();
    let reference = format!("Global options, which every command takes: {} --help", command.get_name());
    command.mut_subcommands(|sub| without_global_options(sub, &reference))
}

fn without_global_options(command: Command, reference: &str) -> Command {
    let is_global = |arg: &Arg| arg.get_help_heading() == Some(GLOBAL_OPTIONS);
    if !command.get_arguments().any(is_global) {
        return command;
    }
    let command = command.mut_args(|arg| if is_global(&arg) { arg.hide(true) } else { arg });
    let command = command.after_help(reference.to_owned());
    command.mut_subcommands(|sub| without_global_options(sub, reference))
}

/// Finds `--config` before clap runs, because the file that it names provides clap's defaults. The last one counts, as for clap.
fn named_file(args: &[OsString]) -> Option<PathBuf> {
    let mut args = args.iter().skip(1).take_while(|arg| *arg != "--");
    let mut named = None;
    while let Some(arg) = args.next() {
        if arg == "--config" {
            named = args.next().map(PathBuf::from);
        } else if let Some(path) = arg.to_str().and_then(|arg| arg.strip_prefix("--config=")) {
            named = Some(path.into());
        }
    }
    named
}

fn config_argument() -> Arg {
    Arg::new("config")
        .long("config")
        .env("DDM_CONFIG")
        .value_name("FILE")
        .global(true)
        .help("TOML file of settings, named like the long flags; flags and environment variables take precedence")
}

/// Values of a config file, by the id of their argument.
#[derive(Debug, Default)]
struct Settings {
    path: PathBuf,
    values: Vec<(String, Vec<String>)>,
}

impl Settings {
    fn read(command: &mut Command, path: &Path, text: &str) -> Result<Self, clap::Error> {
        let table: Table = text.parse().map_err(|error| usage(command, &format!("{}: {error}", path.display())))?;
        let mut settings = Self { path: path.to_owned(), values: Vec::new() };
        for (key, value) in table {
            let id = key.replace('-', "_");
            let Some(values) = texts(&value) else {
                return Err(usage(command, &format!("{}: '{key}' must be a plain value or a list", path.display())));
            };
            if !knows(command, &id) {
                return Err(usage(command, &format!("{}: there is no setting '{key}'", path.display())));
            }
            settings.values.push((id, values));
        }
        settings.check(command)?;
        Ok(settings)
    }

    /// Rejects a file with two settings that exclude each other: it does not say which of them is meant.
    fn check(&self, command: &mut Command) -> Result<(), clap::Error> {
        let rivals = conflicts(command);
        let has = |id: &String| self.values.iter().any(|(key, _)| key == id);
        match rivals.iter().find(|(one, other)| has(one) && has(other)) {
            Some((one, other)) => {
                let [one, other] = [one, other].map(|id| id.replace('_', "-"));
                let message = format!("{}: '{one}' and '{other}' exclude each other", self.path.display());
                Err(usage(command, &message))
            }
            None => Ok(()),
        }
    }

    /// Makes the values the defaults of their arguments, so that clap checks them like the values of flags.
    fn apply(&self, command: Command) -> Command {
        self.values.iter().fold(command, |command, (id, values)| with_default(command, id, values))
    }

    /// Removes the values that a flag or a variable excludes. Returns true if there were any.
    fn yield_to_explicit(&mut self, command: &Command, matches: &ArgMatches) -> bool {
        let explicit = explicit(matches);
        let rivals = conflicts(command);
        let before = self.values.len();
        self.values.retain(|(id, _)| {
            let yields = |(one, other): &(String, String)| {
                (one == id && explicit.contains(other)) || (other == id && explicit.contains(one))
            };
            !rivals.iter().any(yields)
        });
        self.values.len() < before
    }
}

/// Returns the pairs of arguments that exclude each other.
fn conflicts(command: &Command) -> Vec<(String, String)> {
    let text = |arg: &Arg| arg.get_id().to_string();
    let own = command
        .get_arguments()
        .flat_map(|arg| command.get_arg_conflicts_with(arg).into_iter().map(move |other| (text(arg), text(other))));
    own.chain(command.get_subcommands().flat_map(conflicts)).collect()
}

/// Returns the arguments given on the command line or in the environment.
fn explicit(matches: &ArgMatches) -> BTreeSet<String> {
    let given = |id: &&clap::Id| {
        let source = matches.value_source(id.as_str());
        matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
    };
    let mut all: BTreeSet<String> = matches.ids().filter(given).map(ToString::to_string).collect();
    if let Some((_, sub)) = matches.subcommand() {
        all.extend(explicit(sub));
    }
    all
}

/// Corrects the origin of a refused value in an error message: clap names the flag, even for a value from the environment or the
/// file.
fn name_origin(mut error: clap::Error, command: &Command, args: &[OsString], settings: &Settings) -> clap::Error {
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else { return error };
    // Only built arguments can be shown.
    let mut command = command.clone();
    command.build();
    let Some(arg) = find(&command, &|arg: &Arg| arg.to_string() == *shown) else { return error };
    let flags = [arg.get_long().map(|long| format!("--{long}")), arg.get_short().map(|short| format!("-{short}"))];
    let typed = |flag: &String| args.iter().any(|typed| typed.to_string_lossy().starts_with(flag.as_str()));
    if flags.iter().flatten().any(typed) {
        return error;
    }
    let variable = arg.get_env().filter(|variable| std::env::var_os(variable).is_some());
    let place = if let Some(variable) = variable {
        format!("{} in the environment", variable.display())
    } else if settings.values.iter().any(|(id, _)| arg.get_id() == id) {
        format!("{} in {}", arg.get_id().as_str().replace('_', "-"), settings.path.display())
    } else {
        return error;
    };
    error.insert(ContextKind::InvalidArg, ContextValue::String(place));
    error
}

fn find<'a>(command: &'a Command, wanted: &impl Fn(&Arg) -> bool) -> Option<&'a Arg> {
    let own = command.get_arguments().find(|arg| wanted(arg));
    own.or_else(|| command.get_subcommands().find_map(|sub| find(sub, wanted)))
}

/// Returns true for the argument `id` if it is a setting, that is, has both a long flag and a variable.
fn is_setting(arg: &Arg, id: &str) -> bool {
    arg.get_id() == id && arg.get_long().is_some() && arg.get_env().is_some() && id != "config"
}

fn knows(command: &Command, id: &str) -> bool {
    command.get_arguments().any(|arg| is_setting(arg, id)) || command.get_subcommands().any(|sub| knows(sub, id))
}

fn with_default(mut command: Command, id: &str, values: &[String]) -> Command {
    if command.get_arguments().any(|arg| is_setting(arg, id)) {
        command = command.mut_arg(id, |arg| {
            // An argument whose value from the environment is hidden is a secret in a file, too.
            let secret = arg.is_hide_env_values_set();
            arg.required(false).default_values(values.to_vec()).hide_default_value(secret)
        });
    }
    let subs: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    subs.into_iter().fold(command, |command, sub| command.mut_subcommand(sub, |sub| with_default(sub, id, values)))
}

fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Integer(number) => Some(vec![number.to_string()]),
        Value::Float(number) => Some(vec![number.to_string()]),
        Value::Boolean(flag) => Some(vec![flag.to_string()]),
        Value::Array(items) => items.iter().map(texts).collect::<Option<Vec<_>>>().map(|all| all.concat()),
        Value::Datetime(_) | Value::Table(_) => None,
    }
}

/// Prints clap's message, help and version included, and returns its exit status: 0 or 2.
pub fn explain(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    let shown = escaped_lines(&text);
    // If stderr cannot be written to, there is no other place to report that.
    let _ = if error.use_stderr() && shown != text {
        // The message repeats an argument, perhaps the name of a file, that would change the display.
        io::stderr().write_all(shown.as_bytes())
    } else {
        error.print()
    };
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Parses a duration such as `90s`, `15m` or `1h 30m`, for clap's `value_parser`.
///
/// # Errors
/// Gives examples of a duration.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; a time looks like 90s, 15m or 12h"))
}

/// Returns the parser of a role; help and completion list the roles.
pub fn role() -> impl TypedValueParser<Value = Role> {
    let words = Role::ALL.map(|role| PossibleValue::new(role.as_str()).help(role.rights()));
    PossibleValuesParser::new(words).try_map(|word| word.parse::<Role>())
}

fn usage(command: &mut Command, message: &str) -> clap::Error {
    command.error(ErrorKind::InvalidValue, message)
}

#[cfg(test)]
mod tests;

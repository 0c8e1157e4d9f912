//! The command that a lone file, URL or link stands for.

use std::ffi::OsString;

use clap::{
    Command as ClapCommand, CommandFactory as _,
    error::{ContextKind, ContextValue, ErrorKind},
};
use wire::FileId;

use super::CommandLine;

/// Digits in the shortest beginning of an id that needs no command.
const MIN_SHORT_ID_DIGITS: usize = 8;

/// Inserts `get`, `fetch` or `open` when the first argument is a file, a URL or a link instead of a command.
///
/// # Errors
/// When the first argument is none of these and no command.
pub fn with_default_command(args: Vec<OsString>) -> Result<Vec<OsString>, clap::Error> {
    let mut command = CommandLine::command();
    command.build();
    let Some(at) = first_positional(&command, &args) else { return Ok(args) };
    let Some(first) = args.get(at).map(|first| first.to_string_lossy().into_owned()) else { return Ok(args) };
    if command.find_subcommand(&first).is_some() || first == "--" {
        return Ok(args);
    }
    if let Some(default) = default_command(&first) {
        let mut with = args;
        with.insert(1, default.into());
        return Ok(with);
    }
    let advice = match similar_command(&first) {
        Some(similar) => format!("did you mean `{similar}`?"),
        None => "`ddm-client list` shows files, `ddm-client --help` shows commands".to_owned(),
    };
    let message = format!("'{}' is not a file id, URL or command; {advice}", first.escape_debug());
    Err(command.error(ErrorKind::InvalidSubcommand, message))
}

/// Returns the arguments of a process without the program and its command.
pub(crate) fn without_command(args: &[OsString]) -> Vec<OsString> {
    let mut command = CommandLine::command();
    command.build();
    let at = first_positional(&command, args);
    args.iter().enumerate().skip(1).filter(|(n, _)| Some(*n) != at).map(|(_, arg)| arg.clone()).collect()
}

/// Returns the command whose name is nearest to a mistyped one.
pub(crate) fn similar_command(typed: &str) -> Option<String> {
    let error = CommandLine::command().try_get_matches_from(["ddm-client", typed]).err()?;
    match error.get(ContextKind::SuggestedSubcommand)? {
        ContextValue::String(similar) => Some(similar.clone()),
        // The last one is the nearest.
        ContextValue::Strings(similar) => similar.last().cloned(),
        _ => None,
    }
}

/// Returns the command that a lone argument stands for. Every text with a scheme goes to `fetch`, which reports its defects.
fn default_command(first: &str) -> Option<&'static str> {
    let scheme = first.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_deref() {
        _ if first.parse::<FileId>().is_ok() || is_short_id(first) => Some("get"),
        Some("ddm") => Some("open"),
        Some(_) if first.contains("://") => Some("fetch"),
        // A command has no dot in its name, and a path is nothing that could be downloaded.
        _ if first.contains('.') && !first.contains('/') => Some("get"),
        _ => None,
    }
}

/// Returns true for the beginning of an id, as lists show it.
fn is_short_id(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_hexdigit).count();
    digits >= MIN_SHORT_ID_DIGITS
        && text.len() <= 36
        && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-'))
}

/// Returns the index of the first argument that is neither an option nor an option's value.
fn first_positional(command: &ClapCommand, args: &[OsString]) -> Option<usize> {
    let mut skip = false;
    args.iter().enumerate().skip(1).find_map(|(at, arg)| {
        let text = arg.to_string_lossy();
        if std::mem::take(&mut skip) {
            return None;
        }
        if text.starts_with('-') && text.len() > 1 {
            skip = takes_next(command, &text);
            return None;
        }
        Some(at)
    })
}

/// Returns true if the next argument is the value of `option`, an option of the program or of a command that may be left out.
fn takes_next(command: &ClapCommand, option: &str) -> bool {
    if option == "--config" {
        return true;
    }
    let implied = ["get", "fetch", "open"].into_iter().filter_map(|name| command.find_subcommand(name));
    let mut known = command.get_arguments().chain(implied.flat_map(ClapCommand::get_arguments));
    known.any(|arg| {
        let named = |name: &str| {
            arg.get_long() == Some(name) || arg.get_visible_aliases().is_some_and(|aliases| aliases.contains(&name))
        };
        let long = option.strip_prefix("--").is_some_and(named);
        let mut letters = option.chars().skip(1);
        let short = !option.starts_with("--") && arg.get_short() == letters.next() && letters.next().is_none();
        (long || short) && arg.get_action().takes_values()
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{cli::Command, target::Target};

    fn parse(line: &str) -> Result<CommandLine, clap::Error> {
        let args = with_default_command(line.split(' ').map(OsString::from).collect())?;
        CommandLine::try_parse_from(args)
    }

    #[test]
    fn an_id_alone_downloads() {
        let id = FileId::new();
        for line in [
            format!("ddm-client {id}"),
            format!("ddm-client get {id}"),
            format!("ddm-client -o list {id}"),
            format!("ddm-client --output=list {id}"),
            format!("ddm-client --info http://x/ --json -f {id} --wait 5s"),
            format!("ddm-client {id} --zone eu"),
        ] {
            match parse(&line).unwrap().command {
                Command::Get(get) => assert_eq!(get.targets, [Target::File(id.into())], "{line}"),
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_url_alone_is_fetched_and_a_link_opened() {
        for line in [
            "ddm-client https://example.org/x?a=b",
            "ddm-client fetch https://example.org/x?a=b",
            "ddm-client --sha256 0000000000000000000000000000000000000000000000000000000000000000 https://example.org/x?a=b",
            "ddm-client --connections 4 --keep --in 2h https://example.org/x?a=b -o list",
            "ddm-client --at 22:30 --zones eu,us --json https://example.org/x?a=b",
        ] {
            match parse(line).unwrap().command {
                Command::Fetch(fetch) => {
                    assert_eq!(fetch.urls[0].url().as_str(), "https://example.org/x?a=b", "{line}");
                }
                other => panic!("{line}: {other:?}"),
            }
        }
        let link = "ddm-client -o list ddm://job/01890a5d-ac96-774b-bcce-b302099a8057";
        assert!(matches!(parse(link).unwrap().command, Command::Open(_)));
        for (bad, why) in [
            ("ddm-client ftp://example.org/x", "only http and https"),
            ("ddm-client https://me:secret@example.org/x", "user name"),
            ("ddm-client --direct --keep https://example.org/x", "cannot be used with"),
            ("ddm-client --at 22:30 --in 2h https://example.org/x", "cannot be used with"),
            // File servers get no credentials.
            ("ddm-client -H X:y --keep https://example.org/x", "cannot be used with"),
            ("ddm-client --origin-cert x.pem --in 2h https://example.org/x", "cannot be used with"),
            ("ddm-client --origin-timeout 0s https://example.org/x", "between 1s and 1h"),
            ("ddm-client --at soon https://example.org/x", "a time looks like"),
            ("ddm-client ddm://nonsense", "a link looks like"),
            ("ddm-client --proxy ftp://127.0.0.1:1 list", "a URL such as http://"),
            ("ddm-client --proxy proxy:3128 list", "a URL such as http://"),
        ] {
            let error = parse(bad).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad}");
            assert!(error.to_string().contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn commands_stay_commands() {
        assert!(matches!(parse("ddm-client --info http://x/ list").unwrap().command, Command::List(_)));
        assert!(matches!(parse("ddm-client servers --json").unwrap().command, Command::Servers));
        for bad in ["ddm-client", "ddm-client nonsense", "ddm-client get", "ddm-client --connections 0 list"] {
            assert_eq!(parse(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
        let error = parse("ddm-client --json nonsense").unwrap_err().to_string();
        assert!(error.contains("'nonsense' is not a file id, URL or command"), "{error}");
        assert!(error.contains("`ddm-client list` shows files"), "{error}");
    }

    #[test]
    fn a_mistyped_command_is_answered_with_the_nearest_one() {
        for (typed, meant) in [("lst", "list"), ("publsh", "publish"), ("serverss", "servers")] {
            let error = parse(&format!("ddm-client {typed}")).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(&format!("did you mean `{meant}`?")), "{error}");
        }
    }

    #[test]
    fn names_and_short_ids_alone_download_too() {
        for (line, targets) in [
            ("ddm-client my.bin", vec!["my.bin"]),
            ("ddm-client 01a22865", vec!["01a22865"]),
            ("ddm-client -f 01a22865-ac96 list.txt other", vec!["01a22865-ac96", "list.txt", "other"]),
            ("ddm-client get list https://example.org/x", vec!["list", "https://example.org/x"]),
        ] {
            match parse(line).unwrap().command {
                Command::Get(get) => {
                    let expected: Vec<Target> = targets.iter().map(|target| target.parse().unwrap()).collect();
                    assert_eq!(get.targets, expected, "{line}");
                }
                other => panic!("{line}: {other:?}"),
            }
        }
        for bad in ["ddm-client 01a2286", "ddm-client ./my.bin", "ddm-client deadbee"] {
            assert_eq!(parse(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }
}

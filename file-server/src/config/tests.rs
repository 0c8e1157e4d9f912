use clap::Parser as _;

use super::*;

fn parse(args: &[&str]) -> Config {
    Cli::parse_from(std::iter::once("ddm-file-server").chain(args.iter().copied())).config
}

#[test]
fn the_defaults_are_sound_and_the_command_line_is_consistent() {
    use clap::CommandFactory as _;
    Cli::command().debug_assert();
    parse(&[]).check().unwrap();
}

#[test]
fn contradictions_refuse_to_start_and_name_the_setting() {
    for (args, why) in [
        (&["--listen", "0.0.0.0:9000"][..], "--public-url"),
        (&["--public-url", "ftp://x"], "--public-url"),
        (&["--public-url", "http://u:p@x/"], "--public-url"),
        (&["--slots", "a", "--partial-dir", "b"], "--slots"),
        (&["--info", "http://x/?a=b"], "--info"),
        (&["--join-secret", "a", "--join-secret-file", "b"], "--join-secret"),
        (&["--amqp", "amqp://x", "--amqp-file", "b"], "--amqp"),
        (&["--max-connections", "0"], "--max-connections"),
        (&["--head-timeout", "1h"], "--head-timeout"),
        (&["--scrub-every", "0s"], "--scrub-every"),
    ] {
        let error = parse(args).check().unwrap_err().to_string();
        assert!(error.contains(why), "{args:?}: {error}");
    }
}

#[test]
fn secrets_are_not_shown_by_formatters() {
    let config = parse(&["--join-secret", "hunter2", "--amqp", "amqp://u:hunter2@x"]);
    assert!(!format!("{config:?}").contains("hunter2"));
}

use clap::Parser as _;
use lifecycle::private_file;
use secrecy::ExposeSecret as _;

use super::{upstream_secrets::SECRET_POLL_INTERVAL, *};

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

#[tokio::test(start_paused = true)]
async fn a_join_secret_that_is_being_made_is_waited_for_and_one_that_does_not_come_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("join-secret");
    let config = parse(&["--join-secret-file", path.to_str().unwrap()]);
    let refused = config.upstream.join_secret().await.unwrap_err().to_string();
    assert!(refused.contains("join-secret does not exist"), "{refused}");
    let made = async {
        tokio::time::sleep(SECRET_POLL_INTERVAL * 3).await;
        private_file::write(&path, b"hunter2").unwrap();
    };
    let (secret, ()) = tokio::join!(config.upstream.join_secret(), made);
    assert_eq!(secret.unwrap().unwrap().expose_secret(), "hunter2");
}

#[test]
fn secrets_are_not_shown_by_formatters() {
    let config = parse(&["--join-secret", "hunter2", "--amqp", "amqp://u:hunter2@x"]);
    assert!(!format!("{config:?}").contains("hunter2"));
}

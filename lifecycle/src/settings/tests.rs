use clap::{Parser, Subcommand};

use super::*;

#[derive(Debug, Parser)]
struct Sample {
    #[arg(long, env = "DDM_TEST_SETTINGS_PORT", default_value_t = 1, global = true)]
    port: u16,
    #[arg(long, env = "DDM_TEST_SETTINGS_VERBOSE")]
    verbose: bool,
    #[arg(long, env = "DDM_TEST_SETTINGS_ZONES", value_delimiter = ',')]
    zones: Vec<String>,
    #[arg(long, env = "DDM_TEST_SETTINGS_ZONE_LIST", conflicts_with = "zones")]
    zone_list: Option<String>,
    #[command(subcommand)]
    command: Option<SampleCommand>,
}

#[derive(Debug, Subcommand)]
enum SampleCommand {
    Get {
        #[arg(long, env = "DDM_TEST_SETTINGS_OUT", default_value = ".")]
        out: String,
    },
}

fn parse_with(file: &str, args: &[&str]) -> Result<Sample, clap::Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, file).unwrap();
    let args = std::iter::once("sample").chain(args.iter().copied()).map(OsString::from);
    parse_from(args, Some(path), None)
}

#[test]
fn the_file_wins_over_defaults_and_a_flag_wins_over_the_file() {
    let file = "port = 7\nverbose = true\nzones = ['a', 'b']\nout = 'x'\n";
    let sample = parse_with(file, &["get"]).unwrap();
    assert_eq!((sample.port, sample.verbose, sample.zones.join("+")), (7, true, "a+b".to_owned()));
    assert!(matches!(sample.command, Some(SampleCommand::Get { out }) if out == "x"));
    assert_eq!(parse_with(file, &["--port", "9"]).unwrap().port, 9);
    assert_eq!(parse_with("", &[]).unwrap().port, 1);
}

#[test]
fn a_bad_file_is_refused_with_its_reason() {
    for (file, why) in [
        ("prot = 7", "there is no setting 'prot'"),
        ("port = 'x'", "invalid value 'x' for 'port in"),
        ("zone-list = ['x']\nzones = ['y']", "exclude each other"),
        ("port = 99999", "99999"),
        ("[port]", "must be a plain value"),
        ("port =", "config.toml"),
        ("config = 'x'", "there is no setting 'config'"),
    ] {
        let error = parse_with(file, &[]).unwrap_err();
        assert!(error.to_string().contains(why), "{file}: {error}");
        assert_eq!(error.exit_code(), 2);
    }
}

#[test]
fn a_value_of_the_file_yields_to_a_flag_that_excludes_it() {
    for (file, flag) in [("zone-list = 'x'", "--zones=y"), ("zones = ['x']", "--zone-list=y")] {
        let sample = parse_with(file, &[flag]).unwrap();
        assert_eq!(sample.zones.is_empty(), sample.zone_list.is_some(), "{sample:?}");
        assert!(format!("{sample:?}").contains("\"y\"") && !format!("{sample:?}").contains("\"x\""), "{sample:?}");
    }
    assert!(parse_with("", &["--zones=x", "--zone-list=y"]).is_err());
}

#[test]
fn a_refused_flag_is_blamed_even_when_the_file_holds_one_too() {
    let error = parse_with("port = 7", &["--port", "x"]).unwrap_err().to_string();
    assert!(error.contains("for '--port"), "{error}");
}

#[test]
fn a_named_file_must_exist_and_a_default_one_need_not() {
    let args = || ["sample"].map(OsString::from);
    let missing = Path::new("/nonexistent/ddm.toml");
    assert!(parse_from::<Sample>(args(), None, Some(missing)).is_ok());
    assert!(parse_from::<Sample>(args(), Some(missing.into()), None).is_err());
}

//! Direct downloads from servers as the web has them.

use std::{path::Path, time::Duration};

use clap::Parser as _;
use odd_origin::{Answer, OddOrigin};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use wire::RequesterId;

use super::*;
use crate::cli::{Command, CommandLine, Fetch, UrlOptions, with_default_command};

mod odd_origin;
mod resumption;

const MIB: usize = 1 << 20;

/// Returns bytes that repeat nowhere.
fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Downloads a URL into a folder with further arguments.
async fn fetch(folder: &Path, url: &str, args: &[&str]) -> anyhow::Result<FetchedFile> {
    let folder = folder.to_str().unwrap();
    let line = ["ddm-client", "--direct", "--no-netrc", "-o", folder, url].into_iter().chain(args.iter().copied());
    run(line.collect(), DirectReason::local("a test")).await
}

async fn run(line: Vec<&str>, reason: DirectReason) -> anyhow::Result<FetchedFile> {
    let args = with_default_command(line.into_iter().map(Into::into).collect())?;
    let CommandLine { common, command, .. } = CommandLine::try_parse_from(args)?;
    let Command::Fetch(fetch) = command else { panic!("it is another command") };
    let context = Context::new(common, CancellationToken::new());
    let requester = RequesterId::new();
    let Fetch { urls, options, url: UrlOptions { sha256, origin, .. } } = *fetch;
    let url = urls.into_iter().next().unwrap();
    let request = DownloadRequest { url, options, sha256, keep: false, requester, origin };
    direct(&context, &request, reason, Display::Quiet).await
}

#[tokio::test]
async fn a_link_that_works_once_is_requested_once_and_no_response_is_thrown_away() {
    let bytes = content(1, 3 * MIB);
    let served = bytes.clone();
    let named = "Content-Disposition: attachment; filename=b.bin\r\n";
    let origin = OddOrigin::start(move |asked| match asked.n {
        0 => Answer::content(asked, &served, named),
        1 => Answer::content(asked, &served, named).cut(2 * MIB),
        3 => Answer::content(asked, &served, named),
        _ => Answer::status("410 Gone", ""),
    })
    .await;
    let folder = TempDir::new().unwrap();
    let file = fetch(folder.path(), &origin.url("/1"), &[]).await.unwrap();
    assert_eq!(origin.asked().len(), 1);
    assert!(file.path.ends_with("b.bin") && std::fs::read(&file.path).unwrap() == bytes);
    // A part is left whose name only the response tells; the second request for its rest is refused.
    std::fs::remove_file(&file.path).unwrap();
    fetch(folder.path(), &origin.url("/1"), &[]).await.unwrap_err();
    let file = fetch(folder.path(), &origin.url("/1"), &[]).await.unwrap();
    assert!(std::fs::read(&file.path).unwrap() == bytes);
    assert_eq!(origin.starts(), [0, 0, MIB, 0, MIB]);
}

#[tokio::test]
async fn an_origin_that_asks_for_no_pause_is_not_asked_without_one() {
    for field in
        ["Retry-After: 0\r\n", "Retry-After: Thu, 01 Jan 2015 00:00:00 GMT\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"]
    {
        let origin = OddOrigin::start(move |_| Answer::status("503 Busy", field)).await;
        let folder = TempDir::new().unwrap();
        fetch(folder.path(), &origin.url("/a.bin"), &["--wait", "2s"]).await.unwrap_err();
        let asked = origin.asked();
        assert!((2..=3).contains(&asked.len()), "{} requests", asked.len());
        assert!(asked[1].at - asked[0].at >= Duration::from_millis(500));
    }
    let origin = OddOrigin::start(|_| Answer::status("503 Busy", "Retry-After: 900\r\n")).await;
    let folder = TempDir::new().unwrap();
    let error = fetch(folder.path(), &origin.url("/a.bin"), &[]).await.unwrap_err().to_string();
    assert!(error.contains("come back in 15m") && origin.asked().len() == 1, "{error}");
}

#[tokio::test]
async fn a_pause_that_the_origin_asks_for_is_waited_for() {
    let bytes = content(1, 1000);
    let served = bytes.clone();
    let origin = OddOrigin::start(move |asked| match asked.n {
        0 => Answer::status("503 Busy", "Retry-After: 3\r\n"),
        _ => Answer::content(asked, &served, ""),
    })
    .await;
    let folder = TempDir::new().unwrap();
    // Longer than the user's own patience.
    let file = fetch(folder.path(), &origin.url("/a.bin"), &["--wait", "1s"]).await.unwrap();
    assert!(std::fs::read(&file.path).unwrap() == bytes);
    let asked = origin.asked();
    assert!(asked.len() == 2 && asked[1].at - asked[0].at >= Duration::from_secs(3), "{asked:?}");
}

#[tokio::test]
async fn a_pause_that_the_origin_asked_the_info_server_for_is_kept_by_the_client() {
    let origin = OddOrigin::start(|asked| Answer::content(asked, b"x", "")).await;
    let folder = TempDir::new().unwrap();
    let (url, output) = (origin.url("/a.bin"), folder.path().to_str().unwrap());
    let pause = Some(Duration::from_secs(2));
    let begun = Instant::now();
    let line = vec!["ddm-client", "--no-netrc", "-o", output, &url];
    run(line, DirectReason { retry_after: pause, ..JobReason::Busy.into() }).await.unwrap();
    assert!(origin.asked()[0].at - begun >= Duration::from_secs(2));
}

#[tokio::test]
async fn a_host_or_port_that_is_not_there_ends_the_download_at_once_with_its_name() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = TempDir::new().unwrap();
    for (url, said) in [
        (format!("http://{closed}/a.bin"), format!("{closed}: Connection refused")),
        ("http://nobody.invalid/a.bin".to_owned(), "there is no host nobody.invalid".to_owned()),
    ] {
        let begun = Instant::now();
        let error = fetch(folder.path(), &url, &[]).await.unwrap_err().to_string();
        assert!(begun.elapsed() < Duration::from_secs(5), "{url}: {:?}", begun.elapsed());
        assert!(error.contains("the origin cannot be reached") && error.contains(&said), "{error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_late_first_byte_and_a_pause_in_the_body_cost_one_request_within_the_timeout_that_is_set() {
    let bytes = content(1, 1000);
    let served = bytes.clone();
    let origin = OddOrigin::start(move |asked| {
        let answer = Answer::content(asked, &served, "");
        let late = Duration::from_millis(1500);
        if asked.target.contains("late") { Answer { delay: late, ..answer } } else { Answer { pause: late, ..answer } }
    })
    .await;
    let folder = TempDir::new().unwrap();
    for target in ["/late.bin", "/pause.bin"] {
        let file = fetch(folder.path(), &origin.url(target), &[]).await.unwrap();
        assert!(std::fs::read(&file.path).unwrap() == bytes, "{target}");
    }
    assert_eq!(origin.asked().len(), 2);
    let args = ["--origin-timeout", "1s", "--wait", "0s", "-f"];
    let error = fetch(folder.path(), &origin.url("/pause.bin"), &args).await.unwrap_err().to_string();
    assert!(error.contains("no byte for 1s"), "{error}");
}

#[tokio::test]
async fn bytes_are_stored_as_they_are_sent_unless_a_text_was_packed_on_the_way() {
    let packed = [0x1f, 0x8b, 8, 0, 1, 2, 3];
    for (target, coding, body, right) in [
        ("/x.bin", "aws-chunked", &b"plain"[..], true),
        ("/x.bin", "UTF-8", b"plain", true),
        ("/x.deb", "gzip", b"!<arch>", true),
        ("/download?f=x.tar.gz", "gzip", &packed, true),
        ("/x.bin", "gzip", &packed, true),
        // What declares a coding need not have it.
        ("/x.txt", "gzip", b"plain", true),
        ("/x.txt", "gzip", &packed, false),
        ("/x.json", "br", b"anything", false),
    ] {
        let body = body.to_vec();
        let served = body.clone();
        let field = format!("Content-Encoding: {coding}\r\n");
        let origin = OddOrigin::start(move |asked| Answer::content(asked, &served, &field)).await;
        let folder = TempDir::new().unwrap();
        match fetch(folder.path(), &origin.url(target), &[]).await {
            Ok(file) => assert!(right && std::fs::read(&file.path).unwrap() == body, "{target} {coding}"),
            Err(error) => {
                assert!(!right && error.to_string().contains("curl --compressed"), "{target} {coding}: {error}")
            }
        }
    }
}

#[tokio::test]
async fn names_that_are_no_utf_8_stay_two_files_with_their_extension() {
    let origin = OddOrigin::start(|asked| Answer::content(asked, b"x", "")).await;
    let folder = TempDir::new().unwrap();
    for name in ["%C4%E3%BA%C3.zip", "%B2%E2%CA%D4.zip"] {
        let file = fetch(folder.path(), &origin.url(&format!("/{name}")), &[]).await.unwrap();
        assert_eq!(file.path.file_name().unwrap().to_str(), Some(name));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[tokio::test]
async fn credentials_reach_the_server_of_the_url_and_none_that_it_redirects_to() {
    let goal = OddOrigin::start(|asked| Answer::content(asked, b"right", "")).await;
    let target = goal.url("/a.bin");
    let origin = OddOrigin::start(move |asked| match (asked.field("authorization"), asked.field("x-key")) {
        (Some("Basic dTpw"), Some("k")) if asked.target == "/away.bin" => {
            Answer::status("302 Found", &format!("Location: {target}\r\nSet-Cookie: seen=1; Path=/\r\n"))
        }
        (Some("Basic dTpw"), Some("k")) => Answer::content(asked, b"right", ""),
        _ => Answer::status("401 No", "WWW-Authenticate: Basic realm=\"x\"\r\n"),
    })
    .await;
    let folder = TempDir::new().unwrap();
    let (netrc, fields) = (folder.path().join("netrc"), folder.path().join("fields"));
    std::fs::write(&netrc, "machine 127.0.0.1 login u password p\n").unwrap();
    std::fs::write(&fields, "# from a file, which no list of processes shows\nX-Key: k\n").unwrap();
    let (netrc, fields, output) =
        (netrc.to_str().unwrap(), format!("@{}", fields.display()), folder.path().to_str().unwrap());
    for name in ["/here.bin", "/away.bin"] {
        let url = origin.url(name);
        let line = vec!["ddm-client", "--direct", "--netrc-file", netrc, "-H", &fields, "-o", output, &url];
        let file = run(line, DirectReason::local("a test")).await.unwrap();
        assert_eq!(std::fs::read(&file.path).unwrap(), b"right", "{name}");
    }
    let asked = goal.asked();
    assert_eq!(asked.len(), 1);
    for field in ["authorization", "x-key", "cookie", "referer"] {
        assert_eq!(asked[0].field(field), None, "{field} crossed a redirect to another port");
    }
    let error = fetch(folder.path(), &origin.url("/none.bin"), &[]).await.unwrap_err().to_string();
    assert!(error.contains("~/.netrc"), "{error}");
    let both = ["-H", "Range: bytes=1-2"];
    let error = format!("{:#}", fetch(folder.path(), &origin.url("/none.bin"), &both).await.unwrap_err());
    assert!(error.contains("is set by DDM itself"), "{error}");
}

#[tokio::test]
async fn a_redirect_that_expects_its_cookie_is_followed() {
    let origin = OddOrigin::start(|asked| match asked.field("cookie") {
        Some("seen=1") => Answer::content(asked, b"right", ""),
        _ => Answer::status("302 Found", &format!("Location: {}\r\nSet-Cookie: seen=1; Path=/\r\n", asked.target)),
    })
    .await;
    let folder = TempDir::new().unwrap();
    let file = fetch(folder.path(), &origin.url("/a.bin"), &[]).await.unwrap();
    assert_eq!(std::fs::read(&file.path).unwrap(), b"right");
    assert_eq!(origin.asked().len(), 2);
}

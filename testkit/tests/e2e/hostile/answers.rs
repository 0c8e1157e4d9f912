//! File servers whose answers break every rule.

use std::time::{Duration, Instant};

use ddm_testkit::{
    cluster::events,
    rogue::{Behaviour, Rogue},
};
use serde_json::json;

use super::fixture::{Fixture, said};
use crate::content::{MIB, event, has_event, number, source};

/// Time limit of a download with a broken server: a bound for hangs.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

fn field(name: &'static str, value: impl Into<String>) -> Behaviour {
    Behaviour::Header { name, value: Some(value.into()) }
}

fn refusal(code: u16, body: String) -> Behaviour {
    Behaviour::Refusal { code, body }
}

/// Returns all ways to answer wrongly.
fn mischiefs(file: wire::FileId, elsewhere: url::Url, itself: url::Url) -> Vec<Behaviour> {
    vec![
        Behaviour::Endless,
        Behaviour::Overlong,
        Behaviour::Chunked { ends: false },
        Behaviour::Chunked { ends: true },
        Behaviour::Truncate { after: MIB / 2 },
        Behaviour::Reset { after: 0 },
        Behaviour::Reset { after: MIB - 7 },
        Behaviour::Stall { after: MIB / 3 },
        Behaviour::Silent,
        Behaviour::Delay(Duration::from_secs(60)),
        Behaviour::Drip(Duration::from_millis(50)),
        Behaviour::Throttle { rate: 100 },
        Behaviour::Interim,
        Behaviour::Head { size: 100 << 20 },
        Behaviour::Rubbish,
        Behaviour::WholeFile,
        Behaviour::WrongRange,
        Behaviour::WrongEtag,
        Behaviour::Redirect(elsewhere),
        Behaviour::Redirect(itself),
        field("ETag", format!("W/\"{file}\"")),
        Behaviour::Header { name: "ETag", value: None },
        Behaviour::Header { name: "Content-Length", value: None },
        Behaviour::Header { name: "Content-Range", value: None },
        field("Content-Range", "bytes 0-18446744073709551615/18446744073709551616"),
        field("Content-Range", "bytes 5-1/9"),
        field("Content-Length", "18446744073709551615"),
        field("Content-Length", "-1"),
        field("Content-Encoding", "gzip"),
        field("Content-Type", "multipart/byteranges; boundary=x"),
        Behaviour::FlipBit { every: 1000 },
        Behaviour::Status { code: 206, retry_after: None },
        Behaviour::Status { code: 401, retry_after: None },
        Behaviour::Status { code: 403, retry_after: None },
        Behaviour::Status { code: 404, retry_after: None },
        Behaviour::Status { code: 429, retry_after: Some(u64::MAX) },
        Behaviour::Status { code: 503, retry_after: Some(3600) },
        Behaviour::Status { code: 999, retry_after: None },
    ]
}

#[tokio::test]
async fn every_wrong_answer_costs_time_only_and_is_named() -> anyhow::Result<()> {
    let fixture = Fixture::new(12 * MIB, 2).await?;
    let trap = Rogue::start(fixture.file, fixture.content.clone()).await?;
    for behaviour in mischiefs(fixture.file, trap.url(), fixture.rogues[0].url()) {
        // Another type of content, or bytes behind the end, change no byte of the file.
        let harmless = matches!(behaviour, Behaviour::Header { name: "Content-Type", .. } | Behaviour::Overlong);
        fixture.rogues[0].set(behaviour.clone());
        fixture.rogues[1].set(Behaviour::Throttle { rate: 4 * MIB });
        let (asked, began) = (fixture.rogues[0].asked().len(), Instant::now());
        let output = fixture.run(&["--json", "-f"]).await?;
        let done = event(&output, "done").map_err(|error| error.context(format!("{behaviour:?}")))?;
        assert!(fixture.is_right("got.bin")?, "{behaviour:?}");
        assert!(began.elapsed() < STEP_TIMEOUT, "{behaviour:?}: {:?}", began.elapsed());
        assert!(fixture.rogues[0].asked().len() - asked < 30, "{behaviour:?}");
        let report = source(&done, "rogue-0")?;
        let named = number(&report["failures"]) > 0 || has_event(&output, "work-moved", "rogue-0")?;
        assert!(named || harmless, "{behaviour:?}: {done}");
        let gave_nothing = number(&report["bytes"]) == 0;
        assert!(!gave_nothing || !has_event(&output, "source-returned", "rogue-0")?, "{behaviour:?} is not back");
        assert_eq!(source(&done, "rogue-1")?["outcome"]["state"], "fine", "{behaviour:?}");
    }
    assert_eq!(trap.asked(), [], "a redirect was followed");
    Ok(())
}

#[tokio::test]
async fn with_nobody_but_broken_servers_it_fails_resumably_and_says_why() -> anyhow::Result<()> {
    let elsewhere: url::Url = "http://127.0.0.1:9/".parse()?;
    // More than one request asks for: the whole file is a right answer to a request for all of it.
    let mut fixture = Fixture::new(6 * MIB, 1).await?;
    for (behaviour, reason) in [
        (Behaviour::Silent, "it has sent nothing for "),
        // One that gives a part of each answer gives all of it in the end.
        (Behaviour::Reset { after: 0 }, ""),
        (Behaviour::Truncate { after: 0 }, ""),
        (Behaviour::Redirect(elsewhere), "redirects are not followed"),
        (Behaviour::WholeFile, "instead of the range"),
        (field("Content-Encoding", "gzip"), "another coding"),
        (field("ETag", "W/\"x\""), "etag is W/"),
        (Behaviour::Rubbish, ""),
        (Behaviour::Status { code: 503, retry_after: None }, "503"),
        (
            refusal(507, r#"{"title":"The disk\u001b[2J is full","detail":"make room"}"#.to_owned()),
            "status 507: The disk[2J is full: make room",
        ),
        (refusal(500, format!(r#"{{"title":"{}"}}"#, "x".repeat(5000))), "status 500: xxx"),
        (refusal(502, "<html>proxy</html>".to_owned()), "rogue-0: status 502; start again"),
        (Behaviour::FlipBit { every: 1000 }, "no live server has an intact copy of chunk "),
    ] {
        fixture.rogues = vec![Rogue::start(fixture.file, fixture.content.clone()).await?];
        fixture.script(&fixture.details(), &fixture.manifest());
        fixture.rogues[0].set(behaviour.clone());
        let output = fixture.run(&["--wait", "3s"]).await?;
        assert_eq!(output.status.code(), Some(1), "{behaviour:?}");
        let words = said(&output);
        assert!(words.contains("rogue-0: ") && words.contains(reason), "{behaviour:?}: {words}");
        assert!(words.contains("start again to resume"), "{behaviour:?}: {words}");
        assert!(!fixture.here("got.bin").exists() && fixture.here("got.bin.part").exists());
    }
    // Nothing that they gave is in the way.
    fixture.rogues[0].set(Behaviour::Honest);
    event(&fixture.run(&["--json"]).await?, "done")?;
    assert!(fixture.is_right("got.bin")?);
    Ok(())
}

#[tokio::test]
async fn names_that_lead_nowhere_cost_time_only() -> anyhow::Result<()> {
    let fixture = Fixture::new(8 * MIB, 1).await?;
    let mut details = fixture.details();
    let mut lost = details["locations"][0].clone();
    for (n, url) in [
        "http://no-such-host.invalid:9000/x",
        "https://127.0.0.1:9/x",
        "http://[::1]:9/x",
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "javascript:\u{1b}[2J",
        "http://user:secret@127.0.0.1:9/x",
    ]
    .into_iter()
    .enumerate()
    {
        (lost["server"], lost["url"]) = (json!(format!("lost-{n}")), json!(url));
        details["locations"].as_array_mut().unwrap().push(lost.clone());
    }
    // TLS spoken to a server that does not.
    let tls = fixture.rogues[0].url().to_string().replace("http:", "https:");
    (lost["server"], lost["url"]) = (json!("lost-tls"), json!(tls));
    details["locations"].as_array_mut().unwrap().push(lost);
    fixture.script(&details, &fixture.manifest());
    // Slow enough that a resolver which does not answer is given up before the end.
    fixture.rogues[0].set(Behaviour::Throttle { rate: 3 * MIB / 2 });
    let output = fixture.run(&["--json"]).await?;
    let done = event(&output, "done")?;
    assert!(fixture.is_right("got.bin")?);
    for lost in done["report"]["sources"].as_array().unwrap().iter().filter(|source| source["server"] != "rogue-0") {
        assert_eq!(number(&lost["bytes"]), 0, "{lost}");
        // A peer that waits for the end of what it takes for a head is silent, which takes longer to be called a failure.
        let silent = lost["server"] == "lost-tls";
        assert!(silent || lost["outcome"]["state"] == "failing", "{lost}");
    }
    assert!(events(&output)?.iter().any(|event| event["event"] == "source-lost"));
    Ok(())
}

//! Servers that go away and come back, tokens that end, files that are removed.

use std::time::{Duration, Instant};

use ddm_testkit::{
    cluster::{events, finish},
    process::eventually,
    rogue::{Behaviour, Rogue, catalogue::ScriptedAnswer},
    window,
};
use serde_json::json;
use wire::token::{Token, TokenKind};

use super::fixture::{Fixture, issued, said};
use crate::content::{MIB, event, has_event, number, source};

const SECOND: Duration = Duration::from_secs(1);

/// Waits until a rogue has given this many bytes.
async fn given(rogue: &Rogue, bytes: u64) -> anyhow::Result<()> {
    eventually("the server is giving", 20 * SECOND, async || Ok((rogue.sent() >= bytes).then_some(()))).await
}

#[tokio::test]
async fn when_every_replica_is_down_and_one_returns_it_goes_on_by_itself() -> anyhow::Result<()> {
    let mut fixture = Fixture::new(24 * MIB, 2).await?;
    fixture.rogues.iter().for_each(|rogue| rogue.set(Behaviour::Throttle { rate: 6 * MIB }));
    let client = fixture.spawn(&["--json"])?;
    given(&fixture.rogues[0], 4 * MIB).await?;
    let address = fixture.rogues[0].address();
    for rogue in fixture.rogues.drain(..) {
        rogue.kill().await;
    }
    tokio::time::sleep(window(5 * SECOND, 20 * SECOND)).await;
    let back = Rogue::start_at(address, fixture.file, fixture.content.clone()).await?;
    let returned = Instant::now();
    let output = finish(client).await?;
    let done = event(&output, "done")?;
    assert!(returned.elapsed() < 10 * SECOND, "{:?}", returned.elapsed());
    assert!(fixture.is_right("got.bin")? && has_event(&output, "source-returned", "rogue-0")?);
    assert!(events(&output)?.iter().any(|event| event["event"] == "waiting"));
    // What the other one gave before was not fetched again.
    let kept = number(&source(&done, "rogue-1")?["bytes"]);
    assert!(back.sent() <= 24 * MIB - kept, "{} bytes from the one that returned: {done}", back.sent());
    Ok(())
}

#[tokio::test]
async fn with_all_servers_gone_it_waits_as_long_as_told_and_the_same_command_goes_on_later() -> anyhow::Result<()> {
    let mut fixture = Fixture::new(16 * MIB, 1).await?;
    fixture.rogues[0].set(Behaviour::Throttle { rate: 8 * MIB });
    let client = fixture.spawn(&["--wait", "4s"])?;
    given(&fixture.rogues[0], 6 * MIB).await?;
    fixture.rogues.remove(0).kill().await;
    let gone = Instant::now();
    let output = finish(client).await?;
    assert_eq!(output.status.code(), Some(1));
    assert!(gone.elapsed() >= 3 * SECOND && gone.elapsed() < 15 * SECOND, "{:?}", gone.elapsed());
    let words = said(&output);
    assert!(words.contains("no source gave a chunk for 4 s: rogue-0: "), "{words}");
    assert!(words.contains("start again to resume") && !fixture.here("got.bin").exists(), "{words}");
    fixture.rogues.push(Rogue::start(fixture.file, fixture.content.clone()).await?);
    fixture.script(&fixture.details(), &fixture.manifest());
    let done = event(&fixture.run(&["--json"]).await?, "done")?;
    // Of 6 MiB that were given, a chunk in each of 4 requests was in flight.
    assert!(number(&done["report"]["resumed"]) >= 2 * MIB, "{done}");
    assert_eq!(fixture.rogues[0].sent(), number(&done["report"]["fetched"]), "a byte was fetched twice");
    assert!(fixture.is_right("got.bin")?);
    Ok(())
}

#[tokio::test]
async fn a_zone_that_is_cut_off_is_tried_at_most_twice_a_second() -> anyhow::Result<()> {
    let fixture = Fixture::new(24 * MIB, 3).await?;
    fixture.rogues[0].set(Behaviour::Reset { after: 0 });
    fixture.rogues[1].set(Behaviour::Status { code: 502, retry_after: None });
    fixture.rogues[2].set(Behaviour::Throttle { rate: 3 * MIB });
    let done = event(&fixture.run(&["--json"]).await?, "done")?;
    assert!(fixture.is_right("got.bin")?);
    assert!(done["report"]["elapsed"].as_f64().unwrap() > 6.0, "{done}");
    for rogue in &fixture.rogues[..2] {
        let asked = rogue.asked();
        assert!(asked.len() >= 3, "{asked:?}");
        for pair in asked.windows(3) {
            assert!(pair[2].at - pair[0].at >= Duration::from_millis(950), "{asked:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_file_removed_meanwhile_ends_the_download_at_once_and_its_part_is_kept() -> anyhow::Result<()> {
    for status in [403, 404] {
        let fixture = Fixture::new(24 * MIB, 2).await?;
        fixture.rogues.iter().for_each(|rogue| rogue.set(Behaviour::Throttle { rate: 4 * MIB }));
        let client = fixture.spawn(&[])?;
        given(&fixture.rogues[0], 3 * MIB).await?;
        let gone = json!({ "title": "There is no such file", "status": 404, "detail": fixture.file }).to_string();
        for path in ["", "/tokens"] {
            fixture.info_server.respond(&fixture.path(path), ScriptedAnswer::Json(404, gone.clone()));
        }
        fixture.rogues.iter().for_each(|rogue| rogue.set(Behaviour::Status { code: status, retry_after: None }));
        let removed = Instant::now();
        let output = finish(client).await?;
        assert_eq!(output.status.code(), Some(1));
        assert!(removed.elapsed() < 10 * SECOND, "{status}: {:?}", removed.elapsed());
        let words = said(&output);
        assert!(words.contains("the file is no longer there: There is no such file"), "{status}: {words}");
        assert!(words.contains("got.bin.part"), "what is left is named: {words}");
        assert!(fixture.here("got.bin.part").exists() && !fixture.here("got.bin").exists());
    }
    Ok(())
}

#[tokio::test]
async fn a_token_revoked_midway_is_told_and_replaced_or_ends_the_download() -> anyhow::Result<()> {
    let fixture = Fixture::new(24 * MIB, 2).await?;
    let fresh = Token::generate(TokenKind::Download);
    for renewed in [true, false] {
        let answer = if renewed {
            ScriptedAnswer::Json(201, issued(&fresh).to_string())
        } else {
            ScriptedAnswer::Json(401, json!({ "title": "Log in", "status": 401 }).to_string())
        };
        fixture.info_server.respond(&fixture.path("/tokens"), answer);
        fixture.rogues.iter().for_each(|rogue| rogue.set(Behaviour::Throttle { rate: 4 * MIB }));
        let before = fixture.rogues[0].sent();
        let client = fixture.spawn(&["--json", "-f"])?;
        given(&fixture.rogues[0], before + 3 * MIB).await?;
        fixture.rogues.iter().for_each(|rogue| rogue.require(&fresh));
        let output = finish(client).await?;
        assert!(has_event(&output, "token-refused", "rogue-0")? || has_event(&output, "token-refused", "rogue-1")?);
        if renewed {
            let done = event(&output, "done")?;
            assert!(fixture.is_right("got.bin")?, "{done}");
            let other = Token::generate(TokenKind::Download);
            fixture.rogues.iter().for_each(|rogue| rogue.require(&other));
            // The catalogue's token is as good as the one it was asked for.
            let mut details = fixture.details();
            details["download"] = issued(&other);
            fixture.script(&details, &fixture.manifest());
        } else {
            assert_eq!(output.status.code(), Some(1));
            let words = said(&output);
            assert!(words.contains("the token is refused") && words.contains("ddm-client login"), "{words}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_good_token_that_one_server_refuses_is_good_at_the_others() -> anyhow::Result<()> {
    for renewal in [201, 401] {
        let fixture = Fixture::new(16 * MIB, 2).await?;
        let mut details = fixture.details();
        let token = Token::generate(TokenKind::Download);
        details["download"] = issued(&token);
        fixture.script(&details, &fixture.manifest());
        let answer = if renewal == 201 { issued(&token) } else { json!({ "title": "Log in", "status": 401 }) };
        fixture.info_server.respond(&fixture.path("/tokens"), ScriptedAnswer::Json(renewal, answer.to_string()));
        fixture.rogues[0].set(Behaviour::Status { code: 403, retry_after: None });
        fixture.rogues[1].set(Behaviour::Throttle { rate: 4 * MIB });
        let output = fixture.run(&["--json"]).await?;
        let done = event(&output, "done")?;
        assert!(fixture.is_right("got.bin")?);
        assert_eq!(number(&source(&done, "rogue-1")?["bytes"]), 16 * MIB, "{done}");
        assert!(source(&done, "rogue-0")?["outcome"]["reason"].as_str().unwrap().contains("403"), "{done}");
        let renewals = fixture.info_server.requests().iter().filter(|line| line.ends_with("/tokens")).count();
        assert!(renewals <= 5, "{renewals} tokens were asked for");
    }
    Ok(())
}

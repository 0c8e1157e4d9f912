//! F37: system calls on files fail at the n-th time. Nothing that was not synced is ever acknowledged.

use std::process::Stdio;

use anyhow::Context as _;
use ddm_testkit::{
    cluster::{Cluster, Plan, STEP_TIMEOUT, finish},
    history::Promise,
    process::{Failing, eventually},
};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::content::{MIB, event, file, names, sha256};

const FAILURES: &str = "the row makes disks fail";

/// Restarts a file server that ended for its disk's sake.
async fn revive(cluster: &mut Cluster, n: usize) -> anyhow::Result<()> {
    if !cluster.servers[n].process.as_ref().is_some_and(ddm_testkit::process::Server::runs) {
        drop(cluster.take_server(n));
        cluster.restart_server(n).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_file_server_whose_syncs_fail_acknowledges_no_chunk() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&Plan::zones(&["eu"])).await?;
    cluster.excuse(Promise::NoInternalErrors, FAILURES);
    let path = file(&cluster, "x.bin", 1, 3 * MIB)?;
    for error in ["EIO", "ENOSPC"] {
        let pid = cluster.servers[0].process.as_ref().unwrap().pid()?;
        let failing = Failing::new(Failing::SYNCS, error, "1+").attach(pid).await?;
        let made =
            cluster.request(Method::POST, "/v1/files").json(&json!({ "name": "x", "size": 3 * MIB, "quorum": 1 }));
        let made: serde_json::Value = made.send().await?.error_for_status()?.json().await?;
        let token = made["upload"]["token"].as_str().context("a token")?;
        let chunks = made["targets"][0]["url"].as_str().context("a target")?;
        let content = std::fs::read(&path)?;
        for (n, chunk) in content.chunks(MIB as usize).enumerate() {
            let digest = wire::Digest::of(chunk).to_field();
            let put = cluster.http.put(format!("{chunks}/{n}")).bearer_auth(token).header("Content-Digest", digest);
            let answer = put.body(chunk.to_vec()).send().await;
            assert!(!answer.is_ok_and(|answer| answer.status().is_success()), "{error}: chunk {n} was acknowledged");
        }
        failing.detach().await?;
        revive(&mut cluster, 0).await?;
        let held = cluster.http.get(chunks).bearer_auth(token).send().await?;
        let held = held.text().await?;
        assert!(!held.contains("[0,"), "{error}: chunks count that were refused: {held}");
    }
    let id = cluster.publish(&path, &["--quorum", "1"]).await?;
    event(&cluster.run_client(&["--json", "-o", "got.bin", &id]).await?, "done")?;
    assert_eq!(sha256(&cluster.path("got.bin"))?, sha256(&path)?);
    Ok(())
}

#[tokio::test]
async fn a_file_server_whose_disk_fails_now_and_then_keeps_what_it_acknowledged() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    cluster.excuse(Promise::NoInternalErrors, FAILURES);
    let mut published = Vec::new();
    let mut seed = ddm_testkit::seed() % 5;
    for calls in [Failing::SYNCS, Failing::WRITES, Failing::RENAMES] {
        for error in ["EIO", "ENOSPC"] {
            for when in ["1".to_owned(), format!("{}", 2 + seed)] {
                seed = (seed + 1) % 5;
                let pid = cluster.servers[0].process.as_ref().unwrap().pid()?;
                let failing = Failing::new(calls, error, &when).attach(pid).await?;
                let n = published.len() as u64 + seed;
                let path = file(&cluster, &format!("{calls}-{error}-{when}.bin").replace(',', "-"), n, 2 * MIB + n)?;
                let outcome = cluster.publish(&path, &["--quorum", "2"]).await;
                // One that has ended cannot be detached from.
                let _ = failing.detach().await;
                revive(&mut cluster, 0).await?;
                println!("{calls} {error} {when}: {}", outcome.as_ref().map_or("refused", |_| "acknowledged"));
                published.extend(outcome.ok().map(|id| (id, path)));
            }
        }
    }
    assert!(!published.is_empty(), "a failure that passes is tried again");
    cluster.take_server(0)?.kill().await?;
    cluster.restart_server(0).await?;
    cluster.take_server(1)?.kill().await?;
    for (id, path) in &published {
        event(&cluster.run_client(&["--json", "-f", "-o", "got.bin", id]).await?, "done")?;
        assert_eq!(sha256(&cluster.path("got.bin"))?, sha256(path)?, "{}", path.display());
    }
    Ok(())
}

#[tokio::test]
async fn an_info_server_whose_disk_fails_promises_nothing_that_is_gone_after_a_kill() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    cluster.excuse(Promise::NoInternalErrors, FAILURES);
    let mut promised = Vec::new();
    for calls in [Failing::SYNCS, Failing::WRITES] {
        for (error, when) in [("EIO", "1+"), ("ENOSPC", "1+"), ("EIO", "1"), ("ENOSPC", "2"), ("EIO", "3")] {
            let pid = cluster.info.as_ref().unwrap().pid()?;
            // The database alone: a log that cannot be written is no promise.
            let path = Some(cluster.path("info-server/catalogue.sqlite-wal"));
            let failing = Failing { path, ..Failing::new(calls, error, when) }.attach(pid).await?;
            for n in 0..3 {
                let body = json!({ "name": format!("{error}-{n}"), "size": 10 });
                let answer = cluster.request(Method::POST, "/v1/files").json(&body).send().await;
                if let Ok(answer) = answer.and_then(reqwest::Response::error_for_status) {
                    assert_eq!(answer.status(), StatusCode::CREATED);
                    assert!(when != "1+", "{calls} {error}: promised what cannot have been written");
                    let made: serde_json::Value = answer.json().await?;
                    promised.push(made["id"].as_str().context("an id")?.to_owned());
                }
            }
            let _ = failing.detach().await;
            cluster.info.take().context("an info-server")?.kill().await?;
            cluster.restart_info().await?;
            for id in &promised {
                cluster
                    .get(&format!("/v1/files/{id}?grant=false"))
                    .await
                    .with_context(|| format!("{calls} {error}"))?;
            }
        }
    }
    let path = file(&cluster, "x.bin", 5, 1000)?;
    eventually("files can be published again", STEP_TIMEOUT, async || Ok(cluster.publish(&path, &[]).await.ok()))
        .await?;
    Ok(())
}

/// Fills a folder's volume to the last byte.
fn fill(path: &std::path::Path) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut filler = std::fs::File::options().create(true).append(true).open(path)?;
    for size in [64 << 10, 1] {
        let block = vec![0; size];
        while filler.write_all(&block).is_ok() {}
    }
    Ok(())
}

#[tokio::test]
async fn an_info_server_without_room_says_so_and_goes_on_when_there_is_some() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let path = file(&cluster, "x.bin", 5, 1000)?;
    let id = cluster.publish(&path, &[]).await?;
    cluster.info.take().context("an info-server")?.stop().await?;
    let folder = cluster.restart_info_on_small_disk(16).await?;
    eventually("both file servers are back", STEP_TIMEOUT, async || {
        Ok((cluster.server_ids().await?.len() == 2).then_some(()))
    })
    .await?;
    let details = cluster.details(&id).await?;
    fill(&folder.join("filler"))?;
    let mut acknowledged = Vec::new();
    let announce = async |n: usize| {
        let body = json!({ "name": format!("{n}-{}", "x".repeat(200)), "size": 10 });
        anyhow::Ok(cluster.request(Method::POST, "/v1/files").json(&body).send().await?)
    };
    let problem: serde_json::Value = loop {
        let answer = announce(acknowledged.len()).await?;
        if answer.status() != StatusCode::CREATED {
            assert_eq!(answer.status(), StatusCode::INSUFFICIENT_STORAGE);
            break answer.json().await?;
        }
        let made: serde_json::Value = answer.json().await?;
        acknowledged.push(made["id"].as_str().context("an id")?.to_owned());
        assert!(acknowledged.len() < 20_000, "the disk is not full");
        fill(&folder.join("filler"))?;
    };
    assert!(problem["title"].as_str().unwrap().contains("disk is full"), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("made room"), "{problem}");
    // A token is a change, too; and so is a session.
    let wanted = StatusCode::INSUFFICIENT_STORAGE;
    eventually("a token is refused for lack of room", STEP_TIMEOUT, async || {
        fill(&folder.join("filler"))?;
        Ok((cluster.request(Method::GET, &format!("/v1/files/{id}?grant=true")).send().await?.status() == wanted)
            .then_some(()))
    })
    .await?;
    eventually("its readiness names the full disk", STEP_TIMEOUT, async || {
        let ready = cluster.http.get(format!("{}/readyz", cluster.info_url())).send().await?;
        let status = ready.status();
        let ready: serde_json::Value = ready.json().await?;
        let named = ready["database"] == "disk full: make room on the volume of the data folder";
        Ok((status == StatusCode::SERVICE_UNAVAILABLE && named).then_some(()))
    })
    .await?;
    eventually("its log names the full disk", STEP_TIMEOUT, async || {
        let log = std::fs::read_to_string(cluster.path("info-server.log"))?;
        Ok(log.contains("The database takes no writes (disk full:").then_some(()))
    })
    .await?;
    // What only reads goes on, and so does a download that has its token.
    assert!(cluster.get("/v1/files").await?["files"].as_array().is_some_and(|files| !files.is_empty()));
    let (url, token) = (&details["locations"][0]["url"], &details["download"]["token"]);
    let got = cluster.http.get(url.as_str().unwrap()).bearer_auth(token.as_str().unwrap()).send().await?;
    assert_eq!(got.bytes().await?.as_ref(), std::fs::read(&path)?);
    std::fs::remove_file(folder.join("filler"))?;
    eventually("files are taken again", STEP_TIMEOUT, async || {
        Ok((announce(0).await?.status() == StatusCode::CREATED).then_some(()))
    })
    .await?;
    for id in &acknowledged {
        cluster.get(&format!("/v1/files/{id}?grant=false")).await?;
    }
    eventually("the server is ready again", STEP_TIMEOUT, async || {
        Ok(cluster.http.get(format!("{}/readyz", cluster.info_url())).send().await?.status().is_success().then_some(()))
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_client_whose_disk_fails_says_so_and_leaves_nothing_under_the_name() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let path = file(&cluster, "x.bin", 6, 3 * MIB + 1)?;
    let id = cluster.publish(&path, &[]).await?;
    let folder = cluster.path("here");
    std::fs::create_dir(&folder)?;
    let target = folder.join("got.bin").display().to_string();
    let (part, nothing) = (folder.join("got.bin.part"), None);
    // What it writes, its sync, the sync of its folder, and its final name; each for good, and some of them once.
    for (calls, path_of, when) in [
        (Failing::WRITES, Some(&part), "1+"),
        (Failing::WRITES, Some(&part), "2"),
        (Failing::SYNCS, Some(&part), "1"),
        // The first sync of the folder is for the name of the journal, which is only a hint.
        (Failing::SYNCS, Some(&folder), "2"),
        (Failing::RENAMES, nothing, "1+"),
    ] {
        for error in ["EIO", "ENOSPC"] {
            let failing = Failing { path: path_of.cloned(), ..Failing::new(calls, error, when) };
            let mut client = cluster.client_failing(&["--json", "-o", &target, &id], Some(&failing))?;
            let output = finish(client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?).await?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            println!("{calls} {path_of:?} {error} {when}: {:?} {}", output.status.code(), said.trim());
            assert_eq!(output.status.code(), Some(1), "{calls} {path_of:?} {error} {when}: {said}");
            // After the rename only its lasting was in doubt: then what stands there is whole.
            let renamed = path_of == Some(&folder);
            assert_eq!(renamed, folder.join("got.bin").exists(), "{calls} {path_of:?} {error} {when}");
            assert!(!renamed || sha256(&folder.join("got.bin"))? == sha256(&path)?);
            assert!(said.contains("got.bin") || said.contains("here"), "{calls} {path_of:?} {error} {when}: {said}");
            let again = cluster.run_client(&["--json", "-f", "-o", &target, &id]).await?;
            event(&again, "done")?;
            assert_eq!(sha256(&folder.join("got.bin"))?, sha256(&path)?);
            assert_eq!(names(&folder)?, ["got.bin"], "{calls} {path_of:?} {error} {when}");
            std::fs::remove_file(folder.join("got.bin"))?;
        }
    }
    Ok(())
}

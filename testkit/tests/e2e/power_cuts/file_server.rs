use anyhow::{Context as _, ensure};
use ddm_testkit::{
    cluster::{Cluster, Plan},
    history::Promise,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use wire::Digest;

use super::{CUTS, copy, ended, mark};
use crate::content::{MIB, bytes, number};

/// A file that is uploaded chunk by chunk.
struct Upload {
    made: Value,
    content: Vec<u8>,
    /// The requests that bring its chunks.
    puts: Vec<usize>,
}

impl Upload {
    fn chunks(&self) -> std::slice::Chunks<'_, u8> {
        self.content.chunks(MIB as usize)
    }

    fn id(&self) -> &str {
        self.made["id"].as_str().unwrap()
    }

    fn token(&self) -> &str {
        self.made["upload"]["token"].as_str().unwrap()
    }

    async fn commit(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let digests: Vec<Digest> = self.chunks().map(Digest::of).collect();
        let commit = json!({ "sha256": Digest::of(&self.content), "chunks": digests });
        let path = format!("/v1/files/{}/commit", self.id());
        cluster.request(Method::POST, &path).json(&commit).send().await?.error_for_status()?;
        Ok(())
    }
}

#[tokio::test]
async fn every_chunk_that_a_file_server_acknowledged_is_synced_first_and_outlives_a_power_cut() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&Plan::zones(&["eu"])).await?;
    cluster.excuse(Promise::NothingLost, "the only server stands on other folders at the end");
    assert!(cluster.take_server(0)?.stop().await?.success());
    let folder = cluster.path("file-server-0");
    let (trace, before) = (cluster.path("trace"), copy(&folder, cluster.path("before")).await?);
    cluster.restart_server_recorded(0, &trace).await?;
    super::eventually("it is listed again", super::STEP_TIMEOUT, async || {
        Ok((cluster.server_ids().await?.len() == 1).then_some(()))
    })
    .await?;
    let (mut uploads, mut asked) = (Vec::new(), 0);
    for (n, size) in [(0, 2 * MIB + 5), (1, MIB), (2, 70_000), (3, 2 * MIB)] {
        let new = json!({ "name": format!("{n}.bin"), "size": size, "quorum": 1 });
        let made = cluster.request(Method::POST, "/v1/files").json(&new).send().await?.error_for_status()?;
        uploads.push(Upload { made: made.json().await?, content: bytes(n, size), puts: Vec::new() });
    }
    // Now of one file, now of another.
    for chunk in 0..3 {
        for upload in &mut uploads {
            let url = format!("{}/{chunk}", upload.made["targets"][0]["url"].as_str().context("a url")?);
            let Some(body) = upload.content.chunks(MIB as usize).nth(chunk) else { continue };
            let put = cluster.http.put(url).bearer_auth(upload.made["upload"]["token"].as_str().context("a token")?);
            let put = put.header("Content-Digest", Digest::of(body).to_field()).header("x-mark", mark(asked));
            ensure!(put.body(body.to_vec()).send().await?.status() == StatusCode::CREATED);
            upload.puts.push(asked);
            asked += 1;
        }
    }
    for upload in &uploads {
        upload.commit(&cluster).await?;
    }
    let recording = ended(cluster.take_server(0)?, &trace, &folder, &before).await?;

    let moment = |n: usize| recording.answered(&mark(n)).with_context(|| format!("no answer to request {n}"));
    for upload in &uploads {
        for n in &upload.puts {
            let (from, (answered, status)) = (recording.received(&mark(*n)).context("a request")?, moment(*n)?);
            assert_eq!(status, 201);
            // Of the blob nothing is open any more: neither bytes nor names. The last chunk of a file moves it, too.
            let open = recording.unsynced(0..answered);
            let open: Vec<_> = open.iter().filter(|what| what.contains(upload.id())).collect();
            assert!(open.is_empty(), "request {n} was answered while this was not synced: {open:?}");
            let synced = recording.synced(from..answered);
            let database = synced.iter().any(|path| path.ends_with("file-server.db-wal"));
            assert!(database, "request {n} was answered after these syncs: {synced:?}");
        }
    }
    let (first, seed) = (recording.received(&mark(0)).context("a first request")?, ddm_testkit::seed());
    for (n, cut) in recording.cuts(first..recording.len() + 1, CUTS, seed).into_iter().enumerate() {
        let data = cluster.path(&format!("cut-{n}"));
        std::fs::create_dir(&data)?;
        recording.rebuild(cut, seed.wrapping_add(n as u64), &data)?;
        let server = cluster.start_server_on(0, &data, &cluster.path(&format!("cut-{n}.log"))).await?;
        for upload in &uploads {
            let answered = |put: &usize| moment(*put).is_ok_and(|(at, _)| at < cut);
            let promised: Vec<u64> = (0..).zip(&upload.puts).filter(|(_, put)| answered(put)).map(|(n, _)| n).collect();
            if promised.is_empty() {
                continue;
            }
            let url = format!("http://{}/v1/files/{}", server.address(), upload.id());
            let held = cluster.http.get(format!("{url}/chunks")).bearer_auth(upload.token()).send().await?;
            let held: Value = held.error_for_status()?.json().await?;
            let runs = held["runs"].as_array().cloned().unwrap_or_default();
            let holds = |chunk: u64| runs.iter().any(|run| (number(&run[0])..number(&run[1])).contains(&chunk));
            let lost: Vec<_> = promised.iter().filter(|chunk| !holds(**chunk)).collect();
            assert!(lost.is_empty(), "cut {n}, after {cut} of {} steps: lost {lost:?} of {held}", recording.len());
            let details = cluster.details(upload.id()).await?;
            for run in &runs {
                let (from, end) = (number(&run[0]) * MIB, (number(&run[1]) * MIB).min(upload.content.len() as u64));
                let get =
                    cluster.http.get(format!("{url}/content")).header("range", format!("bytes={from}-{}", end - 1));
                let token = details["download"]["token"].as_str().context("a token")?;
                let answer = get.bearer_auth(token).send().await?;
                assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT, "cut {n}: {run}");
                let right = answer.bytes().await?[..] == upload.content[from as usize..end as usize];
                assert!(right, "cut {n}, after {cut} steps: wrong bytes in {run} of {}", upload.id());
            }
        }
        server.kill().await?;
        std::fs::remove_dir_all(&data)?;
    }
    Ok(())
}

//! Wrong bytes, other versions, and URLs that are not fetched.

use ddm_testkit::process::eventually;
use reqwest::{Method, StatusCode};
use serde_json::json;
use wire::Digest;

use super::fixture::{Origin, STEP_TIMEOUT, Worker, ask, id, info_server, job, span, work_on};
use crate::content::MIB;

#[tokio::test]
async fn a_worker_with_wrong_bytes_is_excluded_and_its_chunks_are_fetched_again() -> anyhow::Result<()> {
    let (cluster, origin) = (info_server(&[]).await?, Origin::start(12 * MIB).await?);
    let (faulty, honest) = (Worker::enrol(&cluster, "fs-1", "eu").await?, Worker::enrol(&cluster, "fs-2", "eu").await?);
    let (_, digests) = origin.digests();
    let id = id(&job(&cluster, json!({ "url": origin.url() })).await?)?;
    let lease = faulty.claim(&cluster, &id).await?;
    let lies: Vec<(u64, Digest)> = span(&lease).map(|n| (n, Digest::of(b"a lie"))).collect();
    assert_eq!(faulty.report(&cluster, &id, &lease["fence"], &lies).await?.0, StatusCode::OK);

    // No third worker is there: the info-server itself looks who is right.
    let done = work_on(&cluster, &id, &[&honest], &digests).await?;
    let excluded = done["workers"].as_array().unwrap().iter().find(|worker| worker["server"] == "fs-1").unwrap();
    assert_eq!((&excluded["state"], &done["generation"]), (&json!("excluded"), &json!(1)), "{done}");
    let manifest = cluster.get(&format!("/v1/files/{}/manifest", done["file"].as_str().unwrap())).await?;
    assert_eq!(manifest["chunks"], json!(digests));
    let audit = cluster.get("/v1/audit?kind=worker-convicted").await?;
    assert_eq!(audit["entries"][0]["subject"], "fs-1", "{audit}");
    Ok(())
}

#[tokio::test]
async fn a_dispute_outlives_a_restart_and_is_decided_by_those_who_spoke_before_and_after() -> anyhow::Result<()> {
    let (mut cluster, origin) = (info_server(&[]).await?, Origin::start(8 * MIB).await?);
    let (faulty, honest) = (Worker::enrol(&cluster, "fs-1", "eu").await?, Worker::enrol(&cluster, "fs-2", "eu").await?);
    let third = Worker::enrol(&cluster, "fs-3", "eu").await?;
    let (_, digests) = origin.digests();
    let id = id(&job(&cluster, json!({ "url": origin.url() })).await?)?;
    let lease = faulty.claim(&cluster, &id).await?;
    let lies: Vec<(u64, Digest)> = span(&lease).map(|n| (n, Digest::of(b"a lie"))).collect();
    assert_eq!(faulty.report(&cluster, &id, &lease["fence"], &lies).await?.0, StatusCode::OK);
    let check = honest.claim(&cluster, &id).await?;
    assert_eq!(check["purpose"], "check", "{check}");
    let n = span(&check).start;
    // The third one is there, so that it is the one who is asked.
    third.ask(&cluster, &id).await?;
    assert_eq!(honest.report(&cluster, &id, &check["fence"], &[(n, digests[n as usize])]).await?.0, StatusCode::OK);
    let again = eventually("the third one is asked", STEP_TIMEOUT, async || {
        let lease = third.claim(&cluster, &id).await?;
        Ok((lease["purpose"] == "check").then_some(lease))
    })
    .await?;
    assert_eq!(span(&again), n..n + 1);
    cluster.info.take().unwrap().kill().await?;
    // From now on no process can fetch the chunk from the origin.
    drop(origin);
    cluster.restart_info().await?;
    third.live(&cluster).await?;
    assert_eq!(third.report(&cluster, &id, &again["fence"], &[(n, digests[n as usize])]).await?.0, StatusCode::OK);
    let info = cluster.get(&format!("/v1/jobs/{id}")).await?;
    let excluded = info["workers"].as_array().unwrap().iter().find(|worker| worker["server"] == "fs-1").unwrap();
    assert_eq!((&info["state"], &excluded["state"]), (&json!("running"), &json!("excluded")), "{info}");
    Ok(())
}

#[tokio::test]
async fn content_that_changed_ends_the_job_and_a_worker_that_only_says_so_does_not() -> anyhow::Result<()> {
    let (cluster, origin) = (info_server(&[]).await?, Origin::start(8 * MIB).await?);
    let worker = Worker::enrol(&cluster, "fs-1", "eu").await?;
    let id = id(&job(&cluster, json!({ "url": origin.url() })).await?)?;
    let changed = json!({ "failed": { "reason": "changed" } });
    let report = async || {
        let lease = worker.claim(&cluster, &id).await?;
        let path = format!("/v1/jobs/{id}/leases/{}", lease["fence"]);
        anyhow::Ok(worker.send(&cluster, Method::PUT, &path, Some(changed.clone())).await?.status())
    };
    let asked = origin.requests();
    assert_eq!(report().await?, StatusCode::OK);
    eventually("the origin is asked", STEP_TIMEOUT, async || Ok((origin.requests() > asked).then_some(()))).await?;
    assert_eq!(cluster.get(&format!("/v1/jobs/{id}")).await?["state"], "running");
    origin.change();
    assert_eq!(report().await?, StatusCode::OK);
    let failed = eventually("the job fails", STEP_TIMEOUT, async || {
        let info = cluster.get(&format!("/v1/jobs/{id}")).await?;
        Ok((info["state"] == "failed").then_some(info))
    })
    .await?;
    assert_eq!(failed["reason"], "changed");
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_fetched_together_is_named() -> anyhow::Result<()> {
    let (cluster, origin) = (info_server(&["--job-min-size", "1000000"]).await?, Origin::start(10).await?);
    let _worker = Worker::enrol(&cluster, "fs-1", "eu").await?;
    let (status, direct) = ask(&cluster, &cluster.token, json!({ "url": origin.url() })).await?;
    assert_eq!((status, &direct["state"], &direct["reason"]), (StatusCode::OK, &json!("direct"), &json!("small-file")));
    for (url, reason) in [("http://127.0.0.1:1/x", "unreachable"), ("http://10.1.2.3/x", "not-public")] {
        let (status, problem) = ask(&cluster, &cluster.token, json!({ "url": url })).await?;
        assert_eq!((status, &problem["reason"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!(reason)), "{problem}");
    }
    for bad in [
        json!({ "url": "ftp://example.org/x" }),
        json!({ "url": origin.url(), "connections": 0 }),
        json!({ "url": origin.url(), "zones": [] }),
    ] {
        let (status, problem) = ask(&cluster, &cluster.token, bad).await?;
        assert!(status.is_client_error(), "{status} {problem}");
    }
    Ok(())
}

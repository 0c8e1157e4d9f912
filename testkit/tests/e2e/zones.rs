//! S5, S18: where files are to stand, and who is sent where.

use ddm_testkit::{
    cluster::{ADMIN, Cluster, PASSWORD, Plan, STEP_TIMEOUT, events, finish, run_with_input},
    process::eventually,
};
use reqwest::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    content::{MIB, event, file, number, sha256, source},
    standing::{assigned, complete, given, place, replicated, status, whole},
};

fn plan(zones: &[&'static str], more: &[&str]) -> Plan {
    Plan { info_args: more.iter().map(|arg| (*arg).to_owned()).collect(), ..Plan::zones(zones) }
}

#[tokio::test]
async fn an_upload_goes_to_the_publishers_zone_and_the_other_zones_follow() -> anyhow::Result<()> {
    let zones = ["eu", "eu", "us", "us", "ap"];
    let cluster = Cluster::start(&Plan::zones(&zones)).await?;
    let path = file(&cluster, "x.bin", 1, 3 * MIB)?;
    let id = cluster.publish(&path, &["--zone", "us", "--zones", "eu,us", "--replicas", "2"]).await?;
    eventually("both zones are assigned", STEP_TIMEOUT, async || {
        Ok((assigned(&cluster, &id).await? == [0, 1, 2, 3]).then_some(()))
    })
    .await?;
    let status = status(&cluster, &id).await?;
    assert_eq!(number(&status["zones"]["us"]["complete"]), 2, "{status}");
    assert_eq!(number(&status["zones"]["eu"]["wanted"]), 2, "{status}");
    assert_eq!(status["zones"].as_object().unwrap().len(), 2, "{status}");
    Ok(())
}

#[tokio::test]
async fn my_zone_comes_first_then_the_nearest_and_others_serve_when_it_dies() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&plan(&["eu", "us", "ap"], &["--zone-cost", "eu:us=20,eu:ap=5"])).await?;
    let path = file(&cluster, "x.bin", 2, 3 * MIB)?;
    let id = cluster.publish(&path, &["--replicas", "3", "--quorum", "3"]).await?;
    let details = cluster.get(&format!("/v1/files/{id}?zone=eu&grant=false")).await?;
    let order: Vec<_> =
        details["locations"].as_array().unwrap().iter().map(|l| (l["zone"].clone(), l["cost"].clone())).collect();
    assert_eq!(order, [(json!("eu"), json!(0)), (json!("ap"), json!(5)), (json!("us"), json!(20))]);
    cluster.take_server(0)?.kill().await?;
    let got = cluster.run_client(&["--zone", "eu", "-o", "got.bin", &id]).await?;
    assert!(got.status.success(), "{}", String::from_utf8_lossy(&got.stderr));
    assert_eq!(sha256(&cluster.path("got.bin"))?, sha256(&path)?);
    Ok(())
}

#[tokio::test]
async fn waiting_for_replicas_that_cannot_be_ends_with_what_is_missing() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let path = file(&cluster, "x.bin", 3, MIB)?.display().to_string();
    let args = ["publish", &path, "--replicas", "2", "--zones", "eu", "--wait=30s"];
    let done = cluster.run_client(&args).await?;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let args = ["--json", "publish", &path, "--replicas", "3", "--zones", "eu", "--name", "y.bin", "--wait=1s"];
    let missing = cluster.run_client(&args).await?;
    assert_eq!(missing.status.code(), Some(1));
    let shown = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(shown.contains("2 of 3 replicas in eu are complete (only 2 live servers can hold it)"), "{shown}");
    let events = events(&missing)?;
    assert!(events.iter().any(|event| event["event"] == "published"), "it is published all the same");
    assert!(events.iter().any(|event| event["event"] == "not-replicated"));
    Ok(())
}

#[tokio::test]
async fn a_preheated_zone_is_wanted_too_and_one_without_servers_is_refused() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu", "us"])).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 4, MIB)?, &["--zones", "eu", "--replicas", "2"]).await?;
    assert_eq!(assigned(&cluster, &id).await?, [0, 1]);
    let asked = cluster.run_client(&["preheat", &id, "--zone", "us", "--replicas", "1", "--wait=60s"]).await?;
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    // It came back when that was true, and not before.
    assert_eq!(complete(&cluster, &id).await?, [0, 1, 2]);
    assert_eq!(sha256(&place(&cluster, 2, &id))?, sha256(&cluster.path("x.bin"))?);
    let more = cluster.run_client(&["preheat", &id, "--zone", "us", "--replicas", "2", "--wait=1s"]).await?;
    assert_eq!(more.status.code(), Some(1));
    let shown = String::from_utf8_lossy(&more.stderr).into_owned();
    assert!(shown.contains("1 of 2 replicas in us are complete (only 1 live server can hold it)"), "{shown}");
    let nobody = cluster.run_client(&["preheat", &id, "--zone", "mars"]).await?;
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("no file server of the zone mars is live"));
    Ok(())
}

#[tokio::test]
async fn a_server_that_stays_away_is_replaced_and_one_that_comes_back_in_time_is_not() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&plan(&["eu", "eu", "eu"], &["--repair-after", "12s"])).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 5, MIB)?, &["--replicas", "2"]).await?;
    let [first, second] = assigned(&cluster, &id).await?[..] else { panic!("two holders") };
    let spare = 3 - first - second;
    cluster.take_server(first)?.kill().await?;
    cluster.restart_server(first).await?;
    eventually("it is live again", STEP_TIMEOUT, async || {
        let status = status(&cluster, &id).await?;
        let row = |row: &Value| row["server"] == cluster.servers[first].id.as_str() && row["live"] == true;
        Ok(status["replicas"].as_array().unwrap().iter().any(row).then_some(()))
    })
    .await?;
    // Past the time at which it would have been replaced.
    tokio::time::sleep(std::time::Duration::from_secs(14)).await;
    assert_eq!(assigned(&cluster, &id).await?, [first, second]);
    cluster.take_server(first)?.kill().await?;
    eventually("the spare server has it", STEP_TIMEOUT * 2, async || {
        Ok(complete(&cluster, &id).await?.contains(&spare).then_some(()))
    })
    .await?;
    // It comes back without what it held: what it once said of it does not count, and what is too much is dropped there.
    std::fs::remove_file(place(&cluster, first, &id))?;
    cluster.restart_server(first).await?;
    let left = [second.min(spare), second.max(spare)];
    eventually("two are to hold it again", STEP_TIMEOUT * 2, async || {
        let digest = sha256(&cluster.path("x.bin"))?;
        let whole = left.iter().all(|n| sha256(&place(&cluster, *n, &id)).is_ok_and(|found| found == digest));
        assert!(whole, "a replica was dropped that was needed");
        Ok((assigned(&cluster, &id).await? == left).then_some(()))
    })
    .await?;
    eventually("nothing is left of the third", STEP_TIMEOUT, async || {
        let partial = cluster.path(&format!("file-server-{first}/partial")).join(&id);
        Ok((!place(&cluster, first, &id).exists() && !partial.exists()).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_server_is_drained_only_where_others_can_hold_its_files_and_takes_no_new_ones() -> anyhow::Result<()> {
    let plan = Plan::zones(&["eu", "eu"]);
    let mut cluster = Cluster::start(&plan).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 6, MIB)?, &["--zones", "eu", "--replicas", "2"]).await?;
    let leaving = cluster.servers[0].id.clone();
    let refused = cluster.run_client(&["drain", &leaving]).await?;
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no other live file server"));
    cluster.add_server("eu", &plan).await?;
    let begun = cluster.run_client(&["drain", &leaving]).await?;
    assert!(begun.status.success(), "{}", String::from_utf8_lossy(&begun.stderr));
    eventually("the new server is assigned", STEP_TIMEOUT, async || {
        Ok(assigned(&cluster, &id).await?.contains(&2).then_some(()))
    })
    .await?;
    let other = cluster.publish(&file(&cluster, "y.bin", 7, MIB)?, &["--zones", "eu", "--replicas", "2"]).await?;
    assert_eq!(assigned(&cluster, &other).await?, [1, 2]);
    let undone = cluster.run_client(&["drain", &leaving, "--undo"]).await?;
    assert!(undone.status.success(), "{}", String::from_utf8_lossy(&undone.stderr));
    let list = cluster.get("/v1/servers").await?;
    assert!(list["servers"].as_array().unwrap().iter().all(|server| server["draining"] == false), "{list}");
    let nobody = cluster.request(Method::POST, "/v1/servers/nobody/drain").send().await?;
    assert_eq!(nobody.status(), StatusCode::NOT_FOUND);
    Ok(())
}

#[tokio::test]
async fn a_publication_that_waits_comes_back_when_every_replica_of_each_zone_is_verified() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu", "us", "us"])).await?;
    let path = file(&cluster, "x.bin", 8, 9 * MIB)?;
    let id = cluster.publish(&path, &["--zones", "eu,us", "--replicas", "2", "--wait=60s"]).await?;
    assert_eq!(complete(&cluster, &id).await?, [0, 1, 2, 3]);
    for n in 0..4 {
        assert_eq!(sha256(&place(&cluster, n, &id))?, sha256(&path)?, "server {n}");
    }
    // One that gives no sign of life has verified nothing.
    let stuck = cluster.servers[3].process.as_ref().unwrap();
    stuck.signal(Signal::STOP)?;
    let other = file(&cluster, "y.bin", 9, MIB)?.display().to_string();
    let args = ["--json", "publish", &other, "--zones", "eu,us", "--replicas", "2", "--wait=2s"];
    let late = cluster.run_client(&args).await?;
    stuck.signal(Signal::CONT)?;
    assert_eq!(late.status.code(), Some(1));
    let shown = String::from_utf8_lossy(&late.stderr).into_owned();
    assert!(shown.contains("of 2 replicas in us are complete"), "{shown}");
    let published = events(&late)?.into_iter().find(|event| event["event"] == "published").unwrap();
    replicated(&cluster, published["file"]["id"].as_str().unwrap(), STEP_TIMEOUT * 2).await
}

#[tokio::test]
async fn the_zone_of_the_log_in_is_used_and_the_one_of_the_command_goes_before_it() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu", "us", "us"])).await?;
    let log_in = cluster.client(&["--zone", "us", "login", ADMIN])?;
    assert!(run_with_input(log_in, PASSWORD).await?.status.success());
    let mut ids = Vec::new();
    for (more, expected) in [(&[][..], [2, 3]), (&["--zone", "eu"][..], [0, 1])] {
        let path = file(&cluster, &format!("{}.bin", expected[0]), expected[0] as u64, 5 * MIB)?.display().to_string();
        // Wherever it may stand, it is sent to the own zone.
        for policy in [&["--zones", "eu,us", "--replicas", "2"][..], &["--replicas", "2"][..]] {
            let name = format!("{}-{}.bin", expected[0], policy.len());
            let args = [&["--json", "publish", "--again", &path, "--name", &name], policy, more].concat();
            let output = cluster.run_client(&args).await?;
            let published = event(&output, "published")?;
            let servers: Vec<_> = published["servers"].as_array().unwrap().iter().collect();
            assert!(expected.iter().all(|n| servers.contains(&&json!(cluster.servers[*n].id))), "{published}");
            assert_eq!(servers.len(), 2, "{published}");
            ids.push(published["file"]["id"].as_str().unwrap().to_owned());
        }
    }
    // What servers pull from each other is counted as given, too.
    for id in &ids {
        replicated(&cluster, id, STEP_TIMEOUT).await?;
    }
    for (more, near, far) in [(&[][..], 2..4, 0..2), (&["--zone", "eu"][..], 0..2, 2..4)] {
        let before = (given(&cluster, near.clone()).await?, given(&cluster, far.clone()).await?);
        let args = [&["--json", "-f", "-o", "got.bin", ids[0].as_str()], more].concat();
        event(&cluster.run_client(&args).await?, "done")?;
        assert!(given(&cluster, near).await? >= before.0 + 5 * MIB, "{more:?}");
        assert_eq!(given(&cluster, far).await?, before.1, "{more:?}");
    }
    Ok(())
}

#[tokio::test]
async fn another_zone_helps_where_the_own_one_cannot_keep_up_and_is_left_alone_where_it_can() -> anyhow::Result<()> {
    const SIZE: u64 = 24 * MIB;
    let cluster = Cluster::start(&Plan { proxied: true, ..Plan::zones(&["eu", "us"]) }).await?;
    let path = file(&cluster, "x.bin", 10, SIZE)?;
    let id = cluster.publish(&path, &["--replicas", "2", "--quorum", "2"]).await?;
    let far = &cluster.servers[1].id;
    let download = async || {
        let output = cluster.run_client(&["--json", "-f", "--zone", "eu", "-o", "got.bin", &id]).await?;
        let done = event(&output, "done")?;
        assert_eq!(sha256(&cluster.path("got.bin"))?, sha256(&path)?);
        let bytes = source(&done, far).map_or(0, |source| number(&source["bytes"]));
        anyhow::Ok((bytes, done["report"]["elapsed"].as_f64().unwrap()))
    };
    for n in 0..2 {
        cluster.proxy(n)?.limit(Some(6 << 20));
    }
    assert_eq!(download().await?.0, 0);
    cluster.proxy(0)?.limit(Some(400 << 10));
    let (bytes, seconds) = download().await?;
    println!("{bytes} bytes from afar, {seconds} s");
    assert!(bytes > SIZE / 2 && seconds < 30.0, "{bytes} bytes from afar, {seconds} s; 60 s without them");
    Ok(())
}

#[tokio::test]
async fn the_quorum_is_counted_in_the_publishers_zone() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&Plan::zones(&["eu", "eu", "us", "us"])).await?;
    assert!(cluster.take_server(3)?.stop().await?.success());
    let path = file(&cluster, "x.bin", 11, 2 * MIB)?.display().to_string();
    let args = ["--json", "--zone", "us", "publish", &path, "--zones", "us,eu"];
    let refused = cluster.run_client(&args).await?;
    let shown = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    assert!(shown.contains("the quorum needs 2 file servers, 1 live in the zone us"), "{shown}");
    let done = cluster.run_client(&[&args[..], &["--quorum", "1", "--replicas", "1"][..]].concat()).await?;
    assert_eq!(event(&done, "published")?["servers"], json!([cluster.servers[2].id]));
    Ok(())
}

#[tokio::test]
async fn a_drained_server_ends_empty_and_a_download_from_it_goes_on() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&Plan { proxied: true, ..Plan::zones(&["eu", "eu", "eu"]) }).await?;
    let path = file(&cluster, "x.bin", 12, 20 * MIB)?;
    let id = cluster.publish(&path, &["--replicas", "2"]).await?;
    let held = assigned(&cluster, &id).await?;
    let (leaving, id_of) = (held[0], cluster.servers[held[0]].id.clone());
    for n in 0..3 {
        cluster.proxy(n)?.limit(Some(2 << 20));
    }
    let before = cluster.proxy(leaving)?.passed();
    let client = cluster.spawn_client(&["--json", "-o", "got.bin", &id])?;
    eventually("it is giving", STEP_TIMEOUT, async || {
        Ok((cluster.proxy(leaving)?.passed() > before + MIB).then_some(()))
    })
    .await?;
    let drained = cluster.run_client(&["drain", &id_of, "--wait=90s"]).await?;
    let shown = String::from_utf8_lossy(&drained.stdout).into_owned();
    assert!(drained.status.success() && shown.contains("it can be stopped"), "{shown}");
    let digest = sha256(&path)?;
    for n in (0..3).filter(|n| *n != leaving) {
        whole(&cluster, n, &id, &digest).await?;
    }
    eventually("it is empty", STEP_TIMEOUT, async || Ok((!place(&cluster, leaving, &id).exists()).then_some(())))
        .await?;
    assert!(cluster.take_server(leaving)?.stop().await?.success());
    event(&finish(client).await?, "done")?;
    assert_eq!(sha256(&cluster.path("got.bin"))?, digest);
    // Two are left for two replicas: what cannot be moved from the next one is named.
    let other = cluster.servers[(0..3).find(|n| *n != leaving).unwrap()].id.clone();
    let stuck = cluster.run_client(&["drain", &other]).await?;
    let shown = String::from_utf8_lossy(&stuck.stderr).into_owned();
    assert!(stuck.status.code() == Some(1) && shown.contains(&id), "{shown}");
    Ok(())
}

#[tokio::test]
async fn a_file_is_removed_in_every_zone_and_where_a_server_was_away() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&Plan::zones(&["eu", "eu", "us", "us"])).await?;
    let path = file(&cluster, "x.bin", 13, 3 * MIB)?;
    let id = cluster.publish(&path, &["--zones", "eu,us", "--replicas", "2", "--wait=60s"]).await?;
    cluster.take_server(3)?.kill().await?;
    assert!(cluster.run_client(&["remove", &id]).await?.status.success());
    let gone = async |cluster: &Cluster, servers: std::ops::Range<usize>| {
        eventually("its bytes are gone", STEP_TIMEOUT, async || {
            Ok(servers.clone().all(|n| !place(cluster, n, &id).exists()).then_some(()))
        })
        .await
    };
    gone(&cluster, 0..3).await?;
    assert!(place(&cluster, 3, &id).exists());
    cluster.restart_server(3).await?;
    gone(&cluster, 3..4).await
}

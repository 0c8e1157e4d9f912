//! S3, S4, S5, S23, S35: what is published, where it stands, and that it stays.

use ddm_testkit::{
    cluster::{Cluster, Plan, STEP_TIMEOUT},
    process::eventually,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::content::{MIB, file, number, sha256};

#[tokio::test]
async fn a_published_file_is_listed_described_and_downloaded_exactly() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu", "us"])).await?;
    let (first, second) = (file(&cluster, "first.bin", 1, 3 * MIB + 7)?, file(&cluster, "second.bin", 2, 2 * MIB)?);
    let (one, two) = (cluster.publish(&first, &[]).await?, cluster.publish(&second, &[]).await?);

    let list = cluster.get("/v1/files").await?;
    let rows = list["files"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["name"].as_str().unwrap()).collect::<Vec<_>>(), ["second.bin", "first.bin"]);
    let row = &rows[1];
    assert_eq!((row["id"].as_str(), number(&row["size"])), (Some(one.as_str()), 3 * MIB + 7));
    assert_eq!((row["sha256"].as_str(), number(&row["chunk_size"])), (Some(sha256(&first)?.as_str()), MIB));
    assert_eq!(row["state"], "available");
    assert!(row["created_at"].as_str().unwrap().ends_with('Z'));
    let all_three = async || {
        let list = cluster.get("/v1/files?q=FIRST").await?;
        Ok((list["files"][0]["live_replicas"] == 3).then_some(()))
    };
    eventually("all three targets have reported", STEP_TIMEOUT, all_three).await?;
    let without = cluster.http.get(format!("{}/v1/files", cluster.info_url())).send().await?;
    assert_eq!(without.status(), StatusCode::UNAUTHORIZED);

    let details = cluster.get(&format!("/v1/files/{one}?zone=us")).await?;
    let locations = details["locations"].as_array().unwrap();
    let zones: Vec<_> = locations.iter().map(|location| location["zone"].as_str().unwrap()).collect();
    assert_eq!(zones, ["us", "eu", "eu"]);
    assert_eq!(locations[0]["runs"], json!([[0, 4]]));
    assert!(details["download"]["token"].as_str().unwrap().starts_with("ddmd_"));
    let manifest = cluster.get(&format!("/v1/files/{one}/manifest")).await?;
    assert_eq!(manifest["chunks"].as_array().unwrap().len(), 4);

    let got = cluster.run_client(&["-o", "got.bin", &two]).await?;
    assert!(got.status.success(), "{}", String::from_utf8_lossy(&got.stderr));
    assert_eq!(sha256(&cluster.path("got.bin"))?, sha256(&second)?);

    let unknown = wire::FileId::new();
    let answer = cluster.request(Method::GET, &format!("/v1/files/{unknown}")).send().await?;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let missing = cluster.run_client(&[&unknown.to_string()]).await?;
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("No such file"));
    Ok(())
}

#[tokio::test]
async fn looking_takes_no_token_and_each_details_query_takes_one() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 3, 10)?, &[]).await?;
    let path = format!("/v1/files/{id}");
    let (a, b) = (cluster.details(&id).await?, cluster.details(&id).await?);
    assert_ne!(a["download"]["token_id"], b["download"]["token_id"]);
    assert_eq!(cluster.get(&format!("{path}?grant=false")).await?["download"], Value::Null);
    let answer = cluster.request(Method::GET, &path).send().await?;
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let head = cluster.request(Method::HEAD, &path).send().await?;
    assert_eq!(head.status(), StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn a_published_file_outlives_the_death_of_every_process() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let path = file(&cluster, "keep.bin", 4, 5 * MIB + 1)?;
    let id = cluster.publish(&path, &[]).await?;
    for n in 0..2 {
        cluster.take_server(n)?.kill().await?;
    }
    cluster.info.take().unwrap().kill().await?;
    cluster.restart_info().await?;
    for n in 0..2 {
        cluster.restart_server(n).await?;
    }
    let listed = async || {
        let list = cluster.get("/v1/files").await?;
        Ok((list["files"][0]["id"] == id.as_str() && list["files"][0]["live_replicas"] == 2).then_some(()))
    };
    eventually("both replicas are back", STEP_TIMEOUT, listed).await?;
    let got = cluster.run_client(&["-o", "got.bin", &id]).await?;
    assert!(got.status.success(), "{}", String::from_utf8_lossy(&got.stderr));
    assert_eq!(sha256(&cluster.path("got.bin"))?, sha256(&path)?);
    Ok(())
}

#[tokio::test]
async fn several_servers_of_one_machine_are_listed_with_host_and_port() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["a", "b", "b"])).await?;
    let list = cluster.get("/v1/servers").await?;
    for server in &cluster.servers {
        let row = list["servers"].as_array().unwrap().iter().find(|row| row["id"] == server.id.as_str()).unwrap();
        let address = server.process.as_ref().unwrap().address();
        assert_eq!(row["url"], format!("http://{address}/"));
    }
    let printed = cluster.run_client(&["servers"]).await?;
    let text = String::from_utf8(printed.stdout)?;
    for server in &cluster.servers {
        let address = server.process.as_ref().unwrap().address().to_string();
        assert!(text.lines().any(|line| line.contains(&server.id) && line.contains(&address)), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn a_single_file_server_is_enough_when_the_publisher_says_so() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu"])).await?;
    let path = file(&cluster, "one.bin", 5, 100)?;
    let refused = cluster.run_client(&["publish", &path.display().to_string()]).await?;
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    assert!(message.contains("the quorum needs 2 file servers, 1 live"), "{message}");
    let id = cluster.publish(&path, &["--quorum", "1"]).await?;
    assert!(cluster.run_client(&["-o", "got.bin", &id]).await?.status.success());
    assert_eq!(sha256(&cluster.path("got.bin"))?, sha256(&path)?);
    Ok(())
}

#[tokio::test]
async fn a_commit_names_what_is_missing() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let new = json!({ "name": "half.bin", "size": 10 });
    let plan: Value = cluster.request(Method::POST, "/v1/files").json(&new).send().await?.json().await?;
    let commit = json!({ "sha256": wire::Digest::of(b"x"), "chunks": [wire::Digest::of(b"x")] });
    let path = format!("/v1/files/{}/commit", plan["id"].as_str().unwrap());
    let answer = cluster.request(Method::POST, &path).json(&commit).send().await?;
    assert_eq!(answer.status(), StatusCode::CONFLICT);
    let problem: Value = answer.json().await?;
    assert_eq!((&problem["quorum"], &problem["holding"]), (&json!(2), &json!([])));
    let wrong = json!({ "sha256": wire::Digest::of(b"x"), "chunks": [] });
    let answer = cluster.request(Method::POST, &path).json(&wrong).send().await?;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    Ok(())
}

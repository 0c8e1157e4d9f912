//! Publishing on bad days: servers that stop, clients that are interrupted, files that change.

use std::{
    io::Write as _,
    process::Output,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use ddm_testkit::{
    cluster::{Cluster, Plan, STEP_TIMEOUT, events, finish},
    process::eventually,
    proxy::Direction,
};
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::process::Child;
use wire::Digest;

use crate::{
    content::{MIB, bytes, event, file, has_event, number, sha256},
    standing::metric,
};

#[tokio::test]
async fn a_stuck_server_holds_a_publication_up_for_seconds_when_the_others_make_the_quorum() -> anyhow::Result<()> {
    for (signal, limit) in [(Signal::STOP, 14), (Signal::KILL, 8)] {
        let cluster = Cluster::start(&Plan::zones(&["eu", "eu", "eu"])).await?;
        let path = file(&cluster, "x.bin", 1, 24 * MIB)?;
        let stuck = &cluster.servers[2];
        let process = stuck.process.as_ref().unwrap();
        process.signal(signal)?;
        let began = Instant::now();
        let output = cluster.run_client(&["--json", "publish", "--quorum", "2", &path.display().to_string()]).await?;
        let took = began.elapsed();
        process.signal(Signal::CONT).ok();
        let published = event(&output, "published")?;
        assert!(took < Duration::from_secs(limit), "{signal:?}: {took:?}");
        assert!(has_event(&output, "target-left-behind", &stuck.id)?, "{signal:?}");
        assert_eq!(published["servers"].as_array().unwrap().len(), 2, "{published}");
        let id = published["file"]["id"].as_str().unwrap();
        event(&cluster.run_client(&["--json", "-o", "got.bin", id]).await?, "done")?;
        assert_eq!(sha256(&cluster.path("got.bin"))?, sha256(&path)?);
    }
    Ok(())
}

#[tokio::test]
async fn an_interrupted_publication_goes_on_with_what_is_missing() -> anyhow::Result<()> {
    for signal in [Signal::INT, Signal::KILL] {
        let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
        let path = file(&cluster, "x.bin", 2, 24 * MIB)?;
        let name = path.display().to_string();
        // Without its quorum it cannot end; the other server takes what the window lets through.
        let stopped = cluster.servers[1].process.as_ref().unwrap();
        stopped.signal(Signal::STOP)?;
        let client = cluster.spawn_client(&["--json", "publish", "--quorum", "2", &name])?;
        let held = async || {
            let list = cluster.get("/v1/files").await?;
            let Some(id) = list["files"][0]["id"].as_str().map(str::to_owned) else { return Ok(None) };
            let partial = cluster.path("file-server-0/partial").join(&id);
            let blocks = std::fs::metadata(partial).map_or(0, |blob| std::os::unix::fs::MetadataExt::blocks(&blob));
            Ok((blocks * 512 >= 6 * MIB).then_some(id))
        };
        let id = eventually("some of it is sent", Duration::from_secs(30), held).await?;
        // What was sent is acknowledged a moment later.
        tokio::time::sleep(Duration::from_millis(500)).await;
        kill_process(Pid::from_raw(client.id().unwrap().try_into()?).unwrap(), signal)?;
        let output = finish(client).await?;
        if signal == Signal::INT {
            assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(String::from_utf8_lossy(&output.stderr).contains("run the same command to resume the upload"));
        }
        stopped.signal(Signal::CONT)?;
        let output = cluster.run_client(&["--json", "publish", "--quorum", "2", &name]).await?;
        let published = event(&output, "published")?;
        assert_eq!(published["file"]["id"], id, "the same upload goes on");
        assert!(number(&published["resumed"]) >= 4 * MIB, "{published}");
        assert_eq!(published["file"]["sha256"], sha256(&path)?);
        let notes = cluster.path(".local/state/ddm/uploads");
        assert_eq!(std::fs::read_dir(notes)?.count(), 0, "nothing is left to go on with");
        // The next time nothing is sent, unless another entry is wanted.
        let same = event(&cluster.run_client(&["--json", "publish", &name]).await?, "published")?;
        assert_eq!((&same["file"]["id"], &same["existing"]), (&json!(id), &json!(true)));
        let again = event(&cluster.run_client(&["--json", "publish", "--again", &name]).await?, "published")?;
        assert_ne!(again["file"]["id"], id);
    }
    Ok(())
}

#[tokio::test]
async fn a_file_whose_commit_was_not_answered_stays_when_its_path_is_published_with_other_content() -> anyhow::Result<()>
{
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let path = file(&cluster, "x.bin", 5, 8 * MIB)?;
    let name = path.display().to_string();
    let stopped = cluster.servers[1].process.as_ref().unwrap();
    stopped.signal(Signal::STOP)?;
    let client = cluster.spawn_client(&["--json", "publish", "--quorum", "2", &name])?;
    let notes = cluster.path(".local/state/ddm/uploads");
    let note = eventually("its plan is noted", Duration::from_secs(30), async || {
        let note = std::fs::read_dir(&notes).ok().and_then(|mut notes| notes.next());
        let Some(path) = note.transpose()?.map(|note| note.path()) else { return Ok(None) };
        let content = std::fs::read(&path)?;
        Ok(serde_json::from_slice::<Value>(&content).is_ok().then_some((path, content)))
    })
    .await?;
    stopped.signal(Signal::CONT)?;
    let first = cluster.published(&finish(client).await?, &path)?;
    // A client that is killed before the answer leaves its note behind.
    std::fs::write(&note.0, &note.1)?;
    std::fs::set_permissions(&note.0, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    std::fs::File::options().append(true).open(&path)?.write_all(b"more")?;
    let output = cluster.run_client(&["--json", "publish", "--quorum", "2", &name]).await?;
    let second = cluster.published(&output, &path)?;
    assert_ne!(first, second);
    for id in [&first, &second] {
        assert_eq!(cluster.get(&format!("/v1/files/{id}?grant=false")).await?["state"], "available", "{id}");
    }
    assert!(String::from_utf8_lossy(&output.stderr).contains(&first), "the user is told of the first file");
    Ok(())
}

/// A publication to two servers of several, slowed down until it can be ended midway.
struct Slow {
    cluster: Cluster,
    name: String,
    client: Child,
    /// The number of its file, and of the two servers.
    id: String,
    targets: Vec<usize>,
}

const TWO: [&str; 4] = ["--replicas", "2", "--quorum", "2"];

impl Slow {
    async fn begin(cluster: Cluster) -> anyhow::Result<Self> {
        for server in &cluster.servers {
            server.proxy.as_ref().unwrap().shape(Direction::Up, |line| line.rate = Some(1 << 20));
        }
        let name = file(&cluster, "x.bin", 4, 24 * MIB)?.display().to_string();
        let client = cluster.spawn_client(&[&["publish", &name], &TWO[..]].concat())?;
        let notes = cluster.path(".local/state/ddm/uploads");
        let plan = eventually("its plan is noted", Duration::from_secs(30), async || {
            let note = std::fs::read_dir(&notes).ok().and_then(|mut notes| notes.next());
            let Some(note) = note else { return Ok(None) };
            let note: Option<Value> = serde_json::from_slice(&std::fs::read(note?.path())?).ok();
            Ok(note.map(|note| note["plan"].clone()))
        })
        .await?;
        let id = plan["id"].as_str().context("an id")?.to_owned();
        let is_target = |id: &str| plan["targets"].as_array().unwrap().iter().any(|target| target["server"] == id);
        let servers = cluster.servers.iter().enumerate();
        let targets = servers.filter(|(_, server)| is_target(&server.id)).map(|(n, _)| n).collect();
        Ok(Self { cluster, name, client, id, targets })
    }

    /// Waits until the first chunk is there.
    async fn gets_on(&self) -> anyhow::Result<()> {
        let url = format!("/v1/files/{}/replicas", self.id);
        eventually("some of it is sent", Duration::from_secs(30), async || {
            let status = self.cluster.get(&url).await?;
            let sent = status["replicas"].as_array().is_some_and(|all| all.iter().any(|r| number(&r["verified"]) > 0));
            Ok(sent.then_some(()))
        })
        .await
    }

    /// The publication fails; the words for its user.
    async fn fails(self) -> anyhow::Result<(Cluster, String, String)> {
        for server in &self.cluster.servers {
            server.proxy.as_ref().unwrap().heal();
        }
        let output = finish(self.client).await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        Ok((self.cluster, self.name, said))
    }
}

/// Publishes again with the same words; the servers that hold it now, and what was said.
async fn again(cluster: &Cluster, name: &str, before: &str) -> anyhow::Result<(Vec<String>, Output)> {
    let output = cluster.run_client(&[&["--json", "publish", name], &TWO[..]].concat()).await?;
    let id = cluster.published(&output, name.as_ref())?;
    assert_ne!(id, before);
    let files = cluster.get("/v1/files").await?;
    assert_eq!(files["files"].as_array().unwrap().len(), 1, "the one that was begun is given up: {files}");
    assert_eq!(std::fs::read_dir(cluster.path(".local/state/ddm/uploads"))?.count(), 0);
    event(&cluster.run_client(&["--json", "-o", "got.bin", &id]).await?, "done")?;
    let servers = event(&output, "published")?["servers"].as_array().unwrap().clone();
    Ok((servers.iter().filter_map(Value::as_str).map(str::to_owned).collect(), output))
}

#[tokio::test]
async fn a_publication_whose_target_died_for_good_begins_anew_on_those_that_live() -> anyhow::Result<()> {
    let plan = Plan { proxied: true, ..Plan::zones(&["eu", "eu", "eu"]) };
    let mut slow = Slow::begin(Cluster::start(&plan).await?).await?;
    slow.gets_on().await?;
    let (id, dead) = (slow.id.clone(), slow.targets[0]);
    slow.cluster.take_server(dead)?.kill().await?;
    let (cluster, name, said) = slow.fails().await?;
    assert!(said.contains("run the same command to resume the upload"), "{said}");
    eventually("it is not listed any more", STEP_TIMEOUT, async || {
        Ok((cluster.server_ids().await?.len() == 2).then_some(()))
    })
    .await?;
    let (servers, output) = again(&cluster, &name, &id).await?;
    assert!(!servers.contains(&cluster.servers[dead].id) && servers.len() == 2, "{servers:?}");
    let events = events(&output)?;
    let anew = events.iter().find(|event| event["event"] == "begun-anew").context("it says so")?;
    assert_eq!((number(&anew["live"]), number(&anew["quorum"])), (1, 2), "{anew}");
    Ok(())
}

#[tokio::test]
async fn a_publication_whose_target_has_no_room_begins_anew_where_there_is_some() -> anyhow::Result<()> {
    let plan = Plan { proxied: true, ..Plan::zones(&["eu", "eu"]) };
    let mut cluster = Cluster::start(&plan).await?;
    cluster.take_server(1)?.stop().await?;
    cluster.restart_server_on_small_disk(1, 300).await?;
    eventually("it is back", STEP_TIMEOUT, async || Ok((cluster.server_ids().await?.len() == 2).then_some(()))).await?;
    let slow = Slow::begin(cluster).await?;
    slow.gets_on().await?;
    let id = slow.id.clone();
    let pid = slow.cluster.servers[1].process.as_ref().unwrap().pid()?.as_raw_nonzero();
    let filler = format!("/proc/{pid}/root{}/filler", slow.cluster.path("file-server-1").display());
    let free = rustix::fs::statvfs(std::path::Path::new(&filler).parent().unwrap())?;
    // Less than the reserve of 64 MiB is left.
    std::fs::write(&filler, vec![1; usize::try_from(free.f_bavail * free.f_frsize - 20 * MIB)?])?;
    eventually("the server notices", STEP_TIMEOUT, async || {
        Ok((metric(&slow.cluster, 1, "low_on_room").await? == 1).then_some(()))
    })
    .await?;
    let (mut cluster, name, said) = slow.fails().await?;
    assert!(
        said.contains("This server's disk is full")
            && said.contains("run the same command to start over on servers with room"),
        "{said}"
    );
    cluster.add_server("eu", &plan).await?;
    let (servers, _) = again(&cluster, &name, &id).await?;
    assert!(!servers.contains(&cluster.servers[1].id) && servers.len() == 2, "{servers:?}");
    Ok(())
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_published_is_told_and_not_published() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let path = file(&cluster, "x.bin", 3, 24 * MIB)?;
    let stopped = cluster.servers[1].process.as_ref().unwrap();
    stopped.signal(Signal::STOP)?;
    let client = cluster.spawn_client(&["publish", "--quorum", "2", &path.display().to_string()])?;
    eventually("it is announced", Duration::from_secs(30), async || {
        Ok((cluster.get("/v1/files").await?["files"].as_array().is_some_and(|files| !files.is_empty())).then_some(()))
    })
    .await?;
    std::fs::File::options().append(true).open(&path)?.write_all(b"more")?;
    stopped.signal(Signal::CONT)?;
    let output = finish(client).await?;
    assert_eq!(output.status.code(), Some(1));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("the file changed while it was read; publish it again when it is complete"), "{words}");
    assert_eq!(cluster.get("/v1/files").await?["files"], serde_json::json!([]), "nothing half published is listed");
    Ok(())
}

#[tokio::test]
async fn a_publisher_that_misstates_the_whole_is_found_out_by_the_holders() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu"])).await?;
    let (content, other) = (bytes(4, 2 * MIB), bytes(6, 2 * MIB));
    let new = json!({ "name": "x.bin", "size": content.len(), "quorum": 1, "policy": { "replicas": 1 } });
    let plan: Value = cluster.request(Method::POST, "/v1/files").json(&new).send().await?.json().await?;
    let (id, token) = (plan["id"].as_str().unwrap(), plan["upload"]["token"].as_str().unwrap());
    let mut digests = Vec::new();
    for (n, chunk) in content.chunks(1 << 20).enumerate() {
        let digest = Digest::of(chunk);
        let url = format!("{}/{n}", plan["targets"][0]["url"].as_str().unwrap());
        let put = cluster.http.put(url).bearer_auth(token).header("content-digest", digest.to_field());
        put.body(chunk.to_vec()).send().await?.error_for_status()?;
        digests.push(digest);
    }
    let commit = json!({ "sha256": Digest::of(&other), "chunks": digests });
    let path = format!("/v1/files/{id}/commit");
    cluster.request(Method::POST, &path).json(&commit).send().await?.error_for_status()?;
    eventually("the holder's word is compared", Duration::from_secs(30), async || {
        let log = cluster.info.as_ref().unwrap().log()?;
        let line = log.lines().find(|line| line.contains("Another SHA-256 of a whole file"));
        Ok(line.filter(|line| line.contains(id) && line.contains(&Digest::of(&content).to_string())).map(drop))
    })
    .await?;
    // The command shows the conflict, and other programs are not given a hash that the right content fails.
    let status = cluster.get(&format!("/v1/files/{id}/replicas")).await?;
    assert_eq!(status["disputes"][0]["sha256"], json!(Digest::of(&content)), "{status}");
    let metalink = cluster.request(Method::GET, &format!("/v1/files/{id}/metalink")).send().await?.text().await?;
    assert!(!metalink.contains(&Digest::of(&other).to_string()) && metalink.contains("<pieces"), "{metalink}");
    let list = cluster.get("/v1/files").await?;
    assert_eq!(list["files"][0]["sha256"], Value::Null, "{list}");
    assert_eq!(cluster.details(id).await?["sha256"], Value::Null);
    // The claim keeps no publisher from publishing the content that it names.
    let path = file(&cluster, "other.bin", 6, 2 * MIB)?;
    assert_eq!(sha256(&path)?, Digest::of(&other).to_string());
    let published = event(
        &cluster.run_client(&["--json", "publish", "--quorum", "1", &path.display().to_string()]).await?,
        "published",
    )?;
    assert!(published.get("existing").is_none(), "{published}");
    Ok(())
}

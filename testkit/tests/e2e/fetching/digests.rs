//! A SHA-256 that was asked for, and bytes that do not have it (P1, P10).

use ddm_testkit::{
    cluster::{Cluster, events, finish},
    rogue::Rogue,
};
use wire::{Digest, FileId};

use super::{
    fixture::{SIZE, job, near, piped, said, somebody},
    web::Web,
};
use crate::content::{MIB, bytes, event, number};

#[tokio::test]
async fn a_wrong_sha256_is_a_named_failure_and_nothing_stands_under_the_name() -> anyhow::Result<()> {
    let cluster = Cluster::start(&near(&["eu", "eu"])).await?;
    let web = Web::serve(bytes(1, SIZE)).await?;
    let small = Web::serve(bytes(2, MIB)).await?;
    let wrong = Digest::of(b"another file").to_string();
    // Together, alone because it is small, and alone because that was asked for.
    for (web, name, more, content) in [
        (&web, "x.bin", None, bytes(1, SIZE)),
        (&small, "small.bin", None, bytes(2, MIB)),
        (&web, "direct.bin", Some("--direct"), bytes(1, SIZE)),
    ] {
        let url = web.url("plain", name);
        let args: Vec<&str> = ["--json", "--sha256", &wrong, &url].into_iter().chain(more).collect();
        let output = cluster.run_client(&args).await?;
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        let right = Digest::of(&content).to_string();
        assert!(
            said.contains("does not have the expected SHA-256") && said.contains(&wrong) && said.contains(&right),
            "{said}"
        );
        assert!(events(&output)?.iter().any(|event| event["event"] == "error"), "{output:?}");
        assert!(!cluster.path(name).exists());
        // What is good for nothing does not stay; what was fetched in chunks may be right after all.
        assert_eq!(cluster.path(&format!("{name}.part")).exists(), name == "x.bin", "{name}");
    }
    // With the right one it may be tried again.
    let right = Digest::of(&bytes(1, SIZE)).to_string();
    let output = cluster.run_client(&["--json", "--sha256", &right, &web.url("plain", "x.bin")]).await?;
    assert_eq!(event(&output, "done")?["checked"], "sha256");
    assert!(std::fs::read(cluster.path("x.bin"))? == bytes(1, SIZE));
    Ok(())
}

#[tokio::test]
async fn what_a_lying_worker_told_is_withdrawn_and_fetched_anew() -> anyhow::Result<()> {
    let content = bytes(64, SIZE);
    let mut lie = content.clone();
    // One byte of every chunk.
    lie.iter_mut().step_by(1 << 20).for_each(|byte| *byte ^= 1);
    let version = FileId::new();
    let (honest, faulty) =
        (Rogue::start(version, content.clone().into()).await?, Rogue::start(version, lie.into()).await?);
    let mut cluster = Cluster::start(&near(&["eu", "eu"])).await?;
    // One worker is sent to an origin of its own, which has other bytes under the same tag.
    let mut misled = near(&[]);
    misled.file_server_args.extend(["--origin-proxy".to_owned(), format!("http://{}", faulty.address())]);
    cluster.add_server("eu", &misled).await?;
    let rate = ddm_testkit::rogue::Behaviour::Throttle { rate: 8 * MIB };
    honest.set(rate.clone());
    faulty.set(rate);

    let right = Digest::of(&content).to_string();
    let output = cluster.run_client(&["--json", "-o", "x.bin", "--sha256", &right, honest.url().as_str()]).await?;
    let done = event(&output, "done")?;
    assert!(std::fs::read(cluster.path("x.bin"))? == content);
    assert_eq!(done["checked"], "sha256");
    let job = &done["fetched"]["job"];
    assert!(number(&job["generation"]) >= 1, "nothing was withdrawn: {job}");
    let faulty = cluster.servers[2].id.as_str();
    let worker = job["workers"].as_array().unwrap().iter().find(|worker| worker["server"] == faulty).unwrap();
    assert_eq!(worker["state"], "excluded", "{job}");
    assert!(worker["bytes"].as_u64() > Some(0), "it was asked: {job}");
    Ok(())
}

#[tokio::test]
async fn another_requesters_wrong_sha256_fails_no_other_requester() -> anyhow::Result<()> {
    let content = bytes(3, SIZE);
    let origin = Rogue::start(FileId::new(), content.clone().into()).await?;
    origin.set(ddm_testkit::rogue::Behaviour::Throttle { rate: 8 * MIB });
    let cluster = Cluster::start(&near(&["eu", "eu"])).await?;
    let (url, wrong) = (origin.url().to_string(), Digest::of(b"another file").to_string());
    let other = somebody(&cluster, "other", &["--json", "-o", "x.bin", &url]).await?;
    let mistaken = cluster.spawn_client(&["--json", "-o", "x.bin", "--sha256", &wrong, &url])?;
    let first = job(&cluster).await?["id"].as_str().unwrap().to_owned();
    let other = piped(other)?;
    let (mistaken, other) = tokio::join!(finish(mistaken), finish(other));
    let (mistaken, other) = (mistaken?, other?);
    assert_eq!(mistaken.status.code(), Some(1), "{}", said(&mistaken));
    assert!(said(&mistaken).contains("does not have the expected SHA-256"), "{}", said(&mistaken));
    let again: Vec<_> = events(&other)?.into_iter().filter(|event| event["event"] == "again").collect();
    assert!(again.len() == 1 && again[0].to_string().contains("another requester's --sha256"), "{again:?}");
    let done = event(&other, "done")?;
    assert_ne!(done["fetched"]["job"]["id"], first.as_str());
    assert!(std::fs::read(cluster.path("other/x.bin"))? == content);
    Ok(())
}

//! A `ddm://` link opens a file, a URL or a job, and sends no login anywhere (S56).

use ddm_testkit::{
    cluster::{Cluster, Plan, finish},
    process::eventually,
};
use rustix::process::Signal;

use super::{
    fixture::{SIZE, STEP_TIMEOUT, near, piped, said, signal, somebody, stranger, until_noted},
    web::Web,
};
use crate::content::{MIB, bytes, event, file, names, sha256};

#[tokio::test]
async fn a_link_opens_a_file_or_a_url_and_names_no_foreign_info_server() -> anyhow::Result<()> {
    let plan = Plan { info_args: near(&[]).info_args, ..Plan::zones(&["eu", "eu"]) };
    let cluster = Cluster::start(&plan).await?;
    let path = file(&cluster, "x.bin", 1, 2 * MIB)?;
    let id = cluster.publish(&path, &[]).await?;
    let host = cluster.info_url().trim_start_matches("http://").to_owned();
    for (link, target) in [(format!("ddm://file/{id}"), "one.bin"), (format!("ddm://{host}/file/{id}"), "two.bin")] {
        let output = cluster.run_client(&["--json", "open", &link, "-o", target]).await?;
        event(&output, "done")?;
        assert_eq!(sha256(&cluster.path(target))?, sha256(&path)?, "{link}");
    }
    let web = Web::serve(bytes(2, MIB)).await?;
    let encoded: String = web.url("plain", "y.bin").bytes().map(|byte| format!("%{byte:02x}")).collect();
    let output = cluster.run_client(&["--json", &format!("ddm://url/{encoded}")]).await?;
    assert_eq!(event(&output, "alone")?["reason"], "small-file");
    assert!(std::fs::read(cluster.path("y.bin"))? == bytes(2, MIB));

    // Another info-server receives nothing.
    let stranger = std::net::TcpListener::bind("127.0.0.1:0")?;
    stranger.set_nonblocking(true)?;
    let link = format!("ddm://{}/file/{id}", stranger.local_addr()?);
    let output = cluster.run_client(&["open", &link, "-o", "three.bin"]).await?;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("the link is for the info-server"), "{said}");
    assert_eq!(stranger.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert!(!cluster.path("three.bin").exists());
    Ok(())
}

#[tokio::test]
async fn a_link_to_a_job_takes_its_file_and_leads_nobody_else_to_it() -> anyhow::Result<()> {
    let cluster = Cluster::start(&near(&["eu", "eu"])).await?;
    let web = Web::serve(bytes(1, SIZE)).await?;
    let later = cluster.run_client(&["--json", "--in", "2s", "--keep", &web.url("plain", "x.bin")]).await?;
    let id = event(&later, "scheduled")?["job"]["id"].as_str().unwrap().to_owned();
    // Before its time it waits for it; then it takes what there is, as often as one likes.
    let link = format!("ddm://job/{id}");
    for target in ["one.bin", "two.bin"] {
        let done = event(&cluster.run_client(&["--json", &link, "-o", target]).await?, "done")?;
        assert_eq!(done["fetched"]["job"]["id"], id.as_str(), "{done}");
        assert!(std::fs::read(cluster.path(target))? == bytes(1, SIZE), "{target}");
    }
    assert!(web.sent() <= SIZE + 3 * MIB, "{} bytes left the origin", web.sent());

    let output = finish(piped(somebody(&cluster, "other", &["open", &link]).await?)?).await?;
    let words = said(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        words.contains("there is no such job, or you did not request it") && words.contains("download its URL instead"),
        "{words}"
    );
    assert_eq!(names(&cluster.path("other"))?, ["logins.json"]);
    for command in ["show", "cancel"] {
        let output = finish(piped(somebody(&cluster, "other", &["jobs", command, &id]).await?)?).await?;
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains("there is no such job"), "{output:?}");
    }
    assert_eq!(cluster.get(&format!("/v1/jobs/{id}")).await?["state"], "done", "it is still there");
    Ok(())
}

#[tokio::test]
async fn an_admin_who_opens_somebody_elses_job_ends_it_for_nobody() -> anyhow::Result<()> {
    let cluster = Cluster::start(&near(&["eu", "eu"])).await?;
    let web = Web::serve(bytes(1, SIZE)).await?;
    web.limit(2 * MIB);
    let friend = piped(somebody(&cluster, "friend", &["--json", &web.url("plain", "x.bin")]).await?)?;
    let all = eventually("a job runs", STEP_TIMEOUT, async || {
        Ok(cluster.get("/v1/jobs?all=true").await?["jobs"].as_array().and_then(|jobs| jobs.first()).cloned())
    });
    let id = all.await?["id"].as_str().unwrap().to_owned();
    let admin = cluster.spawn_client(&["--json", &format!("ddm://job/{id}"), "-o", "y.bin"])?;
    until_noted(&cluster.path("y.bin.part"), 2).await?;
    signal(&admin, Signal::INT)?;
    assert_eq!(finish(admin).await?.status.code(), Some(3));
    let job = cluster.get(&format!("/v1/jobs/{id}")).await?;
    assert_eq!((&job["state"], &job["askers"]), (&"running".into(), &1.into()), "{job}");
    web.limit(0);
    let done = event(&finish(friend).await?, "done")?;
    assert_eq!(done["fetched"]["job"]["id"], id.as_str());
    assert!(std::fs::read(cluster.path("friend/x.bin"))? == bytes(1, SIZE));
    Ok(())
}

#[tokio::test]
async fn a_hostile_link_is_refused_with_what_is_right_and_does_nothing() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let (at, id) = (listener.local_addr()?, wire::FileId::new());
    for link in [
        "ddm://file/../../etc/passwd".to_owned(),
        format!("ddm://me:secret@{at}/file/{id}"),
        format!("ddm://{at}/file/{id}/../../x"),
        format!("ddm://file/{id}?output=/etc/cron.d/x"),
        format!("ddm://fetch?url=http%3A%2F%2F{at}%2Fx&output=%2Fetc%2Fx"),
        "ddm://url/file%3A%2F%2F%2Fetc%2Fpasswd".to_owned(),
        format!("ddm://url/http%3A%2F%2Fme%3Asecret%40{at}%2Fx"),
        format!("ddm://job/{id} --output=/etc/x"),
        format!("ddm://file/{id}%0a"),
        "ddm://shell".to_owned(),
        "ddm:".to_owned(),
    ] {
        for args in [vec![link.as_str()], vec!["open", link.as_str()]] {
            let output = finish(piped(stranger(folder.path(), &args)?)?).await?;
            let said = said(&output);
            assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
            assert!(
                said.contains("a link looks like ddm://file/ID, ddm://job/ID, ddm://url/ADDRESS"),
                "{args:?}: {said}"
            );
            // A terminal gets nothing that talks to it.
            assert!(output.stdout.is_empty() && !said.chars().any(|c| c.is_control() && c != '\n'), "{said:?}");
        }
    }
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nobody was asked anything");
    assert!(names(folder.path())?.is_empty());
    Ok(())
}

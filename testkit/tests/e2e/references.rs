//! Servers and sessions are named by the beginnings of their ids, and a zone that nobody knows is pointed out.

use ddm_testkit::cluster::{Cluster, Plan, events};

use crate::{
    content::{MIB, file},
    hostile::fixture::said,
};

#[tokio::test]
async fn servers_and_sessions_are_named_by_the_beginnings_of_their_ids() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let ids = cluster.server_ids().await?;
    let (server, other) = (&ids[0], &ids[1]);
    let len = (6..server.len()).find(|len| !other.starts_with(&server[..*len])).unwrap();
    let output = cluster.run_client(&["--json", "drain", &server[..len]]).await?;
    assert!(output.status.success() && events(&output)?[0]["server"] == **server, "{output:?}");
    let output = cluster.run_client(&["drain", &server[..len], "--undo"]).await?;
    assert!(output.status.success() && output.stdout.starts_with(server.as_bytes()), "{output:?}");
    let output = cluster.run_client(&["drain", "fs-"]).await?;
    assert!(output.status.code() == Some(1) && said(&output).contains("ddm-client servers"), "{}", said(&output));

    let first = events(&cluster.run_client(&["--json", "sessions"]).await?)?[0]["id"].as_str().unwrap().to_owned();
    let token = cluster.log_in(ddm_testkit::cluster::ADMIN).await?;
    let sessions = events(&cluster.run_client(&["--json", "sessions"]).await?)?;
    let second = sessions.iter().find_map(|it| it["id"].as_str().filter(|id| *id != first)).unwrap();
    let len = (8..second.len()).find(|len| !first.starts_with(&second[..*len])).unwrap();
    let output = cluster.run_client(&["sessions", "close", &second[..len]]).await?;
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(events(&cluster.run_client(&["--json", "sessions"]).await?)?.len(), 1, "{token}");
    let output = cluster.run_client(&["sessions", "close", "ffffffff"]).await?;
    assert!(output.status.code() == Some(1) && said(&output).contains("ddm-client sessions"), "{}", said(&output));

    let output = cluster.run_client(&["ddm://file/01a22865"]).await?;
    assert!(said(&output).contains("a link contains the whole id"), "{}", said(&output));
    Ok(())
}

#[tokio::test]
async fn a_zone_that_no_server_is_in_is_pointed_out_by_every_command_that_uses_zones() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu"])).await?;
    cluster.publish(&file(&cluster, "a.bin", 1, MIB)?, &["--quorum", "1", "--replicas", "1"]).await?;
    for args in [
        &["info", "a.bin"][..],
        &["verify", "a.bin"],
        &["metalink", "a.bin"],
        &["policy", "a.bin"],
        &["policy", "a.bin", "--zones", "moon", "--dry-run"],
    ] {
        let zone: &[&str] = if args.contains(&"moon") { &[] } else { &["--zone", "moon"] };
        let output = cluster.run_client(&[zone, args].concat()).await?;
        let text = said(&output);
        assert!(text.contains("no live file server is in the zone moon; there are servers in eu"), "{args:?}: {text}");
    }
    Ok(())
}

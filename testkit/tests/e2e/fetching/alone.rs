//! A URL that cannot be fetched together is downloaded plainly, and the reason is printed (S26).

use std::time::Duration;

use anyhow::Context as _;
use ddm_testkit::{
    cluster::{Cluster, Plan, finish},
    nginx::Nginx,
    port::free_port,
    process::eventually,
};

use super::{
    fixture::{near, piped, said, stranger},
    web::Web,
};
use crate::content::{MIB, bytes, event, number, sha256};

#[tokio::test]
async fn each_reason_for_a_plain_download_is_said_and_the_file_is_right() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan { info_args: near(&[]).info_args, ..Plan::default() }).await?;
    let web = Web::serve(bytes(1, 9 * MIB)).await?;
    let small = Web::serve(bytes(2, MIB)).await?;
    let closed = format!("127.0.0.1:{}", free_port()?);
    for (url, reason) in [
        (web.url("plain", "a.bin"), "no-workers"),
        (web.url("no-ranges", "b.bin"), "no-ranges"),
        (web.url("no-length", "c.bin"), "unknown-length"),
        (web.url("no-validator", "d.bin"), "no-validator"),
        (small.url("plain", "e.bin"), "small-file"),
    ] {
        let output = cluster.run_client(&["--json", &url]).await?;
        assert_eq!(event(&output, "alone").context(reason)?["reason"], reason, "{url}");
        let done = event(&output, "done")?;
        assert_eq!(done["checked"], "unchecked");
        let (name, from) = (url.rsplit('/').next().unwrap(), if url.contains("e.bin") { 2 } else { 1 });
        let right = if from == 2 { bytes(2, MIB) } else { bytes(1, 9 * MIB) };
        assert!(std::fs::read(cluster.path(name))? == right, "{url}");
        assert!(!cluster.path(&format!("{name}.part")).exists());
    }
    let output = cluster.run_client(&["--json", "--wait", "1s", &format!("http://{closed}/x")]).await?;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("the origin cannot be reached"), "{said}");
    Ok(())
}

#[tokio::test]
async fn nobody_needs_a_server_or_a_login_to_fetch_a_file() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let web = Web::serve(bytes(1, 3 * MIB)).await?;
    let closed = format!("127.0.0.1:{}", free_port()?);
    let (info, url) = (format!("http://{closed}"), web.url("digest", "a.bin"));
    let output = finish(piped(stranger(folder.path(), &["--json", "--info", &info, &url])?)?).await?;
    let alone = event(&output, "alone")?;
    assert!(alone["message"].as_str().unwrap().contains("does not answer"), "{alone}");
    let done = event(&output, "done")?;
    assert_eq!(done["checked"], "origin");
    assert_eq!(done["fetched"]["sha256"], sha256(&folder.path().join("a.bin"))?);

    let wrong = wire::Digest::of(b"another file").to_string();
    let args = ["--direct", "--sha256", &wrong, "-o", "b.bin", &url];
    let output = finish(piped(stranger(folder.path(), &args)?)?).await?;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("does not have the expected SHA-256"), "{output:?}");
    assert!(!folder.path().join("b.bin").exists());
    Ok(())
}

#[tokio::test]
async fn an_origin_that_demands_a_client_certificate_gets_that_of_the_user_and_no_other_server_does()
-> anyhow::Result<()> {
    const DEMANDING: &str = "ssl_client_certificate ca.pem; ssl_verify_client on;";
    let folder = tempfile::tempdir()?;
    let (origin, other) = (Nginx::start(DEMANDING).await?, Nginx::start(DEMANDING).await?);
    let away = format!("location /away {{ return 302 {}; }}", origin.secure_url("x.bin"));
    let leading = Nginx::start(&format!("{DEMANDING} {away}")).await?;
    std::fs::write(origin.root().join("x.bin"), bytes(3, 3 * MIB))?;
    let authorities = [origin.authority(), leading.authority()].map(std::fs::read_to_string);
    let authorities = authorities.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
    std::fs::write(folder.path().join("ca.pem"), authorities)?;
    let fetch = async |url: &str, certificate: Option<&std::path::Path>| {
        let certificate = certificate.map(|path| path.display().to_string());
        let given = certificate.iter().flat_map(|path| ["--origin-cert", path]);
        let args = ["fetch", "--direct", "--origin-ca", "ca.pem", "--wait", "1s", "-f", "-o", "got"].into_iter();
        let args: Vec<&str> = args.chain(given).chain([url]).collect();
        finish(piped(stranger(folder.path(), &args)?)?).await
    };
    let (own, foreign) = (origin.client_certificate().await?, other.client_certificate().await?);
    let output = fetch(&origin.secure_url("x.bin"), Some(&own)).await?;
    assert!(output.status.success(), "{}", said(&output));
    assert!(std::fs::read(folder.path().join("got"))? == bytes(3, 3 * MIB));
    std::fs::remove_file(folder.path().join("got"))?;
    for (what, url, certificate) in [
        ("none", origin.secure_url("x.bin"), None),
        ("one of another authority", origin.secure_url("x.bin"), Some(foreign)),
        // The certificate of the first server does not follow the redirect.
        ("a redirect", leading.secure_url("away"), Some(leading.client_certificate().await?)),
    ] {
        let output = fetch(&url, certificate.as_deref()).await?;
        assert_eq!(output.status.code(), Some(1), "{what}: {}", said(&output));
        assert!(said(&output).contains("400"), "{what}: {}", said(&output));
        assert!(!folder.path().join("got").exists(), "{what}");
    }
    let statuses: Vec<u16> = leading.served()?.iter().map(|served| served.status).collect();
    assert_eq!(statuses, [302], "the first server got its certificate");
    Ok(())
}

/// Waits until a plain download of `a.bin` has noted more than so many bytes.
async fn until_received(folder: &std::path::Path, bytes: u64) -> anyhow::Result<()> {
    let journal = folder.join("a.bin.part.journal");
    eventually("some of it is noted", Duration::from_secs(30), async || {
        let text = std::fs::read_to_string(&journal).unwrap_or_default();
        let note: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        Ok(note["received"].as_u64().filter(|had| *had > bytes).map(drop))
    })
    .await
}

#[tokio::test]
async fn a_killed_plain_download_goes_on_where_it_was() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let web = Web::serve(bytes(1, 12 * MIB)).await?;
    web.limit(6 << 20);
    let url = web.url("plain", "a.bin");
    let mut client = piped(stranger(folder.path(), &["--direct", "--json", &url])?)?;
    until_received(folder.path(), 2 * MIB).await?;
    client.kill().await?;
    let before = web.sent();
    web.limit(0);
    let output = finish(piped(stranger(folder.path(), &["--direct", "--json", &url])?)?).await?;
    let done = event(&output, "done")?;
    assert_eq!(number(&done["fetched"]["size"]), 12 * MIB);
    assert!(std::fs::read(folder.path().join("a.bin"))? == bytes(1, 12 * MIB));
    // What the first one had not noted is fetched again; it notes twice a second.
    let again = web.sent() - before;
    assert!(again <= 10 * MIB, "{again} bytes were fetched the second time");
    Ok(())
}

#[tokio::test]
async fn what_changed_meanwhile_is_begun_anew_also_where_the_origin_does_not_heed_conditions() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let web = Web::serve(bytes(1, 12 * MIB)).await?;
    web.limit(6 << 20);
    let url = web.url("deaf", "a.bin");
    let mut client = piped(stranger(folder.path(), &["--direct", "--json", &url])?)?;
    until_received(folder.path(), 2 * MIB).await?;
    client.kill().await?;
    web.change(bytes(2, 12 * MIB));
    web.limit(0);
    let output = finish(piped(stranger(folder.path(), &["--direct", "--json", &url])?)?).await?;
    event(&output, "done")?;
    assert!(std::fs::read(folder.path().join("a.bin"))? == bytes(2, 12 * MIB));
    Ok(())
}

#[tokio::test]
async fn names_stay_in_the_folder_whatever_origin_and_url_say() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let inside = folder.path().join("inside");
    std::fs::create_dir(&inside)?;
    let web = Web::serve(bytes(1, 1000)).await?;
    let long = format!("x{}", "y".repeat(400));
    for (how, name, expected) in [
        ("named", "a.bin", "escaped.bin"),
        ("plain", "..%2f..%2fb.bin", "b.bin"),
        ("plain", "a%20c.bin?q=1&%2e%2e", "a c.bin"),
        ("plain", "-rf", "rf"),
        ("plain", "d%1b%5b2J.txt", "d[2J.txt"),
        ("plain", &long, &long[..240]),
    ] {
        let output = finish(piped(stranger(&inside, &["--direct", "--json", &web.url(how, name)])?)?).await?;
        event(&output, "done").context(name.to_owned())?;
        assert!(inside.join(expected).is_file(), "{name}");
    }
    let outside: Vec<_> = std::fs::read_dir(folder.path())?.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(outside, ["inside"]);
    Ok(())
}

#[tokio::test]
async fn flags_win_over_the_environment_and_that_over_the_config_file() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let web = Web::serve(bytes(1, 1000)).await?;
    for name in ["flag", "environment", "file"] {
        std::fs::create_dir(folder.path().join(name))?;
    }
    let config = folder.path().join("client.toml");
    std::fs::write(&config, "output = \"file\"\ndirect = true\n")?;
    let config = config.display().to_string();
    let run = async |args: &[&str], environment: Option<&str>, name: &str| {
        let mut client = stranger(folder.path(), &["--config", &config])?;
        client
            .arg("--quiet")
            .args(args)
            .arg(web.url("plain", name))
            .envs(environment.map(|value| ("DDM_OUTPUT", value)));
        let output = finish(piped(client)?).await?;
        anyhow::ensure!(output.status.success(), "{output:?}");
        anyhow::Ok(String::from_utf8(output.stdout)?)
    };
    assert_eq!(run(&[], None, "a").await?.trim(), "file/a");
    assert_eq!(run(&[], Some("environment"), "b").await?.trim(), "environment/b");
    assert_eq!(run(&["-o", "flag"], Some("environment"), "c").await?.trim(), "flag/c");
    Ok(())
}

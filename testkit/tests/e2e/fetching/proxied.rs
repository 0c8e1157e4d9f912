//! Origins behind a forward proxy, named by flag, environment or config file (S28).

use anyhow::Context as _;
use ddm_testkit::{
    cluster::{Cluster, Plan, finish},
    forward::{Forward, Login, Route},
    nginx::Nginx,
};

use super::fixture::{SIZE, piped, said, stranger};
use crate::content::{MIB, bytes, event, number};

const USER: &str = "ddm";
const PASSWORD: &str = "hunter2-of-the-proxy";

/// A proxy that leads to the origin, whose name no resolver lists.
async fn proxy(origin: &Nginx) -> anyhow::Result<Forward> {
    let (plain, secure) = origin.addresses();
    let routes =
        [("origin.test:80", plain), ("origin.test:443", secure)].map(|(host, address)| Route { host, address });
    Ok(Forward::start(&routes, Some(Login { name: USER, password: PASSWORD })).await?)
}

fn address(proxy: &Forward) -> String {
    format!("http://{USER}:{PASSWORD}@{}", proxy.address())
}

/// Chunks' worth of bytes that came through it.
fn bytes_through(proxy: &Forward) -> u64 {
    proxy.passed().iter().map(|passed| passed.bytes).sum()
}

#[tokio::test]
async fn servers_reach_an_origin_through_the_proxy_that_flag_environment_or_file_name() -> anyhow::Result<()> {
    let origin = Nginx::start("limit_rate 1m;").await?;
    std::fs::write(origin.root().join("x.bin"), bytes(8, SIZE))?;
    let (info, flag, variable, file) =
        (proxy(&origin).await?, proxy(&origin).await?, proxy(&origin).await?, proxy(&origin).await?);
    let authority = ["--origin-ca".to_owned(), origin.authority().display().to_string()];
    let with = |more: &[String]| [&authority[..], more].concat();
    let named = |proxy: &Forward| ["--origin-proxy".to_owned(), address(proxy)];
    let mut cluster = Cluster::start(&Plan { info_args: with(&named(&info)), ..Plan::default() }).await?;
    let config = cluster.path("file-server.toml");
    ddm_testkit::process::write_private(&config, format!("origin-proxy = \"{}\"\n", address(&file)).as_bytes())?;
    for plan in [
        Plan { file_server_args: with(&named(&flag)), ..Plan::default() },
        Plan {
            file_server_args: with(&[]),
            file_server_env: vec![("DDM_ORIGIN_PROXY".to_owned(), address(&variable))],
            ..Plan::default()
        },
        Plan { file_server_args: with(&["--config".to_owned(), config.display().to_string()]), ..Plan::default() },
    ] {
        cluster.add_server("eu", &plan).await?;
    }

    for (url, method) in [("http://origin.test/x.bin", "GET"), ("https://origin.test/x.bin", "CONNECT")] {
        let output = cluster.run_client(&["--json", "-f", url]).await?;
        let done = event(&output, "done").context(url)?;
        assert!(std::fs::read(cluster.path("x.bin"))? == bytes(8, SIZE), "{url}");
        assert_eq!(done["checked"], "sampled", "{done}");
        for (server, proxy) in cluster.servers.iter().zip([&flag, &variable, &file]) {
            let workers = done["fetched"]["job"]["workers"].as_array().unwrap();
            let worker = workers.iter().find(|worker| worker["server"] == server.id.as_str()).context("a worker")?;
            assert!(number(&worker["bytes"]) >= MIB, "{url}: {worker}");
            let passed = proxy.passed();
            assert!(passed.iter().any(|passed| passed.method == method), "{url}: {passed:?}");
            assert!(passed.iter().all(|passed| passed.host.starts_with("origin.test:")), "{passed:?}");
        }
        assert!(info.passed().iter().any(|passed| passed.method == method), "the info-server asks first");
        cluster.run_client(&["jobs", "cancel", done["fetched"]["job"]["id"].as_str().unwrap()]).await?;
    }
    // All that left the origin went through one of them.
    let sent: u64 = origin.served()?.iter().map(|served| served.bytes).sum();
    let through: u64 = [&info, &flag, &variable, &file].into_iter().map(bytes_through).sum();
    assert!(sent >= 2 * SIZE && through >= 2 * SIZE, "{through} of {sent} bytes");
    for n in 0..3 {
        let log = std::fs::read_to_string(cluster.path(&format!("file-server-{n}.log")))?;
        assert!(!log.contains(PASSWORD), "{log}");
    }
    assert!(!std::fs::read_to_string(cluster.path("info-server.log"))?.contains(PASSWORD));
    Ok(())
}

#[tokio::test]
async fn a_plain_download_goes_through_the_proxy_that_flag_environment_or_file_name() -> anyhow::Result<()> {
    let origin = Nginx::start("").await?;
    std::fs::write(origin.root().join("x.bin"), bytes(8, 3 * MIB))?;
    let folder = tempfile::tempdir()?;
    let authority = origin.authority().display().to_string();
    let config = folder.path().join("client.toml");
    let config = config.display().to_string();
    for (n, url) in ["http://origin.test/x.bin", "https://origin.test/x.bin"].into_iter().enumerate() {
        for way in ["flag", "variable", "file", "for everything"] {
            let proxy = proxy(&origin).await?;
            let through = address(&proxy);
            let target = format!("{way}-{n}.bin");
            let file = if way == "file" { format!("origin-proxy = \"{through}\"\n") } else { String::new() };
            std::fs::write(&config, file)?;
            let common = ["--config", &config, "--origin-ca", &authority, "--json", "--direct", "-o", &target, url];
            let mut client = stranger(folder.path(), &common)?;
            match way {
                "flag" => drop(client.args(["--origin-proxy", &through])),
                "variable" => drop(client.env("DDM_ORIGIN_PROXY", &through)),
                "for everything" => drop(client.args(["--proxy", &through])),
                _ => {}
            }
            let output = finish(piped(client)?).await?;
            event(&output, "done").with_context(|| format!("{way}: {url}"))?;
            assert!(std::fs::read(folder.path().join(&target))? == bytes(8, 3 * MIB), "{target}");
            assert!(!proxy.passed().is_empty(), "{way}: {url}");
            assert!(!said(&output).contains(PASSWORD) && !String::from_utf8_lossy(&output.stdout).contains(PASSWORD));
        }
        // It is in no other way that the origin is reached.
        let without = ["--json", "--direct", "--wait", "1s", "-o", "none.bin", url];
        let output = finish(piped(stranger(folder.path(), &without)?)?).await?;
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(said(&output).contains("the origin cannot be reached"), "{output:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_proxy_for_origins_is_asked_for_nothing_else() -> anyhow::Result<()> {
    let origin = Nginx::start("").await?;
    std::fs::write(origin.root().join("x.bin"), bytes(8, MIB))?;
    let (servers, own) = (proxy(&origin).await?, proxy(&origin).await?);
    let info_args = vec!["--origin-proxy".to_owned(), address(&servers)];
    let cluster = Cluster::start(&Plan { info_args, ..Plan::zones(&["eu", "eu"]) }).await?;
    // The info-server and the file servers are near, the origin is not; what is small comes from there alone.
    let through = address(&own);
    let output = cluster.run_client(&["--json", "--origin-proxy", &through, "http://origin.test/x.bin"]).await?;
    assert_eq!(event(&output, "alone")?["reason"], "small-file");
    assert!(std::fs::read(cluster.path("x.bin"))? == bytes(8, MIB));
    assert!(own.passed().iter().all(|passed| passed.host == "origin.test:80"), "{:?}", own.passed());
    Ok(())
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_if_it_is_the_given_one_and_names_the_origin() -> anyhow::Result<()> {
    let (origin, other) = (Nginx::start_self_signed("").await?, Nginx::start_self_signed("").await?);
    std::fs::write(origin.root().join("x.bin"), bytes(8, MIB))?;
    let folder = tempfile::tempdir()?;
    let [own, others] = [&origin, &other].map(|nginx| nginx.authority().display().to_string());
    let url = origin.secure_url("x.bin");
    let elsewhere = url.replace("localhost", "127.0.0.1");
    for (authority, url, is_trusted) in [(&own, &url, true), (&others, &url, false), (&own, &elsewhere, false)] {
        let args = ["--origin-ca", authority, "--json", "--direct", "--wait", "1s", "-f", "-o", "x.bin", url];
        let output = finish(piped(stranger(folder.path(), &args)?)?).await?;
        assert_eq!(output.status.success(), is_trusted, "{url}: {output:?}");
        if is_trusted {
            assert!(std::fs::read(folder.path().join("x.bin"))? == bytes(8, MIB));
        } else {
            assert!(said(&output).contains("not secure"), "{output:?}");
        }
    }
    Ok(())
}

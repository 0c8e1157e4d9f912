//! S28: ports, folders, connections and proxy by flag, environment and config file.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use ddm_testkit::{
    cluster::{Cluster, Plan, finish},
    process::{Server, command},
};

use crate::{
    content::{MIB, file, sha256},
    standing::replicated,
};

#[tokio::test]
async fn a_flag_wins_over_the_environment_and_the_environment_over_the_file() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let path = file(&cluster, "x.bin", 1, MIB)?;
    let id = cluster.publish(&path, &[]).await?;
    let [from_file, from_variable, from_flag] = ["file", "variable", "flag"].map(|name| cluster.path(name));
    for folder in [&from_file, &from_variable, &from_flag] {
        std::fs::create_dir(folder)?;
    }
    let config = cluster.path("client.toml");
    std::fs::write(&config, format!("output = {:?}\nconnections = 2\nwait = '5s'\n", from_file.display().to_string()))?;
    let config = config.display().to_string();

    let run = async |variable: bool, flag: bool| {
        let mut client = cluster.client(&["--config", &config, &id])?;
        if variable {
            client.env("DDM_OUTPUT", &from_variable);
        }
        if flag {
            client.arg("-o").arg(&from_flag);
        }
        let output = finish(client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?).await?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    run(false, false).await?;
    assert_eq!(sha256(&from_file.join("x.bin"))?, sha256(&path)?);
    run(true, false).await?;
    assert_eq!(sha256(&from_variable.join("x.bin"))?, sha256(&path)?);
    run(true, true).await?;
    assert_eq!(sha256(&from_flag.join("x.bin"))?, sha256(&path)?);

    std::fs::write(&config, "conections = 2\n")?;
    let refused = cluster.run_client(&["--config", &config, &id]).await?;
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("there is no setting 'conections'"));
    Ok(())
}

#[tokio::test]
async fn connections_and_patience_from_a_config_file_are_used() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan { proxied: true, ..Plan::zones(&["eu", "eu"]) }).await?;
    let path = file(&cluster, "x.bin", 2, 12 * MIB)?;
    let id = cluster.publish(&path, &["--replicas", "2"]).await?;
    replicated(&cluster, &id, Duration::from_secs(30)).await?;
    let config = cluster.path("client.toml").display().to_string();
    for connections in [1, 5] {
        std::fs::write(&config, format!("connections = {connections}\nwait = '3s'\n"))?;
        for n in 0..2 {
            cluster.proxy(n)?.limit(Some(2 << 20));
            cluster.proxy(n)?.count_anew();
        }
        let output = cluster.run_client(&["--config", &config, "-f", "-o", "got.bin", &id]).await?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(sha256(&cluster.path("got.bin"))?, sha256(&path)?);
        for n in 0..2 {
            // The info-server looks whether it reaches them, too.
            let most = cluster.proxy(n)?.most_open();
            assert!((connections..=connections + 1).contains(&most), "{most} at server {n} instead of {connections}");
        }
    }
    for n in 0..2 {
        cluster.proxy(n)?.cut(true);
    }
    let asked = Instant::now();
    let output = cluster.run_client(&["--config", &config, "-f", "-o", "late.bin", &id]).await?;
    let (took, stderr) = (asked.elapsed(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(took >= Duration::from_secs(3) && took < Duration::from_secs(12), "{took:?}: {stderr}");
    Ok(())
}

#[tokio::test]
async fn servers_take_port_and_folders_from_a_file_and_refuse_what_contradicts_itself() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    let config = path("fs.toml");
    let text = format!(
        "listen = '127.0.0.1:0'\ndata = {:?}\npartial-dir = {:?}\nzone = 'lab'\n",
        path("data").display().to_string(),
        path("parts").display().to_string()
    );
    std::fs::write(&config, text)?;
    let server = Server::start("ddm-file-server", &["--config", &config.display().to_string()], &path("log")).await?;
    assert!(path("data").is_dir() && path("parts").is_dir());
    assert!(server.log()?.contains("zone=lab"), "{}", server.log()?);
    // A second process on the same folder is refused and says why.
    let second = command("ddm-file-server")?.arg("--config").arg(&config).stderr(Stdio::piped()).output().await?;
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("data"), "{}", String::from_utf8_lossy(&second.stderr));
    assert!(server.stop().await?.success());

    for (program, args) in [
        ("ddm-info-server", ["--quorum", "3", "--replicas", "2"]),
        ("ddm-file-server", ["--listen", "0.0.0.0:0", "--zone", "x"]),
    ] {
        let data = path("unused");
        let output = command(program)?.args(args).arg("--data").arg(&data).stderr(Stdio::piped()).output().await?;
        assert_eq!(output.status.code(), Some(1), "{program}");
        assert!(!data.exists(), "{program} touched its folder before it looked at its settings");
    }
    Ok(())
}

#[tokio::test]
async fn every_program_has_help_a_version_and_completions_and_tells_usage_errors_by_2() -> anyhow::Result<()> {
    for program in ["ddm-client", "ddm-info-server", "ddm-file-server", "ddm-local"] {
        let run = async |args: &[&str]| {
            let mut command = command(program)?;
            anyhow::Ok(command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).output().await?)
        };
        let help = run(&["--help"]).await?;
        assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).contains("--config"), "{program}");
        let version = run(&["--version"]).await?;
        assert!(String::from_utf8_lossy(&version.stdout).starts_with(program), "{program}");
        assert_eq!(run(&["--no-such-flag"]).await?.status.code(), Some(2), "{program}");
        if program != "ddm-local" {
            let script = run(&["completions", "bash"]).await?;
            assert!(String::from_utf8_lossy(&script.stdout).contains(program), "{program}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_proxy_is_used_only_when_it_is_named() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let nobody = "http://127.0.0.1:9";
    let mut client = cluster.client(&["list"])?;
    client.env("http_proxy", nobody).env("HTTP_PROXY", nobody).env("ALL_PROXY", nobody);
    assert!(finish(client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?).await?.status.success());
    let named = cluster.run_client(&["--proxy", nobody, "list"]).await?;
    assert_eq!(named.status.code(), Some(1));
    Ok(())
}

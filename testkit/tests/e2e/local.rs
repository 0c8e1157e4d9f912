//! The README's first command.

use std::{process::Stdio, time::Duration};

use ddm_testkit::{
    cluster::finish,
    port::free_port,
    process::{command, eventually, tool},
    rabbitmq::VirtualHost,
};

async fn once(more: &[&str]) -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    let mut local = command("ddm-local")?;
    local.current_dir(folder.path()).args(["--once", "--port", "0"]).args(more);
    let output = finish(local.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?).await?;
    let (out, err) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    assert!(output.status.success(), "{out}{err}");
    assert!(out.contains("was stopped in the middle of the download"), "{out}{err}");
    assert!(out.contains("256.0 MiB verified in"), "{out}");
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 0, "--once leaves nothing behind");
    Ok(out)
}

#[tokio::test]
async fn one_command_shows_a_verified_download_that_survives_the_loss_of_a_server() -> anyhow::Result<()> {
    let out = once(&[]).await?;
    assert_eq!(out.lines().filter(|line| line.contains("requests,")).count(), 3, "{out}");
    Ok(())
}

#[tokio::test]
async fn the_same_command_works_over_rabbitmq() -> anyhow::Result<()> {
    let broker = VirtualHost::new().await?;
    once(&["--amqp", &broker.uri()]).await?;
    let queues = broker.ctl(&["list_queues", "name", "type"]).await?;
    assert_eq!(queues.lines().filter(|line| line.contains("ddm.server.fs-")).count(), 3, "{queues}");
    Ok(())
}

#[tokio::test]
async fn it_stays_up_and_the_commands_that_it_prints_work() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut local = command("ddm-local")?;
    local.current_dir(folder.path()).args(["--port", "0", "--providers", "2"]);
    let mut local = local.stdout(std::fs::File::create(folder.path().join("out"))?).stderr(Stdio::null()).spawn()?;
    let text = eventually("it says what to type next", Duration::from_secs(60), async || {
        let text = std::fs::read_to_string(folder.path().join("out"))?;
        Ok(text.contains("By REST").then_some(text))
    })
    .await?;
    let typed = text.lines().find(|line| line.trim_end().ends_with(" list")).unwrap().trim();
    let mut words = typed.split(' ');
    let mut list = tool(words.next().unwrap());
    let listed = list.args(words).env("HOME", folder.path()).output().await?;
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    assert!(String::from_utf8(listed.stdout)?.contains("ddm-sample.bin"));
    let pid = rustix::process::Pid::from_raw(local.id().unwrap().try_into()?).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
    let ended = tokio::time::timeout(Duration::from_secs(20), local.wait()).await??;
    assert!(ended.success(), "{ended}");
    Ok(())
}

#[tokio::test]
async fn a_broker_that_cannot_be_reached_is_named() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut local = command("ddm-local")?;
    let url = format!("amqp://guest:hunter2@127.0.0.1:{}/%2f", free_port()?);
    local.current_dir(folder.path()).args(["--once", "--port", "0", "--amqp", &url]);
    let output = finish(local.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?).await?;
    let err = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("cannot reach the broker") && !err.contains("hunter2"), "{err}");
    Ok(())
}

#[tokio::test]
async fn other_ports_are_named_only_when_a_port_is_taken() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    for (ports, locked, hint) in [(port.as_str(), false, true), ("0", true, false)] {
        let server = folder.path().join("ddm-data/info-server");
        std::fs::create_dir_all(&server)?;
        let lock = std::fs::File::create(server.join("lock"))?;
        if locked {
            lock.lock()?;
        }
        let mut local = command("ddm-local")?;
        local.current_dir(folder.path()).args(["--port", ports]);
        let output = finish(local.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?).await?;
        let err = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(1), "{err}");
        assert_eq!(err.contains("choose other ports with --port"), hint, "{err}");
    }
    Ok(())
}

#[tokio::test]
async fn a_signal_before_the_download_is_complete_is_no_success() -> anyhow::Result<()> {
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        let folder = tempfile::tempdir()?;
        let mut local = command("ddm-local")?;
        local.current_dir(folder.path()).args(["--once", "--port", "0"]);
        let out = folder.path().join("out");
        let local = local.stdout(std::fs::File::create(&out)?).stderr(Stdio::piped()).spawn()?;
        eventually("it publishes", Duration::from_secs(60), async || {
            Ok(std::fs::read_to_string(&out)?.contains("Publishing a sample").then_some(()))
        })
        .await?;
        let pid = rustix::process::Pid::from_raw(local.id().unwrap().try_into()?).unwrap();
        rustix::process::kill_process(pid, signal)?;
        let output = tokio::time::timeout(Duration::from_secs(40), local.wait_with_output()).await??;
        let err = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(3), "{err}");
        assert!(err.contains("interrupted"), "{err}");
    }
    Ok(())
}

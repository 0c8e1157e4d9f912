//! The README's first command.

use std::{process::Stdio, time::Duration};

use ddm_testkit::{
    cluster::finish,
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

//! A system that fetches from this machine, and what is waited for in it.

use std::{path::Path, process::Stdio, time::Duration};

use ddm_testkit::{
    cluster::{Cluster, PASSWORD, Plan},
    process::{command, eventually, write_private},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::content::{MIB, number};

/// Time limit for a step on a busy machine.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of the file that most rows fetch: 24 chunks.
pub(super) const SIZE: u64 = 24 * MIB;

/// Servers that may fetch from this machine.
pub(super) fn near(zones: &[&'static str]) -> Plan {
    let allow = vec!["--origin-allow".to_owned(), "127.0.0.0/8".to_owned()];
    Plan { info_args: allow.clone(), file_server_args: allow, ..Plan::zones(zones) }
}

/// Returns the plan of [`near`] with further arguments of the info-server.
pub(super) fn near_with(zones: &[&'static str], info_args: &[&str]) -> Plan {
    let mut plan = near(zones);
    plan.info_args.extend(info_args.iter().map(|arg| (*arg).to_owned()));
    plan
}

/// The only job that there is.
pub(super) async fn job(cluster: &Cluster) -> anyhow::Result<Value> {
    eventually("a job is listed", STEP_TIMEOUT, async || {
        Ok(cluster.get("/v1/jobs").await?["jobs"].as_array().and_then(|jobs| jobs.first()).cloned())
    })
    .await
}

/// Waits until a job is in that state.
pub(super) async fn state(cluster: &Cluster, id: &str, wanted: &str) -> anyhow::Result<Value> {
    eventually(&format!("the job is {wanted}"), STEP_TIMEOUT, async || {
        // An info-server that is being started again does not answer.
        let Ok(job) = cluster.get(&format!("/v1/jobs/{id}")).await else { return Ok(None) };
        Ok(Some(job).filter(|job| job["state"] == wanted))
    })
    .await
}

/// Waits until so many chunks are fetched from the origin.
pub(super) async fn fetched(cluster: &Cluster, id: &str, chunks: u64) -> anyhow::Result<Value> {
    eventually(&format!("{chunks} chunks are fetched"), STEP_TIMEOUT, async || {
        let job = cluster.get(&format!("/v1/jobs/{id}")).await?;
        Ok((number(&job["fetched"]) >= chunks).then_some(job))
    })
    .await
}

/// Chunks that the journal beside a `.part` file says are verified.
pub(super) fn noted(part: &Path) -> u64 {
    let mut name = part.as_os_str().to_owned();
    name.push(".journal");
    let note: Value = serde_json::from_str(&std::fs::read_to_string(name).unwrap_or_default()).unwrap_or_default();
    let runs = note["verified"].as_array().cloned().unwrap_or_default();
    runs.iter().map(|run| number(&run[1]) - number(&run[0])).sum()
}

/// Waits until so many chunks are noted beside a `.part` file.
pub(super) async fn until_noted(part: &Path, chunks: u64) -> anyhow::Result<u64> {
    eventually("some chunks are noted", STEP_TIMEOUT, async || {
        let had = noted(part);
        Ok((had >= chunks).then_some(had))
    })
    .await
}

/// Sends a signal to a client that runs.
pub(super) fn signal(client: &Child, signal: Signal) -> anyhow::Result<()> {
    let pid = client.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
    Ok(kill_process(pid.ok_or_else(|| anyhow::anyhow!("it has ended"))?, signal)?)
}

/// The client without any login, in a folder of its own.
pub(super) fn stranger(folder: &Path, args: &[&str]) -> anyhow::Result<Command> {
    let mut client = command("ddm-client")?;
    client.current_dir(folder).env("HOME", folder).args(args);
    Ok(client)
}

/// The client of another account, made here, in a folder of its own: the account's name.
pub(super) async fn somebody(cluster: &Cluster, name: &str, args: &[&str]) -> anyhow::Result<Command> {
    let (folder, email) = (cluster.path(name), format!("{name}@example.org"));
    let logins = folder.join("logins.json");
    if !folder.exists() {
        std::fs::create_dir(&folder)?;
        cluster.user(&["add", &email, "--role", "reader"], Some(PASSWORD)).await?;
        let login =
            json!({ "email": email, "token": cluster.log_in(&email).await?, "expires_at": "2100-01-01T00:00:00Z" });
        write_private(&logins, json!({ cluster.info_url(): login }).to_string().as_bytes())?;
    }
    let mut client = stranger(&folder, &["--info", cluster.info_url(), "--session-file"])?;
    client.arg(logins).args(args);
    Ok(client)
}

/// Starts it; what it says is kept for `finish`.
pub(super) fn piped(mut command: Command) -> anyhow::Result<Child> {
    Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
}

/// Returns the standard error of a client that ended.
pub(super) fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

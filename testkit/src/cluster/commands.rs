//! Commands that run to their end.

use std::{
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use serde_json::Value;
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
    time::timeout,
};

/// Time limit for one command: some move 4 GiB to a slow disk.
pub(super) const COMMAND_TIMEOUT: Duration = Duration::from_secs(240);

/// Waits for a child that a test started.
///
/// # Errors
/// When it does not end in time.
pub async fn finish(child: Child) -> anyhow::Result<Output> {
    Ok(timeout(COMMAND_TIMEOUT, child.wait_with_output()).await.context("the command does not end")??)
}

/// The events that a command printed with `--json`.
///
/// # Errors
/// When a line is not JSON.
pub fn events(output: &Output) -> anyhow::Result<Vec<Value>> {
    let text = std::str::from_utf8(&output.stdout)?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// Runs a command to its end, with `input` on its standard input.
///
/// # Errors
/// When it does not end in time.
pub async fn run_with_input(mut command: Command, input: &str) -> anyhow::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that reads nothing may have closed it already.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    finish(child).await
}

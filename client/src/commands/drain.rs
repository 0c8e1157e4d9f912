use std::time::{Duration, Instant};

use transfer::info::InfoServer;
use wire::{ServerId, server::DrainStatus};

use super::{Context, Exit, emit, say, tell};
use crate::{cli::Drain, text};

const GLANCE: Duration = Duration::from_secs(1);

pub(super) async fn run(context: &Context, drain: &Drain) -> anyhow::Result<Exit> {
    let info = context.info_server()?;
    let begun = context.cancel.run_until_cancelled(begin(context, &info, drain)).await;
    match (begun.transpose()?, drain.wait) {
        (None, _) => Ok(Exit::Interrupted),
        (Some(()), Some(limit)) => wait(context, &info, &drain.server, limit).await,
        (Some(()), None) => Ok(Exit::Done),
    }
}

/// Has the server emptied, or take files again.
async fn begin(context: &Context, info: &InfoServer, drain: &Drain) -> anyhow::Result<()> {
    let server = &drain.server;
    if !drain.undo {
        show(context, &info.drain(server).await?);
        return Ok(());
    }
    info.undrain(server).await?;
    if context.common.json {
        emit(&serde_json::json!({ "event": "undrained", "server": server }));
    } else {
        say(&format!("{server} takes files again."));
    }
    Ok(())
}

/// Waits until a server holds nothing that is wanted, and says why it cannot be stopped when that is not so in time.
async fn wait(context: &Context, info: &InfoServer, server: &ServerId, limit: Duration) -> anyhow::Result<Exit> {
    let (began, mut shown) = (Instant::now(), None);
    loop {
        let Some(asked) = context.cancel.run_until_cancelled(info.drain_status(server)).await else {
            return Ok(Exit::Interrupted);
        };
        let why = match asked {
            Ok(status) => {
                if shown.replace(status.files) != Some(status.files) {
                    show(context, &status);
                }
                if status.files == 0 {
                    return Ok(Exit::Done);
                }
                format!("it still holds {} files", status.files)
            }
            // Refusals stay what they are; one that is away may come back.
            Err(error) if error.status().is_some() => return Err(error.into()),
            Err(error) => error.to_string(),
        };
        if began.elapsed() >= limit {
            tell(&format!("ddm-client: {server} is not empty after {}: {why}", text::time(limit)));
            return Ok(Exit::Failed);
        }
        if context.cancel.run_until_cancelled(tokio::time::sleep(GLANCE)).await.is_none() {
            return Ok(Exit::Interrupted);
        }
    }
}

fn show(context: &Context, status: &DrainStatus) {
    if context.common.json {
        emit(status);
        return;
    }
    let DrainStatus { server, files, bytes, stuck, stuck_files, .. } = status;
    if *files == 0 {
        say(&format!("{server} holds nothing that is wanted any more: it can be stopped."));
        return;
    }
    say(&format!("{server} is being emptied: {files} files, {} left", text::size(*bytes)));
    if *stuck > 0 {
        let named: Vec<String> = stuck_files.iter().map(ToString::to_string).collect();
        say(&format!(
            "  For some of them no other live server with room stands where they are to: they stay until one does ({}{})",
            named.join(", "),
            if usize::try_from(*stuck).is_ok_and(|stuck| stuck > named.len()) { ", …" } else { "" }
        ));
    }
}

use std::time::{Duration, Instant};

use info_client::{InfoError, UserClient};
use wire::{ServerId, grammar::counted, server::DrainStatus};

use crate::{
    cli::Drain,
    context::Context,
    exit::Exit,
    lookup,
    output::{print, print_json, status},
    text,
};

const POLL_INTERVAL: Duration = Duration::from_secs(1);

pub(super) async fn run(context: &Context, drain: &Drain) -> anyhow::Result<Exit> {
    let info = context.info_server()?;
    let started = context.cancel.run_until_cancelled(start_named(context, &info, drain)).await;
    match (started.transpose()?, drain.wait) {
        (None, _) => Ok(Exit::Interrupted),
        (Some(Started { server, files }), Some(limit)) => {
            let wait = Wait { server: &server, limit, shown: files };
            wait_until_drained(context, &info, wait).await
        }
        (Some(_), None) => Ok(Exit::Done),
    }
}

/// A drain that has begun, or was undone.
struct Started {
    server: ServerId,
    /// Number of files left, once it was shown.
    files: Option<u64>,
}

/// Starts or undoes the draining of the server that is named. Its whole id comes first, which may be that of a server that is away.
async fn start_named(context: &Context, info: &UserClient, drain: &Drain) -> anyhow::Result<Started> {
    let server = drain.server.clone();
    match start_or_undo(context, info, &server, drain.undo).await {
        Ok(files) => Ok(Started { server, files }),
        Err(error) if error.status() == Some(404) => {
            let server = lookup::server(info, &drain.server).await?;
            let files = start_or_undo(context, info, &server, drain.undo).await?;
            Ok(Started { server, files })
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns the number of files left, once it was shown.
async fn start_or_undo(
    context: &Context,
    info: &UserClient,
    server: &ServerId,
    is_undone: bool,
) -> Result<Option<u64>, InfoError> {
    if !is_undone {
        let progress = info.drain(server).await?;
        show(context, &progress);
        return Ok(Some(progress.files));
    }
    info.undrain(server).await?;
    if context.common.json {
        print_json(&serde_json::json!({ "event": "undrained", "server": server }));
    } else {
        print(&format!("{server} accepts files again."));
    }
    Ok(None)
}

/// Wait for a server that is being drained.
struct Wait<'a> {
    server: &'a ServerId,
    limit: Duration,
    /// Number of files left that was shown last.
    shown: Option<u64>,
}

/// Waits until a server holds no wanted replica, and prints the obstacle when the time runs out.
async fn wait_until_drained(context: &Context, info: &UserClient, wait: Wait<'_>) -> anyhow::Result<Exit> {
    let Wait { server, limit, mut shown } = wait;
    let began = Instant::now();
    loop {
        let Some(answer) = context.cancel.run_until_cancelled(info.drain_status(server)).await else {
            return Ok(Exit::Interrupted);
        };
        let obstacle = match answer {
            Ok(progress) => {
                if shown.replace(progress.files) != Some(progress.files) {
                    show(context, &progress);
                }
                if progress.files == 0 {
                    return Ok(Exit::Done);
                }
                format!("{} left", counted(progress.files, "file"))
            }
            // A refusal is final; an info-server that is away may come back.
            Err(error) if error.status().is_some() => return Err(error.into()),
            Err(error) => error.to_string(),
        };
        if began.elapsed() >= limit {
            status(&format!("ddm-client: {server} is not drained after {}: {obstacle}", text::time(limit)));
            return Ok(Exit::Failed);
        }
        if context.cancel.run_until_cancelled(tokio::time::sleep(POLL_INTERVAL)).await.is_none() {
            return Ok(Exit::Interrupted);
        }
    }
}

fn show(context: &Context, progress: &DrainStatus) {
    if context.common.json {
        print_json(progress);
        return;
    }
    let DrainStatus { server, files, bytes, stuck, stuck_files, .. } = progress;
    if *files == 0 {
        print(&format!("{server} is drained: it can be stopped."));
        return;
    }
    print(&format!("Draining {server}: {}, {} left", counted(*files, "file"), text::size(*bytes)));
    if *stuck > 0 {
        let named: Vec<String> = stuck_files.iter().map(ToString::to_string).collect();
        print(&format!(
            "  {} must wait: no other live server with room may hold them ({}{})",
            counted(*stuck, "file"),
            named.join(", "),
            if usize::try_from(*stuck).is_ok_and(|stuck| stuck > named.len()) { ", …" } else { "" }
        ));
    }
}

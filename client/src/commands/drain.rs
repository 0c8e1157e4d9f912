use std::time::{Duration, Instant};

use wire::server::DrainStatus;

use super::{Context, Exit, emit, say, tell};
use crate::{cli::Drain, text};

const GLANCE: Duration = Duration::from_secs(1);

pub(super) async fn run(context: &Context, drain: &Drain) -> anyhow::Result<Exit> {
    let (info, server) = (context.info_server()?, &drain.server);
    if drain.undo {
        info.undrain(server).await?;
        if context.common.json {
            emit(&serde_json::json!({ "event": "undrained", "server": server }));
        } else {
            say(&format!("{server} takes files again."));
        }
        return Ok(Exit::Done);
    }
    show(context, &info.drain(server).await?);
    let Some(limit) = drain.wait else { return Ok(Exit::Done) };
    let (began, mut shown) = (Instant::now(), None);
    loop {
        let Some(asked) = context.cancel.run_until_cancelled(info.drain_status(server)).await else {
            return Ok(Exit::Interrupted);
        };
        let status = asked?;
        if status.files == 0 {
            show(context, &status);
            return Ok(Exit::Done);
        }
        if shown.replace(status.files) != Some(status.files) {
            show(context, &status);
        }
        if began.elapsed() >= limit {
            tell(&format!("ddm-client: {server} still holds {} files after {}", status.files, text::time(limit)));
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

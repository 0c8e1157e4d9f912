//! Publishes files.

mod plan;
mod same_content;
mod targets;
mod upload;
mod upload_note;

use std::{
    fs::File,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use transfer::upload::{Published, UploadError};
use wire::{
    FileName,
    catalogue::{FileSummary, NewFile, Policy},
};

pub use self::upload::send;
use self::{
    upload::{Sent, Source, can_resume},
    upload_note::UploadNote,
};
use super::{
    batch::{self, Ended},
    replicas::{self, Scope},
};
use crate::{
    cli::Publish,
    conclusion::conclude,
    context::Context,
    exit::{Exit, UsageError},
    output::{self, print, print_json, status},
    text,
};

/// Runs `publish`. A file that fails leaves the others to be published.
///
/// # Errors
/// For the only file, if it could not be published. Several files print their own errors.
pub async fn run(context: &Context, publish: &Publish) -> anyhow::Result<Exit> {
    if publish.name.is_some() && publish.paths.len() != 1 {
        return Err(UsageError::refusal("--name needs exactly one file"));
    }
    if let [path] = publish.paths.as_slice() {
        return one(context, publish, path).await;
    }
    let mut ended = Vec::new();
    for path in &publish.paths {
        let name = path.display().to_string();
        let exit = output::about(name.clone(), async { conclude(context, one(context, publish, path).await) }).await;
        ended.push(Ended { name, exit });
        if exit == Exit::Interrupted {
            break;
        }
    }
    Ok(batch::summarize(context.common.json, &ended))
}

async fn one(context: &Context, publish: &Publish, path: &Path) -> anyhow::Result<Exit> {
    let sent = Arc::<Sent>::default();
    let shown = text::path(path);
    match publish_one(context, publish, path, &sent).await {
        Err(error) if matches!(error.downcast_ref(), Some(UploadError::Interrupted)) => {
            status(&interruption(&shown, &sent));
            Ok(Exit::Interrupted)
        }
        Err(error) => {
            let advice = advice(&error, &sent);
            Err(error.context(format!("cannot publish {shown}{advice}")))
        }
        published => published,
    }
}

/// Describes how far an interrupted upload came, and how to go on.
fn interruption(path: &str, sent: &Sent) -> String {
    match (sent.any(), sent.bytes()) {
        (false, _) => format!("Interrupted. {path} is not published, and nothing of it was sent."),
        (true, 0) => format!("Interrupted. {path} is not published; run the same command to resume the upload."),
        (true, bytes) => format!(
            "Interrupted. {path} is not published: {} are on the servers; run the same command to resume the upload.",
            text::size(bytes)
        ),
    }
}

/// Describes the effect of running the same command again.
fn advice(error: &anyhow::Error, sent: &Sent) -> &'static str {
    match error.downcast_ref() {
        Some(error) if targets::lack_room(error) => " (run the same command to start over on servers with room)",
        _ if can_resume(error) && sent.any() => " (run the same command to resume the upload)",
        _ => "",
    }
}

async fn publish_one(context: &Context, publish: &Publish, path: &Path, sent: &Arc<Sent>) -> anyhow::Result<Exit> {
    let (file, size) = open(path)?;
    let policy = (publish.replicas.is_some() || publish.zones.is_some()).then(|| Policy {
        replicas: publish.replicas,
        zones: publish.zones.clone(),
        through: None,
    });
    let new = NewFile {
        name: name(publish, path)?,
        size,
        media_type: publish.media_type.clone(),
        policy,
        quorum: publish.quorum,
        zone: context.common.zone.clone(),
    };
    let info = context.info_server()?;
    let note = UploadNote::open(&context.common.info, path, &new, &file)?;
    let begins = note.as_ref().is_none_or(|note| !note.is_written());
    let standing = if begins && !publish.again { same_content::find(context, &info, &file, &new).await? } else { None };
    let summary = match standing {
        Some(standing) => {
            if let Some(asked) = &new.policy {
                let widening = context.cancel.run_until_cancelled(same_content::widen(&info, &standing, asked));
                widening.await.ok_or(UploadError::Interrupted)??;
            }
            note.into_iter().for_each(UploadNote::remove);
            show_standing(context.common.json, &standing);
            standing
        }
        None => {
            let source = Source { file, note, sent: Arc::clone(sent) };
            let (summary, published) = upload::resume_or_send(context, &info, &new, source).await?;
            show_published(context.common.json, &summary, &published);
            summary
        }
    };
    match publish.wait {
        None => Ok(Exit::Done),
        Some(limit) => {
            let scope = Scope { file: summary.id, zone: None };
            replicas::wait_until_replicated(context, &info, scope, limit).await
        }
    }
}

fn show_standing(json: bool, standing: &FileSummary) {
    if json {
        let servers: [&str; 0] = [];
        print_json(
            &serde_json::json!({ "event": "published", "file": standing, "servers": servers, "existing": true }),
        );
        return;
    }
    print(&format!("{}  {}  {}", standing.id, text::size(standing.size), standing.name));
    print("  published before with the same content: nothing was sent (--again makes another entry)");
}

fn show_published(json: bool, summary: &FileSummary, published: &Published) {
    let targets = &published.targets;
    if json {
        let servers: Vec<_> = targets.iter().filter(|target| target.failure.is_none()).map(|t| &t.server).collect();
        let resumed = targets.iter().map(|target| target.resumed).max();
        print_json(
            &serde_json::json!({ "event": "published", "file": summary, "servers": servers, "resumed": resumed }),
        );
        return;
    }
    print(&format!("{}  {}  {}", summary.id, text::size(summary.size), summary.name));
    for target in targets {
        match &target.failure {
            None if target.resumed > 0 => {
                print(&format!("  on {}, {} uploaded earlier", target.server, text::size(target.resumed)));
            }
            None => print(&format!("  on {}", target.server)),
            Some(failure) => print(&format!("  not on {}: {failure}", target.server)),
        }
    }
}

fn open(path: &Path) -> anyhow::Result<(File, u64)> {
    // Opening a pipe would otherwise block until its other end is opened.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().try_into()?;
    let file = File::options().read(true).custom_flags(flags).open(path).context("cannot open it")?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        bail!("it is a folder; pack it into an archive first");
    }
    if !metadata.is_file() {
        bail!("it is not a regular file; copy its content to one first");
    }
    // Files of the system itself, such as those below /proc, have a size of 0 and hold data nevertheless.
    if metadata.len() == 0 && file.read_at(&mut [0], 0).context("cannot read it")? > 0 {
        bail!("it holds data although its size is 0; copy its content to a regular file first");
    }
    Ok((file, metadata.len()))
}

fn name(publish: &Publish, path: &Path) -> anyhow::Result<FileName> {
    if let Some(name) = &publish.name {
        return Ok(name.clone());
    }
    let text = path.file_name().and_then(|name| name.to_str());
    let text = text.context("its name is not valid UTF-8; choose another with --name")?;
    text.parse().context("its name cannot be used; choose another with --name")
}

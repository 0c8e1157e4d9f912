use std::{collections::BTreeSet, sync::Arc, time::Duration};

use axum::extract::State as Shared;
use jiff::Timestamp;
use lifecycle::http::{Json, Path};
use tokio::time::Instant;
use wire::{
    Digest, FileId, Zone,
    catalog::{Commit, FileState, FileSummary},
    event::{Fact, Stream},
};

use super::{list_files::summary, show_file::existing};
use crate::{
    app::State,
    caller::Publisher,
    error::{Error, Result, conflict, invalid},
    store::{
        accounts::Role,
        files::{self, Content, File},
        outbox,
        replicas::Replica,
    },
};

/// How long a commit waits for the quorum's reports.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often to look even if nobody told of a report.
const GLANCE: Duration = Duration::from_secs(1);

/// `POST /v1/files/{id}/commit`: fixes the content once the quorum holds it, synced. Idempotent.
pub(super) async fn commit_file(
    Shared(state): Shared<Arc<State>>,
    Publisher(user): Publisher,
    Path(id): Path<FileId>,
    Json(commit): Json<Commit>,
) -> Result<axum::Json<FileSummary>> {
    let file = existing(&state, id).await?;
    if file.owner != user.id && user.role < Role::Admin {
        return Err(Error::Forbidden("only its publisher commits a file"));
    }
    let chunks = file.layout.count();
    if usize::try_from(chunks)? != commit.chunks.len() {
        return Err(invalid(format!("this file has {chunks} chunks, the commit lists {}", commit.chunks.len())));
    }
    let known = match commit.chunks.as_slice() {
        [] => Some(Digest::of(b"")),
        [only] => Some(*only),
        _ => None,
    };
    if known.is_some_and(|known| commit.sha256 != known) {
        return Err(invalid("sha256 does not fit the chunks"));
    }
    let content = Content { sha256: commit.sha256, root: Digest::root_of(&commit.chunks) };
    if file.state == FileState::Available {
        return already(&state, file, content).await;
    }
    let holders = quorum(&state, &file, content.root).await?;
    publish(&state, &file, content, &commit.chunks, &holders).await?;
    tracing::info!(file = %id, replicas = holders.len(), "published");
    let file = existing(&state, id).await?;
    already(&state, file, content).await
}

/// The answer to a commit of what is published already.
async fn already(state: &State, file: File, content: Content) -> Result<axum::Json<FileSummary>> {
    if file.content != Some(content) {
        return Err(Error::Refused(conflict("content-fixed", "The file is published with other content")));
    }
    let live = state.live();
    let holders = holders(state.store.replicas(file.id).await?, content.root);
    let alive = holders.iter().filter(|replica| live.iter().any(|server| server.id == replica.server)).count();
    Ok(axum::Json(summary(file, u32::try_from(alive)?)))
}

fn holders(replicas: Vec<Replica>, root: Digest) -> Vec<Replica> {
    replicas.into_iter().filter(|replica| replica.root == Some(root)).collect()
}

/// Waits until enough servers report this very content.
async fn quorum(state: &State, file: &File, root: Digest) -> Result<Vec<Replica>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let reported = state.reported.notified();
        tokio::pin!(reported);
        // Listen before looking, so that no report falls between the two.
        reported.as_mut().enable();
        let replicas = state.store.replicas(file.id).await?;
        let (sound, others): (Vec<Replica>, Vec<Replica>) =
            replicas.into_iter().partition(|replica| replica.root == Some(root));
        if u32::try_from(sound.len())? >= file.quorum {
            return Ok(sound);
        }
        if Instant::now() >= deadline {
            return Err(Error::Refused(missing(file, &sound, &others)));
        }
        // A server that hung up before its report was told of has reported all the same: look again by ourselves.
        let look_again = deadline.min(Instant::now() + GLANCE);
        let _ = tokio::time::timeout_at(look_again, reported).await;
    }
}

fn missing(file: &File, sound: &[Replica], others: &[Replica]) -> wire::Problem {
    let all = file.layout.count();
    let states: Vec<String> = others
        .iter()
        .map(|replica| match replica.root {
            Some(_) => format!("{} holds other content", replica.server),
            None => format!("{} holds {} of {all} chunks", replica.server, replica.runs.len()),
        })
        .collect();
    let rest = if states.is_empty() { "no other server has reported".to_owned() } else { states.join(", ") };
    let detail = format!(
        "{} of the {} servers that the quorum needs hold this content; {rest}. Send the missing chunks and commit again.",
        sound.len(),
        file.quorum
    );
    let names = |replicas: &[Replica]| replicas.iter().map(|replica| replica.server.to_string()).collect::<Vec<_>>();
    conflict("quorum-missing", "Too few replicas hold this content")
        .detail(detail)
        .with("quorum", file.quorum)
        .with("holding", names(sound))
        .with("incomplete", names(others))
}

/// One transaction: the content, and the event that tells the holders' zones.
async fn publish(state: &State, file: &File, content: Content, digests: &[Digest], holders: &[Replica]) -> Result<()> {
    let zones: BTreeSet<Zone> = {
        let registry = state.registry();
        holders.iter().filter_map(|replica| registry.get(&replica.server)).map(|server| server.zone.clone()).collect()
    };
    let fact = Fact::FilePublished {
        file: file.id,
        size: file.layout.size(),
        chunk_size: file.layout.chunk_size(),
        root: content.root,
        sha256: content.sha256,
    };
    let mut newest = 0;
    let mut write = state.store.write().await?;
    // Another commit of the same file may have come first; then its content is compared by the caller.
    if files::publish(&mut write, file.id, content, digests).await? {
        for zone in zones {
            newest = outbox::append(&mut write, &Stream::Zone(zone), &fact, Timestamp::now()).await?;
        }
    }
    write.commit().await?;
    state.log.committed(newest);
    Ok(())
}

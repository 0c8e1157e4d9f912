use std::{collections::BTreeSet, sync::Arc, time::Duration};

use axum::extract::State as Shared;
use jiff::Timestamp;
use lifecycle::{
    api::Conflict,
    http::{Json, Path},
};
use serde_json::json;
use tokio::time::Instant;
use wire::{
    Digest, FileId, Zone,
    catalog::{Commit, FileState, FileSummary},
    event::{Fact, Stream},
};

use super::put_replica::compare;
use crate::{
    app::State,
    caller::Publisher,
    catalogue::{content_of, existing, not_of_a_job, summary, visible},
    error::{Error, Result, conflict},
    peer::Client,
    store::{
        accounts::Role,
        assignments,
        audit::{self, Deed, Kind},
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
#[utoipa::path(
    post,
    path = "/v1/files/{id}/commit",
    tag = "Files",
    params(("id" = FileId, Path, description = "The file")), request_body = Commit, security(("session" = [])),
    responses((status = 200, description = "Published", body = FileSummary), Conflict)
)]
pub(super) async fn commit_file(
    Shared(state): Shared<Arc<State>>,
    Publisher(user, _): Publisher,
    Client(address): Client,
    Path(id): Path<FileId>,
    Json(commit): Json<Commit>,
) -> Result<axum::Json<FileSummary>> {
    let file = visible(&state, id, &user).await?;
    if file.owner != user.id && user.role < Role::Admin {
        return Err(Error::Forbidden("only its publisher commits a file"));
    }
    not_of_a_job(&file)?;
    let content = content_of(file.layout, &commit.chunks, commit.sha256)?;
    if file.state == FileState::Available {
        return already(&state, file, content).await;
    }
    let holders = quorum(&state, &file, content.root).await?;
    let deed = Deed::new(Kind::FileCommitted).by(user.id, address).about(id).with(json!({ "sha256": content.sha256 }));
    publish(&state, &file, (content, &commit.chunks), &holders, deed).await?;
    tracing::info!(file = %id, replicas = holders.len(), "published");
    compare(&state, id).await?;
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
async fn publish(
    state: &State,
    file: &File,
    (content, digests): (Content, &[Digest]),
    holders: &[Replica],
    deed: Deed,
) -> Result<()> {
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
    let (mut newest, now) = (0, Timestamp::now());
    let mut write = state.store.write().await?;
    // Another commit of the same file may have come first; then its content is compared by the caller.
    if files::publish(&mut write, file.id, content, digests).await? {
        audit::record(&mut write, &[deed], Timestamp::now()).await?;
        for zone in zones {
            newest = outbox::append(&mut write, &Stream::Zone(zone), &fact, now).await?;
        }
        newest = assignments::call(&mut write, file.id, now).await?.max(newest);
    }
    write.commit().await?;
    state.log.committed(newest);
    state.planner.look_at(file.id);
    Ok(())
}

use std::{sync::Arc, time::Duration};

use axum::extract::State as Shared;
use http_front::{
    extract::{Json, Path},
    openapi::Conflict,
};
use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;
use wire::{
    Digest, FileId, ProblemKind,
    account::Role,
    catalogue::{CommitRequest, FileState, FileSummary},
    grammar::counted,
};

use crate::{
    accounts::{
        audit::{AuditEntry, AuditKind},
        store::audit,
    },
    catalogue::{
        self,
        file::{Content, File, content_of, summary},
        publication,
        visibility::{existing, not_of_a_job, visible},
    },
    error::{Error, Result, conflict},
    http::{auth::Publisher, client_ip::ClientIp},
    replication::{
        digest_conflicts,
        store::{assignments, replicas::ReportedReplica},
    },
    state::State,
};

/// Longest wait of a commit for the quorum's reports.
const QUORUM_TIMEOUT: Duration = Duration::from_secs(10);
/// Time after which the reports are read even if none was announced.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// `POST /v1/files/{id}/commit`: fixes the content once the quorum holds it, synced. Idempotent.
#[utoipa::path(
    post,
    path = "/v1/files/{id}/commit",
    tag = "Files",
    params(("id" = FileId, Path, description = "The file")), request_body = CommitRequest, security(("session" = [])),
    responses((status = 200, description = "Published", body = FileSummary), Conflict)
)]
pub(crate) async fn commit_file(
    Shared(state): Shared<Arc<State>>,
    Publisher(user): Publisher,
    ClientIp(address): ClientIp,
    Path(id): Path<FileId>,
    Json(commit): Json<CommitRequest>,
) -> Result<axum::Json<FileSummary>> {
    let file = visible(&state.db, id, &user).await?;
    if file.owner != user.id && user.role < Role::Admin {
        return Err(Error::Forbidden("only its publisher commits a file"));
    }
    not_of_a_job(&file)?;
    let content = content_of(file.layout, &commit.chunks, commit.sha256)?;
    if file.state == FileState::Available {
        return already(&state, file, content).await;
    }
    let holders = quorum(&state, &file, content.root).await?;
    let entry = AuditEntry::new(AuditKind::FileCommitted)
        .by(user.id, address)
        .about(id)
        .with(json!({ "sha256": content.sha256 }));
    publish(&state, &file, &Published { content, digests: &commit.chunks }, &holders, entry).await?;
    tracing::info!(file = %id, replicas = holders.len(), "File {id} published");
    digest_conflicts::log(&state.db, id).await?;
    let file = existing(&state.db, id).await?;
    already(&state, file, content).await
}

/// Answers a commit of what is published already.
async fn already(state: &State, file: File, content: Content) -> Result<axum::Json<FileSummary>> {
    if file.content != Some(content) {
        return Err(Error::Refused(conflict(ProblemKind::ContentFixed, "File published with other content")));
    }
    let live = state.live();
    let holders = holders(state.db.replicas(file.id).await?, content.root);
    let alive = holders.iter().filter(|replica| live.iter().any(|server| server.id == replica.server)).count();
    let is_disputed = state.db.disputed(&[file.id]).await?.contains(&file.id);
    Ok(axum::Json(summary(file, u32::try_from(alive)?, is_disputed)))
}

fn holders(replicas: Vec<ReportedReplica>, root: Digest) -> Vec<ReportedReplica> {
    replicas.into_iter().filter(|replica| replica.root == Some(root)).collect()
}

/// Waits until enough servers report this very content.
async fn quorum(state: &State, file: &File, root: Digest) -> Result<Vec<ReportedReplica>> {
    let deadline = Instant::now() + QUORUM_TIMEOUT;
    loop {
        let reported = state.reported.notified();
        tokio::pin!(reported);
        // Listen before looking, so that no report falls between the two.
        reported.as_mut().enable();
        let replicas = state.db.replicas(file.id).await?;
        let (sound, others): (Vec<ReportedReplica>, Vec<ReportedReplica>) =
            replicas.into_iter().partition(|replica| replica.root == Some(root));
        if u32::try_from(sound.len())? >= file.quorum {
            return Ok(sound);
        }
        if Instant::now() >= deadline {
            return Err(Error::Refused(missing(file, &sound, &others)));
        }
        // A server that hung up before its report was announced has reported all the same: the reports are read again anyway.
        let look_again = deadline.min(Instant::now() + POLL_INTERVAL);
        let _ = tokio::time::timeout_at(look_again, reported).await;
    }
}

fn missing(file: &File, sound: &[ReportedReplica], others: &[ReportedReplica]) -> wire::Problem {
    let all = file.layout.count();
    let states: Vec<String> = others
        .iter()
        .map(|replica| match replica.root {
            Some(_) => format!("{} holds other content", replica.server),
            None => format!("{} holds {} of {}", replica.server, replica.runs.len(), counted(all, "chunk")),
        })
        .collect();
    let rest = if states.is_empty() { "no other server has reported".to_owned() } else { states.join(", ") };
    let detail = format!(
        "the quorum needs {}, and {} of them {} this content; {rest}. Send the missing chunks and commit again.",
        counted(file.quorum, "server"),
        sound.len(),
        if sound.len() == 1 { "holds" } else { "hold" }
    );
    let names =
        |replicas: &[ReportedReplica]| replicas.iter().map(|replica| replica.server.to_string()).collect::<Vec<_>>();
    conflict(ProblemKind::QuorumMissing, "Too few replicas hold this content")
        .detail(detail)
        .with("quorum", file.quorum)
        .with("holding", names(sound))
        .with("incomplete", names(others))
}

/// Stores the content and the event for the holders' zones, in one transaction.
async fn publish(
    state: &State,
    file: &File,
    published: &Published<'_>,
    holders: &[ReportedReplica],
    entry: AuditEntry,
) -> Result<()> {
    let Published { content, digests } = *published;
    let zones = state.registry().zones_of(holders.iter().map(|replica| &replica.server));
    let (mut newest, now) = (0, Timestamp::now());
    let mut write = state.db.write().await?;
    // Another commit of the same file may have come first; then its content is compared by the caller.
    if catalogue::store::publish(&mut write, file.id, content, digests).await? {
        audit::record(&mut write, &[entry], Timestamp::now()).await?;
        newest = publication::announce(&mut write, file, content, zones, now).await?;
        newest = assignments::assign_incomplete(&mut write, file.id, now).await?.max(newest);
    }
    write.commit().await?;
    state.log.announce(newest);
    state.planner.push(file.id);
    Ok(())
}

/// The content that a commit fixes.
#[derive(Debug, Clone, Copy)]
struct Published<'a> {
    content: Content,
    digests: &'a [Digest],
}

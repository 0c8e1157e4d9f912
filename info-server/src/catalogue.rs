//! Catalogue entries as callers see them.

use wire::{
    Digest, FileId, Layout, Problem,
    catalog::{FileState, FileSummary},
};

use crate::{
    app::State,
    error::{Error, Result, conflict, invalid},
    store::{
        accounts::{Role, User},
        files::{Content, File},
    },
};

/// The entry, unless it is unknown or going away.
pub(crate) async fn existing(state: &State, id: FileId) -> Result<File> {
    let file = state.store.file(id).await?.filter(|file| file.state != FileState::Deleting);
    file.ok_or_else(|| unknown(id))
}

fn unknown(id: FileId) -> Error {
    Error::Refused(Problem::new(404, "no-such-file", "There is no such file").detail(id.to_string()))
}

/// The entry, unless it is unknown, going away, or another's: what a job made is seen by its askers and admins alone.
pub(crate) async fn visible(state: &State, id: FileId, user: &User) -> Result<File> {
    let file = existing(state, id).await?;
    match file.job {
        Some(job) if user.role < Role::Admin && !state.store.asked_for(job, user.id).await? => Err(unknown(id)),
        _ => Ok(file),
    }
}

/// Refuses what would interfere with a job that still makes the file.
pub(crate) fn not_of_a_job(file: &File) -> Result<()> {
    match file.job.filter(|_| file.state == FileState::Uploading) {
        None => Ok(()),
        Some(job) => {
            let detail =
                format!("the job {job} makes it: wait until it is done, or leave it with DELETE /v1/jobs/{job}");
            Err(Error::Refused(conflict("in-job", "The file belongs to a job").detail(detail)))
        }
    }
}

/// The content that digests of chunks and of the whole describe; refused when they cannot belong together.
pub(crate) fn content_of(layout: Layout, chunks: &[Digest], sha256: Digest) -> Result<Content> {
    if usize::try_from(layout.count())? != chunks.len() {
        return Err(invalid(format!("this file has {} chunks, the body lists {}", layout.count(), chunks.len())));
    }
    let known = match chunks {
        [] => Some(Digest::of(b"")),
        [only] => Some(*only),
        _ => None,
    };
    if known.is_some_and(|known| sha256 != known) {
        return Err(invalid("sha256 does not fit the chunks"));
    }
    Ok(Content { sha256, root: Digest::root_of(chunks) })
}

/// The row of the list.
pub(crate) fn summary(file: File, live_replicas: u32) -> FileSummary {
    FileSummary {
        id: file.id,
        name: file.name,
        size: file.layout.size(),
        sha256: file.content.map(|content| content.sha256),
        chunk_size: file.layout.chunk_size(),
        state: file.state,
        media_type: file.media_type,
        created_at: file.created_at,
        live_replicas,
    }
}

//! The files that a caller may see.

use wire::{FileId, Problem, ProblemKind, account::Role, catalogue::FileState};

use crate::{
    accounts::account::User,
    catalogue::file::File,
    db::Database,
    error::{Error, Result, conflict},
};

/// Returns a file, unless it is unknown or being removed.
pub(crate) async fn existing(db: &Database, id: FileId) -> Result<File> {
    let file = db.file(id).await?.filter(|file| file.state != FileState::Deleting);
    file.ok_or_else(|| unknown(id))
}

fn unknown(id: FileId) -> Error {
    Error::Refused(Problem::new(404, ProblemKind::NoSuchFile, "No such file").detail(id.to_string()))
}

/// Returns a file, unless it is unknown, being removed, or another's: what a job made is seen by its requesters and admins alone.
pub(crate) async fn visible(db: &Database, id: FileId, user: &User) -> Result<File> {
    let file = existing(db, id).await?;
    match file.job {
        Some(job) if user.role < Role::Admin && !db.is_requested_by(job, user.id).await? => Err(unknown(id)),
        _ => Ok(file),
    }
}

/// Refuses a change by an account that neither published the file nor is an admin.
pub(crate) fn must_be_changeable_by(file: &File, user: &User) -> Result<()> {
    if file.owner == user.id || user.role >= Role::Admin {
        Ok(())
    } else {
        Err(Error::Forbidden("only its publisher or an admin changes a file"))
    }
}

/// Refuses a change to a file that a job still makes.
pub(crate) fn not_of_a_job(file: &File) -> Result<()> {
    match file.job.filter(|_| file.state == FileState::Uploading) {
        None => Ok(()),
        Some(job) => {
            let detail =
                format!("the job {job} makes it: wait until it is done, or leave it with DELETE /v1/jobs/{job}");
            Err(Error::Refused(conflict(ProblemKind::InJob, "File belongs to a job").detail(detail)))
        }
    }
}

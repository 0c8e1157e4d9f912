use std::sync::Arc;

use axum::extract::State as Shared;
use http_front::{
    extract::{Json, Path},
    openapi::Forbidden,
};
use jiff::Timestamp;
use wire::{
    FileId, ServerId,
    grammar::counted,
    server::{MAX_RECONCILE, ReconcileAnswer, ReconcileRequest},
};

use crate::{
    catalogue::{
        file::CatalogueStatus,
        store::orphans::{self, CheckedFiles},
    },
    error::{Result, invalid},
    http::auth::FileServer,
    state::State,
};

/// `POST /v1/servers/{id}/reconcile`: which of the files that a server holds it keeps or deletes. A file is deleted only when the
/// catalogue still has its deletion; a file that it never had, or lost when it was restored, is unknown.
#[utoipa::path(
    post,
    path = "/v1/servers/{id}/reconcile",
    tag = "File servers",
    params(("id" = ServerId, Path, description = "The server that asks")),
    request_body = ReconcileRequest, security(("server" = [])),
    responses((status = 200, description = "Each file in one list", body = ReconcileAnswer), Forbidden)
)]
pub(crate) async fn reconcile(
    Shared(state): Shared<Arc<State>>,
    caller: FileServer,
    Path(id): Path<ServerId>,
    Json(asked): Json<ReconcileRequest>,
) -> Result<axum::Json<ReconcileAnswer>> {
    caller.must_be(&id)?;
    if asked.files.len() > MAX_RECONCILE {
        return Err(invalid(format!("ask about at most {MAX_RECONCILE} files at once")));
    }
    let mut answer = ReconcileAnswer::default();
    for (file, status) in state.db.catalogue_status(&id, &asked.files).await? {
        match status {
            CatalogueStatus::Wanted => answer.keep.push(file),
            CatalogueStatus::Unwanted => answer.delete.push(file),
            CatalogueStatus::Unknown => answer.unknown.push(file),
        }
    }
    let known: Vec<FileId> = answer.keep.iter().chain(&answer.delete).copied().collect();
    if !answer.unknown.is_empty() || state.db.holds_orphan(&id, &known).await? {
        let mut write = state.db.write().await?;
        let checked = CheckedFiles { orphaned: &answer.unknown, known: &known };
        orphans::note(&mut write, &id, checked, Timestamp::now()).await?;
        write.commit().await?;
    }
    if !answer.unknown.is_empty() {
        let unknown = answer.unknown.len();
        tracing::warn!(
            server = %id,
            unknown,
            "File server {id} holds {} that the catalogue does not know. They are kept until an operator decides: \
             'ddm-info-server unknown' lists them, 'ddm-file-server unknown' there removes or adopts them",
            counted(unknown, "file")
        );
    }
    Ok(axum::Json(answer))
}

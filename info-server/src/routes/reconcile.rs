use std::sync::Arc;

use axum::extract::State as Shared;
use jiff::Timestamp;
use lifecycle::{
    api::Forbidden,
    http::{Json, Path},
};
use wire::{
    FileId, ServerId,
    server::{MAX_RECONCILE, Reconcile, Reconciled},
};

use crate::{
    app::State,
    caller::FileServer,
    error::{Result, invalid},
    store::{files::Standing, unknown},
};

/// `POST /v1/servers/{id}/reconcile`: what is to become of files that a server holds. A file is to be deleted only when the
/// catalogue remembers that it was; one that it has never heard of, or forgot when it was restored, is unknown.
#[utoipa::path(
    post,
    path = "/v1/servers/{id}/reconcile",
    tag = "File servers",
    params(("id" = ServerId, Path, description = "The server that asks")),
    request_body = Reconcile, security(("server" = [])),
    responses((status = 200, description = "Each file in one list", body = Reconciled), Forbidden)
)]
pub(super) async fn reconcile(
    Shared(state): Shared<Arc<State>>,
    caller: FileServer,
    Path(id): Path<ServerId>,
    Json(asked): Json<Reconcile>,
) -> Result<axum::Json<Reconciled>> {
    caller.must_be(&id)?;
    if asked.files.len() > MAX_RECONCILE {
        return Err(invalid(format!("ask about at most {MAX_RECONCILE} files at once")));
    }
    let mut answer = Reconciled::default();
    for (file, standing) in state.store.standings(&id, &asked.files).await? {
        match standing {
            Standing::Wanted => answer.keep.push(file),
            Standing::Unwanted => answer.delete.push(file),
            Standing::Unknown => answer.unknown.push(file),
        }
    }
    let known: Vec<FileId> = answer.keep.iter().chain(&answer.delete).copied().collect();
    if !answer.unknown.is_empty() || state.store.holds_unknown(&id, &known).await? {
        let mut write = state.store.write().await?;
        unknown::note(&mut write, &id, (&answer.unknown, &known), Timestamp::now()).await?;
        write.commit().await?;
    }
    if !answer.unknown.is_empty() {
        let unknown = answer.unknown.len();
        tracing::warn!(
            server = %id,
            unknown,
            "a file server holds files that the catalogue does not know; it keeps them until an operator decides: \
             'ddm-info-server unknown' lists them, 'ddm-file-server unknown' there removes or adopts them"
        );
    }
    Ok(axum::Json(answer))
}

use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode};

use crate::{app::State, caller::Reader, error::Result, store::accounts};

/// `DELETE /v1/sessions/current`: the token is dead from then on.
pub(super) async fn delete_session(Shared(state): Shared<Arc<State>>, reader: Reader) -> Result<StatusCode> {
    let mut write = state.store.write().await?;
    accounts::end_session(&mut write, reader.session).await?;
    write.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

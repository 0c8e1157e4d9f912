//! Directory of the download engine for a published file.

use async_trait::async_trait;
use info_client::{InfoError, UserClient};
use transfer::download::{Directory, PermanentError, RefreshReason, Update};
use wire::{FileId, Zone};

use crate::sources;

/// Directory of a published file: the info-server.
pub(super) struct FileDirectory {
    info: UserClient,
    file: FileId,
    zone: Option<Zone>,
}

#[async_trait]
impl Directory for FileDirectory {
    async fn refresh(&self, reason: RefreshReason) -> Result<Update, Box<dyn std::error::Error + Send + Sync>> {
        self.update(reason).await.map_err(|error| final_refusal(&error).map_or_else(|| error.into(), Into::into))
    }
}

impl FileDirectory {
    pub(super) const fn new(info: UserClient, file: FileId, zone: Option<Zone>) -> Self {
        Self { info, file, zone }
    }

    async fn update(&self, reason: RefreshReason) -> Result<Update, InfoError> {
        Ok(match reason {
            RefreshReason::TokenExpiring | RefreshReason::TokenRefused => {
                Update { token: Some(self.info.renew_token(self.file).await?), ..Update::default() }
            }
            RefreshReason::NoSources => {
                let details = self.info.file(self.file, self.zone.as_ref(), false).await?;
                let sources = Some(sources::ranked(details.locations, self.zone.as_ref()));
                let lost = Some(details.missing.map(|missing| missing.lost).unwrap_or_default());
                Update { sources, lost, ..Update::default() }
            }
            RefreshReason::MoreDigests => {
                Update { manifest: Some(self.info.manifest(self.file).await?), ..Update::default() }
            }
        })
    }
}

/// Returns the permanent error that a refusal stands for: the file was removed, or the user lost access to it.
fn final_refusal(error: &InfoError) -> Option<PermanentError> {
    match error.status()? {
        404 | 410 => Some(PermanentError::Gone(error.to_string())),
        401 | 403 => Some(PermanentError::Refused(error.to_string())),
        _ => None,
    }
}

//! The requests of a direct download: for the whole file, or for the rest of what is held.

use origin::OriginError;
use transfer::sink::SequentialFile;
use wire::job::JobReason;

use super::{
    DirectDownload, OpenBody, Part,
    resumption::{Resumption, TagRules},
};
use crate::destination;

/// Requests for the rest of a version when servers behind one name may make different tags of the same content.
const MAX_TAG_ATTEMPTS: u32 = 3;

impl DirectDownload<'_> {
    /// Requests the rest of the version that is held, or the whole file where that is not possible.
    pub(super) async fn request_body(&mut self) -> Result<OpenBody, OriginError> {
        if let Some(resumption) = self.resumption() {
            if let Some(open) = self.resume(resumption).await? {
                return Ok(open);
            }
            self.restarts += 1;
        }
        let body = self.origins.whole(&self.request.url, None).await?;
        Ok(OpenBody { body, is_compared: false })
    }

    /// Returns the request for the rest of what is held, if it can be resumed.
    pub(super) fn resumption(&self) -> Option<Resumption> {
        let held = self.part.as_ref()?.file.held().filter(|_| !self.is_distrusted)?;
        let is_digest_known = self.request.sha256.is_some();
        Resumption::of(held, self.comparisons, TagRules { do_tags_differ: self.do_tags_differ, is_digest_known })
    }

    /// Requests the rest of a version; none if the origin has no such version any more, or does not send parts.
    pub(super) async fn resume(&mut self, resumption: Resumption) -> Result<Option<OpenBody>, OriginError> {
        let url = &self.request.url;
        // File servers that failed may have met an origin that refuses parts and sends the whole.
        let is_joint = self.part.as_ref().and_then(|part| part.file.joint_remains()).is_some();
        let is_final = |error: &OriginError| {
            tracing::debug!(%error, "the stored part cannot be resumed");
            match error.reason {
                JobReason::Changed | JobReason::Garbled | JobReason::NoRanges => true,
                JobReason::Refused => is_joint,
                _ => false,
            }
        };
        let point = match resumption {
            Resumption::Conditional(point) => point,
            Resumption::Compared(rest) => {
                return match self.origins.rest(url, &rest).await {
                    Ok(body) => Ok(Some(OpenBody { body, is_compared: true })),
                    Err(error) if is_final(&error) => Ok(None),
                    Err(error) => Err(error),
                };
            }
        };
        let held = self.part.as_ref().and_then(|part| part.file.held()).map(|held| held.evidence).unwrap_or_default();
        let mut attempts = 0;
        loop {
            let body = match self.origins.whole(url, Some(point.clone())).await {
                Ok(body) => body,
                Err(error) if is_final(&error) => return Ok(None),
                Err(error) => return Err(error),
            };
            attempts += 1;
            let has_other_tag = body.start == 0 && held.agrees(&body.evidence, true);
            if !has_other_tag || (attempts >= MAX_TAG_ATTEMPTS && self.request.sha256.is_none()) {
                return Ok(Some(OpenBody { body, is_compared: false }));
            }
            if attempts >= MAX_TAG_ATTEMPTS {
                // No server behind the name makes this tag any more. The SHA-256 decides in the end.
                self.do_tags_differ = true;
                let Some(compared) = self.resumption() else { return Ok(None) };
                return Box::pin(self.resume(compared)).await;
            }
        }
    }

    /// Reopens the part of an earlier run under the name that the URL gives. Otherwise a request for the first byte would be
    /// needed to learn the name.
    pub(super) fn reopen_part(&mut self) {
        let destination = destination::of_download(&self.request.options, &self.request.url.file_name()).ok();
        let found = destination.filter(|at| self.part.is_none() && at.part_path().is_file());
        let Some(destination) = found else { return };
        let file = SequentialFile::open_url(&destination, &self.request.url).ok();
        let file = file.filter(|file| file.held().is_some());
        self.part = file.map(|file| Part { file, destination });
    }
}

//! Reports to servers whose bytes did not match: a server compares the chunk with its digest and repairs it, so that others do
//! not receive the same.

use std::time::Duration;

use reqwest::Client;
use tokio::task::JoinSet;
use url::Url;
use wire::token::Token;

/// Reports in flight; further ones are left to other downloads.
const MAX_IN_FLIGHT: usize = 16;
/// Time that a server may take to accept a report.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for which the end of a download waits for its reports.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);

/// The reports of one download.
#[derive(Debug, Default)]
pub(super) struct MismatchReports(JoinSet<()>);

impl MismatchReports {
    /// Reports a chunk to the server that sent it; `content` is the URL of the file's content there. A server that does not
    /// take such reports misses nothing else.
    pub(super) fn send(&mut self, client: &Client, content: &Url, token: &Token, chunk: u32) {
        while self.0.try_join_next().is_some() {}
        let Some(url) = verify_url(content, chunk).filter(|_| self.0.len() < MAX_IN_FLIGHT) else { return };
        let request = client.post(url).timeout(REPORT_TIMEOUT).bearer_auth(token.expose());
        self.0.spawn(async move {
            if let Err(error) = request.send().await {
                tracing::debug!(%error, chunk, "A report of wrong bytes did not reach its server");
            }
        });
    }

    /// Waits a moment for reports that are on their way.
    pub(super) async fn finish(&mut self) {
        let all = async { while self.0.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(FINISH_TIMEOUT, all).await;
        self.0.shutdown().await;
    }
}

/// Returns the route by which a file server verifies a chunk; none for a source of another kind.
fn verify_url(content: &Url, chunk: u32) -> Option<Url> {
    content.path().ends_with("/content").then(|| content.join(&format!("chunks/{chunk}/verify")).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_route_is_beside_that_of_the_content_and_other_sources_have_none() {
        for (content, route) in [
            ("http://fs:9000/v1/files/x/content", Some("http://fs:9000/v1/files/x/chunks/7/verify")),
            ("https://proxy/behind/v1/files/x/content", Some("https://proxy/behind/v1/files/x/chunks/7/verify")),
            ("https://example.org/image.iso", None),
        ] {
            let found = verify_url(&content.parse().unwrap(), 7).map(String::from);
            assert_eq!(found.as_deref(), route, "{content}");
        }
    }
}

//! The words of a refusal: those of the problem document (RFC 9457) in its body, which say what to do.

use std::time::Duration;

use reqwest::Response;
use wire::{Problem, name::plain};

/// Time that the body of a refusal may take. It is shorter than any silence that ends a request: a body that stops coming makes
/// no silent server of one that refused.
const BODY_TIMEOUT: Duration = Duration::from_millis(700);
/// Longest body that is read, in bytes.
const MAX_BODY_LEN: usize = 16 << 10;
/// Longest title and longest detail that are shown, in characters.
const MAX_TEXT_LEN: usize = 200;

/// Returns the words of the problem document in a refusal, if there is one.
pub(crate) async fn words(response: Response) -> Option<String> {
    let body = tokio::time::timeout(BODY_TIMEOUT, body(response)).await.ok().flatten();
    describe(&body?)
}

async fn body(mut response: Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.ok()? {
        if body.len() + part.len() > MAX_BODY_LEN {
            return None;
        }
        body.extend_from_slice(&part);
    }
    Some(body)
}

/// Returns title and detail of a problem document, for a terminal.
fn describe(body: &[u8]) -> Option<String> {
    let Problem { title, detail, .. } = serde_json::from_slice(body).ok()?;
    let [title, detail] = [title, detail].map(|text| plain(&text, MAX_TEXT_LEN).trim().to_owned());
    match (title.is_empty(), detail.is_empty()) {
        (true, _) => None,
        (false, true) => Some(title),
        (false, false) => Some(format!("{title}: {detail}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_document_is_described_by_title_and_detail_without_what_talks_to_the_terminal() {
        let long = format!(r#"{{"title":"{}"}}"#, "x".repeat(MAX_TEXT_LEN + 1));
        for (body, words) in [
            (
                r#"{"title":"This server's disk is full","detail":"make room"}"#,
                Some("This server's disk is full: make room"),
            ),
            (r#"{"title":"A\u001b[2J title","detail":" "}"#, Some("A[2J title")),
            (r#"{"detail":"no title"}"#, None),
            ("<html>", None),
            ("", None),
            (long.as_str(), Some("x".repeat(MAX_TEXT_LEN).as_str())),
        ] {
            assert_eq!(describe(body.as_bytes()).as_deref(), words, "{body}");
        }
    }
}

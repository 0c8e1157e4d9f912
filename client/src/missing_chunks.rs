//! Words about the chunks of a published file that no file server can send now.

use wire::{
    catalogue::{MissingCause, MissingChunks, MissingReason},
    grammar::is_or_are,
};

/// Advice for a file of which no live server has all chunks.
pub(crate) const RECOVERY_ADVICE: &str = "wait until a server that has it is back, or publish the file again";

/// Advice for a file of which chunks are on no file server any more.
pub(crate) const LOSS_ADVICE: &str =
    "bring back a server or a disk that held them, or remove the file and publish it again";

/// Describes the chunks, and what to do: a line for those that no server holds any more, and one for those of servers that are away.
pub(crate) fn lines(missing: Option<&MissingChunks>) -> Vec<String> {
    let Some(MissingChunks { unavailable, lost, causes }) = missing else { return Vec::new() };
    let mut away = unavailable.clone();
    lost.iter().for_each(|run| away.remove(run));
    let mut lines = Vec::new();
    if !lost.is_empty() {
        let are = is_or_are(lost.len());
        let why = explain(causes, |reason| reason != MissingReason::Away);
        lines.push(format!("{} {are} on no file server any more{why}: {LOSS_ADVICE}", lost.describe()));
    }
    if !away.is_empty() {
        lines.push(format!(
            "no live server has an intact copy of {}{}: {RECOVERY_ADVICE}",
            away.describe(),
            explain(causes, |reason| reason == MissingReason::Away)
        ));
    }
    lines
}

/// Names the servers at which the causes are, in brackets; nothing if none is known.
fn explain(causes: &[MissingCause], concerns: impl Fn(MissingReason) -> bool) -> String {
    let describe = |MissingCause { server, chunks, reason }: &MissingCause| match reason {
        MissingReason::Away => format!("{server}, which is away, has {}", chunks.describe()),
        MissingReason::Lost => format!("{server} found {} damaged or gone", chunks.describe()),
        MissingReason::NeverStored => format!("{server} never had {}", chunks.describe()),
    };
    let named: Vec<String> = causes.iter().filter(|cause| concerns(cause.reason)).map(describe).collect();
    if named.is_empty() { String::new() } else { format!(" ({})", named.join("; ")) }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    #[test]
    fn chunks_that_may_come_back_and_those_that_cannot_are_told_apart() {
        let lines = |unavailable: Range<u32>, lost: Range<u32>| {
            super::lines(Some(&MissingChunks {
                unavailable: unavailable.into(),
                lost: lost.into(),
                causes: Vec::new(),
            }))
            .join("; ")
        };
        assert!(lines(3..4, 3..4).starts_with("chunk 3 is on no file server any more: "));
        assert_eq!(lines(3..4, 0..0), format!("no live server has an intact copy of chunk 3: {RECOVERY_ADVICE}"));
        let both = lines(1..6, 2..4);
        assert!(
            both.starts_with("chunks 2-3 are on no file server") && both.contains("copy of chunks 1, 4-5: "),
            "{both}"
        );
        assert_eq!(super::lines(None), Vec::<String>::new());
    }

    #[test]
    fn the_servers_that_lost_chunks_or_are_away_with_them_are_named() {
        let cause = |server: &str, chunks: Range<u32>, reason| MissingCause {
            server: server.parse().unwrap(),
            chunks: chunks.into(),
            reason,
        };
        let causes = vec![
            cause("eu-1", 3..4, MissingReason::Lost),
            cause("eu-2", 3..4, MissingReason::NeverStored),
            cause("eu-3", 5..7, MissingReason::Away),
        ];
        let unavailable = [3..4, 5..7].into_iter().collect();
        let lines = super::lines(Some(&MissingChunks { unavailable, lost: (3..4).into(), causes }));
        let why =
            "chunk 3 is on no file server any more (eu-1 found chunk 3 damaged or gone; eu-2 never had chunk 3): ";
        assert!(lines[0].starts_with(why), "{lines:?}");
        let why = "no live server has an intact copy of chunks 5-6 (eu-3, which is away, has chunks 5-6): ";
        assert!(lines[1].starts_with(why), "{lines:?}");
    }
}

//! Words about the chunks of a published file that no file server can send now.

use wire::catalogue::MissingChunks;

/// Advice for a file of which no live server has all chunks.
pub(crate) const RECOVERY_ADVICE: &str = "wait until a server that has it is back, or publish the file again";

/// Describes the chunks, and what to do: a line for those that no server holds any more, and one for those of servers that are away.
pub(crate) fn lines(missing: Option<&MissingChunks>) -> Vec<String> {
    let Some(MissingChunks { unavailable, lost }) = missing else { return Vec::new() };
    let mut away = unavailable.clone();
    lost.iter().for_each(|run| away.remove(run));
    let mut lines = Vec::new();
    if !lost.is_empty() {
        let are = if lost.len() == 1 { "is" } else { "are" };
        lines.push(format!(
            "{} {are} on no file server any more: bring back a server or a disk that held them, or remove the file and publish it again",
            lost.describe()
        ));
    }
    if !away.is_empty() {
        lines.push(format!("no live server has an intact copy of {}: {RECOVERY_ADVICE}", away.describe()));
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    #[test]
    fn chunks_that_may_come_back_and_those_that_cannot_are_told_apart() {
        let lines = |unavailable: Range<u32>, lost: Range<u32>| {
            super::lines(Some(&MissingChunks { unavailable: unavailable.into(), lost: lost.into() })).join("; ")
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
}

//! Chunks that no source of a download can give.

use wire::ChunkSet;

use super::source_stats::SourceStats;

/// Describes the chunks that no source can give, if there are any. Without any source nothing is known about them.
pub(super) fn describe(lost: &ChunkSet, sources: &[SourceStats]) -> Option<String> {
    if lost.is_empty() || sources.is_empty() {
        return None;
    }
    let is_wrong_everywhere = |chunk: u32| {
        let mut holders = sources.iter().filter(|source| source.location.runs.contains(chunk));
        holders.all(|holder| holder.wrong_chunk == Some(chunk))
    };
    let wrong: ChunkSet = lost.iter().flatten().filter(|n| is_wrong_everywhere(*n)).map(|n| n..n + 1).collect();
    Some(if wrong.is_empty() {
        format!("every server that holds {} sent wrong bytes", lost.describe())
    } else {
        format!("no live server has an intact copy of {}", wrong.describe())
    })
}

#[cfg(test)]
mod tests {
    use wire::catalogue::Location;

    use super::*;

    fn source(held: &[u32], wrong_chunk: Option<u32>) -> SourceStats {
        let url = "http://127.0.0.1:9/".parse().unwrap();
        let runs = held.iter().map(|n| *n..n + 1).collect();
        let location = Location { server: "fs-1".parse().unwrap(), zone: "eu".parse().unwrap(), url, runs, cost: 0 };
        let mut source = SourceStats::new(location);
        source.wrong_chunk = wrong_chunk;
        source
    }

    #[test]
    fn a_chunk_that_is_wrong_or_missing_everywhere_is_named_and_one_that_may_be_right_is_not_called_wrong() {
        let set = |chunks: &[u32]| chunks.iter().map(|n| *n..n + 1).collect::<ChunkSet>();
        for (lost, sources, described) in [
            (&[][..], vec![source(&[0], None)], None),
            (&[3], vec![], None),
            (
                &[3],
                vec![source(&[2, 3], Some(3)), source(&[3], Some(3))],
                Some("no live server has an intact copy of chunk 3"),
            ),
            (&[2, 3, 5], vec![source(&[0, 1], None)], Some("no live server has an intact copy of chunks 2-3, 5")),
            (
                &[2, 3],
                vec![source(&[2, 3], Some(2)), source(&[2, 3], Some(3))],
                Some("every server that holds chunks 2-3 sent wrong bytes"),
            ),
        ] {
            assert_eq!(describe(&set(lost), &sources).as_deref(), described);
        }
    }
}

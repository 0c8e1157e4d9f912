//! What a request for content gets: decided first, from values alone (RFC 9110 §13–14).

use std::ops::Range;

use wire::{
    Digest, FileId, Layout, Runs,
    range::{Selection, select},
};

/// The parts of a request that decide about its answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conditions<'a> {
    /// Whether it is a HEAD; every method but GET ignores Range (§14.2).
    pub(crate) head: bool,
    pub(crate) range: Option<&'a str>,
    pub(crate) if_match: Option<&'a str>,
    pub(crate) if_none_match: Option<&'a str>,
    pub(crate) if_range: Option<&'a str>,
}

/// The representation that is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Representation {
    pub(crate) file: FileId,
    pub(crate) layout: Layout,
    /// The chunks that are verified here.
    pub(crate) runs: Runs,
    /// SHA-256 of the whole, once it was read back from this disk.
    pub(crate) sha256: Option<Digest>,
}

/// Everything that can happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// 200 with all bytes.
    Whole,
    /// 206 with one range.
    Part(Range<u64>),
    /// 206 with several ranges.
    Parts(Vec<Range<u64>>),
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
    /// 416.
    Unsatisfiable,
    /// 404: some of the bytes are not here; another server has them.
    NotHeld,
}

impl Representation {
    /// The strong entity tag: content never changes under an id.
    pub(crate) fn etag(&self) -> String {
        format!("\"{}\"", self.file)
    }

    fn holds(&self, bytes: &Range<u64>) -> bool {
        self.runs.covers(self.layout.run_of_bytes(bytes.clone()))
    }
}

/// Decides. What would not be answered 2xx without conditions is not subject to them (§13.2.1), so "not held" comes
/// first; then the conditions in the order of §13.2.2; a range that cannot be satisfied comes last, because Range counts
/// only once the conditions hold (§14.2). There are no modification dates, so conditions on dates are ignored.
pub(crate) fn decide(asked: &Conditions<'_>, there: &Representation) -> Outcome {
    let etag = there.etag();
    let range = asked.range.filter(|_| !asked.head && asked.if_range.is_none_or(|tag| tag.trim() == etag));
    let selection = range.map_or(Selection::Whole, |range| select(range, there.layout.size()));
    let held = match &selection {
        Selection::Whole => there.holds(&(0..there.layout.size())),
        Selection::Single(part) => there.holds(part),
        Selection::Several(parts) => parts.iter().all(|part| there.holds(part)),
        Selection::Unsatisfiable => true,
    };
    if !held {
        return Outcome::NotHeld;
    }
    if asked.if_match.is_some_and(|tags| !lists(tags, &etag, Comparison::Strong)) {
        return Outcome::PreconditionFailed;
    }
    if asked.if_none_match.is_some_and(|tags| lists(tags, &etag, Comparison::Weak)) {
        return Outcome::NotModified;
    }
    match selection {
        Selection::Whole => Outcome::Whole,
        Selection::Single(part) => Outcome::Part(part),
        Selection::Several(parts) => Outcome::Parts(parts),
        Selection::Unsatisfiable => Outcome::Unsatisfiable,
    }
}

/// How entity tags are compared (§8.8.3.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Whether a list of entity tags, or `*`, names `etag`. Our tags hold no comma, so a tag that does never matches.
fn lists(tags: &str, etag: &str, comparison: Comparison) -> bool {
    tags.trim() == "*"
        || tags.split(',').map(str::trim).any(|tag| {
            let opaque = tag.strip_prefix("W/").filter(|_| comparison == Comparison::Weak).unwrap_or(tag);
            opaque == etag
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn there(size: u64) -> Representation {
        let layout = Layout::of(size).unwrap();
        Representation { file: FileId::new(), layout, runs: layout.all(), sha256: None }
    }

    #[test]
    fn ranges_select_what_the_rfc_says() {
        let file = there(10);
        for (range, expected) in [
            (None, Outcome::Whole),
            (Some("bytes=0-0"), Outcome::Part(0..1)),
            (Some("bytes=5-99"), Outcome::Part(5..10)),
            (Some("bytes=-99"), Outcome::Part(0..10)),
            (Some("bytes=10-"), Outcome::Unsatisfiable),
            (Some("bytes=x"), Outcome::Unsatisfiable),
            (Some("lines=1-2"), Outcome::Whole),
            (Some("bytes=0-1,4-5"), Outcome::Parts(vec![0..2, 4..6])),
        ] {
            assert_eq!(decide(&Conditions { range, ..Conditions::default() }, &file), expected, "{range:?}");
            let head = Conditions { range, head: true, ..Conditions::default() };
            assert_eq!(decide(&head, &file), Outcome::Whole, "HEAD ignores {range:?}");
        }
        let empty = there(0);
        for range in ["bytes=0-", "bytes=0-0", "bytes=-5", "bytes=0-0,1-1"] {
            let outcome = decide(&Conditions { range: Some(range), ..Conditions::default() }, &empty);
            assert!(matches!(outcome, Outcome::Whole | Outcome::Unsatisfiable), "{range}: {outcome:?}");
        }
    }

    #[test]
    fn conditions_hold_in_their_order() {
        use Outcome::{NotModified, Part, PreconditionFailed, Unsatisfiable, Whole};
        let file = there(10);
        let tag = file.etag();
        let weak = format!("W/{tag}");
        let list = format!("\"x\", {weak} ,\"y\"");
        let date = "Sat, 29 Oct 1994 19:43:31 GMT";
        type Row<'a> = (Option<&'a str>, Option<&'a str>, Option<&'a str>, Option<&'a str>, Outcome);
        let rows: Vec<Row<'_>> = vec![
            // if-match, if-none-match, if-range, range
            (Some(&tag), None, None, None, Whole),
            (Some("*"), None, None, None, Whole),
            (Some("\"x\""), None, None, None, PreconditionFailed),
            (Some(&weak), None, None, None, PreconditionFailed),
            (Some(""), None, None, None, PreconditionFailed),
            (None, Some(&tag), None, None, NotModified),
            (None, Some(&weak), None, None, NotModified),
            (None, Some(&list), None, None, NotModified),
            (None, Some("*"), None, None, NotModified),
            (None, Some("\"x\""), None, None, Whole),
            (Some("\"x\""), Some(&tag), None, None, PreconditionFailed),
            (Some(&tag), Some(&tag), None, Some("bytes=0-1"), NotModified),
            (None, Some(&tag), None, Some("bytes=99-"), NotModified),
            (Some("\"x\""), None, None, Some("bytes=99-"), PreconditionFailed),
            (None, None, Some(&tag), Some("bytes=2-3"), Part(2..4)),
            (None, None, Some(&weak), Some("bytes=2-3"), Whole),
            (None, None, Some("\"x\""), Some("bytes=2-3"), Whole),
            (None, None, Some(date), Some("bytes=2-3"), Whole),
            (None, None, Some("*"), Some("bytes=2-3"), Whole),
            (None, None, Some("\"x\""), Some("bytes=99-"), Whole),
            (None, None, Some(&tag), Some("bytes=99-"), Unsatisfiable),
            (None, None, Some(&tag), None, Whole),
        ];
        for (if_match, if_none_match, if_range, range, expected) in rows {
            let asked = Conditions { head: false, range, if_match, if_none_match, if_range };
            assert_eq!(decide(&asked, &file), expected, "{asked:?}");
        }
    }

    #[test]
    fn only_verified_chunks_are_served() {
        let mut file = there(3 * MIB + 5);
        file.runs.remove(1..2);
        for (range, expected) in [
            (None, Outcome::NotHeld),
            (Some("bytes=0-1048575"), Outcome::Part(0..MIB)),
            (Some("bytes=0-1048576"), Outcome::NotHeld),
            (Some("bytes=2097152-"), Outcome::Part(2 * MIB..3 * MIB + 5)),
            (Some("bytes=0-0,1048576-1048576"), Outcome::NotHeld),
            (Some("bytes=0-0,2097152-2097152"), Outcome::Parts(vec![0..1, 2 * MIB..2 * MIB + 1])),
            (Some("bytes=9999999-"), Outcome::Unsatisfiable),
        ] {
            assert_eq!(decide(&Conditions { range, ..Conditions::default() }, &file), expected, "{range:?}");
        }
        let tag = file.etag();
        let conditional = Conditions { if_none_match: Some(&tag), ..Conditions::default() };
        assert_eq!(decide(&conditional, &file), Outcome::NotHeld);
    }

    proptest! {
        #[test]
        fn no_byte_outside_the_verified_chunks_is_ever_selected(
            size in 0..6 * MIB, gap in 0..7u32, width in 0..3u32,
            range in "bytes=([0-9]{0,7}-[0-9]{0,7},?){0,3}", tag in "\\PC{0,12}",
        ) {
            let mut file = there(size);
            file.runs.remove(gap..gap + width);
            let asked = Conditions { range: Some(&range), if_none_match: Some(&tag), ..Conditions::default() };
            let parts = match decide(&asked, &file) {
                Outcome::Whole => std::iter::once(0..size).collect(),
                Outcome::Part(part) => vec![part],
                Outcome::Parts(parts) => parts,
                _ => vec![],
            };
            for part in parts {
                prop_assert!(part.end <= size);
                prop_assert!(file.holds(&part));
            }
        }
    }
}

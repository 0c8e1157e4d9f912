//! The response to a request for content, decided from values alone (RFC 9110 §13–14).

use std::ops::Range;

use http::HeaderValue;
use wire::{
    ChunkLayout, ChunkSet, Digest, FileId,
    range::{Selection, select},
};

/// The parts of a request that decide about its response.
#[derive(Debug, Clone, Default)]
pub struct RequestConditions<'a> {
    /// Set for HEAD; every method but GET ignores Range (§14.2).
    pub head: bool,
    /// The `Range` field.
    pub range: Option<&'a str>,
    /// The `If-Match` field.
    pub if_match: Option<&'a str>,
    /// The `If-None-Match` field.
    pub if_none_match: Option<&'a str>,
    /// The `If-Range` field.
    pub if_range: Option<&'a str>,
}

/// The representation of a file as far as it is stored here, with the header values of its responses.
#[derive(Debug, Clone)]
pub struct Representation {
    /// Its size and chunk size.
    pub layout: ChunkLayout,
    /// The chunks that are verified here.
    pub chunks: ChunkSet,
    etag: HeaderValue,
    repr_digest: Option<HeaderValue>,
}

/// All possible responses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RangeResponse {
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
    /// 404: some of the bytes are not stored here; another server has them.
    NotHeld,
}

impl Representation {
    /// Returns the representation of `file`. `sha256` is that of the whole file, if it was computed from this disk.
    pub fn new(file: FileId, layout: ChunkLayout, chunks: ChunkSet, sha256: Option<Digest>) -> Self {
        // Both are printable ASCII.
        let value = |text: String| HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
        let (etag, repr_digest) = (value(format!("\"{file}\"")), sha256.map(|sha256| value(sha256.to_field())));
        Self { layout, chunks, etag, repr_digest }
    }

    /// Returns the strong entity tag: content never changes under an id.
    pub const fn etag(&self) -> &HeaderValue {
        &self.etag
    }

    /// Returns the value of `Repr-Digest` (RFC 9530 §3), once the SHA-256 was computed.
    pub const fn repr_digest(&self) -> Option<&HeaderValue> {
        self.repr_digest.as_ref()
    }

    fn holds(&self, bytes: &Range<u64>) -> bool {
        self.chunks.covers(self.layout.run_of_bytes(bytes.clone()))
    }
}

/// Decides about the response. A request that would not get a 2xx response without conditions is not subject to them
/// (§13.2.1), so `NotHeld` comes first; then the conditions in the order of §13.2.2; a range that cannot be satisfied comes
/// last, because Range counts only once the conditions hold (§14.2). Files have no modification date, so conditions on dates
/// are ignored.
pub fn decide(request: &RequestConditions<'_>, stored: &Representation) -> RangeResponse {
    let etag = stored.etag().to_str().unwrap_or_default();
    let range = request.range.filter(|_| !request.head && request.if_range.is_none_or(|tag| tag.trim() == etag));
    let selection = range.map_or(Selection::Whole, |range| select(range, stored.layout.size()));
    let held = match &selection {
        Selection::Whole => stored.holds(&(0..stored.layout.size())),
        Selection::Single(part) => stored.holds(part),
        Selection::Several(parts) => parts.iter().all(|part| stored.holds(part)),
        Selection::Unsatisfiable => true,
    };
    if !held {
        return RangeResponse::NotHeld;
    }
    if request.if_match.is_some_and(|tags| !includes(tags, etag, Comparison::Strong)) {
        return RangeResponse::PreconditionFailed;
    }
    if request.if_none_match.is_some_and(|tags| includes(tags, etag, Comparison::Weak)) {
        return RangeResponse::NotModified;
    }
    match selection {
        Selection::Whole => RangeResponse::Whole,
        Selection::Single(part) => RangeResponse::Part(part),
        Selection::Several(parts) => RangeResponse::Parts(parts),
        Selection::Unsatisfiable => RangeResponse::Unsatisfiable,
    }
}

/// Comparison of entity tags (§8.8.3.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Returns true if a list of entity tags, or `*`, includes `etag`. Our tags hold no comma, so a tag that does never matches.
fn includes(tags: &str, etag: &str, comparison: Comparison) -> bool {
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

    fn stored(size: u64) -> Representation {
        let layout = ChunkLayout::of(size).unwrap();
        Representation::new(FileId::new(), layout, layout.all(), None)
    }

    #[test]
    fn ranges_select_what_the_rfc_says() {
        let file = stored(10);
        for (range, expected) in [
            (None, RangeResponse::Whole),
            (Some("bytes=0-0"), RangeResponse::Part(0..1)),
            (Some("bytes=5-99"), RangeResponse::Part(5..10)),
            (Some("bytes=-99"), RangeResponse::Part(0..10)),
            (Some("bytes=10-"), RangeResponse::Unsatisfiable),
            (Some("bytes=x"), RangeResponse::Unsatisfiable),
            (Some("lines=1-2"), RangeResponse::Whole),
            (Some("bytes=0-1,4-5"), RangeResponse::Parts(vec![0..2, 4..6])),
        ] {
            assert_eq!(
                decide(&RequestConditions { range, ..RequestConditions::default() }, &file),
                expected,
                "{range:?}"
            );
            let head = RequestConditions { range, head: true, ..RequestConditions::default() };
            assert_eq!(decide(&head, &file), RangeResponse::Whole, "HEAD ignores {range:?}");
        }
        let empty = stored(0);
        for range in ["bytes=0-", "bytes=0-0", "bytes=-5", "bytes=0-0,1-1"] {
            let response = decide(&RequestConditions { range: Some(range), ..RequestConditions::default() }, &empty);
            assert!(matches!(response, RangeResponse::Whole | RangeResponse::Unsatisfiable), "{range}: {response:?}");
        }
    }

    #[test]
    fn conditions_hold_in_their_order() {
        use RangeResponse::{NotModified, Part, PreconditionFailed, Unsatisfiable, Whole};
        let file = stored(10);
        let tag = file.etag().to_str().unwrap();
        let weak = format!("W/{tag}");
        let list = format!("\"x\", {weak} ,\"y\"");
        let date = "Sat, 29 Oct 1994 19:43:31 GMT";
        type Row<'a> = (Option<&'a str>, Option<&'a str>, Option<&'a str>, Option<&'a str>, RangeResponse);
        let rows: Vec<Row<'_>> = vec![
            // if-match, if-none-match, if-range, range
            (Some(tag), None, None, None, Whole),
            (Some("*"), None, None, None, Whole),
            (Some("\"x\""), None, None, None, PreconditionFailed),
            (Some(&weak), None, None, None, PreconditionFailed),
            (Some(""), None, None, None, PreconditionFailed),
            (None, Some(tag), None, None, NotModified),
            (None, Some(&weak), None, None, NotModified),
            (None, Some(&list), None, None, NotModified),
            (None, Some("*"), None, None, NotModified),
            (None, Some("\"x\""), None, None, Whole),
            (Some("\"x\""), Some(tag), None, None, PreconditionFailed),
            (Some(tag), Some(tag), None, Some("bytes=0-1"), NotModified),
            (None, Some(tag), None, Some("bytes=99-"), NotModified),
            (Some("\"x\""), None, None, Some("bytes=99-"), PreconditionFailed),
            (None, None, Some(tag), Some("bytes=2-3"), Part(2..4)),
            (None, None, Some(&weak), Some("bytes=2-3"), Whole),
            (None, None, Some("\"x\""), Some("bytes=2-3"), Whole),
            (None, None, Some(date), Some("bytes=2-3"), Whole),
            (None, None, Some("*"), Some("bytes=2-3"), Whole),
            (None, None, Some("\"x\""), Some("bytes=99-"), Whole),
            (None, None, Some(tag), Some("bytes=99-"), Unsatisfiable),
            (None, None, Some(tag), None, Whole),
        ];
        for (if_match, if_none_match, if_range, range, expected) in rows {
            let request = RequestConditions { head: false, range, if_match, if_none_match, if_range };
            assert_eq!(decide(&request, &file), expected, "{request:?}");
        }
    }

    #[test]
    fn only_verified_chunks_are_served() {
        let mut file = stored(3 * MIB + 5);
        file.chunks.remove(1..2);
        for (range, expected) in [
            (None, RangeResponse::NotHeld),
            (Some("bytes=0-1048575"), RangeResponse::Part(0..MIB)),
            (Some("bytes=0-1048576"), RangeResponse::NotHeld),
            (Some("bytes=2097152-"), RangeResponse::Part(2 * MIB..3 * MIB + 5)),
            (Some("bytes=0-0,1048576-1048576"), RangeResponse::NotHeld),
            (Some("bytes=0-0,2097152-2097152"), RangeResponse::Parts(vec![0..1, 2 * MIB..2 * MIB + 1])),
            (Some("bytes=9999999-"), RangeResponse::Unsatisfiable),
        ] {
            assert_eq!(
                decide(&RequestConditions { range, ..RequestConditions::default() }, &file),
                expected,
                "{range:?}"
            );
        }
        let tag = file.etag().to_str().unwrap();
        let conditional = RequestConditions { if_none_match: Some(tag), ..RequestConditions::default() };
        assert_eq!(decide(&conditional, &file), RangeResponse::NotHeld);
    }

    proptest! {
        #[test]
        fn no_byte_outside_the_verified_chunks_is_ever_selected(
            size in 0..6 * MIB, gap in 0..7u32, width in 0..3u32,
            range in "bytes=([0-9]{0,7}-[0-9]{0,7},?){0,3}", tag in "\\PC{0,12}",
        ) {
            let mut file = stored(size);
            file.chunks.remove(gap..gap + width);
            let request = RequestConditions { range: Some(&range), if_none_match: Some(&tag), ..RequestConditions::default() };
            let parts = match decide(&request, &file) {
                RangeResponse::Whole => std::iter::once(0..size).collect(),
                RangeResponse::Part(part) => vec![part],
                RangeResponse::Parts(parts) => parts,
                _ => vec![],
            };
            for part in parts {
                prop_assert!(part.end <= size);
                let mut chunks = part.start / MIB..part.end.div_ceil(MIB);
                prop_assert!(chunks.all(|chunk| file.chunks.contains(u32::try_from(chunk).unwrap())));
            }
        }
    }
}

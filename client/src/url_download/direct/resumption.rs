//! The request for the rest of a file of which bytes are held. Pure.
//!
//! Invariant: bytes are added to others only if the origin vouches that they are of one version, by a strong validator, or after the
//! last bytes held were compared.

use origin::{Rest, ResumePoint, WholeBody};
use transfer::sink::HeldBytes;
use wire::job::Validator;

/// Bytes at the end of what is held that are fetched again and compared, where the origin gives no strong validator.
const COMPARED_LEN: u64 = 1 << 20;
/// The same for an origin that cuts responses so early that more bytes are compared than added: this part of the rest, and no fewer bytes
/// than that. An origin that sends a part of each response would hardly come to new bytes otherwise.
const SHORT_COMPARED_PART: u64 = 8;
const MIN_COMPARED_LEN: u64 = 64;

/// Request for the rest of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resumption {
    /// Requests the rest on the condition that the version is the same.
    Conditional(ResumePoint),
    /// Requests some of the held bytes too, to compare them.
    Compared(Rest),
}

/// Comparison of the last bytes held, up to an offset.
#[derive(Debug, Clone, Copy)]
pub(super) struct Comparison {
    /// Number of bytes held.
    pub(super) held: u64,
    pub(super) up_to: u64,
}

/// The comparisons of a download.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Comparisons {
    /// The last one: a cut ended it, or it ended well.
    pub(super) last: Option<Comparison>,
    /// Set once a cut came so early that more bytes had been compared than were added.
    pub(super) are_cut: bool,
}

impl Comparisons {
    /// Returns the number of bytes to compare before `rest` bytes.
    fn len(self, rest: u64) -> u64 {
        let short = (rest / SHORT_COMPARED_PART).max(MIN_COMPARED_LEN);
        if self.are_cut { short.min(COMPARED_LEN) } else { COMPARED_LEN }
    }
}

/// Use of entity tags.
#[derive(Debug, Clone, Copy)]
pub(super) struct TagRules {
    /// Set once the origin gave another strong tag for content of the same size and date.
    pub(super) do_tags_differ: bool,
    /// Set if the SHA-256 of the file is known: then another tag does no harm.
    pub(super) is_digest_known: bool,
}

impl Resumption {
    /// Returns the request for the rest of what is held, if it can be resumed. A comparison that a cut ended goes on.
    pub(super) fn of(held: HeldBytes, comparisons: Comparisons, rules: TagRules) -> Option<Self> {
        let HeldBytes { len, validator, evidence, is_of_other_link } = held;
        if validator != Validator::None && !is_of_other_link && !rules.do_tags_differ {
            return Some(Self::Conditional(ResumePoint { offset: len, validator }));
        }
        let rest = evidence.size?.saturating_sub(len);
        let begun = comparisons.last.filter(|compared| compared.held == len).map(|compared| compared.up_to);
        let offset = begun.unwrap_or(len.saturating_sub(comparisons.len(rest)));
        Some(Self::Compared(Rest { offset, evidence, tags_may_differ: rules.is_digest_known }))
    }

    /// Returns true if a response to a request for the whole file is of the version that is held.
    pub(super) fn may_continue(&self, body: &WholeBody) -> bool {
        match self {
            Self::Conditional(point) => point.validator == body.validator,
            Self::Compared(rest) => rest.evidence.agrees(&body.evidence, rest.tags_may_differ),
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::job::VersionEvidence;

    use super::*;

    const STRICT_TAG_RULES: TagRules = TagRules { do_tags_differ: false, is_digest_known: false };

    fn held(len: u64, validator: Validator, size: Option<u64>) -> HeldBytes {
        HeldBytes { len, validator, evidence: VersionEvidence { size, ..Default::default() }, is_of_other_link: false }
    }

    fn offset(resumption: Option<Resumption>) -> Option<u64> {
        match resumption? {
            Resumption::Conditional(_) => None,
            Resumption::Compared(rest) => Some(rest.offset),
        }
    }

    #[test]
    fn bytes_are_continued_under_a_strong_validator_and_else_compared() {
        let tag = || Validator::Etag("\"1\"".to_owned());
        let strong = Resumption::of(held(7, tag(), None), Comparisons::default(), STRICT_TAG_RULES);
        assert_eq!(strong, Some(Resumption::Conditional(ResumePoint { offset: 7, validator: tag() })));
        assert_eq!(
            Resumption::of(held(7, Validator::None, None), Comparisons::default(), STRICT_TAG_RULES),
            None,
            "the size is not known"
        );
        let len = 5 * COMPARED_LEN;
        assert_eq!(
            offset(Resumption::of(held(len, Validator::None, Some(1 << 30)), Comparisons::default(), STRICT_TAG_RULES)),
            Some(4 * COMPARED_LEN)
        );
        assert_eq!(
            offset(Resumption::of(held(7, Validator::None, Some(9)), Comparisons::default(), STRICT_TAG_RULES)),
            Some(0)
        );
        // A fresh link, and servers whose tags differ.
        let fresh = HeldBytes { is_of_other_link: true, ..held(len, tag(), Some(1 << 30)) };
        assert_eq!(offset(Resumption::of(fresh, Comparisons::default(), STRICT_TAG_RULES)), Some(4 * COMPARED_LEN));
        let differing = TagRules { do_tags_differ: true, is_digest_known: true };
        let rest = Resumption::of(held(len, tag(), Some(1 << 30)), Comparisons::default(), differing);
        assert!(matches!(rest, Some(Resumption::Compared(Rest { tags_may_differ: true, .. }))), "{rest:?}");
    }

    #[test]
    fn a_comparison_goes_on_where_a_cut_ended_it_while_the_same_bytes_are_held() {
        let len = 5 * COMPARED_LEN;
        let begun = |held| Comparisons { last: Some(Comparison { held, up_to: len - 3 }), are_cut: false };
        let held = || held(len, Validator::None, Some(1 << 30));
        assert_eq!(offset(Resumption::of(held(), begun(len), STRICT_TAG_RULES)), Some(len - 3));
        assert_eq!(offset(Resumption::of(held(), begun(len - 1), STRICT_TAG_RULES)), Some(4 * COMPARED_LEN));
    }
    #[test]
    fn what_is_compared_after_a_cut_within_a_comparison_leaves_room_for_new_bytes() {
        let cut = Comparisons { last: None, are_cut: true };
        let len = 5 * COMPARED_LEN;
        for (rest, compared) in [(1 << 30, COMPARED_LEN), (8000, 1000), (3, MIN_COMPARED_LEN)] {
            let held = held(len, Validator::None, Some(len + rest));
            assert_eq!(offset(Resumption::of(held, cut, STRICT_TAG_RULES)), Some(len - compared), "{rest}");
        }
    }
}

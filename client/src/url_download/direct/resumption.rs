//! The request for the rest of a file of which bytes are held. Pure.
//!
//! Invariant: bytes are added to others only if the origin vouches that they are of one version, by a strong validator, or after the
//! last bytes held were compared.

use origin::{Rest, ResumePoint, WholeBody};
use transfer::sink::HeldBytes;
use wire::job::Validator;

/// Bytes at the end of what is held that are fetched again and compared, where the origin gives no strong validator.
const COMPARED_LEN: u64 = 1 << 20;

/// Request for the rest of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resumption {
    /// On the condition that the version is the same.
    Conditional(ResumePoint),
    /// With some bytes that are held, to compare them.
    Compared(Rest),
}

/// Comparison of the last bytes held, up to an offset.
#[derive(Debug, Clone, Copy)]
pub(super) struct Comparison {
    /// Number of bytes held.
    pub(super) held: u64,
    pub(super) up_to: u64,
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
    pub(super) fn of(held: HeldBytes, compared: Option<Comparison>, rules: TagRules) -> Option<Self> {
        let HeldBytes { len, validator, evidence, is_of_other_link } = held;
        if validator != Validator::None && !is_of_other_link && !rules.do_tags_differ {
            return Some(Self::Conditional(ResumePoint { offset: len, validator }));
        }
        evidence.size?;
        let begun = compared.filter(|compared| compared.held == len).map(|compared| compared.up_to);
        let offset = begun.unwrap_or(len.saturating_sub(COMPARED_LEN));
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
        let strong = Resumption::of(held(7, tag(), None), None, STRICT_TAG_RULES);
        assert_eq!(strong, Some(Resumption::Conditional(ResumePoint { offset: 7, validator: tag() })));
        assert_eq!(
            Resumption::of(held(7, Validator::None, None), None, STRICT_TAG_RULES),
            None,
            "the size is not known"
        );
        let len = 5 * COMPARED_LEN;
        assert_eq!(
            offset(Resumption::of(held(len, Validator::None, Some(1 << 30)), None, STRICT_TAG_RULES)),
            Some(4 * COMPARED_LEN)
        );
        assert_eq!(offset(Resumption::of(held(7, Validator::None, Some(9)), None, STRICT_TAG_RULES)), Some(0));
        // A fresh link, and servers whose tags differ.
        let fresh = HeldBytes { is_of_other_link: true, ..held(len, tag(), Some(1 << 30)) };
        assert_eq!(offset(Resumption::of(fresh, None, STRICT_TAG_RULES)), Some(4 * COMPARED_LEN));
        let differing = TagRules { do_tags_differ: true, is_digest_known: true };
        let rest = Resumption::of(held(len, tag(), Some(1 << 30)), None, differing);
        assert!(matches!(rest, Some(Resumption::Compared(Rest { tags_may_differ: true, .. }))), "{rest:?}");
    }

    #[test]
    fn a_comparison_goes_on_where_a_cut_ended_it_while_the_same_bytes_are_held() {
        let len = 5 * COMPARED_LEN;
        let begun = |held| Some(Comparison { held, up_to: len - 3 });
        let held = || held(len, Validator::None, Some(1 << 30));
        assert_eq!(offset(Resumption::of(held(), begun(len), STRICT_TAG_RULES)), Some(len - 3));
        assert_eq!(offset(Resumption::of(held(), begun(len - 1), STRICT_TAG_RULES)), Some(4 * COMPARED_LEN));
    }
}

//! Evidence about a version of an origin's content.

use serde::{Deserialize, Serialize};

/// The properties that an origin states of a version, whatever they are worth. Without a strong [`super::Validator`] two responses
/// that agree in all of them may still belong to different versions: then bytes must be compared, too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionEvidence {
    /// Size of the content in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Date of the last modification, as the origin wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
    /// Entity tag, strong or weak, as the origin wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

impl VersionEvidence {
    /// Returns true if both may describe one version. `tags_may_differ` is for servers behind one name that make different tags
    /// of the same content.
    pub fn agrees(&self, other: &Self, tags_may_differ: bool) -> bool {
        self.size.is_some()
            && self.size == other.size
            && self.last_modified == other.last_modified
            && (tags_may_differ || self.etag == other.etag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_agree_when_all_that_is_stated_of_them_is_equal() {
        let it = |size, last_modified: Option<&str>, etag: Option<&str>| VersionEvidence {
            size,
            last_modified: last_modified.map(str::to_owned),
            etag: etag.map(str::to_owned),
        };
        let base = it(Some(7), Some("Tue"), Some("W/\"1\""));
        for (other, agrees, without_tags) in [
            (base.clone(), true, true),
            (it(Some(8), Some("Tue"), Some("W/\"1\"")), false, false),
            (it(None, Some("Tue"), Some("W/\"1\"")), false, false),
            (it(Some(7), Some("Wed"), Some("W/\"1\"")), false, false),
            (it(Some(7), None, Some("W/\"1\"")), false, false),
            (it(Some(7), Some("Tue"), Some("W/\"2\"")), false, true),
            (it(Some(7), Some("Tue"), None), false, true),
        ] {
            assert_eq!((base.agrees(&other, false), base.agrees(&other, true)), (agrees, without_tags), "{other:?}");
        }
        assert!(!it(None, None, None).agrees(&it(None, None, None), true), "nothing is known");
        assert!(it(Some(7), None, None).agrees(&it(Some(7), None, None), false));
    }
}

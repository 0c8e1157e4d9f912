//! The part of the volume that stays free.

use std::str::FromStr;

/// The part of a volume that stays free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserve {
    /// Number of bytes.
    Bytes(u64),
    /// Hundredths of the volume.
    Percent(u8),
}

impl Default for Reserve {
    fn default() -> Self {
        Self::Bytes(0)
    }
}

impl Reserve {
    /// Returns the reserve in bytes, on a volume of `size` bytes.
    pub(crate) fn of(self, size: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(part) => size / 100 * u64::from(part),
        }
    }
}

impl FromStr for Reserve {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unclear = || format!("{text:?} is neither a size such as 10GiB nor a part of the volume such as 5%");
        if let Some(part) = text.strip_suffix('%') {
            return part.trim().parse().ok().filter(|part| *part < 100).map(Self::Percent).ok_or_else(unclear);
        }
        lifecycle::settings::size(text).map(Self::Bytes).map_err(|_| unclear())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_a_size_or_a_part_of_the_volume() {
        for (text, found) in [
            ("0", Some(Reserve::Bytes(0))),
            ("10GiB", Some(Reserve::Bytes(10 << 30))),
            ("64m", Some(Reserve::Bytes(64 << 20))),
            ("5%", Some(Reserve::Percent(5))),
            ("100%", None),
            ("-1", None),
            ("much", None),
        ] {
            assert_eq!(text.parse().ok(), found, "{text}");
        }
        assert_eq!((Reserve::Percent(5).of(1000), Reserve::Bytes(7).of(1000)), (50, 7));
    }
}

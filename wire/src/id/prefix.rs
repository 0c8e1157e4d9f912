//! Beginnings of ids.

use std::str::FromStr;

/// Beginning of ids; that of all ids by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdPrefix {
    /// First id that begins so.
    pub first: [u8; 16],
    /// Last id that begins so.
    pub last: [u8; 16],
}

/// Error of a text that no id begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the beginning of an id has up to 32 of the characters 0-9 and a-f")]
pub struct IdPrefixError;

impl IdPrefix {
    /// Returns true if an id begins so.
    pub fn includes(&self, id: &[u8; 16]) -> bool {
        (&self.first..=&self.last).contains(&id)
    }
}

impl Default for IdPrefix {
    fn default() -> Self {
        Self { first: [0; 16], last: [u8::MAX; 16] }
    }
}

impl FromStr for IdPrefix {
    type Err = IdPrefixError;

    /// Parses the beginning of an id in its canonical form, with the dashes or without.
    fn from_str(text: &str) -> Result<Self, IdPrefixError> {
        let mut prefix = Self::default();
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
        if digits.len() > 32 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(IdPrefixError);
        }
        for (n, digit) in digits.into_iter().enumerate() {
            let value =
                char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok()).ok_or(IdPrefixError)?;
            let shift = if n % 2 == 0 { 4 } else { 0 };
            for bound in [&mut prefix.first, &mut prefix.last] {
                let byte = bound.get_mut(n / 2).ok_or(IdPrefixError)?;
                *byte = (*byte & !(0xf << shift)) | (value << shift);
            }
        }
        Ok(prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FileId;

    #[test]
    fn the_beginning_of_an_id_is_a_range_of_ids() {
        for (text, id, is_in) in [
            ("", "01a22865-ac96-774b-bcce-b302099a8057", true),
            ("01a22865", "01a22865-ac96-774b-bcce-b302099a8057", true),
            ("01a22865-ac96-7", "01a22865-ac96-774b-bcce-b302099a8057", true),
            ("01a22865ac967", "01a22865-ac96-774b-bcce-b302099a8057", true),
            ("01a22865-ac96-774b-bcce-b302099a8057", "01a22865-ac96-774b-bcce-b302099a8057", true),
            ("01a22866", "01a22865-ac96-774b-bcce-b302099a8057", false),
            ("01a2286", "01a22875-ac96-774b-bcce-b302099a8057", false),
            ("f", "01a22865-ac96-774b-bcce-b302099a8057", false),
        ] {
            let (prefix, id) = (text.parse::<IdPrefix>().unwrap(), id.parse::<FileId>().unwrap());
            assert_eq!(prefix.includes(id.as_bytes()), is_in, "{text} {id}");
        }
        for bad in ["g", "01A2", "é", "01a22865-ac96-774b-bcce-b302099a80570"] {
            assert_eq!(bad.parse::<IdPrefix>(), Err(IdPrefixError), "{bad}");
        }
    }
}

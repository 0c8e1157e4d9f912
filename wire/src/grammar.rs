//! Singular and plural in messages.

use std::fmt::Display;

/// Formats a number with its noun, which takes an `s` unless the number is 1.
pub fn counted<N: Copy + Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    if is_one(number) { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Returns the verb for a number of things.
pub fn is_or_are<N: PartialEq + From<u8>>(number: N) -> &'static str {
    if is_one(number) { "is" } else { "are" }
}

fn is_one<N: PartialEq + From<u8>>(number: N) -> bool {
    number == N::from(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_singular_and_any_other_number_plural() {
        let counts = [0_usize, 1, 2, 11].map(|number| format!("{} {}", counted(number, "file"), is_or_are(number)));
        assert_eq!(counts, ["0 files are", "1 file is", "2 files are", "11 files are"]);
    }
}

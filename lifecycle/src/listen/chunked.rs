//! Where a chunked body ends (RFC 9112 §7.1), strictly: what two parsers could end at two places is refused.

/// A chunk's line with its extensions, or all trailers together, may have this many bytes.
const MAX_LINE: usize = 4096;

/// How far a chunked body has been read. The bytes themselves are decoded by hyper; this only follows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunks {
    /// In the line that begins with a chunk's size.
    Size { size: u64, digits: u32, seen: usize, part: Part },
    /// In a chunk's bytes.
    Data(u64),
    /// In the line end after a chunk.
    After(bool),
    /// In the trailers.
    Trailers { seen: usize, at: Line },
    /// Behind the body.
    End,
}

/// Where in the line of a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Digits,
    Extension,
    Feed,
}

/// Where in a trailer's line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    Start,
    Inside,
    Feed,
    LastFeed,
}

/// The body is not chunked as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

impl Chunks {
    /// Before the first chunk.
    pub(super) const START: Self = Self::Size { size: 0, digits: 0, seen: 0, part: Part::Digits };

    /// Follows `bytes`; answers how many of them belong to the body.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut rest = bytes;
        while *self != Self::End {
            if let Self::Data(left) = *self {
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                rest = rest.get(taken..).unwrap_or_default();
                let left = left.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX));
                *self = if left == 0 { Self::After(false) } else { Self::Data(left) };
                if left > 0 {
                    break;
                }
            }
            let Some((byte, after)) = rest.split_first() else { break };
            rest = after;
            *self = self.step(*byte)?;
        }
        Ok(bytes.len().saturating_sub(rest.len()))
    }

    fn step(self, byte: u8) -> Result<Self, Malformed> {
        match (self, byte) {
            (Self::Size { size, digits, seen, part }, _) => size_step((size, digits, seen, part), byte),
            (Self::After(false), b'\r') => Ok(Self::After(true)),
            (Self::After(true), b'\n') => Ok(Self::START),
            (Self::Trailers { seen, at }, _) if seen < MAX_LINE => trailer_step(seen + 1, at, byte),
            _ => Err(Malformed),
        }
    }
}

fn size_step((size, digits, seen, part): (u64, u32, usize, Part), byte: u8) -> Result<Chunks, Malformed> {
    if seen >= MAX_LINE {
        return Err(Malformed);
    }
    let line = |size, digits, part| Ok(Chunks::Size { size, digits, seen: seen + 1, part });
    match (part, byte) {
        // Fifteen digits are more than any file has bytes, and cannot overflow.
        (Part::Digits, _) if byte.is_ascii_hexdigit() && digits < 15 => {
            let digit = char::from(byte).to_digit(16).ok_or(Malformed)?;
            line(size * 16 + u64::from(digit), digits + 1, Part::Digits)
        }
        (Part::Digits, b';') if digits > 0 => line(size, digits, Part::Extension),
        (Part::Digits | Part::Extension, b'\r') if digits > 0 => line(size, digits, Part::Feed),
        (Part::Extension, b'\t' | b' '..=b'~') => line(size, digits, Part::Extension),
        (Part::Feed, b'\n') if size == 0 => Ok(Chunks::Trailers { seen: 0, at: Line::Start }),
        (Part::Feed, b'\n') => Ok(Chunks::Data(size)),
        _ => Err(Malformed),
    }
}

fn trailer_step(seen: usize, at: Line, byte: u8) -> Result<Chunks, Malformed> {
    let line = |at| Ok(Chunks::Trailers { seen, at });
    match (at, byte) {
        (Line::Start, b'\r') => line(Line::LastFeed),
        (Line::LastFeed, b'\n') => Ok(Chunks::End),
        (Line::Inside, b'\r') => line(Line::Feed),
        (Line::Feed, b'\n') => line(Line::Start),
        // A name begins the line: no white space, no control character.
        (Line::Start, b'!'..=b'~') | (Line::Inside, b'\t' | b' '..=b'~') => line(Line::Inside),
        _ => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Where the body ends; `None` when it does not.
    fn end(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let mut chunks = Chunks::START;
        let taken = chunks.follow(bytes)?;
        Ok((chunks == Chunks::End).then_some(taken))
    }

    #[test]
    fn a_body_ends_at_one_place_or_is_refused() {
        for (bytes, expected) in [
            ("0\r\n\r\nGET", Ok(Some(5))),
            ("3\r\nabc\r\n0\r\n\r\nGET", Ok(Some(13))),
            ("A;x=y\r\n0123456789\r\n00\r\nt: v\r\n\r\nrest", Ok(Some(31))),
            ("3\r\nab", Ok(None)),
            ("3\nabc\n0\n\n", Err(Malformed)),
            ("3\r\nabcd\r\n", Err(Malformed)),
            ("3\r\nabc0\r\n\r\n", Err(Malformed)),
            ("\r\n", Err(Malformed)),
            ("+3\r\nabc", Err(Malformed)),
            ("-1\r\n", Err(Malformed)),
            ("0x3\r\nabc", Err(Malformed)),
            (" 3\r\nabc", Err(Malformed)),
            ("3 \r\nabc", Err(Malformed)),
            ("3;a\nb\r\nabc", Err(Malformed)),
            ("g\r\n", Err(Malformed)),
            ("ffffffffffffffff1\r\n", Err(Malformed)),
            ("0\r\n x: y\r\n\r\n", Err(Malformed)),
            ("0\r\nGET / HTTP/1.1\n", Err(Malformed)),
        ] {
            assert_eq!(end(bytes.as_bytes()), expected, "{bytes:?}");
        }
        assert_eq!(end(&[&b"3;"[..], &[b'x'; MAX_LINE]].concat()), Err(Malformed));
        assert_eq!(end(&[&b"0\r\n"[..], "t: v\r\n".repeat(MAX_LINE).as_bytes()].concat()), Err(Malformed));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_bytes_come(
            bytes in "([0-4][0-9a-f]?(;x)?\r\n[a-c]{0,5}\r\n){0,4}(0\r\n(t: v\r\n)?\r\n)?.{0,4}", cuts in proptest::collection::vec(0..9usize, 0..30),
        ) {
            let bytes = bytes.as_bytes();
            let (mut whole, mut pieces) = (Chunks::START, Chunks::START);
            let expected = whole.follow(bytes);
            let (mut rest, mut taken, mut outcome) = (bytes, 0, Ok(()));
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                match pieces.follow(piece) {
                    Ok(n) => taken += n,
                    Err(error) => outcome = Err(error),
                }
                if outcome.is_err() || pieces == Chunks::End { break; }
                rest = after;
            }
            prop_assert_eq!(outcome.map(|()| taken), expected);
        }
    }
}

//! The end of a chunked body (RFC 9112 §7.1). A body that two parsers could end at different places is rejected.

/// Largest size in bytes of a chunk-size line with its extensions, and of all trailers together.
const MAX_LINE_SIZE: usize = 4096;

/// Position in a chunked body. hyper decodes the bytes; this state machine only finds the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChunkedBody {
    /// Position in the line that begins with a chunk's size.
    Size(SizeLine),
    /// Position in a chunk's data, with this many bytes left.
    Data(u64),
    /// Position in the CR LF after a chunk's data; `true` after the CR.
    DataEnd(bool),
    /// Position in the trailers.
    Trailers { length: usize, at: TrailerPosition },
    /// Position after the body.
    End,
}

/// Chunk-size line, as far as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SizeLine {
    size: u64,
    digits: u32,
    length: usize,
    at: SizePosition,
}

/// Position in a chunk-size line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SizePosition {
    Digits,
    Extension,
    LineFeed,
}

/// Position in the trailers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TrailerPosition {
    LineStart,
    InLine,
    LineFeed,
    LastLineFeed,
}

/// Error of a body that breaks the chunked coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

impl ChunkedBody {
    /// Position before the first chunk.
    pub(super) const START: Self = Self::Size(SizeLine { size: 0, digits: 0, length: 0, at: SizePosition::Digits });

    /// Advances over `bytes`, and returns how many of them belong to the body.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut rest = bytes;
        while *self != Self::End {
            if let Self::Data(left) = *self {
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                rest = rest.get(taken..).unwrap_or_default();
                let left = left.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX));
                *self = if left == 0 { Self::DataEnd(false) } else { Self::Data(left) };
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
            (Self::Size(line), _) => line.step(byte),
            (Self::DataEnd(false), b'\r') => Ok(Self::DataEnd(true)),
            (Self::DataEnd(true), b'\n') => Ok(Self::START),
            (Self::Trailers { length, at }, _) if length < MAX_LINE_SIZE => trailer_step(length + 1, at, byte),
            _ => Err(Malformed),
        }
    }
}

impl SizeLine {
    fn step(self, byte: u8) -> Result<ChunkedBody, Malformed> {
        let Self { size, digits, length, at } = self;
        if length >= MAX_LINE_SIZE {
            return Err(Malformed);
        }
        let line = |size, digits, at| Ok(ChunkedBody::Size(Self { size, digits, length: length + 1, at }));
        match (at, byte) {
            // Fifteen digits exceed the size of any file and cannot overflow.
            (SizePosition::Digits, _) if byte.is_ascii_hexdigit() && digits < 15 => {
                let digit = char::from(byte).to_digit(16).ok_or(Malformed)?;
                line(size * 16 + u64::from(digit), digits + 1, SizePosition::Digits)
            }
            (SizePosition::Digits, b';') if digits > 0 => line(size, digits, SizePosition::Extension),
            (SizePosition::Digits | SizePosition::Extension, b'\r') if digits > 0 => {
                line(size, digits, SizePosition::LineFeed)
            }
            (SizePosition::Extension, b'\t' | b' '..=b'~') => line(size, digits, SizePosition::Extension),
            (SizePosition::LineFeed, b'\n') if size == 0 => {
                Ok(ChunkedBody::Trailers { length: 0, at: TrailerPosition::LineStart })
            }
            (SizePosition::LineFeed, b'\n') => Ok(ChunkedBody::Data(size)),
            _ => Err(Malformed),
        }
    }
}

fn trailer_step(length: usize, at: TrailerPosition, byte: u8) -> Result<ChunkedBody, Malformed> {
    let trailers = |at| Ok(ChunkedBody::Trailers { length, at });
    match (at, byte) {
        (TrailerPosition::LineStart, b'\r') => trailers(TrailerPosition::LastLineFeed),
        (TrailerPosition::LastLineFeed, b'\n') => Ok(ChunkedBody::End),
        (TrailerPosition::InLine, b'\r') => trailers(TrailerPosition::LineFeed),
        (TrailerPosition::LineFeed, b'\n') => trailers(TrailerPosition::LineStart),
        // A field name begins the line: no white space, no control character.
        (TrailerPosition::LineStart, b'!'..=b'~') | (TrailerPosition::InLine, b'\t' | b' '..=b'~') => {
            trailers(TrailerPosition::InLine)
        }
        _ => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the length of the body; `None` if it does not end.
    fn end(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let mut body = ChunkedBody::START;
        let length = body.advance(bytes)?;
        Ok((body == ChunkedBody::End).then_some(length))
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
        assert_eq!(end(&[&b"3;"[..], &[b'x'; MAX_LINE_SIZE]].concat()), Err(Malformed));
        assert_eq!(end(&[&b"0\r\n"[..], "t: v\r\n".repeat(MAX_LINE_SIZE).as_bytes()].concat()), Err(Malformed));
    }

    proptest! {
        #[test]
        fn the_end_is_the_same_however_the_bytes_are_split(
            bytes in "([0-4][0-9a-f]?(;x)?\r\n[a-c]{0,5}\r\n){0,4}(0\r\n(t: v\r\n)?\r\n)?.{0,4}", cuts in proptest::collection::vec(0..9usize, 0..30),
        ) {
            let bytes = bytes.as_bytes();
            let (mut whole, mut pieces) = (ChunkedBody::START, ChunkedBody::START);
            let expected = whole.advance(bytes);
            let (mut rest, mut taken, mut outcome) = (bytes, 0, Ok(()));
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                match pieces.advance(piece) {
                    Ok(n) => taken += n,
                    Err(error) => outcome = Err(error),
                }
                if outcome.is_err() || pieces == ChunkedBody::End { break; }
                rest = after;
            }
            prop_assert_eq!(outcome.map(|()| taken), expected);
        }
    }
}

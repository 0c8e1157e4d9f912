//! Server-sent events (WHATWG HTML §9.2): a parser without I/O and with bounded memory.

/// Longest event, in bytes.
const MAX_EVENT_LEN: usize = 1 << 20;

/// Event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// Type of the event; `message` if the stream names none.
    pub(super) kind: String,
    /// Data lines, joined by line feeds.
    pub(super) data: String,
}

/// Violation of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("an event is longer than {MAX_EVENT_LEN} bytes")]
    TooLong,
    #[error("an event is not UTF-8")]
    NotUtf8,
}

/// Incremental parser. A line ends with CR, LF or both; an event ends with an empty line.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    kind: String,
    data: String,
    has_data: bool,
    /// Set after a CR: an LF that follows belongs to it.
    after_return: bool,
    /// Set after the first line, which alone may begin with a byte order mark.
    is_past_first_line: bool,
}

impl Parser {
    /// Parses `bytes` and returns the events that end in them.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, Malformed> {
        let mut events = Vec::new();
        for byte in bytes {
            let after_return = std::mem::replace(&mut self.after_return, *byte == b'\r');
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => events.extend(self.end_of_line()?),
                other if self.line.len() + self.data.len() < MAX_EVENT_LEN => self.line.push(*other),
                _ => return Err(Malformed::TooLong),
            }
        }
        Ok(events)
    }

    fn end_of_line(&mut self) -> Result<Option<Event>, Malformed> {
        let line = String::from_utf8(std::mem::take(&mut self.line)).map_err(|_| Malformed::NotUtf8)?;
        let is_first = !std::mem::replace(&mut self.is_past_first_line, true);
        let line = if is_first { line.trim_start_matches('\u{feff}') } else { &line };
        if line.is_empty() {
            return Ok(self.end_of_event());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.kind),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            // Comments have no field: they only keep the connection alive. Ids and retry times are not used.
            _ => {}
        }
        Ok(None)
    }

    fn end_of_event(&mut self) -> Option<Event> {
        let (kind, data) = (std::mem::take(&mut self.kind), std::mem::take(&mut self.data));
        let kind = if kind.is_empty() { "message".to_owned() } else { kind };
        std::mem::take(&mut self.has_data).then_some(Event { kind, data })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(kind: &str, data: &str) -> Event {
        Event { kind: kind.into(), data: data.into() }
    }

    #[test]
    fn a_stream_is_read_as_the_standard_says() {
        let text = "\u{feff}: hello\n\nevent: job\r\ndata: {\"a\":1}\r\n\r\ndata\n\ndata:x\rdata: y\r\rid: 7\nretry: 3\n\ndata: cut";
        let events = Parser::default().push(text.as_bytes()).unwrap();
        assert_eq!(events, [event("job", "{\"a\":1}"), event("message", ""), event("message", "x\ny")]);
    }

    #[test]
    fn endless_events_and_text_that_is_not_utf8_are_refused() {
        let mut parser = Parser::default();
        let line = [b'x'; 1 << 16];
        assert!((0..17).any(|_| parser.push(&line) == Err(Malformed::TooLong)));
        let mut parser = Parser::default();
        let line = [b"data: ".as_slice(), &[b'x'; 1 << 16], b"\n"].concat();
        assert!((0..17).any(|_| parser.push(&line) == Err(Malformed::TooLong)));
        assert_eq!(Parser::default().push(b"data: \xff\n"), Err(Malformed::NotUtf8));
    }

    proptest! {
        #[test]
        fn the_events_do_not_depend_on_how_the_stream_is_split(text in "(data|event|x)?:?[ a-z\r\n]{0,40}", at in 0_usize..45) {
            let bytes = text.as_bytes();
            let (one, two) = bytes.split_at(at.min(bytes.len()));
            let mut cut = Parser::default();
            let mut events = cut.push(one).unwrap();
            events.extend(cut.push(two).unwrap());
            prop_assert_eq!(events, Parser::default().push(bytes).unwrap());
        }

        #[test]
        fn no_input_makes_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Parser::default().push(&bytes);
        }
    }
}

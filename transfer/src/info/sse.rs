//! Server-sent events (WHATWG HTML §9.2): a parser of the text, without I/O, that keeps no more than it must.

/// The longest event, in bytes.
const MAX_EVENT: usize = 1 << 20;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// Its type; `message` if none was named.
    pub(super) kind: String,
    /// Its lines, joined by line feeds.
    pub(super) data: String,
}

/// The stream is none of server-sent events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("an event is longer than {MAX_EVENT} bytes")]
    TooLong,
    #[error("an event is not UTF-8")]
    NotUtf8,
}

/// Takes a stream piece by piece. A line ends with CR, LF or both; an event ends with an empty line.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    kind: String,
    data: String,
    any_data: bool,
    /// The last byte was a CR: an LF that follows belongs to it.
    after_return: bool,
    begun: bool,
}

impl Parser {
    /// The events that end in `bytes`.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, Malformed> {
        let mut events = Vec::new();
        for byte in bytes {
            let after_return = std::mem::replace(&mut self.after_return, *byte == b'\r');
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => events.extend(self.end_of_line()?),
                other if self.line.len() + self.data.len() < MAX_EVENT => self.line.push(*other),
                _ => return Err(Malformed::TooLong),
            }
        }
        Ok(events)
    }

    fn end_of_line(&mut self) -> Result<Option<Event>, Malformed> {
        let line = String::from_utf8(std::mem::take(&mut self.line)).map_err(|_| Malformed::NotUtf8)?;
        let marked = !std::mem::replace(&mut self.begun, true);
        let line = if marked { line.trim_start_matches('\u{feff}') } else { &line };
        if line.is_empty() {
            return Ok(self.end_of_event());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.kind),
            "data" => {
                if std::mem::replace(&mut self.any_data, true) {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            // Comments, which have no field, keep the connection busy; ids and times to retry are not used here.
            _ => {}
        }
        Ok(None)
    }

    fn end_of_event(&mut self) -> Option<Event> {
        let (kind, data) = (std::mem::take(&mut self.kind), std::mem::take(&mut self.data));
        let kind = if kind.is_empty() { "message".to_owned() } else { kind };
        std::mem::take(&mut self.any_data).then_some(Event { kind, data })
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
    fn what_is_endless_or_no_text_is_refused() {
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
        fn it_does_not_matter_how_a_stream_is_cut(text in "(data|event|x)?:?[ a-z\r\n]{0,40}", at in 0_usize..45) {
            let bytes = text.as_bytes();
            let (one, two) = bytes.split_at(at.min(bytes.len()));
            let mut cut = Parser::default();
            let mut events = cut.push(one).unwrap();
            events.extend(cut.push(two).unwrap());
            prop_assert_eq!(events, Parser::default().push(bytes).unwrap());
        }

        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Parser::default().push(&bytes);
        }
    }
}

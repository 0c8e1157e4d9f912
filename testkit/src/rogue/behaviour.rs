//! Ways in which a rogue breaks the rules.

use std::time::Duration;

use url::Url;

/// Behaviour of a rogue. It may be changed while requests run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// Serves the requested bytes.
    Honest,
    /// The lowest bit of every `every`-th byte of the file is wrong.
    FlipBit {
        /// Distance of two wrong bytes, in bytes of the file.
        every: u64,
    },
    /// Closes the connection in order after this many bytes of the body.
    Truncate {
        /// Bytes of one body that are sent before.
        after: u64,
    },
    /// Wrong bytes. A body that begins at a chunk's start ends in order one byte before the chunk's end; another one goes to
    /// the end of the chunk or is empty.
    Unfinished {
        /// Bytes in a chunk.
        chunk: u64,
        /// Set if a body that begins inside of a chunk goes to its end.
        gives_rest: bool,
        /// Bytes per second of each connection.
        rate: u64,
    },
    /// Resets the connection after this many bytes of the body.
    Reset {
        /// Bytes of one body that are sent before.
        after: u64,
    },
    /// Sends nothing more after this many bytes of the body, and keeps the connection open.
    Stall {
        /// Bytes of one body that are sent before.
        after: u64,
    },
    /// All connections together get this many bytes per second.
    Throttle {
        /// Bytes per second.
        rate: u64,
    },
    /// The `Content-Range` is one byte off.
    WrongRange,
    /// The `ETag` is another file's.
    WrongEtag,
    /// 200 with the whole file, whatever was asked.
    WholeFile,
    /// The body goes on for ever, without a `Content-Length`.
    Endless,
    /// 302 to this address.
    Redirect(Url),
    /// A status without any byte of the file.
    Status {
        /// The status.
        code: u16,
        /// Seconds in `Retry-After`.
        retry_after: Option<u64>,
    },
    /// A refusal with this body.
    Refusal {
        /// The status.
        code: u16,
        /// The body, a problem document or not.
        body: String,
    },
    /// Waits this long before it answers as it should.
    Delay(Duration),
    /// The right answer, but for this header field: another value, or none.
    Header {
        /// The field's name.
        name: &'static str,
        /// Its value; without one the field is missing.
        value: Option<String>,
    },
    /// A body in chunks (RFC 9112 §7.1): right and with trailers, or without end.
    Chunked {
        /// Set if the answer ends.
        ends: bool,
    },
    /// The right answer, and then more bytes than it promised.
    Overlong,
    /// Reads the request and says nothing.
    Silent,
    /// Interim answers (103) without end.
    Interim,
    /// A head of this many bytes.
    Head {
        /// Bytes in the head.
        size: u64,
    },
    /// The right answer, one byte after this pause, then the next.
    Drip(Duration),
    /// One connection at a time gets its bytes, at this rate; all others get 503.
    OneAtATime {
        /// Bytes per second.
        rate: u64,
    },
    /// Bytes that are not HTTP, such as those of another protocol.
    Rubbish,
}

//! Whether an answer is the answer to what was asked (RFC 9110 §15.3.7): nothing an origin says is believed.

use std::ops::Range;

use reqwest::{StatusCode, header::HeaderMap};
use wire::{
    Digest, FileName, OriginUrl,
    job::{Reason, Validator},
    range::ContentRange,
};

use crate::{
    Fault, Probe, Wanted, field,
    version::{self, Compared},
};

/// What the answer for the first byte says of the whole.
pub(crate) fn probe(url: &OriginUrl, at: &OriginUrl, status: StatusCode, headers: &HeaderMap) -> Result<Probe, Fault> {
    let (size, ranges) = match (status, field::content_range(headers)) {
        (StatusCode::PARTIAL_CONTENT, Some(ContentRange::Part { range: Range { start: 0, end: 1 }, len })) => {
            (Some(len), true)
        }
        // A length that is not told is the one thing that makes this field unreadable to us and yet right.
        (StatusCode::PARTIAL_CONTENT, None) if untold(headers) => (None, true),
        (StatusCode::PARTIAL_CONTENT, _) => {
            return Err(Fault::garbled("206 with another range than the one asked for"));
        }
        (StatusCode::OK, _) => (field::length(headers), false),
        // An empty file has no first byte.
        (StatusCode::RANGE_NOT_SATISFIABLE, Some(ContentRange::Unsatisfied { len: 0 })) => (Some(0), false),
        _ => return Err(Fault::of_status(status, headers)),
    };
    plain(at, headers)?;
    Ok(Probe {
        size,
        ranges,
        validator: version::validator(headers),
        sha256: field::sha256(headers),
        name: name(url, at, headers),
        origin: at.origin(),
    })
}

fn untold(headers: &HeaderMap) -> bool {
    field::single(headers, &reqwest::header::CONTENT_RANGE) == Some("bytes 0-0/*")
}

/// Checks the answer to a request for `asked`.
pub(crate) fn range(
    at: &OriginUrl,
    status: StatusCode,
    headers: &HeaderMap,
    wanted: &Wanted,
    asked: &Range<u64>,
) -> Result<(), Fault> {
    match status {
        StatusCode::PARTIAL_CONTENT => part(headers, wanted, asked)?,
        StatusCode::OK => whole_instead(headers, wanted, asked)?,
        StatusCode::PRECONDITION_FAILED => return Err(Fault::changed("status 412")),
        StatusCode::RANGE_NOT_SATISFIABLE => return Err(outside(headers, wanted)),
        _ => return Err(Fault::of_status(status, headers)),
    }
    if field::length(headers).is_some_and(|length| length != asked.end - asked.start) {
        return Err(Fault::garbled("Content-Length and the range differ"));
    }
    plain(at, headers)
}

fn part(headers: &HeaderMap, wanted: &Wanted, asked: &Range<u64>) -> Result<(), Fault> {
    same_version(headers, wanted)?;
    match field::content_range(headers) {
        Some(ContentRange::Part { len, .. }) if len != wanted.size => {
            Err(Fault::changed(format!("it has {len} bytes now, not {}", wanted.size)))
        }
        Some(ContentRange::Part { range, .. }) if range == *asked => Ok(()),
        Some(other) => Err(Fault::garbled(format!("it sent {other}, not {}-{}", asked.start, asked.end))),
        None => Err(Fault::garbled("206 without a usable Content-Range")),
    }
}

/// All of it was sent: because it changed, because all of it was asked for, or because ranges are nothing to this origin.
fn whole_instead(headers: &HeaderMap, wanted: &Wanted, asked: &Range<u64>) -> Result<(), Fault> {
    let length = field::length(headers);
    if version::same(&wanted.validator, headers) == Compared::Other
        || length.is_some_and(|length| length != wanted.size)
    {
        return Err(Fault::changed("all of another version came instead of a range"));
    }
    if *asked == (0..wanted.size) && length.is_some() {
        return same_version(headers, wanted);
    }
    Err(Fault::new(Reason::NoRanges, "all of it came instead of a range"))
}

fn outside(headers: &HeaderMap, wanted: &Wanted) -> Fault {
    match field::content_range(headers) {
        Some(ContentRange::Unsatisfied { len }) if len != wanted.size => {
            Fault::changed(format!("it has {len} bytes now, not {}", wanted.size))
        }
        _ => Fault::garbled("status 416 for a range within the file"),
    }
}

fn same_version(headers: &HeaderMap, wanted: &Wanted) -> Result<(), Fault> {
    match version::same(&wanted.validator, headers) {
        Compared::Same => Ok(()),
        Compared::Other => Err(Fault::changed("another validator")),
        Compared::Untold => Err(Fault::garbled("an answer without the validator that the probe's had")),
    }
}

fn plain(url: &OriginUrl, headers: &HeaderMap) -> Result<(), Fault> {
    if field::is_plain(url, headers) { Ok(()) } else { Err(Fault::garbled("it sent the bytes in another coding")) }
}

/// The name: the answer's, that of the URL, or that of the address where it led.
fn name(url: &OriginUrl, at: &OriginUrl, headers: &HeaderMap) -> FileName {
    let own = || {
        let last = url.url().path_segments().and_then(|segments| segments.rev().find(|part| !part.is_empty()));
        if last.is_some() { url.file_name() } else { at.file_name() }
    };
    field::name(headers).unwrap_or_else(own)
}

/// What the answer to a request for all, or for all the rest, says.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) start: u64,
    pub(crate) size: Option<u64>,
    pub(crate) validator: Validator,
    pub(crate) sha256: Option<Digest>,
    pub(crate) name: FileName,
}

/// Checks the answer to a request for all, or for what follows the first bytes of a version.
pub(crate) fn whole(
    url: &OriginUrl,
    at: &OriginUrl,
    status: StatusCode,
    headers: &HeaderMap,
    resume: Option<&(u64, Validator)>,
) -> Result<Told, Fault> {
    plain(at, headers)?;
    let told = |start, size, validator| Told {
        start,
        size,
        validator,
        sha256: field::sha256(headers),
        name: name(url, at, headers),
    };
    match (status, field::content_range(headers), resume) {
        (StatusCode::OK, ..) => Ok(told(0, field::length(headers), version::validator(headers))),
        (StatusCode::PARTIAL_CONTENT, Some(ContentRange::Part { range, len }), Some((from, validator)))
            if range == (*from..len) =>
        {
            same_version(headers, &Wanted { size: len, validator: validator.clone() })?;
            Ok(told(*from, Some(len), validator.clone()))
        }
        // The condition came first (§13.2.2): it is that version, and there is no more of it.
        (StatusCode::RANGE_NOT_SATISFIABLE, Some(ContentRange::Unsatisfied { len }), Some((from, validator)))
            if len == *from =>
        {
            Ok(told(len, Some(len), validator.clone()))
        }
        (StatusCode::PARTIAL_CONTENT, ..) => Err(Fault::garbled("206 with another range than the one asked for")),
        (StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE, _, Some(_)) => {
            Err(Fault::changed(format!("status {}", status.as_u16())))
        }
        _ => Err(Fault::of_status(status, headers)),
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::{CONTENT_ENCODING, CONTENT_RANGE};

    use super::*;

    #[test]
    fn a_coding_is_judged_by_the_address_that_answers_in_probes_as_in_ranges() {
        let (packed, other) = ("http://x/a.tar.gz".parse().unwrap(), "http://x/objects/7".parse().unwrap());
        let headers = HeaderMap::from_iter([
            (CONTENT_ENCODING, "gzip".parse().unwrap()),
            (CONTENT_RANGE, "bytes 0-0/9".parse().unwrap()),
        ]);
        let wanted = Wanted { size: 9, validator: Validator::None };
        for (asked, at, right) in [(&packed, &packed, true), (&packed, &other, false), (&other, &packed, true)] {
            assert_eq!(probe(asked, at, StatusCode::PARTIAL_CONTENT, &headers).is_ok(), right, "{asked} {at}");
            let part = range(at, StatusCode::PARTIAL_CONTENT, &headers, &wanted, &(0..1));
            assert_eq!(part.is_ok(), right, "{asked} {at}");
        }
    }
}

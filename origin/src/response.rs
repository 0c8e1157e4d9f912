//! Checks that a response answers the request (RFC 9110 §15.3.7). Nothing that an origin sends is trusted.

use std::ops::Range;

use reqwest::{StatusCode, header::HeaderMap};
use wire::{
    Digest, FileName, OriginUrl,
    grammar::counted,
    job::{JobReason, Validator, VersionEvidence},
    range::ContentRange,
};

use crate::{
    coding,
    error::OriginError,
    headers, name,
    version::{self, ContentVersion, Rest, ResumePoint, VersionMatch},
};

/// The properties of a file that an origin states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Bytes in the file, if the origin states it.
    pub size: Option<u64>,
    /// Set if the origin answered a range request with that range.
    pub ranges: bool,
    /// The validator of the present version.
    pub validator: Validator,
    /// The SHA-256 of the file, if the origin states it.
    pub sha256: Option<Digest>,
    /// The name that the origin or the URL gives the file, made safe.
    pub name: FileName,
    /// Scheme, host and port of the last address of the redirects: connections are counted by it.
    pub origin: String,
}

/// The head of the response to a request for a whole file, or for all that follows a [`ResumePoint`].
#[derive(Debug)]
pub(crate) struct WholeHead {
    pub(crate) start: u64,
    pub(crate) size: Option<u64>,
    pub(crate) validator: Validator,
    pub(crate) evidence: VersionEvidence,
    pub(crate) sha256: Option<Digest>,
    pub(crate) name: FileName,
}

/// Reads the properties of the whole file from the response to a request for its first byte.
pub(crate) fn check_probe(
    requested: &OriginUrl,
    answered_by: &OriginUrl,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<Probe, OriginError> {
    let (size, ranges) = match (status, headers::content_range(headers)) {
        (StatusCode::PARTIAL_CONTENT, Some(ContentRange::Part { range: Range { start: 0, end: 1 }, len })) => {
            (Some(len), true)
        }
        // A valid field that does not state the length: DDM's parser accepts no such field.
        (StatusCode::PARTIAL_CONTENT, None) if omits_length(headers) => (None, true),
        (StatusCode::PARTIAL_CONTENT, _) => {
            return Err(OriginError::garbled("206 with another range than the requested one"));
        }
        (status, _) if is_whole(status) => (headers::length(headers), false),
        // An empty file has no first byte.
        (StatusCode::RANGE_NOT_SATISFIABLE, Some(ContentRange::Unsatisfied { len: 0 })) => (Some(0), false),
        _ => return Err(OriginError::from_status(status, headers)),
    };
    check_coding(answered_by, headers)?;
    Ok(Probe {
        size,
        ranges,
        validator: version::validator(headers),
        sha256: headers::sha256(headers),
        name: file_name(requested, answered_by, headers),
        origin: answered_by.origin(),
    })
}

fn omits_length(headers: &HeaderMap) -> bool {
    headers::single(headers, &reqwest::header::CONTENT_RANGE) == Some("bytes 0-0/*")
}

/// Checks the response to a request for the bytes `range` of a version.
pub(crate) fn check_range(
    answered_by: &OriginUrl,
    status: StatusCode,
    headers: &HeaderMap,
    version: &ContentVersion,
    range: &Range<u64>,
) -> Result<(), OriginError> {
    match status {
        StatusCode::PARTIAL_CONTENT => check_part(headers, version, range)?,
        status if is_whole(status) => check_whole_instead(headers, version, range)?,
        StatusCode::PRECONDITION_FAILED => return Err(OriginError::changed("status 412")),
        StatusCode::RANGE_NOT_SATISFIABLE => return Err(unsatisfiable(headers, version)),
        _ => return Err(OriginError::from_status(status, headers)),
    }
    if headers::length(headers).is_some_and(|length| length != range.end - range.start) {
        return Err(OriginError::garbled("Content-Length differs from the length of the range"));
    }
    check_coding(answered_by, headers)
}

fn check_part(headers: &HeaderMap, version: &ContentVersion, range: &Range<u64>) -> Result<(), OriginError> {
    check_version(headers, &version.validator)?;
    match headers::content_range(headers) {
        Some(ContentRange::Part { len, .. }) if len != version.size => Err(changed_size(len, version)),
        Some(ContentRange::Part { range: found, .. }) if found == *range => Ok(()),
        Some(other) => {
            Err(OriginError::garbled(format!("Content-Range is {other}, not bytes {}-{}", range.start, range.end)))
        }
        None => Err(OriginError::garbled("206 without a usable Content-Range")),
    }
}

/// Returns true for the statuses whose body other programs take for the whole file: some servers and proxies answer a GET with 201
/// or 203 where 200 is meant.
fn is_whole(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 201 | 203)
}

/// Checks a 200: the origin sent the whole file because it has another version, because the range was the whole file, or
/// because it does not support ranges.
fn check_whole_instead(headers: &HeaderMap, version: &ContentVersion, range: &Range<u64>) -> Result<(), OriginError> {
    let length = headers::length(headers);
    let differs = version::compare(&version.validator, headers) == VersionMatch::Different;
    if differs || length.is_some_and(|length| length != version.size) {
        return Err(OriginError::changed("the whole of another version instead of a range"));
    }
    if *range == (0..version.size) && length.is_some() {
        return check_version(headers, &version.validator);
    }
    Err(OriginError::new(JobReason::NoRanges, "the whole file instead of a range"))
}

fn unsatisfiable(headers: &HeaderMap, version: &ContentVersion) -> OriginError {
    match headers::content_range(headers) {
        Some(ContentRange::Unsatisfied { len }) if len != version.size => changed_size(len, version),
        _ => OriginError::garbled("status 416 for a range within the file"),
    }
}

fn changed_size(found: u64, version: &ContentVersion) -> OriginError {
    OriginError::changed(format!("the file has {} now, not {}", counted(found, "byte"), version.size))
}

fn check_version(headers: &HeaderMap, validator: &Validator) -> Result<(), OriginError> {
    match version::compare(validator, headers) {
        VersionMatch::Same => Ok(()),
        VersionMatch::Different => Err(OriginError::changed("another validator")),
        VersionMatch::NotStated => {
            Err(OriginError::garbled("a response without the validator that the probe returned"))
        }
    }
}

/// Checks that no content coding was applied to the file. The URL that answered decides which coding is the file's own.
fn check_coding(answered_by: &OriginUrl, headers: &HeaderMap) -> Result<(), OriginError> {
    if coding::is_plain(answered_by, headers) {
        Ok(())
    } else {
        Err(OriginError::garbled("a content coding was applied to the bytes"))
    }
}

/// Returns the file's name: that of the response, that of the requested URL, or that of the URL that answered.
fn file_name(requested: &OriginUrl, answered_by: &OriginUrl, headers: &HeaderMap) -> FileName {
    let from_url = || {
        let last = requested.url().path_segments().and_then(|segments| segments.rev().find(|part| !part.is_empty()));
        if last.is_some() { requested.file_name() } else { answered_by.file_name() }
    };
    name::of_response(headers).unwrap_or_else(from_url)
}

/// Checks the response to a request for the whole file, or for all that follows a resume point.
pub(crate) fn check_whole(
    requested: &OriginUrl,
    answered_by: &OriginUrl,
    status: StatusCode,
    headers: &HeaderMap,
    resume: Option<&ResumePoint>,
) -> Result<WholeHead, OriginError> {
    let head = |start, size, validator| WholeHead {
        start,
        size,
        validator,
        evidence: version::evidence(headers, size),
        sha256: headers::sha256(headers),
        name: file_name(requested, answered_by, headers),
    };
    match (status, headers::content_range(headers), resume) {
        (status, ..) if is_whole(status) => Ok(head(0, headers::length(headers), version::validator(headers))),
        // All of the file, although no range was requested.
        (StatusCode::PARTIAL_CONTENT, Some(ContentRange::Part { range, len }), None) if range == (0..len) => {
            Ok(head(0, Some(len), version::validator(headers)))
        }
        (StatusCode::PARTIAL_CONTENT, Some(ContentRange::Part { range, len }), Some(resume))
            if range == (resume.offset..len) =>
        {
            check_version(headers, &resume.validator)?;
            Ok(head(resume.offset, Some(len), resume.validator.clone()))
        }
        // The condition was evaluated first (§13.2.2): the version is the same, and it has no further byte.
        (StatusCode::RANGE_NOT_SATISFIABLE, Some(ContentRange::Unsatisfied { len }), Some(resume))
            if len == resume.offset =>
        {
            Ok(head(len, Some(len), resume.validator.clone()))
        }
        (StatusCode::PARTIAL_CONTENT, ..) => Err(OriginError::garbled("206 with another range than the requested one")),
        (StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE, _, Some(_)) => {
            Err(OriginError::changed(format!("status {}", status.as_u16())))
        }
        _ => Err(OriginError::from_status(status, headers)),
    }
}

/// Checks the response to a request for the bytes from `offset` on, without a condition, of the version with this evidence.
pub(crate) fn check_rest(
    requested: &OriginUrl,
    answered_by: &OriginUrl,
    status: StatusCode,
    headers: &HeaderMap,
    rest: &Rest,
) -> Result<WholeHead, OriginError> {
    let (range, size) = match (status, headers::content_range(headers)) {
        (StatusCode::PARTIAL_CONTENT, Some(ContentRange::Part { range, len })) => (range, len),
        (StatusCode::PARTIAL_CONTENT, _) => return Err(OriginError::garbled("206 without a usable Content-Range")),
        (status, _) if is_whole(status) => {
            return Err(OriginError::new(JobReason::NoRanges, "the whole file instead of a range"));
        }
        (StatusCode::RANGE_NOT_SATISFIABLE, _) => return Err(OriginError::changed("status 416")),
        _ => return Err(OriginError::from_status(status, headers)),
    };
    let evidence = version::evidence(headers, Some(size));
    if !rest.evidence.agrees(&evidence, rest.tags_may_differ) {
        return Err(OriginError::changed("another size, date or tag"));
    }
    if range != (rest.offset..size) {
        return Err(OriginError::garbled(format!("the range begins at {}, not at {}", range.start, rest.offset)));
    }
    let (sha256, name) = (headers::sha256(headers), file_name(requested, answered_by, headers));
    Ok(WholeHead {
        start: rest.offset,
        size: Some(size),
        validator: version::validator(headers),
        evidence,
        sha256,
        name,
    })
}

#[cfg(test)]
mod tests {
    use reqwest::header::{CONTENT_ENCODING, CONTENT_RANGE};

    use super::*;

    #[test]
    fn the_answering_address_decides_about_a_coding_in_probes_as_in_ranges() {
        let (packed, other) = ("http://x/a.tar.gz".parse().unwrap(), "http://x/objects/7".parse().unwrap());
        let headers = HeaderMap::from_iter([
            (CONTENT_ENCODING, "gzip".parse().unwrap()),
            (CONTENT_RANGE, "bytes 0-0/9".parse().unwrap()),
        ]);
        let version = ContentVersion { size: 9, validator: Validator::None };
        let status = StatusCode::PARTIAL_CONTENT;
        for (requested, answered_by, right) in
            [(&packed, &packed, true), (&packed, &other, false), (&other, &packed, true)]
        {
            let probe = check_probe(requested, answered_by, status, &headers);
            assert_eq!(probe.is_ok(), right, "{requested} {answered_by}");
            let part = check_range(answered_by, status, &headers, &version, &(0..1));
            assert_eq!(part.is_ok(), right, "{requested} {answered_by}");
        }
    }
}

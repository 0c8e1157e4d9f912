//! Checks that a response answers the request (RFC 9110 §15.3.7). Nothing that a source sends is trusted.

use std::{ops::Range, time::Duration};

use reqwest::{
    StatusCode,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, RETRY_AFTER},
};
use wire::{FileId, range::ContentRange};

use super::failure::Failure;

/// The response to a request for bytes of a file whose length is known.
#[derive(Debug, Clone)]
pub(super) struct ExpectedResponse {
    pub(super) file: FileId,
    pub(super) range: Range<u64>,
    pub(super) file_len: u64,
}

impl ExpectedResponse {
    /// Checks status and headers.
    pub(super) fn check(&self, status: StatusCode, headers: &HeaderMap) -> Result<(), Failure> {
        let is_whole = self.range == (0..self.file_len);
        match status {
            StatusCode::PARTIAL_CONTENT => self.check_range(headers)?,
            StatusCode::OK if is_whole => {}
            StatusCode::OK => return Err(Failure::Answer("it sent the whole file instead of the range".into())),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(Failure::Refused { status: status.as_u16(), words: None });
            }
            StatusCode::NOT_FOUND => return Err(Failure::NotHeld),
            StatusCode::TOO_MANY_REQUESTS => return Err(busy(status, headers)),
            _ if status.is_server_error() => return Err(busy(status, headers)),
            _ if status.is_redirection() => {
                return Err(Failure::Answer(format!("status {}: redirects are not followed", status.as_u16())));
            }
            _ => return Err(Failure::Answer(format!("status {}", status.as_u16()))),
        }
        let length = (self.range.end - self.range.start).to_string();
        expect_header(headers, CONTENT_LENGTH, &length)?;
        expect_header(headers, ETAG, &format!("\"{}\"", self.file))?;
        match text(headers, CONTENT_ENCODING) {
            _ if headers.get_all(CONTENT_ENCODING).iter().count() > 1 => Err(coded()),
            None if !headers.contains_key(CONTENT_ENCODING) => Ok(()),
            Some("identity") => Ok(()),
            _ => Err(coded()),
        }
    }

    fn check_range(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let expected = ContentRange::Part { range: self.range.clone(), len: self.file_len };
        if headers.get_all(CONTENT_RANGE).iter().count() > 1 {
            return Err(Failure::Answer("it sent several Content-Range".into()));
        }
        let found = text(headers, CONTENT_RANGE).and_then(|value| value.parse().ok());
        if found.as_ref() == Some(&expected) {
            return Ok(());
        }
        let found = found.map_or_else(|| "none".to_owned(), |range: ContentRange| range.to_string());
        Err(Failure::Answer(format!("Content-Range is {found}, not {expected}")))
    }
}

fn coded() -> Failure {
    Failure::Answer("it sent the bytes in another coding".into())
}

fn busy(status: StatusCode, headers: &HeaderMap) -> Failure {
    // Only the form in seconds: the date form would depend on the server's clock.
    let retry_after = text(headers, RETRY_AFTER).and_then(|value| value.parse().ok()).map(Duration::from_secs);
    Failure::Busy { status: status.as_u16(), retry_after, words: None }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Checks that a header occurs once and has this value.
fn expect_header(headers: &HeaderMap, name: HeaderName, expected: &str) -> Result<(), Failure> {
    if headers.get_all(&name).iter().count() == 1 && text(headers, name.clone()) == Some(expected) {
        return Ok(());
    }
    let found: String = text(headers, name.clone()).unwrap_or("missing").chars().take(80).collect();
    Err(Failure::Answer(format!("{name} is {found}, not {expected}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn verdict(range: Range<u64>, status: u16, headers: &[(HeaderName, &str)]) -> Result<(), String> {
        let expected = ExpectedResponse { file: FILE.parse().unwrap(), range, file_len: 100 };
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        expected.check(StatusCode::from_u16(status).unwrap(), &headers).map_err(|failure| failure.to_string())
    }

    #[test]
    fn only_the_response_to_the_request_is_accepted() {
        let etag = format!("\"{FILE}\"");
        let good = |range: &'static str| vec![(CONTENT_RANGE, range), (CONTENT_LENGTH, "10"), (ETAG, etag.as_str())];
        assert_eq!(verdict(10..20, 206, &good("bytes 10-19/100")), Ok(()));
        for bad in ["bytes 10-19/101", "bytes 10-18/100", "bytes 11-20/100", "bytes */100", "bytes 10-19/*", "x"] {
            assert!(verdict(10..20, 206, &good(bad)).is_err(), "{bad}");
        }
        for twice in [
            (CONTENT_RANGE, "bytes 10-19/100"),
            (CONTENT_RANGE, "bytes 0-9/100"),
            (CONTENT_LENGTH, "11"),
            (ETAG, "\"x\""),
        ] {
            assert!(
                verdict(10..20, 206, &[good("bytes 10-19/100"), vec![twice.clone()]].concat()).is_err(),
                "{twice:?}"
            );
        }
        for missing in 0..3 {
            let mut headers = good("bytes 10-19/100");
            headers.remove(missing);
            assert!(verdict(10..20, 206, &headers).is_err(), "header {missing}");
        }
        let coded = [good("bytes 10-19/100"), vec![(CONTENT_ENCODING, "gzip")]].concat();
        assert!(verdict(10..20, 206, &coded).is_err());
        let plain_and_coded =
            [good("bytes 10-19/100"), vec![(CONTENT_ENCODING, "identity"), (CONTENT_ENCODING, "gzip")]];
        assert!(verdict(10..20, 206, &plain_and_coded.concat()).is_err());
        let weak = format!("W/{etag}");
        assert!(verdict(10..20, 206, &[good("bytes 10-19/100"), vec![(ETAG, &weak)]].concat()).is_err());
    }

    #[test]
    fn only_a_whole_file_may_arrive_as_200() {
        let etag = format!("\"{FILE}\"");
        let headers = [(CONTENT_LENGTH, "100"), (ETAG, etag.as_str())];
        assert_eq!(verdict(0..100, 200, &headers), Ok(()));
        assert!(verdict(0..99, 200, &headers).is_err());
    }

    #[test]
    fn each_status_maps_to_a_fault() {
        let expected = ExpectedResponse { file: FILE.parse().unwrap(), range: 0..1, file_len: 100 };
        let fault = |status: u16, retry: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, retry.parse().unwrap())]);
            expected.check(StatusCode::from_u16(status).unwrap(), &headers).unwrap_err().fault()
        };
        use crate::schedule::SourceFault::{Broken, Busy, NotHeld, TokenRefused};
        assert_eq!(fault(503, "3"), Busy(Some(Duration::from_secs(3))));
        assert_eq!(fault(429, "Fri, 20 Nov 2026 10:00:00 GMT"), Busy(None));
        assert_eq!(fault(500, ""), Busy(None));
        assert_eq!((fault(404, ""), fault(403, ""), fault(401, "")), (NotHeld, TokenRefused, TokenRefused));
        assert_eq!((fault(302, ""), fault(416, ""), fault(204, "")), (Broken, Broken, Broken));
    }
}

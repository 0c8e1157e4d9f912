//! Whether an answer is the answer to what was asked (RFC 9110 §15.3.7): nothing a source says is believed.

use std::{ops::Range, time::Duration};

use reqwest::{
    StatusCode,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, RETRY_AFTER},
};
use wire::{FileId, range::ContentRange};

use super::Failure;

/// What was asked for: bytes of a file whose length is known.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) file: FileId,
    pub(super) range: Range<u64>,
    pub(super) len: u64,
}

impl Asked {
    /// Checks status and headers.
    pub(super) fn check(&self, status: StatusCode, headers: &HeaderMap) -> Result<(), Failure> {
        let whole = self.range == (0..self.len);
        match status {
            StatusCode::PARTIAL_CONTENT => self.check_range(headers)?,
            StatusCode::OK if whole => {}
            StatusCode::OK => return Err(Failure::Answer("it sent the whole file instead of the range".into())),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(Failure::Refused(status.as_u16())),
            StatusCode::NOT_FOUND => return Err(Failure::NotHeld),
            StatusCode::TOO_MANY_REQUESTS => return Err(busy(status, headers)),
            _ if status.is_server_error() => return Err(busy(status, headers)),
            _ if status.is_redirection() => {
                return Err(Failure::Answer(format!("status {}: redirects are not followed", status.as_u16())));
            }
            _ => return Err(Failure::Answer(format!("status {}", status.as_u16()))),
        }
        let wanted = (self.range.end - self.range.start).to_string();
        expect(headers, CONTENT_LENGTH, &wanted)?;
        expect(headers, ETAG, &format!("\"{}\"", self.file))?;
        match text(headers, CONTENT_ENCODING) {
            None | Some("identity") => Ok(()),
            Some(_) => Err(Failure::Answer("it sent the bytes in another coding".into())),
        }
    }

    fn check_range(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let wanted = ContentRange::Part { range: self.range.clone(), len: self.len };
        let found = text(headers, CONTENT_RANGE).and_then(|value| value.parse().ok());
        if found.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let found = found.map_or_else(|| "none".to_owned(), |range: ContentRange| range.to_string());
        Err(Failure::Answer(format!("Content-Range is {found}, not {wanted}")))
    }
}

fn busy(status: StatusCode, headers: &HeaderMap) -> Failure {
    // Only the form in seconds: the date form would trust the server's clock.
    let retry_after = text(headers, RETRY_AFTER).and_then(|value| value.parse().ok()).map(Duration::from_secs);
    Failure::Busy { status: status.as_u16(), retry_after }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn expect(headers: &HeaderMap, name: HeaderName, wanted: &str) -> Result<(), Failure> {
    if headers.get_all(&name).iter().count() == 1 && text(headers, name.clone()) == Some(wanted) {
        return Ok(());
    }
    let found: String = text(headers, name.clone()).unwrap_or("missing").chars().take(80).collect();
    Err(Failure::Answer(format!("{name} is {found}, not {wanted}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn verdict(range: Range<u64>, status: u16, headers: &[(HeaderName, &str)]) -> Result<(), String> {
        let asked = Asked { file: FILE.parse().unwrap(), range, len: 100 };
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        asked.check(StatusCode::from_u16(status).unwrap(), &headers).map_err(|failure| failure.to_string())
    }

    #[test]
    fn only_the_answer_to_what_was_asked_is_accepted() {
        let etag = format!("\"{FILE}\"");
        let good = |range: &'static str| vec![(CONTENT_RANGE, range), (CONTENT_LENGTH, "10"), (ETAG, etag.as_str())];
        assert_eq!(verdict(10..20, 206, &good("bytes 10-19/100")), Ok(()));
        for bad in ["bytes 10-19/101", "bytes 10-18/100", "bytes 11-20/100", "bytes */100", "bytes 10-19/*", "x"] {
            assert!(verdict(10..20, 206, &good(bad)).is_err(), "{bad}");
        }
        for missing in 0..3 {
            let mut headers = good("bytes 10-19/100");
            headers.remove(missing);
            assert!(verdict(10..20, 206, &headers).is_err(), "header {missing}");
        }
        let coded = [good("bytes 10-19/100"), vec![(CONTENT_ENCODING, "gzip")]].concat();
        assert!(verdict(10..20, 206, &coded).is_err());
        let weak = format!("W/{etag}");
        assert!(verdict(10..20, 206, &[good("bytes 10-19/100"), vec![(ETAG, &weak)]].concat()).is_err());
    }

    #[test]
    fn a_whole_file_may_come_as_200_and_nothing_else_may() {
        let etag = format!("\"{FILE}\"");
        let headers = [(CONTENT_LENGTH, "100"), (ETAG, etag.as_str())];
        assert_eq!(verdict(0..100, 200, &headers), Ok(()));
        assert!(verdict(0..99, 200, &headers).is_err());
    }

    #[test]
    fn a_status_says_what_to_do_next() {
        let asked = Asked { file: FILE.parse().unwrap(), range: 0..1, len: 100 };
        let fault = |status: u16, retry: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, retry.parse().unwrap())]);
            asked.check(StatusCode::from_u16(status).unwrap(), &headers).unwrap_err().fault()
        };
        use crate::schedule::Fault::{Broken, Busy, NotHeld, Refused};
        assert_eq!(fault(503, "3"), Busy(Some(Duration::from_secs(3))));
        assert_eq!(fault(429, "Fri, 20 Nov 2026 10:00:00 GMT"), Busy(None));
        assert_eq!(fault(500, ""), Busy(None));
        assert_eq!((fault(404, ""), fault(403, ""), fault(401, "")), (NotHeld, Refused, Refused));
        assert_eq!((fault(302, ""), fault(416, ""), fault(204, "")), (Broken, Broken, Broken));
    }
}

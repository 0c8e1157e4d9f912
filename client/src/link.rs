//! `ddm://` links, which web pages and messages may ask the client to open. They are untrusted input.

use std::str::FromStr;

use percent_encoding::percent_decode_str;
use url::{Host, Url};
use wire::{FileId, JobId, OriginUrl, id::IdPrefix};

/// Longest link, in bytes: the longest URL with every byte encoded.
const MAX_LINK_LEN: usize = 3 * wire::origin_url::MAX_ORIGIN_URL + 300;

/// Parsed link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Target of the link.
    pub target: LinkTarget,
    /// Info-server that the link names, as `host:port`; the user's own when absent.
    pub info_server: Option<String>,
}

/// Target of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkTarget {
    /// Published file.
    File(FileId),
    /// File at an origin.
    Url(OriginUrl),
    /// Job.
    Job(JobId),
}

/// Error of a text that is no link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The text has another form.
    #[error(
        "a link looks like ddm://file/ID, ddm://job/ID, ddm://url/ADDRESS or ddm://fetch?url=ADDRESS, with ADDRESS percent-encoded and \
         optionally an info-server: ddm://HOST/file/ID"
    )]
    Malformed,
    /// The link names a file or job by the beginning of its id, which may stand for another one later.
    #[error(
        "a link contains the whole id, such as 01890a5d-ac96-774b-bcce-b302099a8057; `ddm-client get` also takes names and beginnings of ids"
    )]
    NoWholeId,
}

impl Link {
    /// Returns true if the link names no info-server, or the one at `info`.
    pub fn agrees(&self, info: &Url) -> bool {
        let Some(named) = &self.info_server else { return true };
        let host = info.host_str().unwrap_or_default();
        let with_port = info.port_or_known_default().map(|port| format!("{host}:{port}"));
        // A link without a port means the default port of the info-server's scheme.
        Some(named) == with_port.as_ref() || (named == host && info.port().is_none())
    }
}

impl FromStr for Link {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Self, LinkError> {
        let scheme = text.get(..6).filter(|scheme| scheme.eq_ignore_ascii_case("ddm://"));
        let plain = text.len() <= MAX_LINK_LEN && text.bytes().all(|byte| byte.is_ascii_graphic());
        if scheme.is_none() || !plain || text.contains('#') {
            return Err(LinkError::Malformed);
        }
        let rest = text.get(6..).ok_or(LinkError::Malformed)?;
        let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
        let path = path.strip_suffix('/').unwrap_or(path);
        let parts: Vec<&str> = path.split('/').collect();
        let (info_server, parts) = match parts.as_slice() {
            [first @ ("file" | "job" | "url" | "fetch"), rest @ ..] => (None, (*first, rest)),
            [host, first, rest @ ..] => (Some(host_of(host)?), (*first, rest)),
            _ => return Err(LinkError::Malformed),
        };
        let target = match (parts, query) {
            (("file", [id]), None) => LinkTarget::File(id.parse().map_err(|_| id_error(id))?),
            (("job", [id]), None) => LinkTarget::Job(id.parse().map_err(|_| id_error(id))?),
            (("url", [encoded]), None) => LinkTarget::Url(decoded(encoded)?),
            (("fetch", []), Some(query)) => {
                LinkTarget::Url(decoded(query.strip_prefix("url=").ok_or(LinkError::Malformed)?)?)
            }
            _ => return Err(LinkError::Malformed),
        };
        Ok(Self { target, info_server })
    }
}

/// Returns the error of a text that is no id: the beginning of one has a reason of its own.
fn id_error(text: &str) -> LinkError {
    let is_beginning = !text.is_empty() && text.len() < 36 && text.parse::<IdPrefix>().is_ok();
    if is_beginning { LinkError::NoWholeId } else { LinkError::Malformed }
}

/// Decodes a URL that was percent-encoded as a whole. Characters that would end it in the link must be encoded.
fn decoded(encoded: &str) -> Result<OriginUrl, LinkError> {
    if encoded.contains(['&', '+']) {
        return Err(LinkError::Malformed);
    }
    let text = percent_decode_str(encoded).decode_utf8().map_err(|_| LinkError::Malformed)?;
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(LinkError::Malformed);
    }
    text.parse().map_err(|_| LinkError::Malformed)
}

/// Parses a host with an optional port. A user name is rejected.
fn host_of(text: &str) -> Result<String, LinkError> {
    let url = Url::parse(&format!("http://{text}/")).map_err(|_| LinkError::Malformed)?;
    let plain =
        url.username().is_empty() && url.password().is_none() && url.path() == "/" && !text.contains(['@', '\\']);
    match (plain, url.host()) {
        (true, Some(Host::Domain(_) | Host::Ipv4(_) | Host::Ipv6(_))) => {}
        _ => return Err(LinkError::Malformed),
    }
    let host = url.host_str().unwrap_or_default();
    // The parser drops the default port, even if it was written.
    let port = text.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    match (url.port(), port) {
        (Some(port), _) => Ok(format!("{host}:{port}")),
        (None, Some((_, "80"))) => Ok(format!("{host}:80")),
        (None, _) => Ok(host.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    #[test]
    fn links_lead_to_a_file_a_url_or_a_job() {
        let file = LinkTarget::File(ID.parse().unwrap());
        let job = LinkTarget::Job(ID.parse().unwrap());
        let url = |text: &str| LinkTarget::Url(text.parse().unwrap());
        for (text, target, info_server) in [
            (format!("ddm://file/{ID}"), file.clone(), None),
            (format!("DDM://file/{ID}/"), file.clone(), None),
            (format!("ddm://info.example.org/file/{ID}"), file.clone(), Some("info.example.org")),
            (format!("ddm://INFO.example.org:8000/file/{ID}"), file.clone(), Some("info.example.org:8000")),
            (format!("ddm://[::1]:80/file/{ID}"), file, Some("[::1]:80")),
            (format!("ddm://10.0.0.1/job/{ID}"), job.clone(), Some("10.0.0.1")),
            (format!("ddm://job/{ID}"), job, None),
            (
                "ddm://url/https%3A%2F%2Fexample.org%2Fa%2520b%3Fx%3D1".into(),
                url("https://example.org/a%20b?x=1"),
                None,
            ),
            ("ddm://url/https:%2f%2fexample.org%2fa".into(), url("https://example.org/a"), None),
            ("ddm://fetch?url=https%3A%2F%2Fexample.org%2Fa%26b".into(), url("https://example.org/a&b"), None),
            ("ddm://fetch/?url=https://example.org/a".into(), url("https://example.org/a"), None),
        ] {
            let link: Link = text.parse().unwrap_or_else(|_| panic!("{text}"));
            assert_eq!((link.target, link.info_server.as_deref()), (target, info_server), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            String::new(),
            "ddm://".into(),
            "ddm:".into(),
            format!("ddm:file/{ID}"),
            format!("http://file/{ID}"),
            "ddm://file/".into(),
            "ddm://file/x".into(),
            format!("ddm://file/{ID}/more"),
            format!("ddm://file/{ID}?x"),
            format!("ddm://file/{ID}#x"),
            format!("ddm://file//{ID}"),
            format!("ddm://me@host/file/{ID}"),
            format!("ddm://me:secret@host/file/{ID}"),
            format!("ddm://host:99999/file/{ID}"),
            format!("ddm://ho st/file/{ID}"),
            format!("ddm://host\\evil/file/{ID}"),
            format!("ddm:///file/{ID}"),
            format!("ddm://host/other/file/{ID}"),
            "ddm://url/https://example.org/a".into(),
            "ddm://url/ftp%3A%2F%2Fexample.org%2Fa".into(),
            "ddm://url/https%3A%2F%2Fme%3Ayou%40example.org%2Fa".into(),
            "ddm://url/file%3A%2F%2F%2Fetc%2Fpasswd".into(),
            "ddm://url/https%3A%2F%2Fexample.org%2Fa%0Ab".into(),
            "ddm://url/%ff".into(),
            "ddm://fetch?url=https://example.org/a&output=/etc/x".into(),
            "ddm://fetch?output=/etc/x".into(),
            "ddm://fetch".into(),
            "ddm://room/x".into(),
            format!("ddm://file/{ID}\n"),
            format!("ddm://url/{}", "x".repeat(MAX_LINK_LEN)),
        ] {
            assert!(bad.parse::<Link>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_link_agrees_with_the_very_info_server_it_names() {
        let agrees = |at: &str, info: &str| {
            format!("ddm://{at}file/{ID}").parse::<Link>().unwrap().agrees(&info.parse().unwrap())
        };
        assert!(agrees("", "http://127.0.0.1:8000"));
        assert!(agrees("127.0.0.1:8000/", "http://127.0.0.1:8000/"));
        assert!(agrees("example.org/", "https://example.org"));
        assert!(agrees("example.org:443/", "https://example.org"));
        assert!(agrees("example.org:80/", "http://example.org"));
        for (at, info) in [
            ("127.0.0.1/", "http://127.0.0.1:8000"),
            ("127.0.0.1:8001/", "http://127.0.0.1:8000"),
            ("example.org.evil/", "https://example.org"),
            ("example.org:80/", "https://example.org"),
        ] {
            assert!(!agrees(at, info), "{at} {info}");
        }
    }

    proptest! {
        #[test]
        fn every_text_is_taken_or_refused(text in "(ddm://)?[ -~é]{0,60}") {
            let _ = text.parse::<Link>();
        }

        #[test]
        fn an_encoded_url_comes_back(path in "[a-zA-Z0-9/?&=%#+._~-]{0,30}") {
            if let Ok(url) = format!("https://example.org/{path}").parse::<OriginUrl>() {
                let set = percent_encoding::NON_ALPHANUMERIC;
                let encoded = percent_encoding::utf8_percent_encode(url.url().as_str(), set);
                let link: Link = format!("ddm://url/{encoded}").parse().unwrap();
                prop_assert!(link.target == LinkTarget::Url(url));
            }
        }
    }
}

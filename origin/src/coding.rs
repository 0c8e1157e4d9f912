//! Content codings (RFC 9110 §8.4) of responses to requests that asked for none.
//!
//! Such a field is more often wrong than right: made-up codings come from storage services, and servers declare the compression of
//! a compressed file (`x.tar.gz`, `x.deb`). Other programs store the bytes as they were sent, and those are the file.

use percent_encoding::percent_decode_str;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use wire::OriginUrl;

use crate::{headers::single, name};

/// A coding that changes bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Zstd,
    /// One whose data cannot be told from other bytes by their beginning.
    Other,
}

impl Coding {
    fn parse(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "zstd" => Some(Self::Zstd),
            "deflate" | "br" | "compress" | "x-compress" | "dcb" | "dcz" | "exi" | "pack200-gzip" | "bzip2"
            | "x-bzip2" | "xz" | "x-xz" | "lzma" => Some(Self::Other),
            // `identity`, a word that is no coding (`aws-chunked`, `UTF-8`, `binary`), or none.
            _ => None,
        }
    }

    /// Returns true if data that begin like this can be the result of the coding.
    pub(crate) fn may_begin(self, start: &[u8]) -> bool {
        match self {
            Self::Gzip => start.starts_with(&[0x1f, 0x8b]),
            Self::Zstd => start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]),
            Self::Other => true,
        }
    }
}

/// Returns the codings that a response declares and that change bytes.
fn declared(headers: &HeaderMap) -> Vec<Coding> {
    let values = headers.get_all(CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(Coding::parse).collect()
}

/// Returns true if the bytes of ranges are those of the file itself. Workers fetch ranges at different times and from different
/// servers, so a coding must be the file's own: one, of a file whose name says that it is packed.
pub(crate) fn is_plain(url: &OriginUrl, headers: &HeaderMap) -> bool {
    match declared(headers).as_slice() {
        [] => true,
        [_] => names(url, headers).iter().any(|name| has_extension(name, PACKED)),
        _ => false,
    }
}

/// Returns the coding that makes the bytes of a whole file suspect: that of a text, which a server packs on the way. All other
/// bytes are stored as they are sent.
pub(crate) fn suspect(url: &OriginUrl, headers: &HeaderMap) -> Option<Coding> {
    let coding = declared(headers).into_iter().next()?;
    let names = names(url, headers);
    let is_packed = names.iter().any(|name| has_extension(name, PACKED));
    let is_text = names.iter().any(|name| has_extension(name, TEXTS)) || is_text_type(headers);
    (is_text && !is_packed).then_some(coding)
}

/// Returns the names that a response or its URL may mean: that of the header, the path's, and the values of the query.
fn names(url: &OriginUrl, headers: &HeaderMap) -> Vec<String> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().to_ascii_lowercase();
    let query = url.url().query().unwrap_or_default().split('&').filter_map(|field| field.split_once('='));
    let mut names: Vec<String> = query.map(|(_, value)| decoded(value)).collect();
    names.push(decoded(url.url().path()));
    names.extend(name::of_response(headers).map(|name| name.as_str().to_ascii_lowercase()));
    names
}

fn has_extension(name: &str, extensions: &[&str]) -> bool {
    name.rsplit_once('.').is_some_and(|(_, extension)| extensions.contains(&extension))
}

fn is_text_type(headers: &HeaderMap) -> bool {
    let media_type = single(headers, &CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    media_type.starts_with("text/") || ["json", "xml", "javascript"].iter().any(|end| media_type.ends_with(end))
}

/// Extensions of files that are packed themselves: no server packs them again.
const PACKED: &[&str] = &[
    "gz", "tgz", "taz", "svgz", "z", "bz2", "tbz", "tbz2", "xz", "txz", "lzma", "tlz", "zst", "tzst", "lz4", "br",
    "7z", "zip", "rar", "cab", "jar", "war", "apk", "aab", "ipa", "whl", "egg", "gem", "crate", "nupkg", "deb", "udeb",
    "rpm", "drpm", "xpi", "crx", "snap", "flatpak", "appimage", "squashfs", "cpio", "tar", "iso", "img", "dmg",
    "qcow2", "vmdk", "vhdx", "ova", "msi", "exe", "docx", "xlsx", "pptx", "odt", "ods", "odp", "epub", "pdf", "jpg",
    "jpeg", "png", "gif", "webp", "avif", "heic", "mp3", "mp4", "m4a", "m4v", "mkv", "webm", "ogg", "opus", "flac",
    "aac", "avi", "mov", "wmv", "woff", "woff2", "vcf", "bam", "nii",
];

/// Extensions of texts.
const TEXTS: &[&str] = &[
    "txt", "text", "htm", "html", "xhtml", "css", "js", "mjs", "json", "jsonl", "ndjson", "geojson", "xml", "rss",
    "atom", "svg", "csv", "tsv", "md", "rst", "yaml", "yml", "toml", "ini", "log", "tex", "sql", "sh", "py", "rs",
    "go", "c", "h", "cpp", "java", "ts", "php", "asc", "sha256", "md5",
];

#[cfg(test)]
mod tests {
    use reqwest::header::{CONTENT_DISPOSITION, HeaderName, HeaderValue};

    use super::*;

    fn headers(codings: &[&str], others: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for coding in codings {
            headers.append(CONTENT_ENCODING, HeaderValue::from_bytes(coding.as_bytes()).unwrap());
        }
        for (name, value) in others {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn ranges_are_plain_without_a_real_coding_or_with_the_files_own() {
        for (url, codings, plain) in [
            ("http://x/a.bin", &[][..], true),
            ("http://x/a.bin", &["aws-chunked"], true),
            ("http://x/a.bin", &["UTF-8"], true),
            ("http://x/a.bin", &["binary", "none"], true),
            ("http://x/a.bin", &["identity, identity"], true),
            ("http://x/a.bin", &[""], true),
            ("http://x/a.bin", &["\u{ff}"], true),
            ("http://x/a.bin", &["gzip"], false),
            ("http://x/a.bin", &["aws-chunked, gzip"], false),
            ("http://x/a.txt", &["gzip"], false),
            ("http://x/a.txt", &["br"], false),
            ("http://x/a.tar.gz?b", &["gzip"], true),
            ("http://x/a.tar.GZ", &["X-Gzip"], true),
            ("http://x/a.tgz", &["x-gzip"], true),
            ("http://x/a.deb", &["gzip"], true),
            ("http://x/download?f=x.tar.gz", &["gzip"], true),
            ("http://x/download?f=x%2egz&y", &["gzip"], true),
            ("http://x/a?b.gz", &["gzip"], false),
            ("http://x/a.gz", &["gzip, gzip"], false),
            ("http://x/a.gz", &["gzip", "br"], false),
        ] {
            assert_eq!(is_plain(&url.parse().unwrap(), &headers(codings, &[])), plain, "{url} {codings:?}");
        }
        let named = headers(&["gzip"], &[(CONTENT_DISPOSITION, "attachment; filename=x.tar.gz")]);
        assert!(is_plain(&"http://x/7".parse().unwrap(), &named));
    }

    #[test]
    fn the_coding_of_a_text_alone_makes_a_whole_file_suspect() {
        let suspect = |url: &str, coding: &str, media_type: &'static str| {
            super::suspect(&url.parse().unwrap(), &headers(&[coding], &[(CONTENT_TYPE, media_type)]))
        };
        let binary = "application/octet-stream";
        assert_eq!(suspect("http://x/a.bin", "gzip", binary), None);
        assert_eq!(suspect("http://x/a", "br", binary), None);
        assert_eq!(suspect("http://x/a.deb", "gzip", "text/plain"), None);
        assert_eq!(suspect("http://x/a.txt.gz", "gzip", "text/plain"), None);
        assert_eq!(suspect("http://x/a.txt", "utf-8", "text/plain"), None);
        assert_eq!(suspect("http://x/a.csv", "gzip", binary), Some(Coding::Gzip));
        assert_eq!(suspect("http://x/a", "zstd", "application/json; charset=utf-8"), Some(Coding::Zstd));
        assert_eq!(suspect("http://x/a", "br", "text/html"), Some(Coding::Other));
    }

    #[test]
    fn data_are_packed_only_if_they_begin_so() {
        assert!(Coding::Gzip.may_begin(&[0x1f, 0x8b, 8]) && !Coding::Gzip.may_begin(b"a,b,c"));
        assert!(Coding::Zstd.may_begin(&[0x28, 0xb5, 0x2f, 0xfd]) && !Coding::Zstd.may_begin(b""));
        assert!(Coding::Other.may_begin(b"a"));
    }
}

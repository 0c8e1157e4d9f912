//! Things to download: files, URLs and links.

use std::{fmt, str::FromStr};

use wire::OriginUrl;

use crate::{entry_ref::EntryRef, link::Link};

/// Thing to download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Published file.
    File(EntryRef),
    /// File at an origin.
    Url(OriginUrl),
    /// Link to one of them, or to a job, with its text.
    Link(Box<Link>, String),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_link = text.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("ddm://"));
        if is_link {
            let link = text.parse().map_err(|error: crate::link::LinkError| error.to_string())?;
            return Ok(Self::Link(Box::new(link), text.to_owned()));
        }
        if text.contains("://") {
            return text.parse().map(Self::Url).map_err(|error: <OriginUrl as FromStr>::Err| error.to_string());
        }
        text.parse().map(Self::File).map_err(|error: crate::entry_ref::EntryRefError| error.to_string())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => file.fmt(f),
            Self::Url(url) => url.fmt(f),
            Self::Link(_, text) => f.write_str(text),
        }
    }
}

/// Parses a list of targets, one a line. Empty lines and lines that begin with `#` are left out.
///
/// # Errors
/// The number and the defect of the first line that is no target.
pub(crate) fn parse_list(text: &str) -> Result<Vec<Target>, String> {
    let lines = text.lines().enumerate().map(|(n, line)| (n + 1, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines.map(|(n, line)| line.parse().map_err(|error: String| format!("line {n}: {error}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_holds_ids_names_urls_and_links() {
        let id = "01a22865-ac96-774b-bcce-b302099a8057";
        let text = format!("# files\n{id}\n\n my file.bin \r\nhttps://example.org/x\nddm://file/{id}\n");
        let parsed = parse_list(&text).unwrap();
        let shown: Vec<String> = parsed.iter().map(ToString::to_string).collect();
        assert_eq!(shown, [id, "my file.bin", "https://example.org/x", &format!("ddm://file/{id}")]);
        assert!(matches!(parsed.as_slice(), [Target::File(_), Target::File(_), Target::Url(_), Target::Link(..)]));
        for (bad, why) in [
            ("a\nftp://example.org/x\n", "line 2: "),
            ("ddm://nonsense", "line 1: a link looks like"),
            ("a\u{1b}[2J", "line 1: give an id"),
        ] {
            let error = parse_list(bad).unwrap_err();
            assert!(error.starts_with(why), "{error}");
        }
    }
}

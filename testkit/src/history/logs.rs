//! Secrets that the programs' logs must not hold.

use std::{collections::BTreeSet, path::Path};

use crate::PASSWORD;

/// Words of a log line that report a fault of our own, in lower case.
const FAULTS: [&str; 3] = ["panicked at", "internal error", "a request failed"];
/// Prefixes of tokens.
const TOKENS: [&str; 4] = ["ddms_", "ddmd_", "ddmu_", "ddmv_"];
const TOKEN_LEN: usize = 40;

/// Log of one program.
#[derive(Debug)]
pub(super) struct Log {
    name: String,
    text: String,
}

/// Reads every log of a folder.
pub(super) fn read(folder: &Path) -> Vec<Log> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let logs = entries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "log"));
    logs.map(|entry| {
        let text = std::fs::read(entry.path()).unwrap_or_default();
        Log {
            name: entry.file_name().to_string_lossy().into_owned(),
            text: String::from_utf8_lossy(&text).into_owned(),
        }
    })
    .collect()
}

pub(super) fn internal_errors(logs: &[Log]) -> Vec<String> {
    let is_fault = |line: &str| {
        let line = line.to_lowercase();
        FAULTS.iter().any(|fault| line.contains(fault))
    };
    logs.iter()
        .flat_map(|Log { name, text }| {
            text.lines().filter(|line| is_fault(line)).map(move |line| format!("{name}: {line}"))
        })
        .collect()
}

/// Returns the secrets found, by their first characters, and the tokens that the test did not issue.
pub(super) fn secrets(logs: &[Log], known: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for Log { name, text } in logs {
        let known = known.iter().map(String::as_str).chain([PASSWORD]);
        found.extend(known.filter(|secret| text.contains(secret)).map(|secret| hint(name, secret)));
        for prefix in TOKENS {
            found.extend(text.match_indices(prefix).filter_map(|(at, _)| {
                let word = text.get(at..)?.split(|c: char| !c.is_ascii_alphanumeric() && !"_-".contains(c)).next()?;
                (word.len() >= TOKEN_LEN).then(|| hint(name, word))
            }));
        }
    }
    found.dedup();
    found
}

fn hint(name: &str, secret: &str) -> String {
    format!("{name} holds {}…", secret.chars().take(8).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_and_secrets_are_found_and_plain_lines_are_not() {
        let log = |text: &str| vec![Log { name: "x.log".to_owned(), text: text.to_owned() }];
        let token = wire::token::Token::generate(wire::token::TokenKind::Upload);
        assert_eq!(internal_errors(&log("thread 'main' panicked at src/main.rs:1\nfine")).len(), 1);
        assert_eq!(internal_errors(&log("ERROR a request failed: disk I/O error")).len(), 1);
        assert_eq!(internal_errors(&log("ERROR A request failed error=disk I/O error")).len(), 1);
        assert!(internal_errors(&log("listening on http://127.0.0.1:1")).is_empty());
        assert_eq!(secrets(&log(&format!("bearer {}!", token.expose())), &BTreeSet::new()).len(), 1);
        assert_eq!(secrets(&log(&format!("p={PASSWORD}")), &BTreeSet::new()).len(), 1);
        assert_eq!(secrets(&log("join 0123456789"), &["0123456789".to_owned()].into()).len(), 1);
        assert!(secrets(&log("a token ddmd_… was refused"), &BTreeSet::new()).is_empty());
    }
}

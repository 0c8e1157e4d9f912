//! Answers of every route to every kind of token, and those that are expected.

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::ensure;
use reqwest::StatusCode;
use serde_json::Value;

/// A row for each route, and in it each kind of token with its answer. A route that is added adds its row; the other rows stay.
const EXPECTED: &str = include_str!("answers.txt");

/// Tokens with the same answer that are written by their names.
const MAX_NAMED: usize = 8;

/// Question to a route, with a kind of token.
pub(super) struct Asked {
    pub(super) listener: &'static str,
    pub(super) operation: &'static str,
    pub(super) token: &'static str,
}

/// Answers by listener and operation, and there by the token.
#[derive(Default)]
pub(super) struct Answers(BTreeMap<(&'static str, &'static str), BTreeMap<&'static str, String>>);

impl Answers {
    /// Notes an answer: its status, and its kind of problem.
    pub(super) fn note(&mut self, asked: Asked, status: StatusCode, body: &[u8]) {
        let problem: Value = serde_json::from_slice(body).unwrap_or_default();
        let kind = problem["type"].as_str().and_then(|kind| kind.strip_prefix("urn:ddm:problem:"));
        let answer = kind.map_or_else(|| status.as_u16().to_string(), |kind| format!("{} {kind}", status.as_u16()));
        self.0.entry((asked.listener, asked.operation)).or_default().insert(asked.token, answer);
    }

    /// Writes the rows: tokens with the same answer stand together.
    fn rows(&self) -> String {
        let mut text = String::new();
        for ((listener, operation), answers) in &self.0 {
            let mut tokens: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            for (token, answer) in answers {
                tokens.entry(answer).or_default().push(token);
            }
            let _ = writeln!(text, "{listener} {operation}");
            for (answer, tokens) in tokens {
                // Most tokens are wrong everywhere: their number, with the names of the others, says which they are.
                let named =
                    if tokens.len() > MAX_NAMED { format!("{} others", tokens.len()) } else { tokens.join("; ") };
                let _ = writeln!(text, "  {answer}: {named}");
            }
        }
        text
    }

    /// Compares the answers with the expected ones.
    pub(super) fn compare(&self) -> anyhow::Result<()> {
        let rows = self.rows();
        ensure!(rows == EXPECTED, "the answers are not those of matrix/answers.txt but these:\n{rows}");
        Ok(())
    }
}

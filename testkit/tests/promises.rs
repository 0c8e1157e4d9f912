//! `docs/PROMISES.md` and the tree agree: each code that is cited is defined, and each test that is named exists.

#![expect(clippy::unwrap_used, reason = "what is not as expected should fail its test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Kinds of files that cite codes.
const CITING_EXTENSIONS: [&str; 6] = ["md", "patch", "rs", "sh", "toml", "yaml"];
/// Number of promises, P1 to P14.
const PROMISE_COUNT: u32 = 14;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Returns the files of the tree that may cite codes or hold tests, with their text, without what a build makes.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && name != ".git" {
                    folders.push(path);
                }
            } else if is_citing(&path)
                && let Ok(text) = fs::read_to_string(&path)
            {
                found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    found
}

/// Returns true if a file is of a kind that cites codes; scripts without an extension do too.
fn is_citing(path: &Path) -> bool {
    path.extension().is_none_or(|extension| CITING_EXTENSIONS.iter().any(|known| extension == *known))
}

/// Returns the codes that a text cites: one of P, S, F and W and one or two digits, as a word of its own.
fn cited(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| {
            word.strip_prefix(['P', 'S', 'F', 'W']).is_some_and(|number| {
                matches!(number.len(), 1..=2) && number.bytes().all(|digit| digit.is_ascii_digit())
            })
        })
        .map(str::to_owned)
        .collect()
}

/// Returns each code that the document defines, with what it names in backticks: tests as `path::name`, scripts as paths.
fn defined() -> BTreeMap<String, Vec<String>> {
    let document = fs::read_to_string(root().join("docs/PROMISES.md")).unwrap();
    let mut promises = BTreeMap::new();
    let mut current = None;
    for line in document.lines() {
        if let Some((code, _)) = line.strip_prefix("- **").and_then(|rest| rest.split_once("**")) {
            assert!(promises.insert(code.to_owned(), Vec::new()).is_none(), "{code} is defined twice");
            current = Some(code.to_owned());
        } else if let Some(named) = line.strip_prefix("  - `") {
            let code = current.as_ref().expect("a test stands under a code");
            promises.get_mut(code).unwrap().push(named.trim_end_matches('`').to_owned());
        }
    }
    promises
}

/// Returns true if a file holds a function of this name as a test that runs: its own attributes hold one of a test and no `ignore`.
fn holds_test(text: &str, name: &str) -> bool {
    let (mut is_test, mut is_ignored) = (false, false);
    text.lines().map(str::trim_start).any(|line| {
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        is_ignored |= line.starts_with("#[ignore");
        let function = line.strip_prefix("async ").unwrap_or(line);
        let Some(rest) = function.strip_prefix("fn ") else { return false };
        let attributes = (std::mem::take(&mut is_test), std::mem::take(&mut is_ignored));
        attributes == (true, false) && rest.split('(').next() == Some(name)
    })
}

#[test]
fn only_a_function_under_its_own_attribute_is_a_test_and_an_ignored_one_is_none() {
    let text = "#[test]\nfn shown() {}\nfn helper() {}\n#[tokio::test(start_paused = true)]\nasync fn later() {}\n#[test]\n\
                #[ignore = \"slow\"]\nfn ignored() {}\n#[cfg(test)]\nfn setup() {}\n    #[test]\n    fn last() {}";
    let tests = ["shown", "helper", "later", "ignored", "setup", "last"].map(|name| holds_test(text, name));
    assert_eq!(tests, [true, false, true, false, false, true]);
}

#[test]
fn every_code_cited_in_the_tree_is_defined() {
    let defined = defined();
    for (path, text) in sources() {
        for code in cited(&text) {
            assert!(
                defined.contains_key(&code),
                "{} cites {code}, which docs/PROMISES.md does not define",
                path.display()
            );
        }
    }
}

#[test]
fn every_test_named_by_a_promise_exists() {
    let sources = sources();
    for (code, named) in defined() {
        for entry in named {
            let Some((end, name)) = entry.split_once("::") else {
                assert!(root().join(&entry).exists(), "{code} names {entry}, which does not exist");
                continue;
            };
            let file = PathBuf::from(format!("{end}.rs"));
            let exists = sources.iter().any(|(path, text)| path.ends_with(&file) && holds_test(text, name));
            assert!(exists, "{code} names the test {entry}, which does not exist: update docs/PROMISES.md");
        }
    }
}

#[test]
fn every_promise_is_shown_by_a_test() {
    let defined = defined();
    for number in 1..=PROMISE_COUNT {
        let named = defined.get(&format!("P{number}")).unwrap_or_else(|| panic!("P{number} is not defined"));
        assert!(named.iter().any(|entry| entry.contains("::")), "P{number} names no test");
    }
}

//! The table of problem kinds in docs/PROTOCOL.md is complete: it lists every kind that a server can send, with its status.

#![expect(clippy::unwrap_used, reason = "a missing file should fail the test")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use ddm_wire::problem::ProblemKind;

/// Calls that create a problem, with the status that they imply; `None` for those whose first argument is the status.
const CONSTRUCTORS: [(&str, Option<&str>); 4] =
    [("Problem::new(", None), ("refuse(", None), ("conflict(", Some("409")), ("unavailable(", Some("503"))];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Returns kind and status of each problem that `source` creates. The status is empty where it is computed.
fn created(source: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (call, implied) in CONSTRUCTORS {
        for arguments in source.split(call).skip(1) {
            let mut arguments = arguments.split(',').map(str::trim);
            let status = implied.or_else(|| arguments.next()).unwrap_or_default();
            let quoted = |text: &str| match text.strip_prefix("ProblemKind::") {
                Some(name) => {
                    ProblemKind::ALL.iter().find(|kind| format!("{kind:?}") == name).map(|kind| kind.word().to_owned())
                }
                None => Some(text.strip_prefix('"')?.strip_suffix('"')?.to_owned()),
            };
            let status = if status.bytes().all(|byte| byte.is_ascii_digit()) { status } else { "" };
            found.extend(arguments.next().and_then(quoted).map(|kind| (kind, status.to_owned())));
        }
    }
    found
}

/// Returns the rows of the table of problems: the statuses of each kind.
fn documented() -> BTreeMap<String, String> {
    let text = fs::read_to_string(root().join("docs/PROTOCOL.md")).unwrap();
    let section = text.split("\n## ").find(|section| section.starts_with("Problems\n")).unwrap();
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        Some((cells.next()?.trim_end_matches('`').to_owned(), cells.next()?.to_owned()))
    };
    section.lines().filter_map(row).collect()
}

#[test]
fn every_problem_that_a_server_can_send_is_documented_with_its_status() {
    let mut files = Vec::new();
    for crate_folder in ["http-front", "info-server", "file-server"] {
        sources(&root().join(crate_folder).join("src"), &mut files);
    }
    let documented = documented();
    let mut sent = BTreeMap::<String, String>::new();
    for file in files {
        for (kind, status) in created(&fs::read_to_string(&file).unwrap()) {
            let statuses = documented.get(&kind);
            assert!(statuses.is_some(), "{kind} ({}) is not in the table of problems", file.display());
            assert!(statuses.unwrap().contains(&status), "the table gives {kind} another status than {status}");
            sent.insert(kind, status);
        }
    }
    assert!(sent.len() > 40, "only {} kinds were found: the constructors have changed", sent.len());
    for kind in documented.keys() {
        assert!(sent.contains_key(kind), "{kind} is documented and never sent");
    }
}

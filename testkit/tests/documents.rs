//! README, ARCHITECTURE and GLOSSARY name what the tree holds: folders, files, types.

#![expect(clippy::unwrap_used, reason = "what is not as expected should fail its test")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Returns the text of a file, by its path from the root.
fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Returns what stands in backticks in a text, code blocks aside.
fn quoted(text: &str) -> Vec<String> {
    let mut inside = false;
    let prose = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    });
    let prose: Vec<&str> = prose.collect();
    prose.join("\n").split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Returns the folders at the root that belong to the project.
fn top_folders() -> Vec<String> {
    let entries = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.path().is_dir());
    let names = folders.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.starts_with('.') && name != "target").collect()
}

/// Returns the text of all Rust sources.
fn sources() -> String {
    let mut text = String::new();
    let mut folders: Vec<PathBuf> = top_folders().into_iter().map(|name| root().join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&fs::read_to_string(&path).unwrap());
            }
        }
    }
    text
}

#[test]
fn the_readme_describes_every_folder_and_no_other() {
    let readme = read("README.md");
    for folder in top_folders() {
        assert!(readme.contains(&format!("| `{folder}` | ")), "README.md lacks the folder {folder}");
    }
    let (_, tree) = readme.split_once("## The tree").unwrap();
    for folder in tree.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()) {
        assert!(root().join(folder).is_dir(), "README.md describes the folder {folder}, which does not exist");
    }
}

#[test]
fn the_glossary_defines_each_word_once() {
    let glossary = read("docs/GLOSSARY.md");
    let mut words = BTreeSet::new();
    for word in glossary.lines().filter_map(|line| line.strip_prefix("| *")?.split(" |").next()) {
        assert!(words.insert(word), "docs/GLOSSARY.md defines *{word} twice");
    }
    assert!(words.len() > 50, "only {} words were found in docs/GLOSSARY.md", words.len());
}

#[test]
fn images_are_built_from_every_crate() {
    let sent = read("deploy/Dockerfile.dockerignore");
    let manifest = read("Cargo.toml");
    let (_, members) = manifest.split_once("members = [").unwrap();
    for member in members.split_once(']').unwrap().0.split(',').map(|member| member.trim().trim_matches('"')) {
        assert!(
            sent.lines().any(|line| line == format!("!{member}")),
            "deploy/Dockerfile.dockerignore leaves out {member}"
        );
    }
}

#[test]
fn the_architecture_names_files_that_exist() {
    let mut count = 0;
    for name in quoted(&read("docs/ARCHITECTURE.md")) {
        let top = name.split('/').next().unwrap_or_default();
        if name.contains('/') && top_folders().iter().any(|folder| folder == top) {
            assert!(root().join(&name).exists(), "docs/ARCHITECTURE.md names {name}, which does not exist");
            count += 1;
        }
    }
    assert!(count > 10, "only {count} paths were found in docs/ARCHITECTURE.md");
}

#[test]
fn the_glossary_names_types_that_exist() {
    let (sources, glossary) = (sources(), read("docs/GLOSSARY.md"));
    let (words, _) = glossary.split_once("## Words not to use").unwrap();
    for name in quoted(words) {
        let name = name.split("::").next().unwrap_or_default();
        let is_type =
            name.starts_with(|first: char| first.is_ascii_uppercase()) && name.chars().all(char::is_alphanumeric);
        if !is_type {
            continue;
        }
        let defines = |kind: &str| {
            sources.match_indices(&format!("{kind} {name}")).any(|(at, found)| {
                !sources[at + found.len()..].starts_with(|next: char| next.is_alphanumeric() || next == '_')
            })
        };
        // Ids are made by a macro: `uuid_id! { … FileId }`.
        let made = sources.lines().any(|line| line.trim() == name);
        let exists = ["struct", "enum", "trait", "type"].into_iter().any(defines) || made;
        assert!(exists, "docs/GLOSSARY.md names the type {name}, which does not exist");
    }
}

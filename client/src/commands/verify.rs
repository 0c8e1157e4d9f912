//! Compares local files with what was published, chunk by chunk, and fetches the chunks that are wrong.

mod chunk_check;
mod repair;

use std::{fs::File, path::Path};

use anyhow::{Context as _, bail, ensure};
use info_client::UserClient;
use transfer::download::DownloadError;
use wire::{
    ChunkLayout, ChunkSet, FileId,
    catalogue::{FileState, FileSummary, Manifest},
    grammar::counted,
};

use self::chunk_check::check_chunks;
use super::batch::{self, Ended};
use crate::{
    cli::Verify,
    conclusion::conclude,
    context::Context,
    entry_ref::EntryRef,
    exit::{Exit, UsageError},
    lookup::{self, Scope},
    output::{self, print, print_json},
    progress::Display,
    text,
};

/// Runs `verify`.
///
/// # Errors
/// For the only file, if it could not be compared. Several files print their own errors.
pub(super) async fn run(context: &Context, verify: &Verify) -> anyhow::Result<Exit> {
    let Named { files, published } = named(verify, |path| Path::new(path).exists())?;
    if let [path] = files.as_slice() {
        return one(context, verify, path, published.as_ref()).await;
    }
    let mut ended = Vec::new();
    for path in files {
        let work = async { conclude(context, one(context, verify, path, published.as_ref()).await) };
        let exit = output::about(path.to_owned(), work).await;
        ended.push(Ended { name: path.to_owned(), exit });
        if exit == Exit::Interrupted {
            break;
        }
    }
    Ok(batch::summarize(context.common.json, &ended))
}

/// Arguments by their meaning.
#[derive(Debug, PartialEq, Eq)]
struct Named<'a> {
    files: Vec<&'a str>,
    /// Published file to compare with, if one is named.
    published: Option<EntryRef>,
}

/// Tells local files from the published file: the last argument names it if there is no local file of the name.
fn named(verify: &Verify, exists: impl Fn(&str) -> bool) -> anyhow::Result<Named<'_>> {
    let mut files: Vec<&str> = verify.files.iter().map(String::as_str).collect();
    if verify.id.is_some() {
        return Ok(Named { files, published: verify.id.clone() });
    }
    let last = files.last().copied().filter(|last| files.len() > 1 && !exists(last));
    let published = match last.map(str::parse) {
        None => None,
        Some(Ok(entry)) => {
            files.pop();
            Some(entry)
        }
        Some(Err(error)) => {
            return Err(UsageError::refusal(format!("{}: {error}", text::plain_line(last.unwrap_or_default()))));
        }
    };
    Ok(Named { files, published })
}

async fn one(context: &Context, verify: &Verify, path: &str, published: Option<&EntryRef>) -> anyhow::Result<Exit> {
    let work = compare(context, verify, Path::new(path), published);
    match work.await {
        Err(error) if matches!(error.downcast_ref(), Some(DownloadError::Interrupted)) => Ok(Exit::Interrupted),
        outcome => outcome,
    }
}

async fn compare(
    context: &Context,
    verify: &Verify,
    path: &Path,
    published: Option<&EntryRef>,
) -> anyhow::Result<Exit> {
    let opened = File::options().read(true).write(verify.repair).open(path);
    let file = opened.with_context(|| format!("cannot open {}", text::path(path)))?;
    let metadata = file.metadata()?;
    ensure!(metadata.is_file(), "{} is not a regular file", text::path(path));
    let info = context.info_server()?;
    let asking = async {
        let id = match published {
            Some(entry) => lookup::file(&info, entry, Scope::Published).await?,
            None => find(&info, path, metadata.len()).await?,
        };
        anyhow::Ok(info.manifest(id).await?)
    };
    let asked = context.cancel.run_until_cancelled(asking).await;
    let manifest = asked.ok_or(DownloadError::Interrupted)??;
    let layout = manifest.check()?;
    ensure!(
        manifest.chunks.iter().all(Option::is_some),
        "not every digest of {} is known yet; try again later",
        manifest.file
    );
    let handle = file.try_clone()?;
    let intact = check_chunks(context, path, handle, &manifest).await?;
    let verdict = Verdict { manifest: &manifest, layout, wrong: intact.gaps(0..layout.count()), len: metadata.len() };
    if !verdict.is_intact() && verify.repair {
        verdict.show(context, path, verify.quiet);
        if published.is_none() && !verdict.is_damaged_copy() {
            bail!(
                "{} was not changed: it may be another file of the same name; to overwrite it, add --id {}",
                text::path(path),
                manifest.file
            );
        }
        let display = Display::choose(context.common.json, verify.quiet);
        let damage = repair::Damage { manifest: &manifest, intact, display };
        let fetched = repair::fetch(context, &info, &file, damage).await?;
        let again = check_chunks(context, path, file.try_clone()?, &manifest).await?;
        let repaired = Verdict { wrong: again.gaps(0..layout.count()), len: file.metadata()?.len(), ..verdict };
        ensure!(repaired.is_intact(), "{} is still not intact: {}", text::path(path), repaired.describe());
        if context.common.json {
            print_json(
                &serde_json::json!({ "event": "repaired", "path": path, "file": manifest.file, "fetched": fetched }),
            );
        } else if !verify.quiet {
            print(&format!("{}: repaired, {} fetched", text::path(path), text::size(fetched)));
        }
        return Ok(Exit::Done);
    }
    verdict.show(context, path, verify.quiet);
    Ok(if verdict.is_intact() { Exit::Done } else { Exit::Failed })
}

/// Finds the published file that a local one is a copy of: the one of its name, of its size if there are several.
async fn find(info: &UserClient, path: &Path, size: u64) -> anyhow::Result<FileId> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.with_context(|| format!("the name of {} is not valid UTF-8; give an id", text::path(path)))?;
    let mut found: Vec<FileSummary> = info.files(name, 500, None).await?.files;
    found.retain(|file| file.name.as_str() == name && file.state == FileState::Available);
    let fitting: Vec<&FileSummary> = found.iter().filter(|file| file.size == size).collect();
    match (found.as_slice(), fitting.as_slice()) {
        ([only], _) => Ok(only.id),
        (_, [only]) => Ok(only.id),
        ([], _) => bail!("no published file is called {name}; give the id that it should have"),
        (several, _) => {
            let rows: Vec<String> =
                several.iter().map(|file| format!("  {}  {}", file.id, text::size(file.size))).collect();
            Err(UsageError::refusal(format!(
                "several published files are called {name}; give one of these ids:\n{}",
                rows.join("\n")
            )))
        }
    }
}

/// Result of a comparison.
struct Verdict<'a> {
    manifest: &'a Manifest,
    layout: ChunkLayout,
    /// Chunks that are wrong or missing.
    wrong: ChunkSet,
    /// Bytes in the local file.
    len: u64,
}

impl Verdict<'_> {
    fn is_intact(&self) -> bool {
        self.wrong.is_empty() && self.len == self.layout.size()
    }

    /// Returns true if the local file is a copy of the published one beyond doubt: it has its size and at least one of its chunks.
    fn is_damaged_copy(&self) -> bool {
        self.len == self.layout.size() && self.wrong.len() < self.layout.count()
    }

    fn describe(&self) -> String {
        let runs: Vec<String> = self.wrong.iter().map(|run| run_text(run.start, run.end)).collect();
        let size = match self.len {
            len if len == self.layout.size() => String::new(),
            len => format!("; it has {} instead of {}", counted(len, "byte"), self.layout.size()),
        };
        match self.wrong.len() {
            0 => format!("all {} are right{size}", counted(self.layout.count(), "chunk")),
            1 => format!("chunk {} of {} is wrong{size}", runs.join(", "), self.layout.count()),
            _ => format!("chunks {} of {} are wrong{size}", runs.join(", "), self.layout.count()),
        }
    }

    fn show(&self, context: &Context, path: &Path, is_quiet: bool) {
        let file = self.manifest.file;
        if context.common.json {
            let wrong: Vec<[u32; 2]> = self.wrong.iter().map(|run| [run.start, run.end]).collect();
            print_json(&serde_json::json!({
                "event": "verified", "path": path, "file": file, "intact": self.is_intact(), "wrong": wrong,
                "size": self.len, "size_published": self.layout.size(),
            }));
        } else if !self.is_intact() {
            print(&format!("{}: NOT intact: {} ({file})", text::path(path), self.describe()));
        } else if !is_quiet {
            print(&format!("{}: intact, {} ({file})", text::path(path), self.describe()));
        }
    }
}

/// Formats the chunks from `start` to before `end`.
fn run_text(start: u32, end: u32) -> String {
    if end - start == 1 { start.to_string() } else { format!("{start}-{}", end - 1) }
}

#[cfg(test)]
mod tests {
    use wire::Digest;

    use super::*;

    #[test]
    fn the_last_argument_names_the_published_file_if_it_is_not_here() {
        let verify = |files: &[&str], id: Option<&str>| Verify {
            files: files.iter().map(|file| (*file).to_owned()).collect(),
            id: id.map(|id| id.parse().unwrap()),
            repair: false,
            quiet: false,
        };
        let here = |path: &str| path.starts_with("local");
        for (args, id, files, published) in [
            (&["local1"][..], None, &["local1"][..], None),
            (&["away"], None, &["away"], None),
            (&["local1", "01a22865"], None, &["local1"], Some("01a22865")),
            (&["local1", "local2"], None, &["local1", "local2"], None),
            (&["local1", "local2", "my.bin"], None, &["local1", "local2"], Some("my.bin")),
            (&["local1", "away"], Some("x"), &["local1", "away"], Some("x")),
        ] {
            let verify = verify(args, id);
            let found = named(&verify, here).unwrap();
            assert_eq!(
                (found.files.as_slice(), found.published.map(|entry| entry.to_string()).as_deref()),
                (files, published)
            );
        }
    }

    #[test]
    fn wrong_chunks_and_a_wrong_size_are_named() {
        let layout = ChunkLayout::checked(12 << 20, 1 << 20).unwrap();
        let manifest = Manifest {
            file: FileId::new(),
            size: layout.size(),
            chunk_size: 1 << 20,
            sha256: None,
            root: None,
            chunks: vec![Some(Digest::of(b"")); 12],
        };
        for (wrong, len, described) in [
            (&[][..], 12 << 20, "all 12 chunks are right"),
            (&[(3, 4)], 12 << 20, "chunk 3 of 12 is wrong"),
            (&[(3, 4), (7, 10)], 12 << 20, "chunks 3, 7-9 of 12 are wrong"),
            (&[], (12 << 20) + 1, "all 12 chunks are right; it has 12582913 bytes instead of 12582912"),
        ] {
            let mut set = ChunkSet::new();
            wrong.iter().for_each(|(start, end)| set.insert(*start..*end));
            let verdict = Verdict { manifest: &manifest, layout, wrong: set, len };
            assert_eq!(verdict.describe(), described);
            assert_eq!(verdict.is_intact(), wrong.is_empty() && len == layout.size());
        }
    }
}

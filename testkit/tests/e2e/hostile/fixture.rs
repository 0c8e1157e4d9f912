//! A catalogue with scripted answers, the rogues it sends the client to, and a folder to download into.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use bytes::Bytes;
use ddm_testkit::{
    process::command,
    rogue::{
        Rogue,
        catalogue::{RogueInfoServer, ScriptedAnswer},
    },
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use wire::{
    ChunkLayout, Digest, FileId, TokenId,
    token::{Token, TokenKind},
};

use crate::content::{MIB, bytes, finish_measured, sha256};

/// Limit of a client's memory.
const MEMORY: u64 = 64 * MIB;

pub(crate) struct Fixture {
    pub(crate) info_server: RogueInfoServer,
    pub(crate) rogues: Vec<Rogue>,
    pub(crate) content: Bytes,
    pub(crate) file: FileId,
    layout: ChunkLayout,
    pub(crate) folder: TempDir,
}

/// Content of a folder, by path, in a form that can be compared.
pub(crate) type Tree = BTreeMap<PathBuf, String>;

impl Fixture {
    /// A file of `size` bytes on that many honest rogues, and a catalogue that tells the truth about it.
    pub(crate) async fn new(size: u64, rogues: usize) -> anyhow::Result<Self> {
        let content = Bytes::from(bytes(size, size));
        let file = FileId::new();
        let mut all = Vec::new();
        for _ in 0..rogues {
            all.push(Rogue::start(file, content.clone()).await?);
        }
        let (info_server, layout, folder) =
            (RogueInfoServer::start().await?, ChunkLayout::of(size)?, tempfile::tempdir()?);
        for name in ["here", "home"] {
            fs::create_dir(folder.path().join(name))?;
        }
        let fixture = Self { info_server, rogues: all, content, file, layout, folder };
        fixture.script(&fixture.details(), &fixture.manifest());
        Ok(fixture)
    }

    /// Sets the answers about the file.
    pub(crate) fn script(&self, details: &Value, manifest: &Value) {
        self.info_server.respond(&self.path(""), ScriptedAnswer::Json(200, details.to_string()));
        self.info_server.respond(&self.path("/manifest"), ScriptedAnswer::Json(200, manifest.to_string()));
    }

    /// A path of the catalogue about the file.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/v1/files/{}{rest}", self.file)
    }

    fn digests(&self) -> Vec<Digest> {
        let chunk = usize::try_from(self.layout.chunk_size()).unwrap();
        self.content.chunks(chunk).map(Digest::of).collect()
    }

    pub(crate) fn manifest(&self) -> Value {
        let digests = self.digests();
        json!({ "file": self.file, "size": self.content.len(), "chunk_size": self.layout.chunk_size(),
                "sha256": Digest::of(&self.content), "root": Digest::root_of(&digests), "chunks": digests })
    }

    pub(crate) fn details(&self) -> Value {
        let locations: Vec<Value> = self
            .rogues
            .iter()
            .enumerate()
            .map(|(n, rogue)| {
                json!({ "server": format!("rogue-{n}"), "zone": "a", "url": rogue.url(),
                        "runs": self.layout.all(), "cost": 0 })
            })
            .collect();
        json!({ "id": self.file, "name": "got.bin", "size": self.content.len(), "sha256": Digest::of(&self.content),
                "chunk_size": self.layout.chunk_size(), "state": "available", "created_at": "2026-01-01T00:00:00Z",
                "live_replicas": locations.len(), "root": Digest::root_of(&self.digests()), "locations": locations,
                "download": issued(&Token::generate(TokenKind::Download)) })
    }

    /// The folder that the client works in.
    pub(crate) fn here(&self, name: &str) -> PathBuf {
        self.folder.path().join("here").join(name)
    }

    pub(crate) fn client(&self, args: &[&str]) -> anyhow::Result<Command> {
        let mut client = command("ddm-client")?;
        client.current_dir(self.here("")).env("HOME", self.folder.path().join("home"));
        client.args(["--info", &self.info_server.url()]).args(args).arg(self.file.to_string());
        Ok(client)
    }

    pub(crate) fn spawn(&self, args: &[&str]) -> anyhow::Result<Child> {
        Ok(self.client(args)?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    }

    /// Runs the client to its end, and sees that its memory stays bounded and that it does not talk to the terminal.
    pub(crate) async fn run(&self, args: &[&str]) -> anyhow::Result<Output> {
        let (output, peak) = finish_measured(self.spawn(args)?).await?;
        assert!(peak <= MEMORY, "the client took {} MiB", peak / MIB);
        for text in [&output.stdout, &output.stderr] {
            let text = String::from_utf8_lossy(text);
            let talks = |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
            assert!(!text.contains(talks), "{text:?}");
        }
        Ok(output)
    }

    pub(crate) fn is_right(&self, name: &str) -> anyhow::Result<bool> {
        Ok(sha256(&self.here(name))? == Digest::of(&self.content).to_string())
    }

    /// Everything in the fixture's folder but what the client may write to.
    pub(crate) fn outside(&self) -> anyhow::Result<Tree> {
        let mut tree = tree(self.folder.path())?;
        tree.retain(|path, _| !path.starts_with(self.here("")) || path == Path::new(""));
        Ok(tree)
    }
}

/// A token as the info-server gives it.
pub(crate) fn issued(token: &Token) -> Value {
    json!({ "token": token.expose(), "token_id": TokenId::new(), "expires_at": "2100-01-01T00:00:00Z" })
}

/// Everything below a folder.
pub(crate) fn tree(folder: &Path) -> anyhow::Result<Tree> {
    let mut tree = Tree::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let metadata = fs::symlink_metadata(&path)?;
            let kind = metadata.file_type();
            let what = match () {
                () if kind.is_dir() => {
                    folders.push(path.clone());
                    "folder".to_owned()
                }
                () if kind.is_symlink() => format!("link to {}", fs::read_link(&path)?.display()),
                () if kind.is_file() => format!("file {}", sha256(&path)?),
                () if kind.is_fifo() => "pipe".to_owned(),
                () => format!("special {}", metadata.rdev()),
            };
            tree.insert(path, what);
        }
    }
    Ok(tree)
}

/// Returns a client's standard error.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

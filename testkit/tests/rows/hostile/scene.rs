//! A catalogue that says what it is told, the rogues it sends the client to, and a folder to download into.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use ddm_testkit::{
    cluster::finish,
    process::{command, peak_resident},
    rogue::{
        Rogue,
        catalogue::{Liar, Saying},
    },
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use wire::{
    Digest, FileId, Layout, TokenId,
    token::{Kind, Token},
};

use crate::content::{MIB, bytes, sha256};

/// What a client may take at most.
const MEMORY: u64 = 64 * MIB;

pub(crate) struct Scene {
    pub(crate) liar: Liar,
    pub(crate) rogues: Vec<Rogue>,
    pub(crate) content: Bytes,
    pub(crate) file: FileId,
    layout: Layout,
    pub(crate) folder: TempDir,
}

/// What stands at a path, in a form that can be compared.
pub(crate) type Tree = BTreeMap<PathBuf, String>;

impl Scene {
    /// A file of `size` bytes on that many honest rogues, and a catalogue that tells the truth about it.
    pub(crate) async fn new(size: u64, rogues: usize) -> anyhow::Result<Self> {
        let content = Bytes::from(bytes(size, size));
        let file = FileId::new();
        let mut all = Vec::new();
        for _ in 0..rogues {
            all.push(Rogue::start(file, content.clone()).await?);
        }
        let (liar, layout, folder) = (Liar::start().await?, Layout::of(size)?, tempfile::tempdir()?);
        for name in ["here", "home"] {
            fs::create_dir(folder.path().join(name))?;
        }
        let scene = Self { liar, rogues: all, content, file, layout, folder };
        scene.tell(&scene.details(), &scene.manifest());
        Ok(scene)
    }

    pub(crate) fn tell(&self, details: &Value, manifest: &Value) {
        self.liar.say(&self.path(""), Saying::Json(200, details.to_string()));
        self.liar.say(&self.path("/manifest"), Saying::Json(200, manifest.to_string()));
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
                "download": issued(&Token::generate(Kind::Download)) })
    }

    /// The folder that the client works in.
    pub(crate) fn here(&self, name: &str) -> PathBuf {
        self.folder.path().join("here").join(name)
    }

    pub(crate) fn client(&self, args: &[&str]) -> anyhow::Result<Command> {
        let mut client = command("ddm-client")?;
        client.current_dir(self.here("")).env("HOME", self.folder.path().join("home"));
        client.args(["--info", &self.liar.url()]).args(args).arg(self.file.to_string());
        Ok(client)
    }

    pub(crate) fn spawn(&self, args: &[&str]) -> anyhow::Result<Child> {
        Ok(self.client(args)?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    }

    /// Runs the client to its end, and sees that its memory stays bounded and that it does not talk to the terminal.
    pub(crate) async fn run(&self, args: &[&str]) -> anyhow::Result<Output> {
        let client = self.spawn(args)?;
        let pid = rustix::process::Pid::from_raw(client.id().context("a process id")?.try_into()?).unwrap();
        let mut waiting = std::pin::pin!(finish(client));
        let mut peak = 0;
        let output = loop {
            tokio::select! {
                output = &mut waiting => break output?,
                () = tokio::time::sleep(Duration::from_millis(20)) => peak = peak.max(peak_resident(pid).unwrap_or(0)),
            }
        };
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

    /// Everything in the scene's folder but what the client may write to.
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

/// What a client said on standard error.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

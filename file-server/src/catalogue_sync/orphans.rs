//! The operator's decision about orphaned files, which are stored here and not in the catalogue: `ddm-file-server unknown`.
//!
//! Works on the database beside a running server, which neither serves nor writes such files.

use std::{
    fs::File,
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
};

use anyhow::{Context as _, bail, ensure};
use chunk_store::{BlobDirectory, BlobRecord, RecordedChunk, run_blocking};
use info_client::UserClient;
use serde_json::json;
use transfer::source::client_builder;
use wire::{
    Digest, FileId, Hasher,
    catalogue::{Adoption, Policy},
    grammar::counted,
};

use crate::{
    cli::login::log_in,
    config::{Adopt, Config, OrphanCommand},
    db::Database,
};

/// Carries out a command.
///
/// # Errors
/// With the reason and what to do about it.
pub async fn run(config: Config, command: OrphanCommand) -> anyhow::Result<()> {
    ensure!(config.storage.slots.is_none(), "name the folder of one server with --data, such as that of a slot");
    let (data, database) = (&config.storage.data, config.existing_database()?);
    let directory = BlobDirectory::open_unlocked(data, &config.partial_folder())?;
    let db = Database::open(&database).await.with_context(|| format!("cannot open {}", database.display()))?;
    let outcome = match command {
        OrphanCommand::List { json } => list(&db, json).await,
        OrphanCommand::Remove { files, all } => remove(&db, &directory, files, all).await,
        OrphanCommand::Adopt(adopt) => adopt_file(&db, &directory, adopt, &config).await,
    };
    db.close().await;
    outcome
}

async fn list(db: &Database, as_json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for id in db.orphaned_files().await? {
        // It may have been removed or adopted meanwhile.
        let Some(file) = db.file(id).await? else { continue };
        let (here, chunks, size) = (file.chunks.len(), file.layout.count(), file.layout.size());
        let line = if as_json {
            json!({ "file": id, "size": size, "chunks": chunks, "here": here, "whole": file.root.is_some() })
                .to_string()
        } else if file.root.is_some() {
            format!("{id} {}, whole", counted(size, "byte"))
        } else {
            format!("{id} {}, {here} of {}", counted(size, "byte"), counted(chunks, "chunk"))
        };
        match writeln!(out, "{line}") {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
    Ok(())
}

async fn remove(db: &Database, directory: &BlobDirectory, files: Vec<FileId>, all: bool) -> anyhow::Result<()> {
    let files = if all { db.orphaned_files().await? } else { files };
    for file in files {
        let removed = db.remove_orphaned(file, async || directory.remove(file).map(drop)).await;
        if removed.with_context(|| format!("{file} cannot be removed"))? {
            println!("{file} is removed.");
        } else if !all {
            bail!("{file} is not an orphaned file of this server: see 'unknown list'");
        }
    }
    Ok(())
}

/// Puts a whole file back into the catalogue.
async fn adopt_file(db: &Database, directory: &BlobDirectory, adopt: Adopt, config: &Config) -> anyhow::Result<()> {
    let Adopt { file: id, name, replicas, login } = adopt;
    let file = if db.is_orphaned(id).await? { db.file(id).await? } else { None };
    let file = file.with_context(|| format!("{id} is not an orphaned file of this server: see 'unknown list'"))?;
    let (here, count) = (file.chunks.len(), file.layout.count());
    ensure!(
        file.root.is_some(),
        "{id} is stored here with {here} of {}: a file that is not whole cannot be adopted",
        counted(count, "chunk")
    );
    let chunks: Vec<Digest> =
        db.chunk_digests(id).await?.into_iter().map(|RecordedChunk { digest, .. }| digest).collect();
    let blob = directory.open(id)?.with_context(|| format!("the bytes of {id} are gone from the disk"))?;
    let (layout, expected) = (file.layout, chunks.clone());
    let read = move || read_through(&blob, &file, &expected);
    let sha256 = run_blocking(read).await.with_context(|| format!("{id} cannot be adopted"))?;
    let client = config.upstream.build_client(client_builder())?;
    let info = |session| UserClient::new(config.upstream.info.clone(), client.clone(), session);
    let session = log_in(&login, &info(None)).await?;
    let policy = replicas.map(|replicas| Policy { replicas: Some(replicas), ..Policy::default() });
    let adoption = Adoption { name, size: layout.size(), chunk_size: layout.chunk_size(), sha256, chunks, policy };
    let adopted = info(Some(session)).adopt(id, &adoption).await?;
    println!("{id} is in the catalogue again, as {}.", adopted.name);
    Ok(())
}

/// Returns the SHA-256 of the whole file; every chunk must match its digest.
fn read_through(blob: &File, file: &BlobRecord, digests: &[Digest]) -> io::Result<Digest> {
    let (mut whole, mut at) = (Hasher::new(), 0);
    let mut buffer = vec![0; usize::try_from(file.layout.chunk_size()).map_err(io::Error::other)?];
    for (n, expected) in digests.iter().enumerate() {
        let left = usize::try_from(file.layout.size().saturating_sub(at)).unwrap_or(usize::MAX);
        let len = buffer.len().min(left);
        let chunk = buffer.get_mut(..len).unwrap_or_default();
        blob.read_exact_at(chunk, at)?;
        if Digest::of(chunk) != *expected {
            return Err(io::Error::other(format!("chunk {n} is corrupt")));
        }
        whole.update(chunk);
        at = at.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
    }
    Ok(whole.finish())
}

//! Files that are held here and that the catalogue does not know: what the operator decides about them. `ddm-file-server unknown`.
//!
//! Works on the database beside a running server: such files are served to nobody and written by nobody.

use std::{
    fs::File,
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
};

use anyhow::{Context as _, bail, ensure};
use serde_json::json;
use transfer::{info::InfoServer, source::client_builder};
use wire::{
    Digest, FileId, FileName, Hasher,
    catalog::{Adoption, Policy},
};

use crate::{
    blobs::{Folder, blocking},
    config::{Config, Login, Unknown},
    import::log_in,
    store::{FileRow, Store},
};

/// Carries out what was decided.
///
/// # Errors
/// With what is wrong and what to do about it.
pub async fn run(config: Config, what: Unknown) -> anyhow::Result<()> {
    ensure!(config.storage.slots.is_none(), "name the folder of one server with --data, such as that of a slot");
    let data = &config.storage.data;
    let (folder, database) = (Folder::beside(data, &config.partial_folder()), data.join("file-server.db"));
    let folder = folder
        .with_context(|| format!("no file server ever worked on {}: name its folder with --data", data.display()))?;
    ensure!(database.is_file(), "there is no database {}", database.display());
    let store = Store::open(&database).await.with_context(|| format!("cannot open {}", database.display()))?;
    let outcome = match what {
        Unknown::List { json } => list(&store, json).await,
        Unknown::Remove { files, all } => remove(&store, &folder, files, all).await,
        Unknown::Adopt { file, name, replicas, login } => {
            adopt(&store, &folder, (file, name, replicas), (&config, &login)).await
        }
    };
    store.close().await;
    outcome
}

async fn list(store: &Store, as_json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for id in store.unknown().await? {
        // It may have been decided about meanwhile.
        let Some(file) = store.file(id).await? else { continue };
        let (here, chunks, size) = (file.runs.len(), file.layout.count(), file.layout.size());
        let line = if as_json {
            json!({ "file": id, "size": size, "chunks": chunks, "here": here, "whole": file.root.is_some() })
                .to_string()
        } else if file.root.is_some() {
            format!("{id} {size} bytes, whole")
        } else {
            format!("{id} {size} bytes, {here} of {chunks} chunks")
        };
        match writeln!(out, "{line}") {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
    Ok(())
}

async fn remove(store: &Store, folder: &Folder, files: Vec<FileId>, all: bool) -> anyhow::Result<()> {
    let files = if all { store.unknown().await? } else { files };
    for file in files {
        let removed = store.remove_unknown(file, async || folder.remove(file).map(drop)).await;
        if removed.with_context(|| format!("{file} cannot be removed"))? {
            println!("{file} is removed.");
        } else if !all {
            bail!("{file} is no file here that the catalogue does not know: see 'unknown list'");
        }
    }
    Ok(())
}

async fn adopt(
    store: &Store,
    folder: &Folder,
    (id, name, replicas): (FileId, FileName, Option<u32>),
    (config, login): (&Config, &Login),
) -> anyhow::Result<()> {
    let file = if store.is_unknown(id).await? { store.file(id).await? } else { None };
    let file =
        file.with_context(|| format!("{id} is no file here that the catalogue does not know: see 'unknown list'"))?;
    let (here, count) = (file.runs.len(), file.layout.count());
    ensure!(
        file.root.is_some(),
        "only {here} of the {count} chunks of {id} are here: what is not whole cannot be adopted"
    );
    let chunks = store.digests(id).await?;
    let blob = folder.open(id)?.with_context(|| format!("the bytes of {id} are gone"))?;
    let (layout, expected) = (file.layout, chunks.clone());
    let read = move || read_through(&blob, &file, &expected);
    let sha256 = blocking(read).await.with_context(|| format!("{id} cannot be adopted"))?;
    let client = client_builder().build()?;
    let info = |session| InfoServer::new(config.upstream.info.clone(), client.clone(), session);
    let session = log_in(login, &info(None)).await?;
    let policy = replicas.map(|replicas| Policy { replicas: Some(replicas), ..Policy::default() });
    let adoption = Adoption { name, size: layout.size(), chunk_size: layout.chunk_size(), sha256, chunks, policy };
    let adopted = info(Some(session)).adopt(id, &adoption).await?;
    println!("{id} is in the catalogue again, as {}.", adopted.name);
    Ok(())
}

/// SHA-256 of the whole; every chunk must be what it was when it was taken in.
fn read_through(blob: &File, file: &FileRow, digests: &[Digest]) -> io::Result<Digest> {
    let (mut whole, mut at) = (Hasher::new(), 0);
    let mut buffer = vec![0; usize::try_from(file.layout.chunk_size()).map_err(io::Error::other)?];
    for (n, expected) in digests.iter().enumerate() {
        let left = usize::try_from(file.layout.size().saturating_sub(at)).unwrap_or(usize::MAX);
        let len = buffer.len().min(left);
        let chunk = buffer.get_mut(..len).unwrap_or_default();
        blob.read_exact_at(chunk, at)?;
        if Digest::of(chunk) != *expected {
            return Err(io::Error::other(format!("chunk {n} is not what it was")));
        }
        whole.update(chunk);
        at = at.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
    }
    Ok(whole.finish())
}

//! Search for published files that have the content of a local one, before anything is sent.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use info_client::{InfoError, UserClient};
use tokio_util::sync::CancellationToken;
use transfer::upload::UploadError;
use wire::{
    Digest, Hasher, Zone,
    catalogue::{FilePolicy, FileSummary, Manifest, NewFile, Policy, PolicyChange},
};

use crate::{
    context::Context,
    output::status,
    progress::{Direction, Display, TransferProgress, watch_bytes},
};

/// Files of the same size that are looked at. More of them are no reason not to publish.
const MAX_CANDIDATES: u32 = 500;
/// Memory for reading.
const READ_BUFFER_LEN: usize = 256 << 10;

/// Returns a published file with the same content, if the account sees one that can be downloaded.
///
/// # Errors
/// When the file cannot be read, or on interruption.
pub(super) async fn find(
    context: &Context,
    info: &UserClient,
    file: &File,
    new: &NewFile,
) -> anyhow::Result<Option<FileSummary>> {
    let asking = info.files_by_size(new.size, MAX_CANDIDATES, None);
    let listed = context.cancel.run_until_cancelled(asking).await.ok_or(UploadError::Interrupted)??;
    let mut candidates: Vec<FileSummary> =
        listed.files.into_iter().filter(|file| is_candidate(file, new.size)).collect();
    let Some(chunk_size) = candidates.first().map(|first| first.chunk_size) else { return Ok(None) };
    // Files of one size have one chunk size, as long as nothing else was asked for.
    candidates.retain(|file| file.chunk_size == chunk_size);
    let local = digests(context, file.try_clone()?, new, chunk_size).await?;
    for candidate in candidates.into_iter().filter(|file| file.sha256 == Some(local.sha256)) {
        let asking = context.cancel.run_until_cancelled(info.manifest(candidate.id));
        match asking.await.ok_or(UploadError::Interrupted)? {
            Ok(manifest) if local.are_of(&manifest) => return Ok(Some(candidate)),
            // Its publisher gave a SHA-256 that is not the one of its content.
            Ok(_) => tracing::debug!(file = %candidate.id, "the chunks of {} are others", candidate.id),
            // It was removed meanwhile.
            Err(error) if error.status() == Some(404) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// Digests of the local file. Those of its chunks were compared with what file servers hold; the SHA-256 of a published file is the
/// claim of its publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LocalDigests {
    sha256: Digest,
    chunks: Vec<Digest>,
}

impl LocalDigests {
    /// Returns true if a published file has these very chunks.
    fn are_of(&self, manifest: &Manifest) -> bool {
        manifest.chunks.iter().copied().eq(self.chunks.iter().copied().map(Some))
    }
}

/// Returns true for a file that stands for its content: complete, and held by a live server.
fn is_candidate(file: &FileSummary, size: u64) -> bool {
    file.size == size && file.sha256.is_some() && file.live_replicas > 0
}

async fn digests(context: &Context, file: File, new: &NewFile, chunk_size: u64) -> anyhow::Result<LocalDigests> {
    let (read, cancel) = (Arc::new(AtomicU64::new(0)), context.cancel.clone());
    let (counter, cut) = (Arc::clone(&read), Cut { size: new.size, chunk_size: chunk_size.max(1) });
    let hashing = tokio::task::spawn_blocking(move || hash(&file, cut, &counter, &cancel));
    let display = Display::choose(context.common.json, context.common.json);
    let progress = TransferProgress::new(display, Direction::Check, &new.name, Some(new.size));
    let showing = watch_bytes(progress, || read.load(Ordering::Relaxed));
    tokio::select! {
        hashed = hashing => Ok(hashed??),
        never = showing => match never {},
    }
}

/// Size of a file and of its chunks, in bytes.
#[derive(Debug, Clone, Copy)]
struct Cut {
    size: u64,
    chunk_size: u64,
}

fn hash(file: &File, cut: Cut, counter: &AtomicU64, cancel: &CancellationToken) -> Result<LocalDigests, UploadError> {
    let (mut whole, mut chunk, mut chunks) = (Hasher::new(), Hasher::new(), Vec::new());
    let (mut buffer, mut at) = (vec![0; READ_BUFFER_LEN], 0);
    while at < cut.size {
        if cancel.is_cancelled() {
            return Err(UploadError::Interrupted);
        }
        let chunk_end = (at - at % cut.chunk_size).saturating_add(cut.chunk_size).min(cut.size);
        let wanted = usize::try_from(chunk_end - at).unwrap_or(READ_BUFFER_LEN).min(READ_BUFFER_LEN);
        let part = buffer.get_mut(..wanted).unwrap_or_default();
        file.read_exact_at(part, at)?;
        whole.update(part);
        chunk.update(part);
        at += u64::try_from(wanted).unwrap_or(u64::MAX);
        if at == chunk_end {
            chunks.push(std::mem::take(&mut chunk).finish());
        }
        counter.store(at, Ordering::Relaxed);
    }
    Ok(LocalDigests { sha256: whole.finish(), chunks })
}

/// Widens the policy of a file that stands already, so that it also has the replicas that are asked for now.
///
/// # Errors
/// [`InfoError`], unless the account may not change the file.
pub(super) async fn widen(info: &UserClient, standing: &FileSummary, asked: &Policy) -> Result<(), InfoError> {
    let before = match info.policy(standing.id).await {
        // An info-server of an older version.
        Err(error) if error.status() == Some(404) => return Ok(()),
        policy => policy?,
    };
    let Some(change) = widened(&before, asked) else { return Ok(()) };
    match info.change_policy(standing.id, &change).await {
        Err(error) if error.status() == Some(403) => {
            status(
                "The file that stands belongs to another account: its replicas stay as they are. --again makes another entry.",
            );
            Ok(())
        }
        changed => changed.map(drop),
    }
}

/// Returns the change that adds the asked replicas to a policy and takes none away. None if they are wanted already.
fn widened(before: &FilePolicy, asked: &Policy) -> Option<PolicyChange> {
    let present = before.policy.replicas.unwrap_or(1);
    let zones = match (&before.policy.zones, &asked.zones) {
        (Some(present), Some(asked)) => {
            let more: Vec<Zone> = asked.iter().filter(|zone| !present.contains(zone)).cloned().collect();
            (!more.is_empty()).then(|| present.iter().cloned().chain(more).collect())
        }
        (None, Some(asked)) => Some(asked.clone()),
        (_, None) => None,
    };
    let enough = match &zones {
        // A number in total becomes one in each zone, and the zones together keep no fewer.
        Some(zones) if before.policy.zones.is_none() => {
            let each = present.div_ceil(u32::try_from(zones.len()).unwrap_or(u32::MAX).max(1));
            Some(asked.replicas.unwrap_or(present).max(each))
        }
        _ => asked.replicas.filter(|asked| *asked > present),
    };
    let replicas = enough.filter(|enough| *enough != present);
    (replicas.is_some() || zones.is_some()).then(|| PolicyChange { replicas, zones, ..PolicyChange::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_widened_and_never_narrowed() {
        let zones = |names: &[&str]| Some(names.iter().map(|name| name.parse().unwrap()).collect::<Vec<Zone>>());
        let policy = |replicas, zones| Policy { replicas, zones, through: None };
        for (before, asked, expected) in [
            (policy(Some(3), None), policy(Some(2), None), None),
            (policy(Some(3), None), policy(None, None), None),
            (policy(Some(3), None), policy(Some(5), None), Some((Some(5), None))),
            (policy(Some(2), zones(&["eu"])), policy(None, zones(&["eu"])), None),
            (
                policy(Some(2), zones(&["eu"])),
                policy(Some(3), zones(&["us", "eu"])),
                Some((Some(3), zones(&["eu", "us"]))),
            ),
            (policy(Some(3), None), policy(Some(1), zones(&["eu"])), Some((None, zones(&["eu"])))),
            (policy(Some(3), None), policy(Some(2), zones(&["eu", "us"])), Some((Some(2), zones(&["eu", "us"])))),
            (policy(Some(3), None), policy(None, zones(&["eu", "us"])), Some((None, zones(&["eu", "us"])))),
            (policy(Some(3), None), policy(Some(1), zones(&["eu", "us"])), Some((Some(2), zones(&["eu", "us"])))),
        ] {
            let change = widened(&FilePolicy { policy: before.clone(), preheats: Vec::new() }, &asked);
            assert_eq!(change.map(|change| (change.replicas, change.zones)), expected, "{before:?} {asked:?}");
        }
    }

    #[test]
    fn a_file_is_hashed_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, b"hello").unwrap();
        let (file, cancel) = (File::open(&path).unwrap(), CancellationToken::new());
        let counter = AtomicU64::new(0);
        let cut = |size| Cut { size, chunk_size: 2 };
        let digests = hash(&file, cut(5), &counter, &cancel).unwrap();
        let chunks: Vec<Digest> = [&b"he"[..], b"ll", b"o"].map(Digest::of).to_vec();
        assert_eq!(digests, LocalDigests { sha256: Digest::of(b"hello"), chunks });
        assert_eq!(counter.into_inner(), 5);
        assert!(matches!(hash(&file, cut(6), &AtomicU64::new(0), &cancel), Err(UploadError::Changed)));
        cancel.cancel();
        assert!(matches!(hash(&file, cut(5), &AtomicU64::new(0), &cancel), Err(UploadError::Interrupted)));
    }
}

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
    catalogue::{FilePolicy, FileSummary, NewFile, Policy, PolicyChange},
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
    let candidates: Vec<FileSummary> = listed.files.into_iter().filter(|file| is_candidate(file, new.size)).collect();
    if candidates.is_empty() {
        return Ok(None);
    }
    let sha256 = sha256(context, file.try_clone()?, new).await?;
    Ok(candidates.into_iter().find(|file| file.sha256 == Some(sha256)))
}

/// Returns true for a file that stands for its content: complete, and held by a live server.
fn is_candidate(file: &FileSummary, size: u64) -> bool {
    file.size == size && file.sha256.is_some() && file.live_replicas > 0
}

async fn sha256(context: &Context, file: File, new: &NewFile) -> anyhow::Result<Digest> {
    let (read, cancel) = (Arc::new(AtomicU64::new(0)), context.cancel.clone());
    let (counter, size) = (Arc::clone(&read), new.size);
    let hashing = tokio::task::spawn_blocking(move || hash(&file, size, &counter, &cancel));
    let display = Display::choose(context.common.json, context.common.json);
    let progress = TransferProgress::new(display, Direction::Check, &new.name, Some(new.size));
    let showing = watch_bytes(progress, || read.load(Ordering::Relaxed));
    tokio::select! {
        hashed = hashing => Ok(hashed??),
        never = showing => match never {},
    }
}

fn hash(file: &File, size: u64, counter: &AtomicU64, cancel: &CancellationToken) -> Result<Digest, UploadError> {
    let (mut hasher, mut buffer, mut at) = (Hasher::new(), vec![0; READ_BUFFER_LEN], 0);
    while at < size {
        if cancel.is_cancelled() {
            return Err(UploadError::Interrupted);
        }
        let wanted = usize::try_from(size - at).unwrap_or(READ_BUFFER_LEN).min(READ_BUFFER_LEN);
        let part = buffer.get_mut(..wanted).unwrap_or_default();
        file.read_exact_at(part, at)?;
        hasher.update(part);
        at += u64::try_from(wanted).unwrap_or(u64::MAX);
        counter.store(at, Ordering::Relaxed);
    }
    Ok(hasher.finish())
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
        assert_eq!(hash(&file, 5, &counter, &cancel).unwrap(), Digest::of(b"hello"));
        assert_eq!(counter.into_inner(), 5);
        assert!(matches!(hash(&file, 6, &AtomicU64::new(0), &cancel), Err(UploadError::Changed)));
        cancel.cancel();
        assert!(matches!(hash(&file, 5, &AtomicU64::new(0), &cancel), Err(UploadError::Interrupted)));
    }
}

//! The volume that the replicas are on: how much of it is to stay free, and whether it takes anything in.

use std::{
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytesize::ByteSize;
use lifecycle::Shutdown;

use crate::blobs::{Blobs, DISK, blocking};

/// From one look at the volume to the next.
const LOOK: Duration = Duration::from_secs(1);
/// From one write on trial to the next while they succeed.
const TRIAL: Duration = Duration::from_secs(10);
/// Trials that fail in a row before the volume counts as failing: one failure alone may pass.
const FAILED: u32 = 2;

/// Whether the volume takes anything in. What is on it is served in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Volume {
    Well,
    /// Less is free than is to stay so.
    Low,
    /// Writes fail, or do not end.
    Failing,
}

/// How much of a volume is to stay free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserve {
    /// In bytes.
    Bytes(u64),
    /// In hundredths of the volume.
    Percent(u8),
}

impl Default for Reserve {
    fn default() -> Self {
        Self::Bytes(0)
    }
}

impl Reserve {
    /// In bytes, of a volume of `size` bytes.
    pub(crate) fn of(self, size: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(part) => size / 100 * u64::from(part),
        }
    }
}

impl FromStr for Reserve {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unclear = || format!("{text:?} is neither a size such as 10GiB nor a part of the volume such as 5%");
        if let Some(part) = text.strip_suffix('%') {
            return part.trim().parse().ok().filter(|part| *part < 100).map(Self::Percent).ok_or_else(unclear);
        }
        text.parse::<ByteSize>().map(|size| Self::Bytes(size.as_u64())).map_err(|_| unclear())
    }
}

/// Looks at the volume until `shutdown`: while it is not well nothing is taken in, and once it is everything is.
pub(crate) async fn keep_looking(blobs: Arc<Blobs>, shutdown: Shutdown) -> anyhow::Result<()> {
    let mut trials = Trials { last: None, failed: 0 };
    loop {
        // A volume that stalls leaves the word as it is; nothing piles up, as the next look waits for this one.
        tokio::select! {
            volume = trials.look(&blobs) => tell(&blobs, volume),
            () = shutdown.finishing().cancelled() => return Ok(()),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shutdown.finishing().cancelled() => return Ok(()),
        }
    }
}

/// Writes on trial: a volume that became read-only tells nobody who does not write.
struct Trials {
    last: Option<Instant>,
    /// How many failed in a row.
    failed: u32,
}

impl Trials {
    async fn look(&mut self, blobs: &Blobs) -> Volume {
        if self.failed > 0 || self.last.is_none_or(|last| last.elapsed() >= TRIAL) {
            self.last = Some(Instant::now());
            match blobs.probe(DISK).await {
                // What is full is told by its room, and descriptors come back.
                Err(error) if !error.is_full() && !error.is_exhausted() => {
                    self.failed = self.failed.saturating_add(1);
                    if self.failed == FAILED {
                        tracing::error!(%error, "the volume takes no writes");
                    }
                }
                _ => self.failed = 0,
            }
        }
        if self.failed >= FAILED {
            return Volume::Failing;
        }
        let folder = blobs.folder().clone();
        match blocking(move || folder.is_low()).await {
            Ok(true) => Volume::Low,
            Ok(false) => Volume::Well,
            Err(error) => {
                tracing::error!(%error, "the volume does not say how much room is left");
                *blobs.volume.borrow()
            }
        }
    }
}

fn tell(blobs: &Blobs, volume: Volume) {
    if !blobs.volume.send_if_modified(|known| std::mem::replace(known, volume) != volume) {
        return;
    }
    match volume {
        Volume::Well => tracing::info!("the volume is well again: files are taken in"),
        Volume::Low => tracing::error!("less room is left than --reserve: nothing is taken in until some is back"),
        Volume::Failing => {
            tracing::error!("nothing is taken in until the volume takes writes again; repair or replace it")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_a_size_or_a_part_of_the_volume() {
        for (text, found) in [
            ("0", Some(Reserve::Bytes(0))),
            ("10GiB", Some(Reserve::Bytes(10 << 30))),
            ("5%", Some(Reserve::Percent(5))),
            ("100%", None),
            ("-1", None),
            ("much", None),
        ] {
            assert_eq!(text.parse().ok(), found, "{text}");
        }
        assert_eq!((Reserve::Percent(5).of(1000), Reserve::Bytes(7).of(1000)), (50, 7));
    }
}

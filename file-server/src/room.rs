//! How much of the volume is to stay free, and whether it does.

use std::{str::FromStr, sync::Arc, time::Duration};

use bytesize::ByteSize;
use lifecycle::Shutdown;

use crate::blobs::{Blobs, blocking};

/// From one look at the volume to the next.
const LOOK: Duration = Duration::from_secs(1);

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

/// Looks at the room that is left until `shutdown`: below the reserve nothing is taken in, and once it is back everything is.
pub(crate) async fn keep_looking(blobs: Arc<Blobs>, shutdown: Shutdown) -> anyhow::Result<()> {
    loop {
        let folder = blobs.folder().clone();
        // A volume that stalls leaves the word as it is; nothing piles up, as the next look waits for this one.
        let look = blocking(move || folder.is_low());
        tokio::select! {
            low = look => match low {
                Ok(low) => tell(&blobs, low),
                Err(error) => tracing::error!(%error, "the volume does not say how much room is left"),
            },
            () = shutdown.finishing().cancelled() => return Ok(()),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shutdown.finishing().cancelled() => return Ok(()),
        }
    }
}

fn tell(blobs: &Blobs, low: bool) {
    let changed = blobs.low.send_if_modified(|known| std::mem::replace(known, low) != low);
    match (changed, low) {
        (true, true) => tracing::error!("less room is left than --reserve: nothing is taken in until some is back"),
        (true, false) => tracing::info!("there is room again: files are taken in"),
        (false, _) => {}
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

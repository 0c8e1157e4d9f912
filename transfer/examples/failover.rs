//! Measures what a failure of one of three servers costs in the middle of a download.
//!
//! `cargo run --release -p ddm-transfer --example failover -- 5` makes five rounds. All servers are in this process and capped
//! alike; "beyond the ideal" is the time beyond what the servers that are left would need for the chunks not yet verified. That
//! ideal is calculated, not measured, and too long by what open requests had half received. Compare with the line
//! `None`, which has no trouble: on a busy machine it is beyond the ideal too. `Slow` is a server of 1 Mbit/s from the
//! start; its ideal is what the other two would need for the whole file.

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use ddm_transfer::{
    download::{Directory, DownloadPlan, Engine, RefreshReason, Settings, Update},
    progress::Progress,
    sink::Destination,
    source::{Source, client_builder},
};
use testkit::rogue::{Behaviour, Rogue};
use tokio_util::sync::CancellationToken;
use wire::{
    ChunkLayout, Digest, FileId, TokenId,
    catalogue::{IssuedToken, Location, Manifest},
    token::{Token, TokenKind},
};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

const MIB: u64 = 1 << 20;
const SIZE: u64 = 96 * MIB;
/// Rate of each server, in bytes per second.
const RATE: u64 = 16 * MIB;
const SERVERS: u64 = 3;
/// 1 Mbit/s.
const SLOW: u64 = 125_000;

#[derive(Debug, Clone, Copy)]
enum Trouble {
    None,
    Killed,
    Paused,
    Reset,
    WrongBytes,
    Slow,
}

#[tokio::main]
async fn main() -> Result<()> {
    let rounds: usize = std::env::args().nth(1).map_or(Ok(5), |text| text.parse())?;
    println!("{} MiB, {SERVERS} servers of {} MiB/s each, medians of {rounds}", SIZE / MIB, RATE / MIB);
    let troubles =
        [Trouble::None, Trouble::Killed, Trouble::Reset, Trouble::Paused, Trouble::WrongBytes, Trouble::Slow];
    for trouble in troubles {
        let (mut beyond, mut wall, mut wasted) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let (ideal, took, waste) = download(trouble).await?;
            beyond.push(took.as_secs_f64() - ideal.as_secs_f64());
            wall.push(took.as_secs_f64());
            wasted.push(waste);
        }
        wasted.sort_unstable();
        println!(
            "{:<12} wall {:>6.2} s, beyond the ideal {:>+6.2} s (worst {:>+6.2} s), wasted {} KiB",
            format!("{trouble:?}"),
            median(&mut wall),
            median(&mut beyond),
            beyond.last().copied().unwrap_or_default(),
            wasted.get(wasted.len() / 2).map_or(0, |bytes| bytes / 1024),
        );
    }
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Returns the ideal time, the measured time, and the wasted bytes.
async fn download(trouble: Trouble) -> Result<(Duration, Duration, u64)> {
    let folder = tempfile::tempdir()?;
    let content: Bytes = (0..SIZE).map(|n| u8::try_from((n ^ (n >> 8) ^ (n >> 16)) & 0xff).unwrap_or(0)).collect();
    let (plan, mut rogues) = plan(&content).await?;
    let (progress, _notices) = Progress::new();
    if matches!(trouble, Trouble::Slow) {
        rogues.iter().take(1).for_each(|rogue| rogue.set(Behaviour::Throttle { rate: SLOW }));
    }
    let engine = Engine {
        client: client_builder().build()?,
        settings: Settings { connections: 4, wait: Duration::from_secs(60), ..Settings::default() },
        directory: Arc::new(NoDirectory),
        progress: progress.clone(),
        cancel: CancellationToken::new(),
    };
    let (path, name) = (folder.path().to_owned(), "file".parse()?);
    let destination = Destination { folder: path, name, partial_folder: None, replace: false };
    let began = Instant::now();
    let strike = async {
        while progress.snapshot().bytes_done < SIZE / 2 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        match trouble {
            Trouble::None | Trouble::Slow => return SERVERS,
            Trouble::Killed => {
                if let Some(victim) = rogues.pop() {
                    victim.kill().await;
                }
            }
            Trouble::Paused => set_last(&rogues, Behaviour::Stall { after: 0 }),
            Trouble::Reset => set_last(&rogues, Behaviour::Reset { after: 0 }),
            Trouble::WrongBytes => set_last(&rogues, Behaviour::FlipBit { every: 1000 }),
        }
        SERVERS - 1
    };
    let ideal = async {
        let left = strike.await;
        let rest = SIZE.saturating_sub(progress.snapshot().bytes_done);
        began.elapsed() + Duration::from_millis(rest * 1000 / (left * RATE))
    };
    let (report, ideal) = tokio::join!(engine.download(plan, &destination), ideal);
    let report = report?;
    let slow = matches!(trouble, Trouble::Slow);
    let ideal = if slow { Duration::from_millis(SIZE * 1000 / ((SERVERS - 1) * RATE)) } else { ideal };
    Ok((ideal, report.elapsed, report.wasted))
}

fn set_last(rogues: &[Rogue], behaviour: Behaviour) {
    if let Some(rogue) = rogues.last() {
        rogue.set(behaviour);
    }
}

async fn plan(content: &Bytes) -> Result<(DownloadPlan, Vec<Rogue>)> {
    let (file, layout) = (FileId::new(), ChunkLayout::of(SIZE)?);
    let chunk = usize::try_from(layout.chunk_size())?;
    let digests: Vec<Digest> = content.chunks(chunk).map(Digest::of).collect();
    let manifest = Manifest {
        file,
        size: SIZE,
        chunk_size: layout.chunk_size(),
        sha256: None,
        root: Some(Digest::root_of(&digests)),
        chunks: digests.into_iter().map(Some).collect(),
    };
    let (mut rogues, mut sources) = (Vec::new(), Vec::new());
    for n in 0..SERVERS {
        let rogue = Rogue::start(file, content.clone()).await?;
        rogue.set(Behaviour::Throttle { rate: RATE });
        let (server, zone) = (format!("rogue-{n}").parse()?, "a".parse()?);
        let location = Location { server, zone, url: rogue.url(), runs: layout.all(), cost: 0 };
        sources.push(Source { location, tier: 0 });
        rogues.push(rogue);
    }
    let expires_at = jiff::Timestamp::now() + Duration::from_secs(900);
    let token = IssuedToken {
        token: Token::generate(TokenKind::Download),
        token_id: TokenId::new(),
        expires_at,
        lifetime_s: None,
    };
    Ok((DownloadPlan { manifest, sources, token }, rogues))
}

/// A directory that supplies nothing.
struct NoDirectory;

#[async_trait]
impl Directory for NoDirectory {
    async fn refresh(&self, _: RefreshReason) -> Result<Update> {
        Err("there is no directory".into())
    }
}

//! One direction of one connection: reads, spoils, lets time pass, writes.

use std::{num::NonZeroU64, sync::atomic::Ordering};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use super::conditions::{Control, Direction, LinkShape, NetworkConditions};

/// Bytes at the beginning of a connection that pass unchanged.
const HEAD: u64 = 4096;
const BLOCK: usize = 16 * 1024;
/// Blocks under way at once: with latency this is the window, 16 MiB.
const WINDOW: usize = 1024;

/// End of a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// One side has said all, or is gone.
    Over,
    /// The connection is to be closed in order though more would come.
    Closed,
    /// The connection is to be reset.
    Reset,
}

/// Inputs of the task that pipes one direction.
pub(super) struct Piping<'a> {
    control: &'a Control,
    direction: Direction,
    conditions: watch::Receiver<NetworkConditions>,
}

/// Bytes under way.
struct Block {
    arrives: Instant,
    bytes: Vec<u8>,
}

impl<'a> Piping<'a> {
    pub(super) fn new(control: &'a Control, direction: Direction) -> Self {
        Self { control, direction, conditions: control.conditions.subscribe() }
    }

    fn line(&mut self) -> LinkShape {
        *self.conditions.borrow_and_update().line(self.direction)
    }
}

/// Passes bytes on until an end.
pub(super) async fn run(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, piping: Piping<'_>) -> End {
    let (blocks, under_way) = mpsc::channel(WINDOW);
    let (control, direction) = (piping.control, piping.direction);
    let reading = read(from, blocks, piping);
    let writing = write(to, under_way, control, direction);
    tokio::pin!(reading, writing);
    let end = tokio::select! {
        end = &mut reading => end,
        () = &mut writing => return End::Over,
    };
    if end != End::Reset {
        writing.await;
    }
    end
}

async fn read(from: &mut OwnedReadHalf, blocks: mpsc::Sender<Block>, mut piping: Piping<'_>) -> End {
    let mut buffer = vec![0; BLOCK];
    let mut seen = 0_u64;
    loop {
        let line = piping.line();
        let past = |limit: Option<u64>| limit.is_some_and(|limit| seen >= limit.max(HEAD));
        if past(line.reset) {
            return End::Reset;
        }
        if past(line.truncate) {
            return End::Closed;
        }
        if line.hole.is_some_and(|limit| seen >= limit) {
            if piping.conditions.changed().await.is_err() {
                return End::Over;
            }
            continue;
        }
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            changed = piping.conditions.changed() => if changed.is_ok() { continue } else { return End::Over },
        };
        let Ok(length @ 1..) = read else { return End::Over };
        let mut bytes = buffer.get(..length).unwrap_or_default().to_vec();
        if let Some(every) = line.flip {
            flip(&mut bytes, seen, every, piping.control.seed);
        }
        let before = seen;
        seen += length as u64;
        if line.duplicate.is_some_and(|every| before >= HEAD && before / every != seen / every) {
            bytes.extend_from_within(..);
        }
        let block = Block { arrives: Instant::now() + line.latency, bytes };
        if blocks.send(block).await.is_err() {
            return End::Over;
        }
    }
}

async fn write(to: &mut OwnedWriteHalf, mut blocks: mpsc::Receiver<Block>, control: &Control, direction: Direction) {
    while let Some(block) = blocks.recv().await {
        sleep_until(block.arrives).await;
        let rate = control.conditions.borrow().line(direction).rate;
        if let Some(rate) = rate {
            sleep_until(control.admit(direction, rate, block.bytes.len())).await;
        }
        if direction == Direction::Down {
            control.passed.fetch_add(block.bytes.len() as u64, Ordering::Relaxed);
        }
        if to.write_all(&block.bytes).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

/// Flips the lowest bit of one byte in each `every` bytes of the stream; the seed says which.
fn flip(block: &mut [u8], start: u64, every: NonZeroU64, seed: u64) {
    for (position, byte) in (start..).zip(block) {
        let span = position / every;
        if position >= HEAD && position == span * every.get() + mix(seed ^ span) % every {
            *byte ^= 1;
        }
    }
}

/// `SplitMix64`: every bit of the result depends on every bit of the seed.
const fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_alone_says_which_bits_flip_and_each_span_loses_one() {
        let every = NonZeroU64::new(10_000).unwrap();
        let spoil = |seed| {
            let mut stream = vec![0_u8; 200_000];
            let mut at = 0;
            for block in stream.chunks_mut(777) {
                flip(block, at, every, seed);
                at += block.len() as u64;
            }
            stream.iter().enumerate().filter(|(_, byte)| **byte != 0).map(|(at, _)| at).collect::<Vec<_>>()
        };
        assert_eq!(spoil(1), spoil(1));
        assert_ne!(spoil(1), spoil(2));
        assert!(matches!(spoil(1).len(), 19 | 20), "the first one may fall into the head");
    }
}

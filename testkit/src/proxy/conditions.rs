//! State of the proxy's network, as tests set it and connections follow it.

use std::{
    net::SocketAddr,
    num::NonZeroU64,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize},
    },
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

/// One direction of every connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Traffic from the clients to the server.
    Up,
    /// Traffic from the server to the clients.
    Down,
}

/// Conditions of one direction of the bytes. The first 4 KiB of a connection pass unspoiled, later than told at most: health
/// checks and problem documents are not what the faults are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkShape {
    /// Delay of each byte; half of a round trip.
    pub latency: Duration,
    /// Bytes a second, all connections together.
    pub rate: Option<u32>,
    /// Flips one bit in every so many bytes.
    pub flip: Option<NonZeroU64>,
    /// Sends a block again after every so many bytes.
    pub duplicate: Option<NonZeroU64>,
    /// Resets the connection (RST) after so many bytes.
    pub reset: Option<u64>,
    /// Closes the connection (FIN) after so many bytes.
    pub truncate: Option<u64>,
    /// Passes so many bytes and then none until this changes: `Some(0)` is a black hole from the first byte on.
    pub hole: Option<u64>,
}

/// Conditions of both directions, and of the connection as a whole.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct NetworkConditions {
    pub(super) up: LinkShape,
    pub(super) down: LinkShape,
    pub(super) cut: bool,
}

impl NetworkConditions {
    pub(super) const fn line(&self, direction: Direction) -> &LinkShape {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }
}

/// State that the connections of a proxy share.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) seed: u64,
    pub(super) target: Mutex<Option<SocketAddr>>,
    pub(super) conditions: watch::Sender<NetworkConditions>,
    // When the line of each direction is free again.
    pub(super) up_free_at: Mutex<Option<Instant>>,
    pub(super) down_free_at: Mutex<Option<Instant>>,
    pub(super) accepted: AtomicU64,
    pub(super) open: AtomicUsize,
    pub(super) most_open: AtomicUsize,
    pub(super) passed: AtomicU64,
}

impl Control {
    /// Returns the time at which the next `bytes` may go that way.
    pub(super) fn admit(&self, direction: Direction, rate: u32, bytes: usize) -> Instant {
        let mut free_at = lock(match direction {
            Direction::Up => &self.up_free_at,
            Direction::Down => &self.down_free_at,
        });
        let from = free_at.unwrap_or_else(Instant::now).max(Instant::now());
        // A block is far below 2^32 bytes.
        let cost = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / f64::from(rate.max(1));
        let at = from + Duration::from_secs_f64(cost);
        *free_at = Some(at);
        at
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

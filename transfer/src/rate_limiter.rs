//! Limits on bytes per second, shared by all transfers that use one link.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use wire::Zone;

/// Burst after a pause, as a time at the full rate: enough to even out timers, too little to show on a link.
const MAX_BURST: Duration = Duration::from_millis(50);
/// Shortest wait that is worth a timer; the next wait makes up for shorter ones.
const MIN_WAIT: Duration = Duration::from_millis(2);
/// Rate in bytes per second that each body of an upload should receive of the limit: twice what servers demand.
const MIN_BODY_SHARE: u64 = 8 << 10;
/// Most bytes to reserve at once, so that transfers that share a link alternate.
pub const MAX_BATCH_SIZE: usize = 64 << 10;

/// A token bucket whose bytes are reserved before they flow. Reservations queue in the order in which they are made, so that
/// transfers that reserve equal amounts share the link fairly.
#[derive(Debug)]
pub struct Bucket {
    /// Bytes per second, at least 1.
    rate: u64,
    /// Time at which everything that was reserved has flowed.
    free_at: Mutex<Option<Instant>>,
}

impl Bucket {
    /// Creates a bucket of `rate` bytes per second; 0 counts as 1.
    pub fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), free_at: Mutex::default() }
    }

    /// Returns the limit in bytes per second.
    pub const fn rate(&self) -> u64 {
        self.rate
    }

    /// Reserves `bytes`. Returns the time at which they may flow.
    pub fn reserve(&self, bytes: u64, now: Instant) -> Instant {
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let from = free_at.unwrap_or(now).max(now.checked_sub(MAX_BURST).unwrap_or(now));
        let due = from + self.time_of(bytes);
        *free_at = Some(due);
        due
    }

    /// Takes back a reservation of which `bytes` did not flow, so that later reservations do not wait for them.
    pub fn give_back(&self, bytes: u64) {
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        *free_at = free_at.and_then(|at| at.checked_sub(self.time_of(bytes)));
    }

    /// Returns the time that `bytes` take at the full rate.
    fn time_of(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX / 4))
    }

    /// Returns how many bytes to reserve at once: few enough that many transfers alternate within a second.
    pub fn batch_size(&self) -> usize {
        usize::try_from(self.rate / 20).unwrap_or(MAX_BATCH_SIZE).clamp(4 << 10, MAX_BATCH_SIZE)
    }
}

/// Bytes that are reserved, and given back if this is dropped before they flow: their transfer ended while it waited.
#[derive(Debug)]
struct Reservation {
    bucket: Arc<Bucket>,
    bytes: u64,
    due: Instant,
}

impl Reservation {
    fn new(bucket: Arc<Bucket>, bytes: u64, now: Instant) -> Self {
        Self { due: bucket.reserve(bytes, now), bucket, bytes }
    }

    /// Records that the bytes flow.
    fn used(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.bucket.give_back(self.bytes);
        }
    }
}

/// Returns the time until `due`, if it is worth a timer.
pub fn worthwhile_wait(due: Instant, now: Instant) -> Option<Duration> {
    Some(due.saturating_duration_since(now)).filter(|wait| *wait >= MIN_WAIT)
}

/// Limits on bytes, in all and by zone of their sender. Clones share the limits, which may change while bytes flow.
#[derive(Debug, Clone, Default)]
pub struct RateLimiter(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    limits: Mutex<Limits>,
    /// Bodies of uploads that the limit in all can feed at once.
    bodies: Option<Arc<Semaphore>>,
    /// Wakes those that wait by a limit that has changed.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Limits {
    total: Option<Arc<Bucket>>,
    zones: BTreeMap<Zone, Arc<Bucket>>,
}

impl RateLimiter {
    /// Creates a limiter of `rate` bytes per second in all.
    pub fn with_total(rate: u64) -> Self {
        let bodies = usize::try_from(rate / MIN_BODY_SHARE).unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS);
        let limits = Limits { total: Some(Arc::new(Bucket::new(rate))), ..Limits::default() };
        let bodies = Some(Arc::new(Semaphore::new(bodies)));
        Self(Arc::new(Shared { limits: Mutex::new(limits), bodies, changed: Notify::new() }))
    }

    /// Returns the limit in all, in bytes per second.
    pub fn total_rate(&self) -> Option<u64> {
        self.limits().total.as_ref().map(|bucket| bucket.rate)
    }

    /// Returns the most bytes to acquire at once by [`Self::acquire_total`]; `None` where nothing is limited in all.
    pub fn total_batch_size(&self) -> Option<usize> {
        self.limits().total.as_ref().map(|bucket| bucket.batch_size())
    }

    /// Waits until `bytes` may flow by the limit in all.
    pub async fn acquire_total(&self, bytes: usize) {
        let Some(total) = self.limits().total.clone() else { return };
        let now = Instant::now();
        let reserved = Reservation::new(total, u64::try_from(bytes).unwrap_or(u64::MAX), now);
        if let Some(wait) = worthwhile_wait(reserved.due, now) {
            tokio::time::sleep(wait).await;
        }
        reserved.used();
    }

    /// Waits until the limit in all can feed one more body of an upload, as long as the returned value lives.
    pub async fn body_permit(&self) -> Option<OwnedSemaphorePermit> {
        let bodies = self.0.bodies.clone()?;
        // The semaphore is never closed.
        bodies.acquire_owned().await.ok()
    }

    /// Replaces the limits by zone, in bytes per second. A zone that is absent has no limit.
    pub fn limit_zones(&self, rates: &BTreeMap<Zone, u64>) {
        let mut limits = self.limits();
        let before = limits.zones.len();
        limits.zones.retain(|zone, bucket| rates.get(zone).is_some_and(|rate| bucket.rate == (*rate).max(1)));
        let changed = limits.zones.len() != before;
        for (zone, rate) in rates {
            limits.zones.entry(zone.clone()).or_insert_with(|| Arc::new(Bucket::new(*rate)));
        }
        drop(limits);
        if changed {
            self.0.changed.notify_waiters();
        }
    }

    /// Returns the buckets that limit bytes from `zone`: the total one and that of the zone.
    fn buckets(&self, zone: &Zone) -> [Option<Arc<Bucket>>; 2] {
        let limits = self.limits();
        [limits.total.clone(), limits.zones.get(zone).cloned()]
    }

    /// Waits until `bytes` from `zone` may flow.
    pub async fn acquire(&self, zone: &Zone, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let [total, mut own] = self.buckets(zone);
        let of_total = total.map(|bucket| Reservation::new(bucket, bytes, Instant::now()));
        let of_zone = loop {
            let mut changed = pin!(self.0.changed.notified());
            changed.as_mut().enable();
            let now = Instant::now();
            let of_zone = own.map(|bucket| Reservation::new(bucket, bytes, now));
            let due = of_zone.iter().chain(&of_total).map(|reserved| reserved.due).max();
            let Some(wait) = due.and_then(|due| worthwhile_wait(due, now)) else { break of_zone };
            tokio::select! {
                () = tokio::time::sleep(wait) => break of_zone,
                () = changed => own = self.buckets(zone)[1].clone(),
            }
        };
        of_zone.into_iter().chain(of_total).for_each(Reservation::used);
    }

    /// Returns the most bytes from `zone` to acquire at once; `None` where nothing is limited.
    pub fn batch_size(&self, zone: &Zone) -> Option<usize> {
        self.buckets(zone).iter().flatten().map(|bucket| bucket.batch_size()).min()
    }

    fn limits(&self) -> MutexGuard<'_, Limits> {
        self.0.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_queue_and_a_pause_is_not_saved_up() {
        let (bucket, start) = (Bucket::new(1000), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        assert_eq!([bucket.reserve(500, start), bucket.reserve(500, start)], [at(500), at(1000)]);
        assert_eq!(bucket.reserve(250, at(600)), at(1250), "behind the earlier reservations");
        let burst = u64::try_from(MAX_BURST.as_millis()).unwrap();
        assert_eq!(bucket.reserve(500, at(9000)), at(9500 - burst), "only the burst");
        assert_eq!(
            (worthwhile_wait(at(1), start), worthwhile_wait(at(5), start)),
            (None, Some(Duration::from_millis(5)))
        );
    }

    #[test]
    fn bytes_given_back_are_free_for_the_next_reservation_and_not_saved_up() {
        let (bucket, start) = (Bucket::new(1000), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        assert_eq!([bucket.reserve(3000, start), bucket.reserve(500, start)], [at(3000), at(3500)]);
        bucket.give_back(2000);
        assert_eq!(bucket.reserve(500, start), at(2000), "behind what was not given back");
        bucket.give_back(2000);
        let burst = u64::try_from(MAX_BURST.as_millis()).unwrap();
        assert_eq!(bucket.reserve(500, at(9000)), at(9500 - burst), "only the burst");
    }

    #[test]
    fn limits_of_zones_are_added_changed_and_removed() {
        let (limiter, eu, us): (_, Zone, Zone) = (RateLimiter::default(), "eu".parse().unwrap(), "us".parse().unwrap());
        assert_eq!(limiter.batch_size(&eu), None);
        limiter.limit_zones(&[(eu.clone(), 1 << 20)].into());
        let before = limiter.buckets(&eu)[1].clone().unwrap();
        limiter.limit_zones(&[(eu.clone(), 1 << 20), (us.clone(), 9)].into());
        assert!(Arc::ptr_eq(&before, limiter.buckets(&eu)[1].as_ref().unwrap()), "earlier reservations stay");
        assert_eq!(limiter.batch_size(&us), Some(4 << 10));
        limiter.limit_zones(&[(eu.clone(), 5)].into());
        assert_eq!(limiter.buckets(&eu)[1].as_ref().unwrap().rate(), 5);
        assert_eq!(limiter.batch_size(&us), None);
    }

    #[tokio::test]
    async fn a_raised_or_removed_limit_ends_the_wait_by_the_old_one() {
        let (limiter, zone): (_, Zone) = (RateLimiter::default(), "eu".parse().unwrap());
        for raised in [BTreeMap::from([(zone.clone(), 1 << 30)]), BTreeMap::new()] {
            limiter.limit_zones(&[(zone.clone(), 1)].into());
            let change = async {
                tokio::task::yield_now().await;
                limiter.limit_zones(&raised);
            };
            let both = async { tokio::join!(limiter.acquire(&zone, 5_000), change) };
            tokio::time::timeout(Duration::from_secs(60), both).await.expect("not the 5,000 s of the old limit");
        }
    }

    #[tokio::test]
    async fn a_transfer_that_ends_while_it_waits_gives_its_bytes_back() {
        let (limiter, zone): (_, Zone) = (RateLimiter::with_total(1000), "eu".parse().unwrap());
        limiter.limit_zones(&[(zone.clone(), 1000)].into());
        for _ in 0..2 {
            let waits = [
                tokio::time::timeout(Duration::from_millis(1), limiter.acquire(&zone, 100_000)).await,
                tokio::time::timeout(Duration::from_millis(1), limiter.acquire_total(100_000)).await,
            ];
            assert!(waits.iter().all(Result::is_err), "{waits:?}");
        }
        let next = tokio::time::timeout(Duration::from_secs(20), limiter.acquire(&zone, 100)).await;
        next.expect("not the 400 s of those that ended");
    }

    #[tokio::test]
    async fn bytes_flow_no_faster_than_the_slower_limit() {
        let (limiter, zone): (_, Zone) = (RateLimiter::with_total(1_000_000), "eu".parse().unwrap());
        limiter.limit_zones(&[(zone.clone(), 100_000)].into());
        let started = Instant::now();
        for _ in 0..4 {
            limiter.acquire(&zone, 5_000).await;
        }
        assert!(started.elapsed() >= Duration::from_millis(100), "{:?}", started.elapsed());
    }
}

//! How fast bytes may flow: shared by whatever uses one line.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use wire::Zone;

/// What may flow at once after a pause: enough to even out timers, too little to be seen on a line.
const BURST: Duration = Duration::from_millis(50);
/// Waits shorter than this are not worth a timer; they are made up for by the next one.
const GRAIN: Duration = Duration::from_millis(2);
/// The most bytes to pass at once, so that those who share a line take turns.
pub const TURN: usize = 64 << 10;

/// A token bucket that is paid before it is used. Whoever takes a share queues behind those who took one earlier, so that
/// the line is shared fairly by all who take shares of equal size.
#[derive(Debug)]
pub struct Bucket {
    /// Bytes per second, at least 1.
    rate: u64,
    /// When everything that was taken has flowed.
    free_at: Mutex<Option<Instant>>,
}

impl Bucket {
    /// A line of `rate` bytes per second; 0 counts as 1.
    pub fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), free_at: Mutex::default() }
    }

    /// Bytes per second.
    pub const fn rate(&self) -> u64 {
        self.rate
    }

    /// Takes a share of `bytes`; they may flow at the time that is answered.
    pub fn take(&self, bytes: u64, now: Instant) -> Instant {
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let from = free_at.unwrap_or(now).max(now.checked_sub(BURST).unwrap_or(now));
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate);
        let due = from + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX / 4));
        *free_at = Some(due);
        due
    }

    /// A share that is fair to those who share the line: small enough that many take turns within a second.
    pub fn turn(&self) -> usize {
        usize::try_from(self.rate / 20).unwrap_or(TURN).clamp(4 << 10, TURN)
    }
}

/// How long to wait until `due`, if it is worth waiting.
pub fn wait(due: Instant, now: Instant) -> Option<Duration> {
    Some(due.saturating_duration_since(now)).filter(|wait| *wait >= GRAIN)
}

/// Limits of what is received, in all and by zone. Clones share them; they may change while bytes flow.
#[derive(Debug, Clone, Default)]
pub struct Pace(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    limits: Mutex<Limits>,
    /// A limit is another one now: whoever waits by the old one waits anew.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Limits {
    all: Option<Arc<Bucket>>,
    zones: BTreeMap<Zone, Arc<Bucket>>,
}

impl Pace {
    /// No more than `rate` bytes per second in all.
    pub fn of(rate: u64) -> Self {
        let pace = Self::default();
        pace.limits().all = Some(Arc::new(Bucket::new(rate)));
        pace
    }

    /// From now on no more than these bytes per second from each zone; those not named are not limited.
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

    /// The buckets of what comes from `zone`.
    fn buckets(&self, zone: &Zone) -> [Option<Arc<Bucket>>; 2] {
        let limits = self.limits();
        [limits.all.clone(), limits.zones.get(zone).cloned()]
    }

    /// Waits until `bytes` from `zone` may flow.
    pub async fn pass(&self, zone: &Zone, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let [all, mut own] = self.buckets(zone);
        let all_due = all.map(|bucket| bucket.take(bytes, Instant::now()));
        loop {
            let mut changed = pin!(self.0.changed.notified());
            changed.as_mut().enable();
            let now = Instant::now();
            let due = own.map(|bucket| bucket.take(bytes, now)).max(all_due);
            let Some(wait) = due.and_then(|due| wait(due, now)) else { return };
            tokio::select! {
                () = tokio::time::sleep(wait) => return,
                () = changed => own = self.buckets(zone)[1].clone(),
            }
        }
    }

    /// The most bytes from `zone` to pass at once; `None` where nothing is limited.
    pub fn turn(&self, zone: &Zone) -> Option<usize> {
        self.buckets(zone).iter().flatten().map(|bucket| bucket.turn()).min()
    }

    fn limits(&self) -> MutexGuard<'_, Limits> {
        self.0.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_queue_behind_one_another_and_a_pause_is_not_saved_up() {
        let (bucket, start) = (Bucket::new(1000), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        assert_eq!([bucket.take(500, start), bucket.take(500, start)], [at(500), at(1000)]);
        assert_eq!(bucket.take(250, at(600)), at(1250), "behind those who came first");
        let burst = u64::try_from(BURST.as_millis()).unwrap();
        assert_eq!(bucket.take(500, at(9000)), at(9500 - burst), "only the burst");
        assert_eq!((wait(at(1), start), wait(at(5), start)), (None, Some(Duration::from_millis(5))));
    }

    #[test]
    fn limits_of_zones_come_change_and_go() {
        let (pace, eu, us): (_, Zone, Zone) = (Pace::default(), "eu".parse().unwrap(), "us".parse().unwrap());
        assert_eq!(pace.turn(&eu), None);
        pace.limit_zones(&[(eu.clone(), 1 << 20)].into());
        let before = pace.buckets(&eu)[1].clone().unwrap();
        pace.limit_zones(&[(eu.clone(), 1 << 20), (us.clone(), 9)].into());
        assert!(Arc::ptr_eq(&before, pace.buckets(&eu)[1].as_ref().unwrap()), "what was taken stays taken");
        assert_eq!(pace.turn(&us), Some(4 << 10));
        pace.limit_zones(&[(eu.clone(), 5)].into());
        assert_eq!(pace.buckets(&eu)[1].as_ref().unwrap().rate(), 5);
        assert_eq!(pace.turn(&us), None);
    }

    #[tokio::test]
    async fn whoever_waits_by_a_limit_that_is_raised_or_gone_waits_no_longer() {
        let (pace, zone): (_, Zone) = (Pace::default(), "eu".parse().unwrap());
        for raised in [BTreeMap::from([(zone.clone(), 1 << 30)]), BTreeMap::new()] {
            pace.limit_zones(&[(zone.clone(), 1)].into());
            let change = async {
                tokio::task::yield_now().await;
                pace.limit_zones(&raised);
            };
            let both = async { tokio::join!(pace.pass(&zone, 5_000), change) };
            tokio::time::timeout(Duration::from_secs(60), both).await.expect("not the 5,000 s of the old limit");
        }
    }

    #[tokio::test]
    async fn bytes_pass_no_faster_than_the_slower_limit() {
        let (pace, zone): (_, Zone) = (Pace::of(1_000_000), "eu".parse().unwrap());
        pace.limit_zones(&[(zone.clone(), 100_000)].into());
        let started = Instant::now();
        for _ in 0..4 {
            pace.pass(&zone, 5_000).await;
        }
        assert!(started.elapsed() >= Duration::from_millis(100), "{:?}", started.elapsed());
    }
}

//! The limits of failed log-ins (OWASP ASVS 2.2.1): a budget for each pair of account and address, a slower one for each
//! account and one for each address.
//!
//! A success gives back what it took, so that only failures count. Guesses from elsewhere cannot lock an owner out:
//! where an account was logged in before, only the budget of that very pair counts. Accounts that do not exist are treated alike.
//! Keys are hashes and their number is bounded, so that a flood of names takes no more memory than a few.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use moka::sync::Cache;

/// The rate at which failures are allowed.
#[derive(Debug, Clone, Copy)]
struct Rate {
    /// Failures at once.
    burst: u32,
    /// Time after which one more is allowed.
    refill: Duration,
}

/// Rate of one account from one address.
const PAIR_RATE: Rate = Rate { burst: 10, refill: Duration::from_secs(30) };
/// Rate of one account from all addresses that it was never logged in from.
const ACCOUNT_RATE: Rate = Rate { burst: 50, refill: Duration::from_secs(36) };
/// Rate of all accounts from one address.
const ADDRESS_RATE: Rate = Rate { burst: 60, refill: Duration::from_secs(5) };

/// Budgets of each kind in memory, some 200 bytes each; those that were not used lately make room.
pub(crate) const MAX_BUDGETS: u64 = 16_384;
/// Time for which a pair that logged in is remembered.
const FAMILIAR_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// The budgets of failed log-ins.
pub(crate) struct LoginLimiter<C: Clock = DefaultClock> {
    hasher: RandomState,
    pairs: Budgets<C>,
    accounts: Budgets<C>,
    addresses: Budgets<C>,
    familiar: Cache<u64, ()>,
}

impl LoginLimiter {
    pub(crate) fn new() -> Self {
        Self::with_clock(&DefaultClock::default())
    }
}

impl<C: Clock + Clone + Send + Sync + 'static> LoginLimiter<C>
where
    C::Instant: Send + Sync,
{
    fn with_clock(clock: &C) -> Self {
        Self {
            hasher: RandomState::new(),
            pairs: Budgets::new(PAIR_RATE, clock),
            accounts: Budgets::new(ACCOUNT_RATE, clock),
            addresses: Budgets::new(ADDRESS_RATE, clock),
            familiar: Cache::builder().max_capacity(MAX_BUDGETS).time_to_idle(FAMILIAR_LIFETIME).build(),
        }
    }

    /// Notes that an account is familiar at an address.
    pub(crate) fn add_familiar(&self, account: &str, address: IpAddr) {
        self.familiar.insert(self.pair(account, address), ());
    }

    fn pair(&self, account: &str, address: IpAddr) -> u64 {
        self.hasher.hash_one((&account.to_ascii_lowercase(), network(address)))
    }

    /// Takes the cost of a failure, before the password is checked.
    ///
    /// # Errors
    /// The time to wait.
    pub(crate) fn attempt(&self, account: &str, address: IpAddr) -> Result<LoginAttempt<'_, C>, Duration> {
        let pair = self.pair(account, address);
        let (account, address) = (account.to_ascii_lowercase(), network(address));
        let mut attempt = LoginAttempt { limiter: self, pair, taken: Vec::with_capacity(3) };
        let strange = !self.familiar.contains_key(&pair);
        let account = strange.then(|| self.accounts.of(self.hasher.hash_one(&account)));
        // Others behind the owner's address may have used up its budget.
        let address = strange.then(|| self.addresses.of(self.hasher.hash_one(address)));
        for budget in [Some(self.pairs.of(pair)), account, address].into_iter().flatten() {
            if let Err(wait) = budget.take() {
                attempt.undo();
                return Err(wait);
            }
            attempt.taken.push(budget);
        }
        Ok(attempt)
    }
}

impl<C: Clock> std::fmt::Debug for LoginLimiter<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginLimiter").field("familiar", &self.familiar.entry_count()).finish_non_exhaustive()
    }
}

/// A log-in under way. Dropped, it is a failure.
pub(crate) struct LoginAttempt<'a, C: Clock = DefaultClock> {
    limiter: &'a LoginLimiter<C>,
    pair: u64,
    taken: Vec<Arc<Budget<C>>>,
}

impl<C: Clock> LoginAttempt<'_, C> {
    /// Ends the attempt with the right password.
    pub(crate) fn succeeded(self) {
        self.limiter.familiar.insert(self.pair, ());
        self.undo();
    }

    /// Ends the attempt with an unchecked password.
    pub(crate) fn undo(self) {
        self.taken.iter().for_each(|budget| budget.give_back());
    }
}

struct Budgets<C: Clock> {
    rate: Rate,
    clock: C,
    kept: Cache<u64, Arc<Budget<C>>>,
}

impl<C: Clock + Clone + Send + Sync + 'static> Budgets<C>
where
    C::Instant: Send + Sync,
{
    fn new(rate: Rate, clock: &C) -> Self {
        // A budget that was not used for this time is full again.
        let full = rate.refill.saturating_mul(rate.burst);
        Self { rate, clock: clock.clone(), kept: Cache::builder().max_capacity(MAX_BUDGETS).time_to_idle(full).build() }
    }

    fn of(&self, key: u64) -> Arc<Budget<C>> {
        self.kept.get_with(key, || Arc::new(Budget::new(self.rate, self.clock.clone())))
    }
}

struct Budget<C: Clock> {
    limiter: RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>>,
    clock: C,
    burst: u32,
    /// Number of failures that successes gave back: a limiter only takes.
    returned: AtomicU32,
}

impl<C: Clock> Budget<C> {
    fn new(Rate { burst, refill }: Rate, clock: C) -> Self
    where
        C: Clone,
    {
        let quota = Quota::with_period(refill).unwrap_or_else(|| Quota::per_minute(NonZeroU32::MIN));
        let quota = quota.allow_burst(NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN));
        Self {
            limiter: RateLimiter::direct_with_clock(quota, clock.clone()),
            clock,
            burst,
            returned: AtomicU32::new(0),
        }
    }

    fn take(&self) -> Result<(), Duration> {
        let returned = self.returned.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if returned.is_ok() {
            return Ok(());
        }
        self.limiter.check().map_err(|until| until.wait_time_from(self.clock.now()))
    }

    fn give_back(&self) {
        let more = |left: u32| Some(left.saturating_add(1).min(self.burst));
        let _ = self.returned.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }
}

/// Returns the addresses of one subscriber: an IPv4 address, or an IPv6 network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn address(n: u32) -> IpAddr {
        IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n))
    }

    fn failures(limiter: &LoginLimiter<FakeRelativeClock>, account: &str, from: IpAddr, most: u32) -> u32 {
        (0..most).take_while(|_| limiter.attempt(account, from).is_ok()).map(|_| 1).sum()
    }

    #[test]
    fn guessing_one_account_from_one_address_is_soon_slow() {
        let clock = FakeRelativeClock::default();
        let limiter = LoginLimiter::with_clock(&clock);
        assert_eq!(failures(&limiter, "a@x", HOME, 100), PAIR_RATE.burst);
        assert_eq!(failures(&limiter, "A@X", HOME, 100), 0, "the same account in other letters");
        let wait = limiter.attempt("a@x", HOME).err().unwrap();
        assert!(wait > Duration::ZERO && wait <= PAIR_RATE.refill, "{wait:?}");
        clock.advance(PAIR_RATE.refill);
        assert_eq!(failures(&limiter, "a@x", HOME, 100), 1);
        assert!(limiter.attempt("b@x", HOME).is_ok(), "another account");
        assert!(limiter.attempt("a@x", address(9)).is_ok(), "another address");
    }

    #[test]
    fn one_address_cannot_spray_many_accounts_nor_many_addresses_one_account() {
        let limiter = LoginLimiter::with_clock(&FakeRelativeClock::default());
        let sprayed = (0..1000).filter(|n| limiter.attempt(&format!("{n}@x"), HOME).is_ok()).count();
        assert_eq!(sprayed, ADDRESS_RATE.burst as usize);
        let beset = (0..1000).filter(|n| limiter.attempt("a@x", address(*n)).is_ok()).count();
        assert_eq!(beset, ACCOUNT_RATE.burst as usize);
    }

    #[test]
    fn a_success_costs_nothing_and_an_owner_is_not_locked_out_from_where_they_were() {
        let limiter = LoginLimiter::with_clock(&FakeRelativeClock::default());
        for _ in 0..10_000 {
            limiter.attempt("a@x", HOME).unwrap().succeeded();
        }
        for n in 0..1000 {
            drop(limiter.attempt("a@x", address(n)));
        }
        assert!(limiter.attempt("a@x", address(5000)).is_err(), "the account is beset");
        limiter.attempt("a@x", HOME).unwrap().succeeded();
        for n in 0..1000 {
            drop(limiter.attempt(&format!("{n}@x"), HOME));
        }
        limiter.attempt("a@x", HOME).unwrap().succeeded();
        assert!(failures(&limiter, "a@x", HOME, 100) <= PAIR_RATE.burst + 1, "a success is not a licence to guess");
    }

    #[test]
    fn attempts_at_the_same_time_share_one_budget() {
        let limiter = LoginLimiter::with_clock(&FakeRelativeClock::default());
        let open: Vec<_> = (0..100).map_while(|_| limiter.attempt("a@x", HOME).ok()).collect();
        assert_eq!(open.len(), PAIR_RATE.burst as usize, "as many as may fail");
        open.into_iter().for_each(LoginAttempt::succeeded);
        assert_eq!(failures(&limiter, "a@x", HOME, 100), PAIR_RATE.burst);
    }

    #[test]
    fn a_flood_of_names_takes_no_more_memory_than_the_bound() {
        let limiter = LoginLimiter::with_clock(&FakeRelativeClock::default());
        for n in 0..200_000 {
            drop(limiter.attempt(&format!("{n}@x"), address(n)));
        }
        for budgets in [&limiter.pairs, &limiter.accounts, &limiter.addresses] {
            budgets.kept.run_pending_tasks();
            assert!(budgets.kept.entry_count() <= MAX_BUDGETS, "{}", budgets.kept.entry_count());
        }
    }

    #[test]
    fn a_subscriber_has_one_address_of_either_kind() {
        for (one, other) in [("2001:db8::1", "2001:db8::ffff:1"), ("192.0.2.7", "::ffff:192.0.2.7")] {
            assert_eq!(network(one.parse().unwrap()), network(other.parse().unwrap()));
        }
        assert_ne!(network("2001:db8:0:1::1".parse().unwrap()), network("2001:db8:0:2::1".parse().unwrap()));
    }
}

//! How much a tenant may ask for in a time: a bucket of capacity units, into which as many run each second as its limit
//! says, and no more than those of [`BURST_SECONDS`] are saved.
//!
//! What a request takes is known only when its item has been read. So a request is let in while anything is in the bucket, is
//! charged the least that it can take, and the rest when it has been answered; the bucket may go into debt, and nothing
//! is let in before that has run in again. Of any time on, what was let in has taken at most
//!
//! ```text
//! limit × time + limit × BURST_SECONDS + what one request takes, and those that were under way beside it
//! ```
//!
//! Half units are counted, since an eventual read takes half of one. The level is kept in millionths of millionths of them:
//! a rate in millionths a second times microseconds, without a division, so nothing is lost however often one looks. Time is
//! handed in. A clock that was set back stops the flow once, and nothing else.

use super::ambient::Timestamp;

/// For how long units that nobody uses are saved.
pub const BURST_SECONDS: u64 = 10;
/// The least that a request takes, in half units.
pub const LEAST_HALF_UNITS: u64 = 1;
/// What one half unit is in the level.
const HALF_UNIT: i128 = 1_000_000_000_000;

/// How fast a bucket is filled: millionths of half units a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(u64);

impl Rate {
    /// One of so many equal shares of a limit in units a second.
    pub fn share(units_per_second: u64, shares: u32) -> Self {
        Self((units_per_second.saturating_mul(2_000_000) / u64::from(shares.max(1))).max(1))
    }

    fn burst(self) -> i128 {
        i128::from(self.0) * i128::from(BURST_SECONDS * 1_000_000)
    }
}

/// See the module's essay.
#[derive(Debug, Clone, Copy)]
pub struct TokenBucket {
    level: i128,
    at: Timestamp,
}

impl TokenBucket {
    /// A bucket that is full now.
    pub fn full(rate: Rate, now: Timestamp) -> Self {
        Self { level: rate.burst(), at: now }
    }

    /// Lets a request in and charges the least that it takes. The rate may differ from call to call.
    ///
    /// # Errors
    /// Where the bucket is empty: after how many microseconds it will not be.
    pub fn admit(&mut self, rate: Rate, now: Timestamp) -> Result<(), u64> {
        let elapsed = now.0.saturating_sub(self.at.0);
        self.at = now;
        self.level = (self.level + i128::from(elapsed) * i128::from(rate.0)).min(rate.burst());
        if self.level <= 0 {
            return Err(u64::try_from(-self.level / i128::from(rate.0) + 1).unwrap_or(u64::MAX));
        }
        self.charge(LEAST_HALF_UNITS);
        Ok(())
    }

    /// Takes what a request has taken beyond what was charged when it was let in.
    pub fn charge(&mut self, half_units: u64) {
        self.level = self.level.saturating_sub(i128::from(half_units) * HALF_UNIT);
    }

    /// Forgives what is owed beyond one burst: where nothing is refused, debts would grow without end.
    pub fn forgive(&mut self, rate: Rate) {
        self.level = self.level.max(-rate.burst());
    }

    /// Whether half or more of what may be saved is there, as of the last look.
    pub fn is_half_full(&self, rate: Rate) -> bool {
        self.level >= rate.burst() / 2
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_bucket_lasts_for_its_burst_and_a_debt_is_waited_for() {
        let rate = Rate::share(1, 1);
        let mut bucket = TokenBucket::full(rate, Timestamp(0));
        for _ in 0..BURST_SECONDS * 2 {
            assert_eq!(bucket.admit(rate, Timestamp(0)), Ok(()));
        }
        assert_eq!(bucket.admit(rate, Timestamp(0)), Err(1), "not before anything has run in");
        assert_eq!(bucket.admit(rate, Timestamp(1)), Ok(()));
        bucket.charge(9);
        let wait = bucket.admit(rate, Timestamp(1)).unwrap_err();
        assert!((4_900_000..=5_000_001).contains(&wait), "ten half units at two a second: {wait}");
        assert_eq!(bucket.admit(rate, Timestamp(wait)).unwrap_err(), 1);
        assert_eq!(bucket.admit(rate, Timestamp(1 + wait)), Ok(()));
    }

    #[test]
    fn a_clock_set_back_gives_nothing_and_takes_nothing() {
        let rate = Rate::share(1, 1);
        let mut bucket = TokenBucket::full(rate, Timestamp(50_000_000));
        bucket.charge(20);
        assert!(bucket.admit(rate, Timestamp(40_000_000)).is_err());
        assert_eq!(bucket.admit(rate, Timestamp(40_000_001)), Ok(()));
    }

    #[test]
    fn what_is_forgiven_is_all_but_one_burst() {
        let rate = Rate::share(100, 1);
        let mut bucket = TokenBucket::full(rate, Timestamp(0));
        bucket.charge(1_000_000);
        bucket.forgive(rate);
        let wait = bucket.admit(rate, Timestamp(0)).unwrap_err();
        assert_eq!(wait, BURST_SECONDS * 1_000_000 + 1);
        assert!(!bucket.is_half_full(rate));
        assert_eq!(bucket.admit(rate, Timestamp(BURST_SECONDS * 2_000_000)), Ok(()));
        assert!(bucket.is_half_full(rate));
    }

    #[test]
    fn shares_add_up_to_the_limit() {
        for shares in 1..200u32 {
            let all = Rate::share(1_000, shares).0 * u64::from(shares);
            assert!((2_000_000_000 - u64::from(shares)..=2_000_000_000).contains(&all));
        }
        assert_eq!(Rate::share(1, 0), Rate::share(1, 1));
    }

    proptest! {
        /// Requests as they come, each with a pause before it and what it takes when it is answered.
        #[test]
        fn never_more_than_the_limit_and_a_burst(
            units in 1u64..5_000,
            shares in 1u32..7,
            requests in proptest::collection::vec((0u64..3_000_000, 0u64..900), 1..300),
        ) {
            let rate = Rate::share(units, shares);
            let mut bucket = TokenBucket::full(rate, Timestamp(0));
            let (mut now, mut taken, mut largest) = (0, 0u64, 0);
            for (pause, more) in requests {
                now += pause;
                if bucket.admit(rate, Timestamp(now)).is_ok() {
                    bucket.charge(more);
                    taken += LEAST_HALF_UNITS + more;
                    largest = largest.max(LEAST_HALF_UNITS + more);
                }
                let seconds = BURST_SECONDS as f64 + now as f64 / 1e6;
                let allowed = units as f64 * 2.0 / f64::from(shares) * seconds + largest as f64;
                prop_assert!(taken as f64 <= allowed + 0.01, "{taken} half units, {allowed} allowed");
            }
        }

        /// However often it is asked meanwhile.
        #[test]
        fn who_waits_as_told_is_let_in(units in 1u64..1_000_000_000, shares in 1u32..1_000, debt in 0u64..10_000, looks in 0u64..50) {
            let rate = Rate::share(units, shares);
            let mut bucket = TokenBucket::full(rate, Timestamp(0));
            bucket.charge(units.saturating_mul(2 * BURST_SECONDS) + debt);
            let Err(wait) = bucket.admit(rate, Timestamp(0)) else { return Ok(()) };
            for look in 0..looks {
                prop_assert!(bucket.admit(rate, Timestamp((wait - 1) * look / looks)).is_err());
            }
            prop_assert_eq!(bucket.admit(rate, Timestamp(wait)), Ok(()));
        }
    }
}

//! How long requests took: counted in buckets whose bounds never change, so that histograms of any time and any component add up.

use serde::{Deserialize, Serialize};

/// The upper bounds of the buckets (inclusive), in microseconds; one more bucket holds what took longer.
pub const BOUNDS_US: [u64; 17] = [
    100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000,
    5_000_000, 10_000_000, 30_000_000,
];

/// Buckets of a histogram.
pub const BUCKETS: usize = BOUNDS_US.len() + 1;

/// See the module's essay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LatencyHistogram {
    /// Requests in each bucket, not added up.
    pub buckets: [u64; BUCKETS],
    /// Microseconds of all together.
    pub sum_us: u64,
}

impl LatencyHistogram {
    /// The bucket of something that took so many microseconds.
    pub fn bucket_of(micros: u64) -> usize {
        BOUNDS_US.partition_point(|bound| *bound < micros)
    }

    /// One more that took so many microseconds.
    pub fn add(&mut self, micros: u64) {
        self.buckets[Self::bucket_of(micros)] += 1;
        self.sum_us = self.sum_us.saturating_add(micros);
    }

    /// All of another one, too.
    pub fn merge(&mut self, other: &Self) {
        for (own, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *own = own.saturating_add(theirs);
        }
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The bound in microseconds under which this part of all lie (0 to 1); none where there are none, the last bound where it is more.
    pub fn quantile_us(&self, part: f64) -> Option<u64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((count as f64 * part).ceil() as u64).clamp(1, count);
        let mut before = 0;
        let bucket = self.buckets.iter().position(|held| {
            before += held;
            before >= rank
        });
        let last = BOUNDS_US.len() - 1;
        Some(BOUNDS_US[bucket.unwrap_or(last).min(last)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_lies_within_the_bounds_of_its_bucket(micros in 0u64..100_000_000) {
            let bucket = LatencyHistogram::bucket_of(micros);
            prop_assert!(bucket == BOUNDS_US.len() || micros <= BOUNDS_US[bucket]);
            prop_assert!(bucket == 0 || micros > BOUNDS_US[bucket - 1]);
        }

        #[test]
        fn parts_add_up_to_the_whole(all in proptest::collection::vec(0u64..40_000_000, 0..60), cut in 0usize..60) {
            let of = |some: &[u64]| {
                let mut histogram = LatencyHistogram::default();
                some.iter().for_each(|micros| histogram.add(*micros));
                histogram
            };
            let (first, second) = all.split_at(cut.min(all.len()));
            let mut both = of(first);
            both.merge(&of(second));
            prop_assert_eq!(both, of(&all));
            prop_assert_eq!(both.count(), all.len() as u64);
        }
    }

    #[test]
    fn quantiles_are_the_bounds_of_buckets() {
        let mut histogram = LatencyHistogram::default();
        assert_eq!(histogram.quantile_us(0.5), None);
        (0..99).for_each(|_| histogram.add(150));
        histogram.add(60_000_000);
        assert_eq!((histogram.quantile_us(0.0), histogram.quantile_us(0.99)), (Some(200), Some(200)));
        assert_eq!(histogram.quantile_us(1.0), Some(30_000_000), "nothing more is known of what took longer");
    }
}

//! Sums over requests.
//!
//! Latencies are kept in buckets with fixed bounds in the series 1, 2, 5, so that any two histograms can be added, and
//! a percentile that is read from them is off by at most the width of its bucket.

use serde::{Deserialize, Serialize};

/// The upper bounds of the buckets, in microseconds, inclusive; the last bucket has none.
pub const LATENCY_BOUNDS_MICROS: [u64; 17] = [
    50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000,
    5_000_000, 10_000_000,
];
/// How many buckets there are.
pub const LATENCY_BUCKETS: usize = LATENCY_BOUNDS_MICROS.len() + 1;

/// How long requests took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Latencies {
    /// How many requests fell in each bucket.
    pub buckets: [u64; LATENCY_BUCKETS],
    /// All times together, microseconds.
    pub sum_micros: u64,
}

impl Latencies {
    /// Adds one request.
    pub fn note(&mut self, micros: u64) {
        let bucket = LATENCY_BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        self.buckets[bucket] += 1;
        self.sum_micros = self.sum_micros.saturating_add(micros);
    }

    /// Adds those of another.
    pub fn add(&mut self, other: &Latencies) {
        for (own, other) in self.buckets.iter_mut().zip(other.buckets) {
            *own = own.saturating_add(other);
        }
        self.sum_micros = self.sum_micros.saturating_add(other.sum_micros);
    }

    /// How many requests there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The upper bound, in microseconds, of the bucket in which this part of all requests (0 to 1) has ended; none without
    /// requests, and `u64::MAX` where that is the bucket without a bound.
    pub fn percentile(&self, part: f64) -> Option<u64> {
        let wanted = (self.count() as f64 * part).ceil().max(1.0) as u64;
        let mut seen = 0;
        let place = self.buckets.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        (self.count() > 0)
            .then(|| place.and_then(|place| LATENCY_BOUNDS_MICROS.get(place).copied()).unwrap_or(u64::MAX))
    }
}

/// One request that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sample {
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the answer's body.
    pub response_bytes: u64,
    /// Half read units: a strong read of up to 4 KiB takes two, an eventual one takes one. Source: AWS, DynamoDB developer
    /// guide, "Read and write operations".
    pub read_half_units: u64,
    /// Write units: a write of up to 1 KiB takes one.
    pub write_units: u64,
    /// From the head of the request to the answer's, microseconds.
    pub micros: u64,
}

/// Sums over requests of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Requests.
    pub requests: u64,
    /// Bytes of bodies received.
    pub request_bytes: u64,
    /// Bytes of bodies sent.
    pub response_bytes: u64,
    /// Half read units, see [`Sample::read_half_units`].
    pub read_half_units: u64,
    /// Write units.
    pub write_units: u64,
    /// How long they took.
    pub latencies: Latencies,
}

impl Counts {
    /// Adds one request.
    pub fn note(&mut self, sample: &Sample) {
        self.requests += 1;
        self.request_bytes += sample.request_bytes;
        self.response_bytes += sample.response_bytes;
        self.read_half_units += sample.read_half_units;
        self.write_units += sample.write_units;
        self.latencies.note(sample.micros);
    }

    /// Adds those of another. Sums end at the largest number there is, where a batch lies.
    pub fn add(&mut self, other: &Counts) {
        for (own, other) in [
            (&mut self.requests, other.requests),
            (&mut self.request_bytes, other.request_bytes),
            (&mut self.response_bytes, other.response_bytes),
            (&mut self.read_half_units, other.read_half_units),
            (&mut self.write_units, other.write_units),
        ] {
            *own = own.saturating_add(other);
        }
        self.latencies.add(&other.latencies);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_time_falls_into_the_bucket_that_ends_at_or_behind_it() {
        let mut latencies = Latencies::default();
        for micros in [0, 50, 51, 100, 10_000_000, 10_000_001, u64::MAX] {
            latencies.note(micros);
        }
        assert_eq!((latencies.buckets[0], latencies.buckets[1]), (2, 2));
        assert_eq!((latencies.buckets[16], latencies.buckets[17], latencies.count()), (1, 2, 7));
        assert_eq!(latencies.sum_micros, u64::MAX);
    }

    #[test]
    fn percentiles_are_bounds_of_buckets() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentile(0.5), None);
        (0..99).for_each(|_| latencies.note(70));
        latencies.note(u64::MAX);
        assert_eq!((latencies.percentile(0.5), latencies.percentile(0.99)), (Some(100), Some(100)));
        assert_eq!(latencies.percentile(1.0), Some(u64::MAX));
    }

    proptest! {
        #[test]
        fn adding_up_is_the_same_in_any_order(samples in proptest::collection::vec((0u64..1 << 40, 0u64..1 << 30), 0..50), cut in 0usize..50) {
            let sample = |(micros, bytes): &(u64, u64)| Sample {
                request_bytes: *bytes, response_bytes: bytes / 2, read_half_units: bytes % 7, write_units: bytes % 5, micros: *micros,
            };
            let sum = |samples: &[(u64, u64)]| {
                let mut counts = Counts::default();
                samples.iter().for_each(|one| counts.note(&sample(one)));
                counts
            };
            let (first, second) = samples.split_at(cut.min(samples.len()));
            let (mut one, mut other) = (sum(first), sum(second));
            one.add(&sum(second));
            other.add(&sum(first));
            prop_assert_eq!(one, other);
            prop_assert_eq!(one, sum(&samples));
            prop_assert_eq!(one.latencies.count(), one.requests);
        }
    }
}

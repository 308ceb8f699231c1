//! How fast files are read: evenly over the period, and never so fast that requests feel it. Pure.
//!
//! The next piece is read when the part of all bytes that was read is not ahead of the part of the time that has passed.
//! So a node that was stopped for a while catches up, and one with little data reads little at a time. A tenth of the period
//! is kept free at its end. What is late is read as fast as the bound allows, and no faster.

use std::time::Duration;

/// See the module's essay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// In which all is to be read.
    pub period: Duration,
    /// Bytes a second, at most.
    pub bytes_per_second_max: u64,
}

impl Pace {
    /// The time after which all is to have been read.
    fn target(&self) -> Duration {
        self.period / 10 * 9
    }

    /// Whether the next piece is to be read, when so many bytes were read since the round began, and so many are left.
    pub fn is_due(&self, done_bytes: u64, left_bytes: u64, elapsed: Duration) -> bool {
        let all = u128::from(done_bytes) + u128::from(left_bytes);
        u128::from(done_bytes) * self.target().as_millis() <= all * elapsed.as_millis()
    }

    /// How long to pause after so many bytes, at least.
    pub fn rest(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second_max.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How often to look whether something is due.
    pub fn look(&self) -> Duration {
        (self.period / 50).clamp(Duration::from_millis(10), Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STEP: u64 = 1 << 20;

    /// Reads `all` bytes beginning at `late`, on a clock of its own; when each piece was read.
    fn read(pace: Pace, all: u64, late: Duration) -> Vec<Duration> {
        let (mut now, mut done, mut times) = (late, 0, Vec::new());
        while done < all {
            if pace.is_due(done, all - done, now) {
                let piece = STEP.min(all - done);
                done += piece;
                times.push(now);
                now += pace.rest(piece);
            } else {
                now += pace.look();
            }
        }
        times
    }

    #[test]
    fn a_period_is_used_evenly_and_its_end_is_free() {
        let week = Pace { period: Duration::from_secs(604_800), bytes_per_second_max: 32 << 20 };
        let times = read(week, 1000 * STEP, Duration::ZERO);
        assert_eq!(times.len(), 1000);
        for (piece, time) in times.iter().enumerate() {
            let ideal = week.target() / 1000 * piece as u32;
            assert!(*time >= ideal && *time <= ideal + week.look() * 2, "piece {piece} at {time:?}, not {ideal:?}");
        }
    }

    #[test]
    fn what_is_late_is_read_as_fast_as_the_bound_allows() {
        let pace = Pace { period: Duration::from_secs(100), bytes_per_second_max: 4 * STEP };
        let times = read(pace, 400 * STEP, Duration::from_secs(100));
        for second in times.windows(5) {
            assert!(second[4] - second[0] >= Duration::from_secs(1), "four pieces a second at most");
        }
        assert_eq!(times.last().unwrap().as_secs(), 100 + 99);
    }

    #[test]
    fn nothing_is_read_without_end_where_nothing_is_there() {
        let pace = Pace { period: Duration::from_secs(10), bytes_per_second_max: STEP };
        assert!(pace.is_due(0, 0, Duration::ZERO) && pace.rest(0) == Duration::ZERO);
        assert_eq!(read(pace, 0, Duration::ZERO).len(), 0);
    }

    proptest! {
        #[test]
        fn the_bound_holds_and_the_end_is_reached(mib in 1u64..300, period in 1u64..1000, bound in 1u64..50, late in 0u64..2000) {
            let pace = Pace { period: Duration::from_secs(period), bytes_per_second_max: bound * STEP };
            let times = read(pace, mib * STEP, Duration::from_secs(late));
            prop_assert_eq!(times.len() as u64, mib);
            for pair in times.windows(2) {
                prop_assert!(pair[1] - pair[0] >= pace.rest(STEP));
            }
        }
    }
}

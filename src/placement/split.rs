//! Cutting the space of hashes into the intervals that a table starts with, and where one of them is cut later.
//!
//! Every hash belongs to exactly one interval, and their sizes differ by one at most: that is the
//! whole promise, and the property test below holds it for every count that may be asked for.

use crate::domain::hash::HashRange;

/// Ranges that a table may start with, at most.
pub const INITIAL_RANGES_MAX: u16 = 1024;

/// The whole space in `count` intervals of equal size (to one hash), in ascending order. A count of
/// zero is taken as one.
pub fn initial_intervals(count: u16) -> Vec<HashRange> {
    let count = u64::from(count.max(1));
    let space = 1u64 << 32;
    let bound = |index: u64| index * space / count;
    // Each bound is below 2³² except the last, of which one less is taken: no value is cut off.
    (0..count).map(|index| HashRange { low: bound(index) as u32, high: (bound(index + 1) - 1) as u32 }).collect()
}

/// How many ranges a table starts with where its maker did not say: two for each node, so that
/// every node has work and the loss of one spreads over several, but no more than 64, because an
/// empty range still costs a file when first written.
pub fn initial_ranges_default(nodes: usize) -> u16 {
    if nodes <= 1 { 1 } else { (nodes * 2).min(64) as u16 }
}

/// The hash with which the upper part begins where an interval is cut in the middle; none where it has one hash alone. By hashes and
/// not by items: hashes spread items evenly, and counting them would mean reading the range.
pub fn middle(hashes: HashRange) -> Option<u32> {
    let width = hashes.high.checked_sub(hashes.low).filter(|width| *width > 0)?;
    Some(hashes.low + width / 2 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_range_is_the_whole_space() {
        assert_eq!(initial_intervals(1), [HashRange::FULL]);
        assert_eq!(initial_intervals(0), [HashRange::FULL]);
    }

    #[test]
    fn three_ranges_meet_without_gap() {
        let cut = initial_intervals(3);
        assert_eq!(cut[0], HashRange { low: 0, high: 1_431_655_764 });
        assert_eq!(cut[1], HashRange { low: 1_431_655_765, high: 2_863_311_529 });
        assert_eq!(cut[2], HashRange { low: 2_863_311_530, high: u32::MAX });
    }

    #[test]
    fn the_default_grows_with_the_nodes_and_stops() {
        assert_eq!([0, 1, 2, 3, 32, 500].map(initial_ranges_default), [1, 1, 4, 6, 64, 64]);
    }

    #[test]
    fn the_middle_is_the_first_hash_of_the_upper_half() {
        let of = |low, high| middle(HashRange { low, high });
        assert_eq!(middle(HashRange::FULL), Some(1 << 31));
        assert_eq!([of(0, 1), of(5, 7), of(u32::MAX - 1, u32::MAX)], [Some(1), Some(7), Some(u32::MAX)]);
        assert_eq!(of(7, 7), None);
    }

    proptest! {
        #[test]
        fn intervals_cover_every_hash_once_and_are_even(count in 1u16..=INITIAL_RANGES_MAX) {
            let cut = initial_intervals(count);
            prop_assert_eq!(cut.len(), usize::from(count));
            prop_assert_eq!(cut[0].low, 0);
            prop_assert_eq!(cut[cut.len() - 1].high, u32::MAX);
            for pair in cut.windows(2) {
                prop_assert_eq!(u64::from(pair[0].high) + 1, u64::from(pair[1].low));
            }
            let sizes: Vec<u64> = cut.iter().map(|interval| u64::from(interval.high) - u64::from(interval.low) + 1).collect();
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
        }
    }
}

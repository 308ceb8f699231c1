//! Segments: parts of a table that several workers scan side by side. A segment is an interval of hashes; the segments
//! of one scan cut all hashes into neighbours that differ in size by one at most.

use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::request::Count;
use crate::domain::hash::HashRange;

/// A part of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// Which, from 0.
    pub(super) number: i64,
    /// Of how many.
    pub(super) total: i64,
}

impl Segment {
    /// The segment that a request names; none where it wants the whole table. The model's limits were checked before.
    pub(super) fn read(number: Count, total: Count) -> Result<Option<Segment>, Failure> {
        match (number.0, total.0) {
            (None, None) => Ok(None),
            (Some(_), None) => Err(Failure::validation(
                "The TotalSegments parameter is required but was not present in the request when Segment parameter is present",
            )),
            (None, Some(_)) => Err(Failure::validation(
                "The Segment parameter is required but was not present in the request when parameter TotalSegments is present",
            )),
            (Some(number), Some(total)) if number >= total => Err(Failure::validation(format!(
                "The Segment parameter is zero-based and must be less than parameter TotalSegments: Segment: {number} is \
                 not less than TotalSegments: {total}"
            ))),
            (Some(number), Some(total)) => Ok(Some(Segment { number, total })),
        }
    }

    /// Its hashes.
    pub(super) fn hashes(self) -> HashRange {
        let all = HashRange::FULL.count();
        let total = u64::try_from(self.total).unwrap_or(1).max(1);
        let number = u64::try_from(self.number).unwrap_or(0).min(total - 1);
        // At most 2³² times a million: far below 2⁶⁴. There are fewer segments than hashes, so none is empty.
        let edge = |number: u64| all * number / total;
        let bound = |edge: u64| u32::try_from(edge).unwrap_or(u32::MAX);
        HashRange { low: bound(edge(number)), high: bound(edge(number + 1).saturating_sub(1)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(number: Option<i64>, total: Option<i64>) -> String {
        Segment::read(Count(number), Count(total)).unwrap_err().message().unwrap().to_owned()
    }

    #[test]
    fn both_parameters_or_none() {
        assert_eq!(Segment::read(Count(None), Count(None)), Ok(None));
        assert_eq!(Segment::read(Count(Some(1)), Count(Some(2))), Ok(Some(Segment { number: 1, total: 2 })));
        assert!(text(Some(0), None).starts_with("The TotalSegments parameter is required but was not present"));
        assert!(text(None, Some(1)).starts_with("The Segment parameter is required but was not present"));
        assert_eq!(
            text(Some(2), Some(2)),
            "The Segment parameter is zero-based and must be less than parameter TotalSegments: Segment: 2 is not less \
             than TotalSegments: 2"
        );
    }

    #[test]
    fn one_segment_is_everything() {
        assert_eq!(Segment { number: 0, total: 1 }.hashes(), HashRange::FULL);
    }

    proptest! {
        #[test]
        fn neighbours_touch_and_the_ends_are_the_ends(total in 1i64..=1_000_000, seed: u32) {
            let number = i64::from(seed) % total;
            let hashes = Segment { number, total }.hashes();
            prop_assert!(hashes.low <= hashes.high);
            if number == 0 {
                prop_assert_eq!(hashes.low, 0);
            }
            if number + 1 == total {
                prop_assert_eq!(hashes.high, u32::MAX);
            } else {
                prop_assert_eq!(Segment { number: number + 1, total }.hashes().low, hashes.high + 1);
            }
        }
    }
}

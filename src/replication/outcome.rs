//! Outcomes as bytes, as they are remembered with request ids and receipts.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | 1 created, 2 updated, 3 deleted, 4 not found, 5 precondition failed, 6 invalid, 7 request id reused, 8 request id expired, 9 request id outside |
//! | 8 | version, big-endian (created, updated), or microseconds since 1970 (request id outside) |
//! | rest | message in UTF-8 (invalid) |

use crate::domain::Timestamp;
use crate::domain::version::ItemVersion;

use super::operation::Outcome;

impl Outcome {
    /// The outcome as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let tagged = |tag: u8, rest: &[u8]| [&[tag], rest].concat();
        match self {
            Outcome::Created(version) => tagged(1, &version.0.to_be_bytes()),
            Outcome::Updated(version) => tagged(2, &version.0.to_be_bytes()),
            Outcome::Deleted => vec![3],
            Outcome::NotFound => vec![4],
            Outcome::PreconditionFailed => vec![5],
            Outcome::Invalid(message) => tagged(6, message.as_bytes()),
            Outcome::RequestIdReused => vec![7],
            Outcome::RequestIdExpired => vec![8],
            Outcome::RequestIdOutside(latest) => tagged(9, &latest.0.to_be_bytes()),
        }
    }

    /// The outcome in these bytes; none where they are none.
    pub fn decode(bytes: &[u8]) -> Option<Outcome> {
        let (tag, rest) = bytes.split_first()?;
        let number = || rest.try_into().ok().map(u64::from_be_bytes);
        let version = || number().map(ItemVersion);
        match (tag, rest.is_empty()) {
            (1, _) => version().map(Outcome::Created),
            (2, _) => version().map(Outcome::Updated),
            (3, true) => Some(Outcome::Deleted),
            (4, true) => Some(Outcome::NotFound),
            (5, true) => Some(Outcome::PreconditionFailed),
            (6, _) => String::from_utf8(rest.to_vec()).ok().map(Outcome::Invalid),
            (7, true) => Some(Outcome::RequestIdReused),
            (8, true) => Some(Outcome::RequestIdExpired),
            (9, _) => number().map(|latest| Outcome::RequestIdOutside(Timestamp(latest))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            any::<u64>().prop_map(|version| Outcome::Created(ItemVersion(version))),
            any::<u64>().prop_map(|version| Outcome::Updated(ItemVersion(version))),
            Just(Outcome::Deleted),
            Just(Outcome::NotFound),
            Just(Outcome::PreconditionFailed),
            any::<String>().prop_map(Outcome::Invalid),
            Just(Outcome::RequestIdReused),
            Just(Outcome::RequestIdExpired),
            any::<u64>().prop_map(|latest| Outcome::RequestIdOutside(Timestamp(latest))),
        ]
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_equal(outcome in outcome()) {
            prop_assert_eq!(Outcome::decode(&outcome.encode()), Some(outcome));
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes: Vec<u8>) {
            if let Some(outcome) = Outcome::decode(&bytes) {
                prop_assert_eq!(outcome.encode(), bytes);
            }
        }
    }
}

//! Outcomes as bytes, as they are remembered with request ids and receipts.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | 1 created, 2 updated, 3 deleted, 4 not found, 5 precondition failed, 6 invalid, 7 request id reused, 8 request id expired, 9 request id outside, 10 condition failed, 11 changed |
//! | 8 | version, big-endian (created, updated), or microseconds since 1970 (request id outside) |
//! | rest | message in UTF-8 (invalid) |
//!
//! The last two, integers big-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | flags: 1 item before, 2 item after, 4 version, 8 there was an item; condition failed has the first alone |
//! | 4 | size of the item before |
//! | 4 | size of the item after (changed) |
//! | 8 | version, where there is one |
//! | 4 + n | item before, where it is told |
//! | 4 + n | item after, where it is told |

use bytes::{Buf, BufMut, Bytes};

use crate::domain::Timestamp;
use crate::domain::document::Document;
use crate::domain::version::ItemVersion;

use super::operation::{Changed, ConditionFailed, Outcome};

const FLAG_BEFORE: u8 = 1;
const FLAG_AFTER: u8 = 2;
const FLAG_VERSION: u8 = 4;
const FLAG_EXISTED: u8 = 8;
const FLAGS: u8 = FLAG_BEFORE | FLAG_AFTER | FLAG_VERSION | FLAG_EXISTED;

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
            Outcome::ConditionFailed(failed) => {
                let ConditionFailed { before, before_bytes } = &**failed;
                let mut buffer = Vec::with_capacity(16 + self.told_bytes());
                buffer.put_slice(&[10, flag(before.is_some(), FLAG_BEFORE)]);
                buffer.put_u32(*before_bytes);
                put_image(&mut buffer, before.as_ref());
                buffer
            }
            Outcome::Changed(changed) => {
                let Changed { version, existed, before, after, before_bytes, after_bytes } = &**changed;
                let mut buffer = Vec::with_capacity(32 + self.told_bytes());
                let images = flag(before.is_some(), FLAG_BEFORE) | flag(after.is_some(), FLAG_AFTER);
                let others = flag(version.is_some(), FLAG_VERSION) | flag(*existed, FLAG_EXISTED);
                buffer.put_slice(&[11, images | others]);
                buffer.put_u32(*before_bytes);
                buffer.put_u32(*after_bytes);
                if let Some(version) = version {
                    buffer.put_u64(version.0);
                }
                put_image(&mut buffer, before.as_ref());
                put_image(&mut buffer, after.as_ref());
                buffer
            }
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
            (10, _) => condition_failed(rest),
            (11, _) => changed(rest),
            _ => None,
        }
    }
}

fn flag(is_set: bool, flag: u8) -> u8 {
    if is_set { flag } else { 0 }
}

fn put_image(buffer: &mut Vec<u8>, image: Option<&Document>) {
    if let Some(document) = image {
        buffer.put_u32(document.as_bytes().len() as u32);
        buffer.put_slice(document.as_bytes());
    }
}

fn condition_failed(mut rest: &[u8]) -> Option<Outcome> {
    let flags = rest.try_get_u8().ok().filter(|flags| flags & !FLAG_BEFORE == 0)?;
    let before_bytes = rest.try_get_u32().ok()?;
    let before = image(&mut rest, flags & FLAG_BEFORE != 0)?;
    rest.is_empty().then(|| Outcome::ConditionFailed(Box::new(ConditionFailed { before, before_bytes })))
}

fn changed(mut rest: &[u8]) -> Option<Outcome> {
    let flags = rest.try_get_u8().ok().filter(|flags| flags & !FLAGS == 0)?;
    let before_bytes = rest.try_get_u32().ok()?;
    let after_bytes = rest.try_get_u32().ok()?;
    let version = if flags & FLAG_VERSION == 0 { None } else { Some(ItemVersion(rest.try_get_u64().ok()?)) };
    let before = image(&mut rest, flags & FLAG_BEFORE != 0)?;
    let after = image(&mut rest, flags & FLAG_AFTER != 0)?;
    let existed = flags & FLAG_EXISTED != 0;
    let changed = Changed { version, existed, before, after, before_bytes, after_bytes };
    rest.is_empty().then(|| Outcome::Changed(Box::new(changed)))
}

/// The image that stands next, where one does; it has memory of its own. The outer none: there is none where one should be.
fn image(rest: &mut &[u8], is_there: bool) -> Option<Option<Document>> {
    if !is_there {
        return Some(None);
    }
    let length = rest.try_get_u32().ok()? as usize;
    let (bytes, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Document::from_bytes(Bytes::copy_from_slice(bytes)).ok().map(Some)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::domain::document::sample;
    use proptest::prelude::*;

    fn told() -> impl Strategy<Value = Option<Document>> {
        proptest::option::of(sample::items().prop_map(|map| sample::document(&map)))
    }

    pub(crate) fn outcome() -> impl Strategy<Value = Outcome> {
        let changed = (proptest::option::of(any::<u64>()), any::<bool>(), told(), told(), any::<[u32; 2]>());
        prop_oneof![
            (told(), any::<u32>()).prop_map(|(before, before_bytes)| {
                Outcome::ConditionFailed(Box::new(ConditionFailed { before, before_bytes }))
            }),
            changed.prop_map(|(version, existed, before, after, [before_bytes, after_bytes])| {
                let version = version.map(ItemVersion);
                let changed = Changed { version, existed, before, after, before_bytes, after_bytes };
                Outcome::Changed(Box::new(changed))
            }),
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

        #[test]
        fn changed_bytes_are_another_outcome_or_none(outcome in outcome(), at: usize, value: u8) {
            let mut bytes = outcome.encode();
            let place = at % bytes.len();
            bytes[place] = value;
            if let Some(outcome) = Outcome::decode(&bytes) {
                prop_assert_eq!(outcome.encode(), bytes);
            }
        }
    }
}

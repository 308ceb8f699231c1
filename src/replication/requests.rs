//! The window in which a request id is remembered. A write that comes again under the same id
//! within it is answered as before; the same id with another request is refused; an id older than
//! the window is simply not known any more (clients are told the length of the window).
//!
//! An outcome may carry the item as it was or is (an image). A repeat is told the same image where it was small; of a
//! larger one it is told that the write was done and how it ended is not known any more ([`kept`]): what is remembered lies in the
//! range's file for ten minutes, and a small update of a large item must not fill it.
//!
//! The window is counted by the leader's time in the entries, not by a clock, so that every replica
//! forgets the same ids at the same index.

use crate::domain::Timestamp;
use crate::domain::limits::REQUEST_WINDOW_SECONDS;

use super::operation::{ClientRequest, Outcome};

/// What is kept of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// SHA-256 of what was asked.
    pub digest: [u8; 32],
    /// How it ended.
    pub outcome: Outcome,
    /// The index of the entry that ended it.
    pub index: u64,
    /// The leader's time in that entry.
    pub at: Timestamp,
}

/// Bytes of images that are remembered with one outcome, at most.
pub const IMAGE_BYTES_MAX: usize = 16 * 1024;

/// An outcome as it is remembered under a client's id.
pub fn kept(outcome: &Outcome) -> Outcome {
    if outcome.told_bytes() > IMAGE_BYTES_MAX { Outcome::RequestIdExpired } else { outcome.clone() }
}

/// What to do with a request that carries an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Not seen within the window: evaluate it.
    Fresh,
    /// Seen: answer this and change nothing.
    Repeat(Outcome),
}

/// Decides about `request` at leader time `now`, given what is remembered under its id.
pub fn judge(request: &ClientRequest, remembered: Option<&Remembered>, now: Timestamp) -> Verdict {
    match remembered {
        Some(known) if !expired(known.at, now) => {
            if known.digest == request.digest {
                Verdict::Repeat(known.outcome.clone())
            } else {
                Verdict::Repeat(Outcome::RequestIdReused)
            }
        }
        _ => Verdict::Fresh,
    }
}

/// Whether an id remembered since `at` is out of the window at leader time `now`.
pub fn expired(at: Timestamp, now: Timestamp) -> bool {
    now.seconds_since(at) > REQUEST_WINDOW_SECONDS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::document::Document;
    use crate::domain::ids::{PrincipalId, RequestId};
    use crate::domain::version::ItemVersion;
    use crate::replication::operation::ConditionFailed;

    fn request(digest: u8) -> ClientRequest {
        ClientRequest {
            principal: PrincipalId::from_bytes([1; 16]),
            request_id: RequestId::from_bytes([2; 16]),
            digest: [digest; 32],
        }
    }

    #[test]
    fn a_repeat_is_answered_as_before_and_another_body_is_refused() {
        let at = Timestamp(1_000_000);
        let known = Remembered { digest: [7; 32], outcome: Outcome::Created(ItemVersion(5)), index: 5, at };
        assert_eq!(judge(&request(7), None, at), Verdict::Fresh);
        assert_eq!(judge(&request(7), Some(&known), at), Verdict::Repeat(Outcome::Created(ItemVersion(5))));
        assert_eq!(judge(&request(8), Some(&known), at), Verdict::Repeat(Outcome::RequestIdReused));
    }

    #[test]
    fn large_images_are_not_remembered_and_never_left_out_of_an_answer() {
        let failed = |bytes: usize| {
            let text = format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes));
            let before = Some(Document::from_json(text.as_bytes()).unwrap());
            Outcome::ConditionFailed(Box::new(ConditionFailed { before, before_bytes: 9 }))
        };
        assert_eq!(kept(&Outcome::Deleted), Outcome::Deleted);
        assert_eq!(kept(&failed(100)), failed(100));
        assert_eq!(kept(&failed(IMAGE_BYTES_MAX)), Outcome::RequestIdExpired);
    }

    #[test]
    fn the_window_ends_by_the_leaders_time() {
        let known = Remembered { digest: [7; 32], outcome: Outcome::Deleted, index: 5, at: Timestamp(0) };
        let last = Timestamp(0).plus_seconds(REQUEST_WINDOW_SECONDS);
        assert_ne!(judge(&request(7), Some(&known), last), Verdict::Fresh);
        assert_eq!(judge(&request(7), Some(&known), last.plus_seconds(1)), Verdict::Fresh);
    }
}

//! The headers that a signature says are signed.

use std::collections::HashSet;

use super::spelling::pieces;
use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::head::{Head, TARGET};

/// Headers that a signature may name; a request has no more.
pub(super) const HEADERS_MAX: usize = 128;

/// Names with semicolons between, as the signature spells them.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    spelled: &'a str,
    /// Whether no letter is a capital, as clients send them.
    pub(super) are_lower: bool,
}

impl<'a> Names<'a> {
    /// Takes them if they may be signed with this head.
    ///
    /// # Errors
    /// Where there are too many, one stands twice, or one is left out that must be signed.
    pub(super) fn check(spelled: &'a str, head: &Head<'_>) -> Result<Self, Failure> {
        let names = Self::unchecked(spelled);
        let (mut count, mut last) = (0, "");
        let (mut is_ordered, mut has_host, mut has_target) = (true, false, false);
        for name in names.each() {
            is_ordered &= count == 0 || last < name;
            has_host |= name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case(":authority");
            has_target |= name.eq_ignore_ascii_case(TARGET);
            (count, last) = (count + 1, name);
        }
        // Each is hashed as often as it is named.
        if count > HEADERS_MAX {
            return Err(Failure::incomplete_signature("SignedHeaders names more headers than a request has."));
        }
        // Clients send them in lower case and in order, and then no two can be the same.
        if !(is_ordered && names.are_lower) && names.have_one_twice() {
            return Err(Failure::incomplete_signature("SignedHeaders names a header more than once."));
        }
        if !has_host {
            return Err(Failure::invalid_signature(
                "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.",
            ));
        }
        if head.target.is_given() && !has_target {
            return Err(Failure::invalid_signature(
                "'X-Amz-Target' must be a 'SignedHeader' in the AWS Authorization.",
            ));
        }
        Ok(names)
    }

    /// Takes them as they are.
    pub(super) fn unchecked(spelled: &'a str) -> Self {
        // Without an end at the first one, so that many letters are looked at at once.
        let has_upper = spelled.bytes().fold(false, |any, byte| any | byte.is_ascii_uppercase());
        Self { spelled, are_lower: !has_upper }
    }

    /// One after the other.
    pub(super) fn each(self) -> impl Iterator<Item = &'a str> {
        pieces(self.spelled, b';')
    }

    /// All of them, as they are spelled.
    pub(super) fn spelled(self) -> &'a str {
        self.spelled
    }

    /// Whether one stands there twice, in whatever case.
    fn have_one_twice(self) -> bool {
        let mut once = HashSet::new();
        !self.each().all(|name| once.insert(name.to_ascii_lowercase()))
    }
}

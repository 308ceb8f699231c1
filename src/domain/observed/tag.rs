//! The tag of a request: a short text under which it is found again in headers, problems, logs and traces of every process
//! that had a part in it. It says which request is meant and nothing else; what makes a repeated write harmless is
//! the request id ([`crate::replication::request_id`]), which is another thing.
//!
//! A client may choose it (header `x-request-id`): 1 to 64 of `[A-Za-z0-9._-]`, so that it can stand in any log as it is.
//! Anything else is passed over as if it had not been sent, because a request is not refused for what is only noted.
//!
//! It lies in place, without an allocation: every request has one.

/// Characters at most.
pub const TAG_BYTES_MAX: usize = 64;

/// Digits of five bits that a number of 128 bits has.
const HALF_DIGITS: usize = 26;

/// See the module's essay.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestTag {
    bytes: [u8; TAG_BYTES_MAX],
    length: u8,
}

impl RequestTag {
    /// The tag that a client sent; none where it is not well formed.
    pub fn from_bytes(text: &[u8]) -> Option<Self> {
        let is_fitting = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if text.is_empty() || text.len() > TAG_BYTES_MAX || !text.iter().all(is_fitting) {
            return None;
        }
        let mut bytes = [0; TAG_BYTES_MAX];
        bytes[..text.len()].copy_from_slice(text);
        Some(Self { bytes, length: text.len() as u8 })
    }

    /// The tag that these 128 bits are, as 32 hexadecimal digits.
    pub fn of_number(number: u128) -> Self {
        let mut bytes = [0; TAG_BYTES_MAX];
        super::trace_context::write_hex(&number.to_be_bytes(), &mut bytes[..32]);
        Self { bytes, length: 32 }
    }

    /// The tag that these two numbers are in the form that ids have in answers of the DynamoDB protocol: 52 letters and digits,
    /// each of five bits, the highest first.
    pub fn of_numbers(numbers: [u128; 2]) -> Self {
        const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHIJKLMNOPQRSTUV";
        let mut bytes = [0; TAG_BYTES_MAX];
        for (half, mut number) in bytes.chunks_exact_mut(HALF_DIGITS).zip(numbers) {
            for digit in half.iter_mut().rev() {
                *digit = DIGITS[(number % 32) as usize];
                number /= 32;
            }
        }
        Self { bytes, length: 2 * HALF_DIGITS as u8 }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).expect("a tag is made of ASCII only")
    }
}

impl std::fmt::Display for RequestTag {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl std::fmt::Debug for RequestTag {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Numbers for tags, no two alike: a random half for each start of a process, and a count that is spread over all bits.
pub struct TagNumbers {
    start: u64,
    next: std::sync::atomic::AtomicU64,
}

impl TagNumbers {
    /// Numbers of this start of the process.
    pub fn new(random: &dyn crate::domain::Random) -> Self {
        let mut bytes = [0; 16];
        random.fill(&mut bytes);
        let number = u128::from_be_bytes(bytes);
        Self { start: (number >> 64) as u64, next: (number as u64).into() }
    }

    /// The next one. Its lower half is spread evenly, so that it can also be used as dice.
    pub fn next(&self) -> u128 {
        let count = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        u128::from(self.start) << 64 | u128::from(spread(count))
    }
}

/// A number for each number, one to one (the last steps of SplitMix64).
fn spread(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    struct Zeros;

    impl crate::domain::Random for Zeros {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(0);
        }
    }

    #[test]
    fn what_could_confuse_a_log_is_no_tag() {
        for good in ["a", "7.b_C-9", &"x".repeat(64)] {
            assert_eq!(RequestTag::from_bytes(good.as_bytes()).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a\n", "a/b", "ä", "\"", &"x".repeat(65)] {
            assert_eq!(RequestTag::from_bytes(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn no_two_numbers_are_alike_and_they_are_fair_dice() {
        let numbers = TagNumbers::new(&Zeros);
        let all: Vec<u128> = (0..10_000).map(|_| numbers.next()).collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        let below = all.iter().filter(|number| (**number as u64) < u64::MAX / 10).count();
        assert!((900..1100).contains(&below), "a tenth lies below a tenth: {below}");
    }

    proptest! {
        #[test]
        fn made_tags_are_well_formed_and_their_own(number: u128, other: u128) {
            let tag = RequestTag::of_number(number);
            prop_assert_eq!(tag.as_str(), format!("{number:032x}"));
            prop_assert_eq!(RequestTag::from_bytes(tag.as_str().as_bytes()), Some(tag));
            prop_assert_eq!(tag == RequestTag::of_number(other), number == other);
        }

        #[test]
        fn tags_of_two_numbers_are_both_in_their_digits(numbers: [u128; 2]) {
            let tag = RequestTag::of_numbers(numbers);
            prop_assert_eq!(RequestTag::from_bytes(tag.as_str().as_bytes()), Some(tag));
            prop_assert!(tag.as_str().bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase()));
            let read = [&tag.as_str()[..26], &tag.as_str()[26..]].map(|half| u128::from_str_radix(half, 32).unwrap());
            prop_assert_eq!(read, numbers);
        }
    }
}

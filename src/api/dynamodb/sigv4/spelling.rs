//! How the parts of a signature are spelled: hashes, times, and lists of texts with one character between them.

use std::borrow::Cow;

use memchr::memchr;
use sha2::{Digest, Sha256};

/// What stands before and behind the first `at`, an ASCII character; none where there is none.
pub(super) fn cut(text: &str, at: u8) -> Option<(&str, &str)> {
    // It is worth a search for many bytes at once only where it is not near.
    const NEAR_BYTES: usize = 16;
    let (near, far) = text.as_bytes().split_at(text.len().min(NEAR_BYTES));
    let place = match near.iter().position(|byte| *byte == at) {
        Some(place) => place,
        None => near.len() + memchr(at, far)?,
    };
    Some((&text[..place], &text[place + 1..]))
}

/// What stands between each `at`, an ASCII character: as `split`, which looks for any.
pub(super) fn pieces(text: &str, at: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let whole = rest?;
        let cut = cut(whole, at);
        rest = cut.map(|(_, after)| after);
        Some(cut.map_or(whole, |(piece, _)| piece))
    })
}

/// A part of what a client sent, short enough to be sent back.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

/// The header in a form that tells it to nobody: a signature is good for some minutes.
pub(super) fn hashed(header: &str) -> String {
    use base64::Engine as _;
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(header.as_bytes()));
    format!("(Hashed with SHA-256 and encoded with Base64) Authorization={hash}")
}

/// A hash as 64 hexadecimal digits.
pub(super) fn hex(hash: [u8; 32]) -> [u8; 64] {
    let mut digits = [0; 64];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(hash) {
        pair.copy_from_slice(&[byte >> 4, byte & 15]);
    }
    // By sums, and not by a look at a table for each: so it is done for many at once.
    for digit in &mut digits {
        *digit += b'0' + if *digit > 9 { b'a' - b'0' - 10 } else { 0 };
    }
    digits
}

/// The hash that these digits are; none where they are not 64 of them, in lower case. Without a branch for any digit, because
/// nobody can foresee which of them are letters.
pub(super) fn unhex(digits: &str) -> Option<[u8; 32]> {
    let mut values: [u8; 64] = digits.as_bytes().try_into().ok()?;
    let mut is_wrong = false;
    for value in &mut values {
        let (number, letter) = (value.wrapping_sub(b'0'), value.wrapping_sub(b'a'));
        is_wrong |= (number > 9) & (letter > 5);
        *value = if number > 9 { letter.wrapping_add(10) } else { number };
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(values.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    (!is_wrong).then_some(hash)
}

/// `YYYYMMDDTHHMMSSZ`.
pub(super) fn basic(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// The time as it is signed, and in seconds since 1970. It is sent in the basic format of ISO 8601, which is how it is
/// signed, or as HTTP writes dates.
pub(super) fn time_of(text: &str) -> Option<(Cow<'_, str>, u64)> {
    if let Some(time) = basic_time(text) {
        let timestamp = jiff::tz::Offset::UTC.to_timestamp(time).ok()?;
        return Some((Cow::Borrowed(text), u64::try_from(timestamp.as_second()).ok()?));
    }
    let timestamp = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let seconds = u64::try_from(timestamp.as_second()).ok()?;
    Some((Cow::Owned(basic(seconds)), seconds))
}

fn basic_time(text: &str) -> Option<jiff::civil::DateTime> {
    let bytes: &[u8; 16] = text.as_bytes().try_into().ok()?;
    let is_digit = |at: usize| matches!(at, 0..=7 | 9..=14);
    let is_basic = bytes[8] == b'T'
        && bytes[15] == b'Z'
        && bytes.iter().enumerate().all(|(at, byte)| !is_digit(at) || byte.is_ascii_digit());
    if !is_basic {
        return None;
    }
    let two = |at: usize| (10 * (bytes[at] - b'0') + (bytes[at + 1] - b'0')) as i8;
    let year = 100 * i16::from(two(0)) + i16::from(two(2));
    jiff::civil::DateTime::new(year, two(4), two(6), two(9), two(11), two(13), 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn texts_are_cut_as_the_library_does(text in "[a-zäö,;]{0,40}") {
            proptest::prop_assert_eq!(cut(&text, b','), text.split_once(','));
            proptest::prop_assert!(pieces(&text, b';').eq(text.split(';')));
        }
    }
}

//! Sums of numbers, exact or refused.
//!
//! Coefficients have at most 38 digits and exponents differ by at most 255, so a sum can have some 290 digits. It is
//! made of decimal digits in one array of fixed size: slow beside 128-bit integers, but there is nothing to get wrong,
//! and a write costs a thousand times as much. Nothing is rounded: a sum of more than 38 significant digits is refused.

use super::error::EvaluationError;
use crate::domain::number::{Number, NumberError};

/// Digits before the point: 126, and one for what is carried.
const WHOLE_DIGITS: usize = 127;
/// Digits behind the point: an exponent of -130 and 37 more digits.
const FRACTION_DIGITS: usize = 130 + 37;
const DIGITS: usize = WHOLE_DIGITS + FRACTION_DIGITS;

/// `left + right`.
pub(super) fn add(left: &str, right: &str) -> Result<String, EvaluationError> {
    combine(left, right, false)
}

/// `left - right`.
pub(super) fn subtract(left: &str, right: &str) -> Result<String, EvaluationError> {
    combine(left, right, true)
}

fn combine(left: &str, right: &str, minus: bool) -> Result<String, EvaluationError> {
    let (left, right) = (Decimal::read(left), Decimal::read(right));
    let right = Decimal { negative: right.negative != minus, ..right };
    let text = sum(left, right).text();
    match Number::parse(&text) {
        Ok(number) => Ok(number.to_text()),
        Err(NumberError::Overflow) => Err(EvaluationError::Overflow),
        Err(NumberError::Underflow) => Err(EvaluationError::Underflow),
        Err(NumberError::Digits) if beyond(&text) => Err(EvaluationError::Overflow),
        Err(NumberError::Digits) => Err(EvaluationError::Digits),
        Err(NumberError::Syntax | NumberError::Encoding) => Err(EvaluationError::IncorrectType),
    }
}

/// Whether the number is larger than numbers are, whatever its digits.
fn beyond(text: &str) -> bool {
    let whole = text.trim_start_matches('-').split('.').next().unwrap_or_default();
    whole.trim_start_matches('0').len() > WHOLE_DIGITS - 1
}

/// A number as digits, with as many places as any number needs.
struct Decimal {
    negative: bool,
    digits: [u8; DIGITS],
}

impl Decimal {
    /// Reads a canonical text.
    fn read(text: &str) -> Decimal {
        let magnitude = text.strip_prefix('-');
        let (whole, fraction) = {
            let text = magnitude.unwrap_or(text);
            text.split_once('.').unwrap_or((text, ""))
        };
        let mut digits = [0; DIGITS];
        let start = WHOLE_DIGITS.saturating_sub(whole.len());
        for (place, digit) in digits[start..].iter_mut().zip(whole.bytes().chain(fraction.bytes())) {
            *place = digit.wrapping_sub(b'0');
        }
        Decimal { negative: magnitude.is_some(), digits }
    }

    fn text(&self) -> String {
        let mut text = String::with_capacity(DIGITS + 2);
        if self.negative {
            text.push('-');
        }
        for (place, digit) in self.digits.iter().enumerate() {
            if place == WHOLE_DIGITS {
                text.push('.');
            }
            text.push(char::from(b'0' + digit % 10));
        }
        text
    }
}

fn sum(left: Decimal, right: Decimal) -> Decimal {
    let same = left.negative == right.negative;
    let (larger, smaller) = if left.digits >= right.digits { (left, right) } else { (right, left) };
    let mut result = larger;
    let mut carry = 0i8;
    for (place, digit) in result.digits.iter_mut().zip(smaller.digits).rev() {
        let change = digit as i8;
        let total = *place as i8 + if same { change } else { -change } + carry;
        carry = total.div_euclid(10);
        *place = total.rem_euclid(10) as u8;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn largest() -> String {
        format!("{}{}", "9".repeat(38), "0".repeat(88))
    }

    #[test]
    fn sums_are_exact() {
        for (left, right, sum, difference) in [
            ("0", "0", "0", "0"),
            ("0.1", "0.2", "0.3", "-0.1"),
            ("9007199254740993", "1", "9007199254740994", "9007199254740992"),
            ("-5", "5", "0", "-10"),
            ("-1.5", "-2.25", "-3.75", "0.75"),
            (
                "99999999999999999999999999999999999999",
                "1",
                "100000000000000000000000000000000000000",
                "99999999999999999999999999999999999998",
            ),
            (
                "1",
                "0.9999999999999999999999999999999999999",
                "1.9999999999999999999999999999999999999",
                "0.0000000000000000000000000000000000001",
            ),
        ] {
            assert_eq!(add(left, right).as_deref(), Ok(sum), "{left} + {right}");
            assert_eq!(subtract(left, right).as_deref(), Ok(difference), "{left} - {right}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let tiny = format!("0.{}1", "0".repeat(129));
        assert_eq!(add(&largest(), &largest()), Err(EvaluationError::Overflow));
        assert_eq!(subtract(&format!("-{}", largest()), &largest()), Err(EvaluationError::Overflow));
        assert_eq!(add(&largest(), "1"), Err(EvaluationError::Digits));
        assert_eq!(add("1", &tiny), Err(EvaluationError::Digits));
        assert_eq!(add(&tiny, &tiny), Ok(format!("0.{}2", "0".repeat(129))));
        let (one, two) = (format!("0.{}11", "0".repeat(129)), format!("0.{}1", "0".repeat(129)));
        assert_eq!(subtract(&one, &two), Err(EvaluationError::Underflow));
    }

    proptest! {
        #[test]
        fn sums_are_those_of_whole_numbers(left in -10i128.pow(36)..10i128.pow(36), right in -10i128.pow(36)..10i128.pow(36), zeros in 0usize..40) {
            let scaled = |value: i128| Number::parse(&format!("{value}e-{zeros}")).unwrap().to_text();
            prop_assert_eq!(add(&scaled(left), &scaled(right)), Ok(scaled(left + right)));
            prop_assert_eq!(subtract(&scaled(left), &scaled(right)), Ok(scaled(left - right)));
        }
    }
}

//! Exact decimal numbers of up to 38 significant digits and of magnitudes from 1E-130 up to
//! 9.99…E+125, as in DynamoDB (AWS, "Supported data types and naming rules": Number).
//!
//! The canonical text is plain decimal without exponent, leading or trailing zeros: `1E2` and
//! `100.0` are both `100`. Two numbers are equal if and only if their canonical texts are.

use super::limits::NUMBER_DIGITS_MAX;
use super::refusal::Refusal;

/// A number: 0.d₁d₂d₃… × 10^exponent, where d₁ and the last digit are not 0.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Number {
    negative: bool,
    /// The digits, 0 to 9 each; none: zero.
    digits: Vec<u8>,
    exponent: i32,
}

const EXPONENT_MAX: i32 = 126;
const EXPONENT_MIN: i32 = -129;

impl Number {
    /// Reads decimal text as in JSON (a leading `+` and leading zeros are accepted too).
    ///
    /// # Errors
    /// `BadInput` where it is no number, has more than 38 digits, or is out of range.
    pub fn parse(text: &str) -> Result<Number, Refusal> {
        let malformed =
            || Refusal::bad_input(format!("{:?} is not a number", text.chars().take(60).collect::<String>()));
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
            None => (unsigned, 0),
            Some(at) => (&unsigned[..at], parse_exponent(&unsigned[at + 1..]).ok_or_else(malformed)?),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty())
            || !all_digits(whole)
            || !all_digits(fraction)
            || mantissa.ends_with('.')
        {
            return Err(malformed());
        }
        let digits = whole.bytes().chain(fraction.bytes()).map(|byte| byte - b'0');
        let leading = digits.clone().take_while(|digit| *digit == 0).count();
        let mut kept: Vec<u8> = digits.skip(leading).collect();
        while kept.last() == Some(&0) {
            kept.pop();
        }
        if kept.is_empty() {
            return Ok(Number { negative: false, digits: kept, exponent: 0 });
        }
        if kept.len() > NUMBER_DIGITS_MAX {
            return Err(Refusal::bad_input(format!(
                "a number has {} significant digits and may have {NUMBER_DIGITS_MAX}: store it as a string",
                kept.len()
            )));
        }
        let exponent = whole.len() as i64 - leading as i64 + exponent;
        if exponent > i64::from(EXPONENT_MAX) || exponent < i64::from(EXPONENT_MIN) {
            return Err(Refusal::bad_input(
                "a number is out of range: its magnitude must lie between 1E-130 and 9.99E+125",
            ));
        }
        Ok(Number { negative, digits: kept, exponent: exponent as i32 })
    }

    /// Whether it has no fraction.
    pub fn is_integer(&self) -> bool {
        self.exponent >= self.digits.len() as i32
    }

    /// The canonical text.
    pub fn to_text(&self) -> String {
        if self.digits.is_empty() {
            return "0".to_owned();
        }
        let mut text = String::with_capacity(self.digits.len() + 4);
        if self.negative {
            text.push('-');
        }
        let digit = |digit: &u8| char::from(b'0' + digit);
        if self.exponent <= 0 {
            text.push_str("0.");
            text.extend(std::iter::repeat_n('0', self.exponent.unsigned_abs() as usize));
            text.extend(self.digits.iter().map(digit));
        } else {
            let point = self.exponent as usize;
            let whole = self.digits.len().min(point);
            text.extend(self.digits[..whole].iter().map(digit));
            text.extend(std::iter::repeat_n('0', point - whole));
            if self.digits.len() > point {
                text.push('.');
                text.extend(self.digits[point..].iter().map(digit));
            }
        }
        text
    }

    /// Appends a form whose order by bytes is the order of numbers: a sign byte, the exponent and
    /// the digits plus one, ended by zero; all complemented for negative numbers.
    pub fn encode_ordered(&self, out: &mut Vec<u8>) {
        if self.digits.is_empty() {
            out.push(0x80);
            return;
        }
        let start = out.len();
        out.push(0x81);
        out.extend_from_slice(&((self.exponent + 0x4000) as u16).to_be_bytes());
        out.extend(self.digits.iter().map(|digit| digit + 1));
        out.push(0);
        if self.negative {
            out[start..].iter_mut().for_each(|byte| *byte = !*byte);
        }
    }

    /// Reads the ordered form from the front of `bytes`; returns the number and what is left.
    pub fn decode_ordered(bytes: &[u8]) -> Option<(Number, &[u8])> {
        let (&sign, mut rest) = bytes.split_first()?;
        let negative = match sign {
            0x80 => return Some((Number { negative: false, digits: Vec::new(), exponent: 0 }, rest)),
            0x81 => false,
            0x7e => true,
            _ => return None,
        };
        let mut next = || {
            let (&byte, left) = rest.split_first()?;
            rest = left;
            Some(if negative { !byte } else { byte })
        };
        let exponent = i32::from(u16::from_be_bytes([next()?, next()?])) - 0x4000;
        let mut digits = Vec::new();
        loop {
            match next()? {
                0 => break,
                digit @ 1..=10 if digits.len() < NUMBER_DIGITS_MAX => digits.push(digit - 1),
                _ => return None,
            }
        }
        let normal = digits.first().is_some_and(|digit| *digit != 0) && digits.last() != Some(&0);
        let in_range = (EXPONENT_MIN..=EXPONENT_MAX).contains(&exponent);
        (normal && in_range).then_some((Number { negative, digits, exponent }, rest))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |number: &Number| {
            let mut bytes = Vec::new();
            number.encode_ordered(&mut bytes);
            bytes
        };
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

fn parse_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // More digits than fit are out of range whatever they say.
    let size = digits.trim_start_matches('0').parse::<i64>().unwrap_or(if digits.bytes().all(|byte| byte == b'0') {
        0
    } else {
        1_000_000
    });
    let size = size.min(1_000_000);
    Some(if text.starts_with('-') { -size } else { size })
}

/// The canonical text of a JSON number; borrowed where `text` is canonical already, as most are.
///
/// # Errors
/// As [`Number::parse`].
pub fn canonical(text: &str) -> Result<std::borrow::Cow<'_, str>, Refusal> {
    let bytes = text.as_bytes();
    let short_integer =
        matches!(bytes.len(), 1..=18) && bytes.iter().all(u8::is_ascii_digit) && (bytes.len() == 1 || bytes[0] != b'0');
    if short_integer {
        return Ok(std::borrow::Cow::Borrowed(text));
    }
    Number::parse(text).map(|number| std::borrow::Cow::Owned(number.to_text()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn canonical_texts() {
        for (text, expected) in [
            ("0", "0"),
            ("-0", "0"),
            ("0.000", "0"),
            ("0e999999999999999999999", "0"),
            ("007", "7"),
            ("1E2", "100"),
            ("100.0", "100"),
            ("1.50", "1.5"),
            ("-0.05e1", "-0.5"),
            ("1e-3", "0.001"),
            ("12345678901234567890123456789012345678", "12345678901234567890123456789012345678"),
            ("9.9999999999999999999999999999999999999E+125", &format!("{}{}", "9".repeat(38), "0".repeat(88))),
        ] {
            assert_eq!(canonical(text).unwrap(), expected, "{text}");
        }
        assert!(canonical("1E-130").unwrap().ends_with("01"));
    }

    #[test]
    fn what_is_no_number_or_out_of_range_is_refused() {
        for text in [
            "",
            "-",
            "abc",
            "1.",
            ".",
            "1e",
            "1e+",
            "--1",
            "1_0",
            "0x1",
            "1E126",
            "1E-131",
            "123456789012345678901234567890123456789",
            "1e99999999999999999999",
        ] {
            assert!(Number::parse(text).is_err(), "{text}");
        }
    }

    fn number() -> impl Strategy<Value = Number> {
        ("-?[0-9]{1,20}(\\.[0-9]{1,18})?", -80i32..80)
            .prop_filter_map("in range", |(mantissa, exponent)| Number::parse(&format!("{mantissa}e{exponent}")).ok())
    }

    proptest! {
        #[test]
        fn the_canonical_text_reads_back(number in number()) {
            prop_assert_eq!(Number::parse(&number.to_text()).unwrap(), number);
        }

        #[test]
        fn the_ordered_form_keeps_order_and_reads_back(left in any::<i64>(), right in any::<i64>(), other in number()) {
            let (a, b) = (Number::parse(&left.to_string()).unwrap(), Number::parse(&right.to_string()).unwrap());
            prop_assert_eq!(a.cmp(&b), left.cmp(&right));
            let mut bytes = Vec::new();
            other.encode_ordered(&mut bytes);
            bytes.push(7);
            prop_assert_eq!(Number::decode_ordered(&bytes), Some((other, &[7u8][..])));
        }

        #[test]
        fn fractions_order_like_scaled_integers(left in -1_000_000i64..1_000_000, right in -1_000_000i64..1_000_000, scale in 0u32..6) {
            let text = |value: i64| format!("{value}e-{scale}");
            prop_assert_eq!(Number::parse(&text(left)).unwrap().cmp(&Number::parse(&text(right)).unwrap()), left.cmp(&right));
        }
    }
}

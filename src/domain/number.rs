//! Exact decimal numbers: up to 38 significant digits, zero and magnitudes from 1E-130 to
//! 9.9999999999999999999999999999999999999E+125. Those are DynamoDB's numbers
//! (developer guide, "Supported data types and naming rules: Number"), and JSON numbers are held to the same
//! rule, so that both protocols see the same items. Nothing is ever rounded: a number that does not fit is refused.
//!
//! * **Value.** Sign, coefficient without trailing zeros (below 10³⁸, so it fits in 128 bits) and exponent:
//!   one representation for each value, so that equality is equality of decimals. There is no negative zero.
//! * **Canonical text.** Plain decimal digits as AWS prints them: no exponent, no leading or trailing zeros, no
//!   `+`, no point without digits on both sides. `1E3` is `1000`, `-0.50` is `-0.5`, `1E-7` is `0.0000001`. At
//!   most [`TEXT_BYTES_MAX`] bytes. It is valid JSON as it stands.
//! * **Ordered bytes.** An encoding whose byte order is the numeric order and which ends itself:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | class: 1 negative, 2 zero (nothing follows), 3 positive |
//! | 1 | decimal exponent of the first digit, plus 130 |
//! | n | digits, two to a byte, each pair plus 1 (1 to 100); an odd last digit is padded with 0 |
//! | 1 | 0 |
//!
//! For negative numbers every byte after the class is inverted.
//!
//! Rejected: `f64` (not exact), arbitrary precision (no bound on size or time), AWS's own key encoding (not
//! published). The text is what documents store, because numbers are copied in and out far more often than
//! they are compared.

use super::limits::NUMBER_DIGITS_MAX;
use super::refusal::Refusal;

/// The longest canonical text: sign, `0.`, 129 zeros and 38 digits.
pub const TEXT_BYTES_MAX: usize = 1 + 2 + 129 + NUMBER_DIGITS_MAX;
/// Decimal exponent of the smallest magnitude.
const MAGNITUDE_MIN: i64 = -130;
/// Decimal exponent of the largest magnitude.
const MAGNITUDE_MAX: i64 = 125;

const CLASS_NEGATIVE: u8 = 1;
const CLASS_ZERO: u8 = 2;
const CLASS_POSITIVE: u8 = 3;

/// Why a text is no number that can be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// Not a decimal number.
    #[error("that is not a decimal number")]
    Syntax,
    /// More than 38 significant digits.
    #[error("numbers have at most 38 significant digits")]
    Digits,
    /// Nearer to zero than 1E-130, but not zero.
    #[error("numbers other than zero are no smaller than 1E-130")]
    Underflow,
    /// Beyond 9.99…E+125.
    #[error("numbers are no larger than 9.9999999999999999999999999999999999999E+125")]
    Overflow,
    /// An ordered encoding that no number has.
    #[error("these bytes encode no number")]
    Encoding,
}

impl From<NumberError> for Refusal {
    fn from(error: NumberError) -> Refusal {
        Refusal::bad_input(error.to_string())
    }
}

/// An exact decimal number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Number {
    negative: bool,
    /// Not divisible by ten; 0 for zero alone, whose sign and exponent are false and 0.
    coefficient: u128,
    /// The value is coefficient × 10^exponent.
    exponent: i16,
}

impl Number {
    /// Zero.
    pub const ZERO: Number = Number { negative: false, coefficient: 0, exponent: 0 };

    /// Reads a number: an optional sign, digits with an optional point, an optional exponent. More than JSON
    /// allows (`+5`, `007`, `.5`, `5.`), as in the DynamoDB protocol; JSON's own rule is kept by its parser.
    ///
    /// # Errors
    /// Where the text is no number, or one that cannot be stored.
    pub fn parse(text: &str) -> Result<Number, NumberError> {
        Self::parse_bytes(text.as_bytes())
    }

    /// [`Number::parse`] of text that is not known to be UTF-8.
    ///
    /// # Errors
    /// As [`Number::parse`].
    pub fn parse_bytes(text: &[u8]) -> Result<Number, NumberError> {
        let (negative, digits) = match text.first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let mantissa_end = digits.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(digits.len());
        let mantissa = Mantissa::read(&digits[..mantissa_end])?;
        let exponent = if mantissa_end < digits.len() { read_exponent(&digits[mantissa_end + 1..])? } else { 0 };
        if mantissa.coefficient == 0 {
            return Ok(Number::ZERO);
        }
        let exponent = exponent.saturating_add(mantissa.exponent);
        let magnitude = exponent.saturating_add(mantissa.digits as i64 - 1);
        if magnitude < MAGNITUDE_MIN {
            return Err(NumberError::Underflow);
        }
        if magnitude > MAGNITUDE_MAX {
            return Err(NumberError::Overflow);
        }
        Ok(Number { negative, coefficient: mantissa.coefficient, exponent: exponent as i16 })
    }

    /// Whether it is a whole number.
    pub fn is_integer(&self) -> bool {
        self.exponent >= 0
    }

    /// Whether it is below zero.
    pub fn is_negative(&self) -> bool {
        self.negative
    }

    /// The value where it is a whole number that fits.
    pub fn to_i64(&self) -> Option<i64> {
        let scale = 10i128.checked_pow(u32::try_from(self.exponent).ok()?)?;
        let magnitude = i128::try_from(self.coefficient).ok()?.checked_mul(scale)?;
        i64::try_from(if self.negative { -magnitude } else { magnitude }).ok()
    }

    /// Significant digits: 0 for zero, else 1 to 38.
    pub fn digits(&self) -> usize {
        if self.coefficient == 0 { 0 } else { self.coefficient.ilog10() as usize + 1 }
    }

    /// The canonical text.
    pub fn to_text(&self) -> String {
        self.to_string()
    }

    /// Appends the canonical text.
    pub fn write_text(&self, buffer: &mut Vec<u8>) {
        if self.coefficient == 0 {
            buffer.push(b'0');
            return;
        }
        if self.negative {
            buffer.push(b'-');
        }
        let mut room = [0u8; NUMBER_DIGITS_MAX + 1];
        let digits = self.decimal_digits(&mut room);
        let point = digits.len() as i64 + i64::from(self.exponent);
        if point <= 0 {
            buffer.extend_from_slice(b"0.");
            buffer.resize(buffer.len() + point.unsigned_abs() as usize, b'0');
            buffer.extend_from_slice(digits);
        } else if point >= digits.len() as i64 {
            buffer.extend_from_slice(digits);
            buffer.resize(buffer.len() + self.exponent as usize, b'0');
        } else {
            let (whole, fraction) = digits.split_at(point as usize);
            buffer.extend_from_slice(whole);
            buffer.push(b'.');
            buffer.extend_from_slice(fraction);
        }
    }

    /// The coefficient's digits as text, at the end of `room`.
    fn decimal_digits<'a>(&self, room: &'a mut [u8; NUMBER_DIGITS_MAX + 1]) -> &'a [u8] {
        let mut at = room.len();
        let mut high = self.coefficient;
        // In pieces of 64 bits: dividing 128 bits by ten for each digit is slow.
        while high > 0 {
            let mut low = (high % 10_000_000_000_000_000_000) as u64;
            high /= 10_000_000_000_000_000_000;
            for _ in 0..19 {
                if high == 0 && low == 0 {
                    break;
                }
                at -= 1;
                room[at] = b'0' + (low % 10) as u8;
                low /= 10;
            }
        }
        &room[at..]
    }

    /// Appends the bytes whose order is the order of numbers.
    pub fn write_ordered(&self, buffer: &mut Vec<u8>) {
        if self.coefficient == 0 {
            buffer.push(CLASS_ZERO);
            return;
        }
        buffer.push(if self.negative { CLASS_NEGATIVE } else { CLASS_POSITIVE });
        let start = buffer.len();
        let mut room = [0u8; NUMBER_DIGITS_MAX + 1];
        let digits = self.decimal_digits(&mut room);
        let magnitude = i64::from(self.exponent) + digits.len() as i64 - 1;
        buffer.push((magnitude - MAGNITUDE_MIN) as u8);
        for pair in digits.chunks(2) {
            let units = pair.get(1).map_or(0, |digit| digit - b'0');
            buffer.push((pair[0] - b'0') * 10 + units + 1);
        }
        buffer.push(0);
        if self.negative {
            buffer[start..].iter_mut().for_each(|byte| *byte = !*byte);
        }
    }

    /// Reads what [`Number::write_ordered`] wrote from the start of `bytes`; also how many bytes it took.
    ///
    /// # Errors
    /// [`NumberError::Encoding`] where no number is written like this.
    pub fn read_ordered(bytes: &[u8]) -> Result<(Number, usize), NumberError> {
        let (&class, rest) = bytes.split_first().ok_or(NumberError::Encoding)?;
        let mask = match class {
            CLASS_ZERO => return Ok((Number::ZERO, 1)),
            CLASS_NEGATIVE => 0xff,
            CLASS_POSITIVE => 0,
            _ => return Err(NumberError::Encoding),
        };
        let (&magnitude, pairs) = rest.split_first().ok_or(NumberError::Encoding)?;
        let magnitude = i64::from(magnitude ^ mask) + MAGNITUDE_MIN;
        let count = pairs.iter().position(|byte| byte ^ mask == 0).ok_or(NumberError::Encoding)?;
        if count == 0 || count > NUMBER_DIGITS_MAX / 2 || pairs[..count].iter().any(|pair| pair ^ mask > 100) {
            return Err(NumberError::Encoding);
        }
        let coefficient = pairs[..count].iter().fold(0u128, |sum, pair| sum * 100 + u128::from(pair ^ mask) - 1);
        let (first, last) = ((pairs[0] ^ mask) - 1, (pairs[count - 1] ^ mask) - 1);
        if first < 10 || last == 0 {
            return Err(NumberError::Encoding);
        }
        let odd = last % 10 == 0;
        let digits = 2 * count as i64 - i64::from(odd);
        let coefficient = if odd { coefficient / 10 } else { coefficient };
        let exponent = (magnitude - digits + 1) as i16;
        Ok((Number { negative: class == CLASS_NEGATIVE, coefficient, exponent }, 2 + count + 1))
    }

    /// Decimal exponent of the first digit; meaningless for zero.
    fn magnitude(&self) -> i64 {
        i64::from(self.exponent) + self.digits() as i64 - 1
    }

    /// Compares what lies behind the sign.
    fn magnitude_order(&self, other: &Number) -> std::cmp::Ordering {
        let aligned = |number: &Number| {
            // Both get 38 digits, the first of which are at the same place.
            number.coefficient * 10u128.pow((NUMBER_DIGITS_MAX - number.digits()) as u32)
        };
        self.magnitude().cmp(&other.magnitude()).then_with(|| aligned(self).cmp(&aligned(other)))
    }

    /// −1, 0 or 1.
    fn sign(&self) -> i8 {
        if self.coefficient == 0 {
            0
        } else if self.negative {
            -1
        } else {
            1
        }
    }
}

/// Whether `text` is the canonical text of some number.
pub fn is_canonical(text: &[u8]) -> bool {
    let Ok(number) = Number::parse_bytes(text) else { return false };
    let mut canonical = Vec::with_capacity(text.len());
    number.write_text(&mut canonical);
    canonical == text
}

/// Appends the canonical text of the number that `text` writes. Whole numbers without exponent, which
/// most are, are copied as they stand.
///
/// # Errors
/// As [`Number::parse`].
pub fn write_canonical(text: &[u8], buffer: &mut Vec<u8>) -> Result<(), NumberError> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let plain =
        (1..=NUMBER_DIGITS_MAX).contains(&digits.len()) && digits[0] != b'0' && digits.iter().all(u8::is_ascii_digit);
    if plain {
        buffer.extend_from_slice(text);
    } else {
        Number::parse_bytes(text)?.write_text(buffer);
    }
    Ok(())
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.sign().cmp(&other.sign()).then_with(|| match self.sign() {
            0 => std::cmp::Ordering::Equal,
            1 => self.magnitude_order(other),
            _ => other.magnitude_order(self),
        })
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = Vec::with_capacity(24);
        self.write_text(&mut text);
        text.iter().try_for_each(|byte| std::fmt::Write::write_char(formatter, char::from(*byte)))
    }
}

impl std::str::FromStr for Number {
    type Err = NumberError;
    fn from_str(text: &str) -> Result<Self, NumberError> {
        Number::parse(text)
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        let mut coefficient = u128::from(value.unsigned_abs());
        let mut exponent = 0;
        while coefficient != 0 && coefficient % 10 == 0 {
            coefficient /= 10;
            exponent += 1;
        }
        Number { negative: value < 0, coefficient, exponent }
    }
}

/// The digits before the exponent.
struct Mantissa {
    coefficient: u128,
    digits: usize,
    exponent: i64,
}

impl Mantissa {
    fn read(text: &[u8]) -> Result<Mantissa, NumberError> {
        let mut mantissa = Mantissa { coefficient: 0, digits: 0, exponent: 0 };
        // Zeros that count only if another digit follows, and digits after the point.
        let (mut zeros, mut fraction, mut any, mut point) = (0usize, 0i64, false, false);
        for byte in text {
            match byte {
                b'.' if !point => point = true,
                b'0'..=b'9' => {
                    any = true;
                    fraction += i64::from(point);
                    if *byte == b'0' {
                        zeros += usize::from(mantissa.coefficient != 0);
                        continue;
                    }
                    if mantissa.digits + zeros + 1 > NUMBER_DIGITS_MAX {
                        return Err(NumberError::Digits);
                    }
                    mantissa.coefficient =
                        mantissa.coefficient * 10u128.pow(zeros as u32 + 1) + u128::from(byte - b'0');
                    mantissa.digits += zeros + 1;
                    zeros = 0;
                }
                _ => return Err(NumberError::Syntax),
            }
        }
        mantissa.exponent = zeros as i64 - fraction;
        if any { Ok(mantissa) } else { Err(NumberError::Syntax) }
    }
}

/// The exponent behind `e`; saturates, since anything beyond a few hundred is out of range anyway.
fn read_exponent(text: &[u8]) -> Result<i64, NumberError> {
    let (negative, digits) = match text.first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(NumberError::Syntax);
    }
    let magnitude =
        digits.iter().fold(0i64, |sum, digit| sum.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    Ok(if negative { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests;

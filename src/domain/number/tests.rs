//! Numbers against an independent implementation that knows nothing but strings of digits.

use super::*;
use proptest::prelude::*;
use std::cmp::Ordering;

/// A number as the digits before and after the point, without needless zeros.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Slow {
    negative: bool,
    whole: String,
    fraction: String,
}

impl Slow {
    fn new(negative: bool, digits: &str, exponent: i64) -> Slow {
        let (whole, fraction) = if exponent >= 0 {
            (format!("{digits}{}", "0".repeat(exponent as usize)), String::new())
        } else {
            let padded = format!("{}{digits}", "0".repeat(exponent.unsigned_abs() as usize));
            let (whole, fraction) = padded.split_at(padded.len() - exponent.unsigned_abs() as usize);
            (whole.to_owned(), fraction.to_owned())
        };
        let whole = whole.trim_start_matches('0').to_owned();
        let fraction = fraction.trim_end_matches('0').to_owned();
        let zero = whole.is_empty() && fraction.is_empty();
        Slow { negative: negative && !zero, whole, fraction }
    }

    fn text(&self) -> String {
        let sign = if self.negative { "-" } else { "" };
        let whole = if self.whole.is_empty() { "0" } else { &self.whole };
        let point = if self.fraction.is_empty() { "" } else { "." };
        format!("{sign}{whole}{point}{}", self.fraction)
    }

    fn order(&self, other: &Slow) -> Ordering {
        let key = |slow: &Slow| format!("{:0>200}{:0<200}", slow.whole, slow.fraction);
        match (self.negative, other.negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => key(self).cmp(&key(other)),
            (true, true) => key(other).cmp(&key(self)),
        }
    }
}

prop_compose! {
    fn parts()(
        negative: bool,
        digits in prop_oneof![2 => "[0-9]{1,4}", 2 => "[0-9]{1,38}", 1 => "[1-9]0{0,37}", 1 => Just("0".to_owned())],
        exponent in prop_oneof![3 => -4i64..5, 1 => -130i64..89],
    ) -> (bool, String, i64) { (negative, digits, exponent) }
}

/// The same number written in one of many ways.
fn spelled(negative: bool, digits: &str, exponent: i64, way: u8) -> String {
    let sign = if negative { "-" } else { "" };
    match way % 4 {
        0 => format!("{sign}{digits}e{exponent}"),
        1 => format!("{sign}000{digits}000E{:+}", exponent - 3),
        2 => format!("{sign}{}.{}e{}", &digits[..1], &digits[1..], exponent + digits.len() as i64 - 1),
        _ => format!("{sign}.00{digits}00E{}", exponent + digits.len() as i64 + 2),
    }
}

fn ordered(number: &Number) -> Vec<u8> {
    let mut bytes = Vec::new();
    number.write_ordered(&mut bytes);
    bytes
}

fn text(input: &str) -> String {
    input.parse::<Number>().unwrap_or_else(|error| panic!("{input}: {error}")).to_string()
}

#[test]
fn texts_are_plain_decimals() {
    for (input, canonical) in [
        ("0", "0"),
        ("-0", "0"),
        ("-0.000e999999999999999999999", "0"),
        ("007", "7"),
        ("+5.", "5"),
        (".5", "0.5"),
        ("1E3", "1000"),
        ("-0.50", "-0.5"),
        ("1e-7", "0.0000001"),
        ("10.0", "10"),
        ("100.010", "100.01"),
        ("12345678901234567890123456789012345678", "12345678901234567890123456789012345678"),
        ("-123456789012345678901234567890123456.78", "-123456789012345678901234567890123456.78"),
    ] {
        assert_eq!(text(input), canonical, "{input}");
    }
    assert_eq!(text("1e125"), format!("1{}", "0".repeat(125)));
    assert_eq!(text("-1e-130"), format!("-0.{}1", "0".repeat(129)));
    let longest = format!("-1.{}1e-130", "0".repeat(36));
    assert_eq!(text(&longest).len(), TEXT_BYTES_MAX);
}

#[test]
fn limits_are_those_of_dynamodb() {
    let nines = "9".repeat(38);
    assert!(format!("{nines}e88").parse::<Number>().is_ok());
    for (input, error) in [
        (format!("{nines}9"), NumberError::Digits),
        (format!("1{}1", "0".repeat(37)), NumberError::Digits),
        (format!("{nines}e89"), NumberError::Overflow),
        ("1e126".to_owned(), NumberError::Overflow),
        ("-1e99999999999999999999".to_owned(), NumberError::Overflow),
        ("9.9e-131".to_owned(), NumberError::Underflow),
        ("1e-99999999999999999999".to_owned(), NumberError::Underflow),
    ] {
        assert_eq!(input.parse::<Number>(), Err(error), "{input}");
    }
    assert!(format!("1{}", "0".repeat(100)).parse::<Number>().is_ok(), "trailing zeros are no digits");
}

#[test]
fn what_is_no_number_is_refused() {
    for bad in ["", "-", "+", ".", "e5", "1e", "1e+", "1.2.3", "--1", "1 ", " 1", "0x1", "NaN", "Infinity", "1_0", "٣"]
    {
        assert_eq!(bad.parse::<Number>(), Err(NumberError::Syntax), "{bad}");
    }
}

#[test]
fn no_other_bytes_read_as_ordered() {
    for bad in [
        &[][..],
        &[0],
        &[4, 130, 11, 0],
        &[3],
        &[3, 130],
        &[3, 130, 0],
        &[3, 130, 10, 0],
        &[3, 130, 11, 1, 0],
        &[3, 130, 102, 0],
        &[3, 130, 11],
    ] {
        assert_eq!(Number::read_ordered(bad), Err(NumberError::Encoding), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn every_spelling_is_one_number((negative, digits, exponent) in parts(), way: u8) {
        let slow = Slow::new(negative, &digits, exponent);
        let input = spelled(negative, &digits, exponent, way);
        match input.parse::<Number>() {
            Ok(number) => {
                prop_assert_eq!(number.to_string(), slow.text());
                let significant = format!("{}{}", slow.whole, slow.fraction);
                prop_assert_eq!(number.digits(), significant.trim_matches('0').len());
                prop_assert_eq!(number.is_integer(), slow.fraction.is_empty());
                prop_assert!(is_canonical(slow.text().as_bytes()));
                prop_assert_eq!(is_canonical(input.as_bytes()), input == slow.text());
                let mut canonical = Vec::new();
                write_canonical(input.as_bytes(), &mut canonical).unwrap();
                prop_assert_eq!(canonical, slow.text().into_bytes());
            }
            Err(NumberError::Underflow) => prop_assert!(slow.whole.is_empty() && slow.fraction.starts_with(&"0".repeat(130))),
            Err(NumberError::Overflow) => prop_assert!(slow.whole.len() > 126),
            Err(error) => prop_assert!(false, "{}: {}", input, error),
        }
    }

    #[test]
    fn bytes_and_values_are_in_numeric_order(left in parts(), right in parts()) {
        let slow = |parts: &(bool, String, i64)| Slow::new(parts.0, &parts.1, parts.2);
        let (Ok(a), Ok(b)) = (slow(&left).text().parse::<Number>(), slow(&right).text().parse::<Number>()) else {
            return Ok(());
        };
        let expected = slow(&left).order(&slow(&right));
        prop_assert_eq!(a.cmp(&b), expected);
        prop_assert_eq!(ordered(&a).cmp(&ordered(&b)), expected);
        prop_assert_eq!(a == b, expected == Ordering::Equal);
    }

    #[test]
    fn ordered_bytes_read_back((negative, digits, exponent) in parts(), tail: Vec<u8>) {
        if let Ok(number) = spelled(negative, &digits, exponent, 0).parse::<Number>() {
            let mut bytes = ordered(&number);
            let length = bytes.len();
            bytes.extend(tail);
            prop_assert_eq!(Number::read_ordered(&bytes), Ok((number, length)));
        }
    }

    #[test]
    fn whatever_reads_as_ordered_is_written_so(mut bytes: Vec<u8>, class in 0u8..5) {
        bytes.insert(0, class);
        if let Ok((number, length)) = Number::read_ordered(&bytes) {
            prop_assert_eq!(&ordered(&number), &bytes[..length]);
        }
    }

    #[test]
    fn whole_numbers_of_64_bits_fit(value: i64) {
        prop_assert_eq!(Number::from(value).to_i64(), Some(value));
        prop_assert_eq!(Number::from(value).to_string(), value.to_string());
        prop_assert_eq!(value.to_string().parse::<Number>(), Ok(Number::from(value)));
    }
}

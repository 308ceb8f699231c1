//! How large an item is by DynamoDB's formula, which both protocols use for the limit of 400 KB and for
//! capacity units. It counts what is stored, not how JSON or our own encoding spell it.
//!
//! Source: AWS, DynamoDB developer guide, "DynamoDB item sizes and formats":
//!
//! | what | bytes |
//! |---|---|
//! | attribute name | its UTF-8 bytes |
//! | string | its UTF-8 bytes |
//! | number | 1 for every two significant digits, rounded up, and 1 more; leading and trailing zeros do not count |
//! | binary | its raw bytes |
//! | null, boolean | 1 |
//! | list, map | 3, and 1 for each element, and the elements (and, in a map, their names) |
//! | set | the sum of its elements |
//!
//! The item itself is no map here: its attributes cost their names and values, nothing else. AWS calls the
//! sizes of numbers approximate; taking the formula literally keeps the limit the same on every replica.

/// A list or map, whatever it holds.
pub const CONTAINER_BYTES: usize = 3;
/// Each element of a list or map, beside its own size.
pub const ELEMENT_BYTES: usize = 1;
/// A null or a boolean.
pub const CONSTANT_BYTES: usize = 1;

/// The size of the number with this canonical text, in bytes.
pub fn number_bytes(text: &[u8]) -> usize {
    // Significant digits lie between the first and the last that is not zero.
    let nonzero = |byte: &u8| (b'1'..=b'9').contains(byte);
    let digits = match (text.iter().position(nonzero), text.iter().rposition(nonzero)) {
        (Some(first), Some(last)) => text[first..=last].iter().filter(|byte| byte.is_ascii_digit()).count(),
        _ => 0,
    };
    digits.div_ceil(2) + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::number::Number;
    use proptest::prelude::*;

    #[test]
    fn numbers_cost_half_their_digits_and_one() {
        for (text, bytes) in [
            ("0", 1),
            ("7", 2),
            ("-7", 2),
            ("12", 2),
            ("123", 3),
            ("1000", 2),
            ("0.001", 2),
            ("10.01", 3),
            ("1001000", 3),
        ] {
            assert_eq!(number_bytes(text.as_bytes()), bytes, "{text}");
        }
    }

    proptest! {
        #[test]
        fn digits_are_those_of_the_number(text in "-?[1-9][0-9]{0,36}(e-?[1-8][0-9]?)?") {
            let number: Number = text.parse().unwrap();
            prop_assert_eq!(number_bytes(number.to_string().as_bytes()), number.digits().div_ceil(2) + 1);
        }
    }
}

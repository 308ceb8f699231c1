//! Amounts of bytes as people write and read them: `10 GiB`.
//!
//! Units are powers of 1024 and always named. A bare number is refused, since it may have been meant in any of them, and so
//! is `GB`, of which nobody knows whether it is 1000 or 1024 to the third. The memory and disk settings of a node have a
//! narrower form of their own ([`super::watermark`]).

use super::refusal::Refusal;

const UNITS: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads `10 GiB` or `512MiB`.
///
/// # Errors
/// `BadInput` that says how an amount is written.
pub fn parse(text: &str) -> Result<u64, Refusal> {
    let wrong = || {
        Refusal::bad_input(format!(
            "{text:?} is no amount such as \"10 GiB\": a whole number and one of B, KiB, MiB, GiB and TiB"
        ))
    };
    let text = text.trim();
    let (number, unit) =
        UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit))).ok_or_else(wrong)?;
    let number = number.trim_end();
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(*unit)).ok_or_else(wrong)
}

/// The amount in the largest unit that it reaches, cut to a tenth where it is no whole number of them.
pub fn show(bytes: u64) -> String {
    let (name, unit) = UNITS.into_iter().find(|(_, unit)| bytes >= *unit).unwrap_or(("B", 1));
    let (whole, tenth) = (bytes / unit, u128::from(bytes % unit) * 10 / u128::from(unit));
    if bytes.is_multiple_of(unit) { format!("{whole} {name}") } else { format!("{whole}.{tenth} {name}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_need_a_unit_and_a_whole_number() {
        for (text, bytes) in
            [("10 GiB", 10 << 30), ("512MiB", 512 << 20), (" 7 B ", 7), ("0 KiB", 0), ("1 TiB", 1 << 40)]
        {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "10", "GiB", "10 GB", "1.5 GiB", "-1 B", "+1 B", "1 gib", "99999999999 TiB", "none", "1 0 B"]
        {
            let refusal = parse(wrong).unwrap_err().message;
            assert!(refusal.contains("such as \"10 GiB\""), "{wrong}: {refusal}");
        }
    }

    #[test]
    fn amounts_are_shown_in_their_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (10 << 30, "10 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(show(bytes), text);
        }
    }

    proptest! {
        #[test]
        fn whole_amounts_come_back(number in 0u64..1024, unit in 0usize..5) {
            let bytes = number * UNITS[unit].1;
            prop_assert_eq!(parse(&show(bytes)), Ok(bytes));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,20}") {
            let _ = parse(&text);
        }
    }
}

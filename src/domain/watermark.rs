//! How much of a disk must stay free: so many bytes, or a part of the whole disk.

use serde::{Deserialize, Deserializer, de::Error};

/// An amount of free disk space: `512 MiB`, or `5%` of the whole disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watermark {
    /// So many bytes.
    Bytes(u64),
    /// This part of the disk, in percent.
    Percent(u8),
}

impl Watermark {
    /// Reads `512 MiB`, `2 GiB` or `5%`.
    pub fn parse(text: &str) -> Option<Watermark> {
        if let Some(percent) = text.strip_suffix('%') {
            return percent.trim().parse().ok().filter(|percent| *percent < 100).map(Watermark::Percent);
        }
        let (number, shift) = match (text.strip_suffix("MiB"), text.strip_suffix("GiB")) {
            (Some(number), _) => (number, 20),
            (_, Some(number)) => (number, 30),
            _ => return None,
        };
        let number: u64 = number.trim().parse().ok()?;
        number.checked_mul(1 << shift).map(Watermark::Bytes)
    }

    /// The bytes that must be free on a disk of `disk_bytes`.
    pub fn bytes(self, disk_bytes: u64) -> u64 {
        match self {
            Watermark::Bytes(bytes) => bytes,
            Watermark::Percent(percent) => disk_bytes / 100 * u64::from(percent),
        }
    }
}

impl<'de> Deserialize<'de> for Watermark {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Watermark::parse(&text).ok_or_else(|| D::Error::custom("an amount such as 512 MiB or 5% is needed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_bytes_or_a_part_of_the_disk() {
        assert_eq!(Watermark::parse("512 MiB").unwrap().bytes(1), 512 << 20);
        assert_eq!(Watermark::parse("2GiB").unwrap().bytes(1), 2 << 30);
        assert_eq!(Watermark::parse("5%").unwrap().bytes(2000), 100);
        for wrong in ["", "5", "100%", "-1%", "1 TiB", "99999999999 GiB", "MiB"] {
            assert_eq!(Watermark::parse(wrong), None, "{wrong}");
        }
    }
}

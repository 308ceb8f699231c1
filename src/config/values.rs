//! Values that are more than text: secrets that do not print, amounts of free disk, lists.

use serde::{Deserialize, Deserializer, de::Error};
use zeroize::Zeroizing;

/// A secret from the environment. Neither `Debug` nor any message shows it; its memory is wiped when dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The secret itself, for whom it is meant.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("(secret)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Secret(Zeroizing::new(text)))
    }
}

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

/// An array of texts, or one text with commas.
pub(super) fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Many(Vec<String>),
        One(String),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::Many(texts) => texts,
        Either::One(text) => {
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
        }
    })
}

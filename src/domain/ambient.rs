//! Time and randomness as values handed in, so that the pure floors can be run again with the same
//! answers. The real implementations live on floor 5 (`roles::ambient`); tests and simulations bring their own.

/// Microseconds since 1970-01-01T00:00:00Z. Good until the year 294,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This time, `seconds` later; saturating.
    pub fn plus_seconds(self, seconds: u64) -> Timestamp {
        Timestamp(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }

    /// Whole seconds from `earlier` to `self`; 0 where `earlier` is later.
    pub fn seconds_since(self, earlier: Timestamp) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000_000
    }
}

/// In UTC to the second, as people read it (RFC 3339).
impl std::fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // RFC 3339 ends with the year 9999; later times are shown as the last there is.
        let seconds = i64::try_from(self.0 / 1_000_000).unwrap_or(i64::MAX);
        write!(formatter, "{:.0}", jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX))
    }
}

/// Tells the present time.
pub trait Clock: Send + Sync + 'static {
    /// The present time in UTC.
    fn now(&self) -> Timestamp;
}

/// Gives unpredictable bytes, fit for keys and nonces.
pub trait Random: Send + Sync + 'static {
    /// Fills `buffer` with fresh random bytes.
    fn fill(&self, buffer: &mut [u8]);
}

/// A fresh random UUID (version 4, RFC 9562 §5.4).
pub fn random_uuid(random: &dyn Random) -> uuid::Uuid {
    let mut bytes = [0u8; 16];
    random.fill(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

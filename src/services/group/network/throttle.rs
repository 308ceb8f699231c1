//! A number of bytes a second that many share.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Each who takes bytes waits until those before have had their time. Whoever comes after a pause does not wait.
pub(super) struct Throttle {
    bytes_per_second: u64,
    free_at: Mutex<Option<Instant>>,
}

impl Throttle {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), free_at: Mutex::new(None) }
    }

    /// Waits for the turn of so many bytes.
    pub(super) async fn take(&self, bytes: usize) {
        let turn = self.reserve(bytes, Instant::now());
        tokio::time::sleep_until(turn).await;
    }

    fn reserve(&self, bytes: usize, now: Instant) -> Instant {
        let mut free_at = self.free_at.lock();
        let turn = free_at.map_or(now, |free_at| free_at.max(now));
        let nanoseconds = u128::from(bytes as u64) * 1_000_000_000 / u128::from(self.bytes_per_second);
        *free_at = Some(turn + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)));
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_get_their_time_and_a_pause_is_not_saved_up() {
        let throttle = Throttle::new(1000);
        let now = Instant::now();
        let second = Duration::from_secs(1);
        assert_eq!(throttle.reserve(2000, now), now);
        assert_eq!(throttle.reserve(500, now), now + 2 * second);
        assert_eq!(throttle.reserve(500, now + second), now + 2 * second + second / 2);
        assert_eq!(throttle.reserve(1000, now + 10 * second), now + 10 * second);
        assert_eq!(throttle.reserve(1, now + 10 * second), now + 11 * second);
    }
}

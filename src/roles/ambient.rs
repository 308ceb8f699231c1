//! The real clock and the system's random source.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::domain::{Clock, Random, Timestamp};

/// The system's clock, in UTC.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place where real time comes in")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(since.as_micros() as u64)
    }
}

/// The system's random source (`getrandom(2)` on Linux).
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, buffer: &mut [u8]) {
        // Without randomness no key and no nonce is safe: going on would be worse than stopping.
        if let Err(error) = getrandom::fill(buffer) {
            panic!("the system gives no random bytes: {error}");
        }
    }
}

/// The system's clock, to hand around.
pub fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

/// The system's random source, to hand around.
pub fn random() -> Arc<dyn Random> {
    Arc::new(SystemRandom)
}

//! Each node's own wall clock: it runs a little too fast or too slow, and may be set. Nothing but the times in entries follows
//! it.

use dstore::domain::{Clock, Timestamp};
use parking_lot::Mutex;

use crate::trace::Now;

/// When simulations begin: 2026-01-01.
const BEGINNING: u64 = 1_767_225_600_000_000;

/// See the module's essay.
pub struct NodeClock {
    now: Now,
    wrong: Mutex<Wrong>,
}

struct Wrong {
    /// Microseconds ahead, or behind.
    ahead: i64,
    /// Microseconds gained each millisecond.
    drift: i64,
}

impl NodeClock {
    /// A clock that is right.
    pub fn new(now: Now) -> NodeClock {
        NodeClock { now, wrong: Mutex::new(Wrong { ahead: 0, drift: 0 }) }
    }

    /// From now on it is so many microseconds ahead of the right time and gains so many each millisecond.
    pub fn set(&self, ahead: i64, drift: i64) {
        *self.wrong.lock() = Wrong { ahead, drift };
    }
}

impl Clock for NodeClock {
    fn now(&self) -> Timestamp {
        let (now, wrong) = (self.now.get() as i64, self.wrong.lock());
        let microseconds = BEGINNING as i64 + now * 1000 + wrong.ahead + now * wrong.drift;
        Timestamp(microseconds.max(0) as u64)
    }
}

//! All that happens in a run, as one number: two runs are the same where their numbers are. With the environment's
//! `DSTORE_TRACE` set, each event is also shown.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// The simulated time in milliseconds since the run began; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Now(Arc<AtomicU64>);

impl Now {
    /// The time.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Another time.
    pub fn set(&self, now: u64) {
        self.0.store(now, Ordering::Relaxed);
    }
}

struct State {
    hash: u64,
    events: u64,
}

/// See the module's essay; clones are the same.
#[derive(Clone)]
pub struct Trace {
    state: Arc<Mutex<State>>,
    /// The simulated time.
    pub now: Now,
    shown: bool,
}

impl Trace {
    /// Nothing has happened yet.
    pub fn new(now: Now) -> Trace {
        let state = State { hash: 0xcbf2_9ce4_8422_2325, events: 0 };
        Trace { state: Arc::new(Mutex::new(state)), now, shown: std::env::var_os("DSTORE_TRACE").is_some() }
    }

    /// Something happened.
    pub fn note(&self, event: fmt::Arguments<'_>) {
        let text = format!("{} {event}", self.now.get());
        self.bytes(text.as_bytes());
        if self.shown {
            println!("{text}");
        }
    }

    /// These bytes came along.
    pub fn bytes(&self, bytes: &[u8]) {
        let mut state = self.state.lock();
        state.events += 1;
        for byte in bytes {
            state.hash = (state.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// The run so far as a number, and how many events it had.
    pub fn digest(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.hash, state.events)
    }
}

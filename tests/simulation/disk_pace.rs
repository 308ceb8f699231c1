//! How fast a node's disk is, as its workers feel it: each step waits for it, and a stuck disk lets none through.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use dstore::storage::workers::Pace;
use parking_lot::Mutex;

use crate::dice::Dice;

/// How often a stuck disk is looked at again.
const STUCK: Duration = Duration::from_millis(20);

/// See the module's essay.
pub struct DiskPace {
    dice: Mutex<Dice>,
    longest: AtomicU64,
    stuck: AtomicBool,
}

impl DiskPace {
    /// A good disk.
    pub fn new(dice: Dice) -> DiskPace {
        DiskPace { dice: Mutex::new(dice), longest: AtomicU64::new(4), stuck: AtomicBool::new(false) }
    }

    /// The longest that a step waits from now on, in milliseconds.
    pub fn set_longest(&self, milliseconds: u64) {
        self.longest.store(milliseconds, Ordering::Relaxed);
    }

    /// Whether nothing goes through.
    pub fn set_stuck(&self, stuck: bool) {
        self.stuck.store(stuck, Ordering::Relaxed);
    }
}

/// A pace for one life of a node.
pub struct SharedPace(pub Arc<DiskPace>);

impl Pace for SharedPace {
    fn pause(&self, worker: &str) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        // Applying is work in memory, for the most part.
        let longest = if worker.starts_with("apply") { 1 } else { self.0.longest.load(Ordering::Relaxed) };
        let wait = Duration::from_millis(self.0.dice.lock().between(0, longest));
        let disk = Arc::clone(&self.0);
        Box::pin(wait_for(disk, wait))
    }
}

/// Lets this much simulated time pass, and then as much as the disk is stuck.
async fn wait_for(disk: Arc<DiskPace>, wait: Duration) {
    tokio::time::sleep(wait).await;
    while disk.stuck.load(Ordering::Relaxed) {
        tokio::time::sleep(STUCK).await;
    }
}

//! Admission: what a node refuses before it hurts. Past a limit writes get "unavailable" with a
//! time to come back, while reads and deletes still work; a notice is written before the limit is
//! reached, once for each time it comes near.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::domain::Refusal;

use super::notices::Notices;

/// The limits of one node.
#[derive(Debug, Clone, Copy)]
pub struct AdmissionLimits {
    /// Writes under way at once, over all ranges.
    pub writes_max: usize,
    /// Free bytes on the disk under which writes are refused; a notice comes at twice as much.
    pub free_disk_bytes_min: u64,
}

impl Default for AdmissionLimits {
    fn default() -> Self {
        Self { writes_max: 20_000, free_disk_bytes_min: 256 << 20 }
    }
}

/// See the module's essay.
pub struct Admission {
    limits: AdmissionLimits,
    writes: AtomicUsize,
    free_disk_bytes: AtomicU64,
    low_disk_noticed: AtomicBool,
    queue_noticed: AtomicBool,
    refused: AtomicU64,
    notices: Arc<Notices>,
}

/// A place in the queue; given back when dropped.
pub struct Place<'a>(&'a Admission);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.writes.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admission {
    /// Admission that knows nothing of the disk yet.
    pub fn new(limits: AdmissionLimits, notices: Arc<Notices>) -> Self {
        Self {
            limits,
            writes: AtomicUsize::new(0),
            free_disk_bytes: AtomicU64::new(u64::MAX),
            low_disk_noticed: AtomicBool::new(false),
            queue_noticed: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            notices,
        }
    }

    /// Takes a place for a write.
    ///
    /// # Errors
    /// `Unavailable` where the queue or the disk is full; deletes are let through a full disk.
    pub fn admit(&self, frees_space: bool) -> Result<Place<'_>, Refusal> {
        if !frees_space && self.free_disk_bytes.load(Ordering::Relaxed) < self.limits.free_disk_bytes_min {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Refusal::unavailable(
                "this node's disk is nearly full: it takes deletes and serves reads, but no other writes until space is freed",
                10,
            ));
        }
        let under_way = self.writes.fetch_add(1, Ordering::Relaxed) + 1;
        let place = Place(self);
        if under_way * 5 > self.limits.writes_max * 4 && !self.queue_noticed.swap(true, Ordering::Relaxed) {
            self.notices.write(format!(
                "{under_way} writes are under way, of {} that this node takes at once; beyond that it refuses",
                self.limits.writes_max
            ));
        }
        if under_way > self.limits.writes_max {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Refusal::unavailable("too many writes are under way at this node; try again in a moment", 1));
        }
        if under_way * 2 < self.limits.writes_max {
            self.queue_noticed.store(false, Ordering::Relaxed);
        }
        Ok(place)
    }

    /// Takes in how many bytes are free on the disk.
    pub fn note_free_disk(&self, bytes: u64) {
        self.free_disk_bytes.store(bytes, Ordering::Relaxed);
        let near = bytes < self.limits.free_disk_bytes_min.saturating_mul(2);
        if near && !self.low_disk_noticed.swap(true, Ordering::Relaxed) {
            self.notices.write(format!(
                "the disk has {} MiB left; below {} MiB this node refuses writes. Free space or add a node",
                bytes >> 20,
                self.limits.free_disk_bytes_min >> 20
            ));
        } else if !near {
            self.low_disk_noticed.store(false, Ordering::Relaxed);
        }
    }

    /// Writes refused so far.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(writes_max: usize) -> (Admission, Arc<Notices>) {
        let notices = Arc::new(Notices::default());
        (Admission::new(AdmissionLimits { writes_max, free_disk_bytes_min: 100 }, Arc::clone(&notices)), notices)
    }

    #[test]
    fn a_notice_comes_before_the_disk_is_full_and_deletes_pass_afterwards() {
        let (admission, notices) = admission(10);
        admission.note_free_disk(150);
        assert_eq!(notices.take().len(), 1);
        assert!(admission.admit(false).is_ok());
        admission.note_free_disk(99);
        assert!(notices.take().is_empty(), "told once");
        assert_eq!(admission.admit(false).err().and_then(|refusal| refusal.retry_after_seconds), Some(10));
        assert!(admission.admit(true).is_ok());
        admission.note_free_disk(1000);
        assert!(admission.admit(false).is_ok());
        admission.note_free_disk(150);
        assert_eq!(notices.take().len(), 1, "told again, since it was well in between");
    }

    #[test]
    fn the_queue_is_bounded_and_places_come_back() {
        let (admission, notices) = admission(5);
        let places: Vec<_> = (0..5).map(|_| admission.admit(false).unwrap()).collect();
        assert_eq!(notices.take().len(), 1, "a notice before the limit");
        assert!(admission.admit(false).is_err());
        drop(places);
        assert!(admission.admit(false).is_ok());
        assert_eq!(admission.refused(), 1);
    }
}

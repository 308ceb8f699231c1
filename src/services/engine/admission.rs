//! Admission: what a node refuses before it hurts. Past a limit writes get "unavailable" with a
//! time to come back, while reads and deletes still work; a notice is written before the limit is
//! reached, once for each time it comes near.
//!
//! What a tenant may store is not decided here but asked for ([`StorageGate`]): one node does not know it alone.
//!
//! Three things are bounded: the writes under way, here; the disk, here, by two watermarks that the
//! role sets (bytes, or a part of the disk, which may grow while the node runs); and memory, by the
//! flusher, which alone knows how much there is.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::domain::Refusal;
use crate::domain::ids::TenantId;
use crate::domain::watermark::Watermark;

use super::notices::Notices;

/// Refuses a tenant that stores as much as it may.
pub type StorageGate = Arc<dyn Fn(TenantId) -> Result<(), Refusal> + Send + Sync>;

/// The limits of one node.
#[derive(Debug, Clone, Copy)]
pub struct AdmissionLimits {
    /// Writes under way at once, over all ranges.
    pub writes_max: usize,
    /// Free space on the disk under which a notice is written.
    pub disk_notice: Watermark,
    /// Free space on the disk under which writes are refused.
    pub disk_refuse: Watermark,
}

impl Default for AdmissionLimits {
    fn default() -> Self {
        Self { writes_max: 20_000, disk_notice: Watermark::Bytes(2048 << 20), disk_refuse: Watermark::Bytes(512 << 20) }
    }
}

/// See the module's essay.
pub struct Admission {
    limits: AdmissionLimits,
    writes: AtomicUsize,
    disk_is_low: AtomicBool,
    low_disk_noticed: AtomicBool,
    queue_noticed: AtomicBool,
    refused: AtomicU64,
    storage_gate: OnceLock<StorageGate>,
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
            disk_is_low: AtomicBool::new(false),
            low_disk_noticed: AtomicBool::new(false),
            queue_noticed: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            storage_gate: OnceLock::new(),
            notices,
        }
    }

    /// Takes a place for a write.
    ///
    /// # Errors
    /// `Unavailable` where the queue or the disk is full; deletes are let through a full disk.
    pub fn admit(&self, frees_space: bool) -> Result<Place<'_>, Refusal> {
        if !frees_space && self.disk_is_low.load(Ordering::Relaxed) {
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

    /// Asks this from now on, before a tenant's writes that may take room. Only the first that is given counts.
    pub fn ask_before_writes(&self, gate: StorageGate) {
        let _ = self.storage_gate.set(gate);
    }

    /// Whether a tenant may store more.
    ///
    /// # Errors
    /// Those of the gate.
    pub fn admit_tenant(&self, tenant: TenantId) -> Result<(), Refusal> {
        self.storage_gate.get().map_or(Ok(()), |gate| gate(tenant))
    }

    /// Takes in how many bytes are free on the disk, of how many.
    pub fn note_disk(&self, free: u64, total: u64) {
        let refuse = self.limits.disk_refuse.bytes(total);
        // A notice has to come first, whatever the settings say.
        let notice = self.limits.disk_notice.bytes(total).max(refuse.saturating_add(refuse / 4));
        if free < notice && !self.low_disk_noticed.swap(true, Ordering::Relaxed) {
            self.notices.write(format!(
                "the disk has {} MiB left; below {} MiB this node refuses writes. Free space or add a node",
                free >> 20,
                refuse >> 20
            ));
        } else if free >= notice {
            self.low_disk_noticed.store(false, Ordering::Relaxed);
        }
        self.disk_is_low.store(free < refuse, Ordering::Relaxed);
    }

    /// Whether the disk was so full at the last look that people were told.
    pub fn is_near_full(&self) -> bool {
        self.low_disk_noticed.load(Ordering::Relaxed)
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
        let limits =
            AdmissionLimits { writes_max, disk_notice: Watermark::Percent(20), disk_refuse: Watermark::Bytes(100) };
        (Admission::new(limits, Arc::clone(&notices)), notices)
    }

    #[test]
    fn a_notice_comes_before_the_disk_is_full_and_deletes_pass_afterwards() {
        let (admission, notices) = admission(10);
        admission.note_disk(200, 1000);
        assert!(notices.take().is_empty());
        admission.note_disk(150, 1000);
        assert_eq!(notices.take().len(), 1);
        assert!(admission.admit(false).is_ok());
        admission.note_disk(99, 1000);
        assert!(notices.take().is_empty(), "told once");
        assert_eq!(admission.admit(false).err().and_then(|refusal| refusal.retry_after_seconds), Some(10));
        assert!(admission.admit(true).is_ok());
        admission.note_disk(1000, 1000);
        assert!(admission.admit(false).is_ok());
        admission.note_disk(150, 1000);
        assert_eq!(notices.take().len(), 1, "told again, since it was well in between");
    }

    #[test]
    fn the_notice_comes_first_even_where_the_settings_have_it_later() {
        let notices = Arc::new(Notices::default());
        let limits =
            AdmissionLimits { writes_max: 1, disk_notice: Watermark::Bytes(10), disk_refuse: Watermark::Bytes(1000) };
        let admission = Admission::new(limits, Arc::clone(&notices));
        admission.note_disk(1200, 5000);
        assert_eq!(notices.take().len(), 1);
        assert!(admission.admit(false).is_ok());
    }

    #[test]
    fn a_tenant_is_asked_about_where_somebody_knows() {
        let (admission, _) = admission(1);
        let (full, other) = (TenantId::from_bytes([1; 16]), TenantId::from_bytes([2; 16]));
        assert!(admission.admit_tenant(full).is_ok());
        let refuse = move |tenant| if tenant == full { Err(Refusal::internal("full")) } else { Ok(()) };
        admission.ask_before_writes(Arc::new(refuse));
        assert!(admission.admit_tenant(full).is_err() && admission.admit_tenant(other).is_ok());
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

//! How the process takes memory from the system.
//!
//! A group that is awake holds some large buffers, a megabyte or two of addresses, of which it uses a page or so; asleep it
//! holds none. glibc hands such pieces out as mappings of their own and gives them back, but only until the first of them is given back:
//! then it takes pieces of that size for ordinary ones and keeps them in its heaps, among the small ones that stay. After ten
//! thousand groups were awake once, a node would keep more than a gigabyte for nothing. So the border stays where it is at the
//! start: what is larger is mapped, and given back.
//!
//! What is smaller stays in the heaps when it is freed, scattered among what is still used. Of a node with ten thousand ranges, each of
//! which was awake once, that was nearly half the memory. So after many groups have fallen asleep whole pages of it are given back,
//! beside everything else: it walks through all that is free, some milliseconds for each heap.
//!
//! Considered: another allocator. It would have to be measured under every load there is, and these are a few lines.

use std::sync::Weak;
use std::time::Duration;

use crate::services::group::host::Groups;

/// How often it is looked whether groups fell asleep.
const LOOK: Duration = Duration::from_secs(10);
/// So many of them leave enough behind to be worth a walk through the heaps.
const FALLEN_ASLEEP_MIN: u64 = 250;

/// What is larger is given back to the system when it is freed, in bytes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_BYTES_MIN: libc::c_int = 128 << 10;

/// Done once, before there are threads.
pub fn prepare() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets a number within the allocator, which does not look at it meanwhile: there is one thread yet. Where it is
    // refused, more memory is kept, and nothing else changes.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN);
    }
}

/// Gives memory back each time that many groups have fallen asleep, until they are gone.
pub async fn give_back_after_sleep(groups: Weak<Groups>) {
    let mut known = 0;
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(stats) = groups.upgrade().map(|groups| groups.stats()) else { return };
        if stats.fallen_asleep >= known + FALLEN_ASLEEP_MIN {
            known = stats.fallen_asleep;
            let _ = tokio::task::spawn_blocking(give_back).await;
        }
    }
}

fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes the allocator's own locks, one heap after the other, and changes nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

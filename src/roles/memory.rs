//! How the process takes memory from the system.
//!
//! A group that is awake holds some large buffers, a megabyte or two of addresses, of which it uses a page or so; asleep it
//! holds none. glibc hands such pieces out as mappings of their own and gives them back, but only until the first of them is given back:
//! then it takes pieces of that size for ordinary ones and keeps them in its heaps, among the small ones that stay. After ten
//! thousand groups were awake once, a node would keep more than a gigabyte for nothing. So the border stays where it is at the
//! start: what is larger is mapped, and given back.
//!
//! Considered: another allocator. It would have to be measured under every load there is, and this is one line.

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

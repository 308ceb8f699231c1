//! Random bytes that follow from the seed, for everything that asks the system for some.
//!
//! Not all dice can be handed in: each hash map of the standard library has an order of its own, and libraries draw their keys.
//! All of them ask `getrandom(2)`, by the name that the C library gives it. This program has a function of that name, so that
//! one is called. On a thread that was given a seed it answers from that, and on any other it asks the system.
//!
//! The standard library draws once a thread, and libraries keep what they drew for a thread, so each run has a thread of its
//! own ([`on_a_thread_of_its_own`]). What a library draws once for the whole process would escape that; tokio's choice among
//! the branches of `select!` does, which is why those in the product say `biased`.

use std::cell::Cell;

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Runs this on a new thread, on which all random bytes follow from the seed and nothing is handed to other threads.
///
/// # Panics
/// Where `work` does; what it said stands on standard error.
pub fn on_a_thread_of_its_own<T: Send>(seed: u64, work: impl FnOnce() -> T + Send) -> std::thread::Result<T> {
    let seeded = || {
        SEED.set(Some(seed));
        dstore::storage::workers::work_on_this_thread();
        dstore::services::group::runtime::seed_this_thread(seed);
        work()
    };
    std::thread::scope(|scope| {
        // Unoptimised futures of deep calls are large.
        let thread = std::thread::Builder::new().stack_size(16 << 20).spawn_scoped(scope, seeded);
        thread.unwrap_or_else(|error| panic!("no thread: {error}")).join()
    })
}

/// The next number of this thread's seed, by SplitMix64.
fn next() -> Option<u64> {
    let seed = SEED.get()?.wrapping_add(0x9e37_79b9_7f4a_7c15);
    SEED.set(Some(seed));
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    Some(mixed ^ (mixed >> 31))
}

/// Stands in for the C library's function of this name; see the module's essay.
///
/// # Safety
/// `buffer` must be good for writing `length` bytes, as getrandom(2) demands.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut libc::c_void, length: usize, flags: libc::c_uint) -> isize {
    if SEED.get().is_none() {
        // SAFETY: the caller's promise is the system call's.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) as isize };
    }
    // SAFETY: the caller promises it.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    for part in bytes.chunks_mut(8) {
        let number = next().unwrap_or(0).to_le_bytes();
        part.copy_from_slice(&number[..part.len()]);
    }
    length as isize
}
